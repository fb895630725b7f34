"""Names in a source that stand for what changes by itself: the clock, chance, the load of the machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType

# By the dotted name that a source means, however it imports it. Seeds are no draws.
_REASONS = {
    "the clock": (
        r"timeit|logging\.(makeLogRecord|LogRecord)|time(?!\.(sleep|struct_time)\b)|datetime\.(datetime|date)(?!\.(strptime|fromisoformat|combine|min|max)\b)"
        r"|numpy\.datetime64|pandas\.Timestamp\.(now|utcnow|today)"
    ),
    "chance": (
        r"(random|numpy\.random)(?!\.(seed|setstate|set_state|getstate|get_state)\b)"
        r"|secrets|ssl\.RAND_\w+|uuid\.(uuid[14]|getnode)|os\.(urandom|getrandom)|torch\.(random\.|cuda\.)?seed"
    ),
    "the process or its load": (
        r"os\.(getpid|getppid|getuid|geteuid|getlogin|getloadavg|sysconf|umask|times|statvfs|get_terminal_size|sched_getaffinity)"
        r"|os\.environb?\._data|posix|sys\.stdin|psutil|resource|getpass"
        r"|shutil\.(disk_usage|get_terminal_size)|torch\.cuda\.(mem|memory|max_memory|utilization|list_gpu)\w*"
    ),
    "the network": r"socket|platform\.(node|uname|release|version|platform)|os\.uname",
    # Compiled, they open files that Python does not hear of.
    "files in an unseen way": (
        r"safetensors|tokenizers|sentencepiece|h5py|cv2|onnx|onnxruntime|lmdb|pyarrow|polars|duckdb|zarr|netCDF4|lxml"
        r"|torch\.(_C\.PyTorchFileReader|jit\.load|(\w*Storage\.)?from_file|ops)|torchvision\.io|torchaudio"
    ),
}
_DOUBTFUL = {reason: re.compile(rf"(?:{names})(?![\w])") for reason, names in _REASONS.items()}
# What may be imported by name, and is doubtful only where it is used.
_HARMLESS = {"datetime.datetime", "datetime.date", "numpy.random"}
_NOT_PYTHONS = ("torch", "numpy", "jax")  # that have a ``random`` of their own
_IN_TEXT = {"time", "datetime", "random", "secrets", "uuid", "socket", "os", "sys", "import_module", "__import__"}


def doubts_in(file: str) -> Iterator[str]:
    """Yield the reasons for which what a source makes may differ from one run to the next, with their places."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        yield f"{file} cannot be read as Python"
        return
    for line, name in (*_imported(tree), *_meant(tree)):
        for reason, form in _DOUBTFUL.items():
            if any(map(form.match, _readings(name))):
                yield f"{file}:{line} names {name}: it may depend on {reason}"
    for line, doing in _hashing(tree):
        yield f"{file}:{line} {doing}: hashes are others in each process"


def seeds_in(file: str) -> bool:
    """Whether a source gives a seed to Python or NumPy, or to somebody who may be either."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    return any("seed" in called and not called.startswith("manual_seed") for called in map(_called, calls) if called)


def doubtful_name(code: CodeType) -> str | None:
    """Return a name in code that was text, by which it may get at what changes by itself; None where there is none."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return next((name for name in code.co_names if name in _IN_TEXT), None) or next(
        filter(None, map(doubtful_name, inner)), None
    )


def _readings(name: str) -> Iterator[str]:
    """Yield what a dotted name may stand for: what ``helpers.random.choice`` names may well be Python's."""
    yield name
    parts = name.split(".")
    if parts[0] not in _NOT_PYTHONS:
        yield from (".".join(parts[start:]) for start in range(1, len(parts) - 1))


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what is imported by its own name: it can be had from here by another source, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from ((node.lineno, name) for name in sorted(names - _HARMLESS))
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            yield from ((node.lineno, str(arg.value)) for arg in node.args if isinstance(arg, ast.Constant))
        elif isinstance(node, ast.Call) and _called(node) == "seed" and not (node.args or node.keywords):
            yield node.lineno, "random"


def _called(node: ast.Call) -> str | None:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", None)


def _meant(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each line that uses an imported name, and the dotted names that may be meant."""
    meanings, opened = _meanings(tree)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        inner, attributes = node, []
        while isinstance(inner, ast.Attribute) or (isinstance(inner, ast.Call) and _constant_name(inner)):
            attributes.append(inner.attr if isinstance(inner, ast.Attribute) else _constant_name(inner) or "")
            inner = inner.value if isinstance(inner, ast.Attribute) else inner.args[0]
        if not isinstance(inner, ast.Name):
            waiting.extend(ast.iter_child_nodes(inner))
            continue
        known = [meanings[inner.id]] if inner.id in meanings else [f"{module}.{inner.id}" for module in opened]
        for meaning in known:
            yield inner.lineno, ".".join([meaning, *reversed(attributes)])


def _constant_name(node: ast.Call) -> str | None:
    """Return the name of the attribute that ``getattr(thing, "name")`` means."""
    if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) == 2:  # noqa: PLR2004  # its own
        name = node.args[1]
        return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None
    return None


def _meanings(tree: ast.Module) -> tuple[Mapping[str, str], list[str]]:
    """Return what each name that an import binds stands for, and the modules of which all names are imported."""
    meanings: dict[str, str] = {}
    opened: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                meanings[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            module = "_" if node.level else node.module or "_"  # a module beside this one is none of Python's
            for alias in node.names:
                if alias.name == "*":
                    opened.append(module)
                else:
                    meanings[alias.asname or alias.name] = f"{module}.{alias.name}"
    return meanings, opened


# What hashes decide ---------------------------------------------------------------------------------------------------

# What is made of a set in the order that it happens to have. Others, such as sorted() and len(), do not ask for it.
_IN_ORDER = {"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "join", "fromkeys", "extend"}
_OUT_OF_ORDER = {"any", "all", "sum", "min", "max", "sorted", "set", "frozenset"}
_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
_OF_SETS = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)


def _hashing(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each line by which hashes may decide what is made: hash() itself, and the order of a set."""
    names = _names_of_sets(tree)
    own = {id(call) for node in ast.walk(tree) if getattr(node, "name", None) == "__hash__" for call in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called, function = _called(node), node.func
            if called == "hash" and isinstance(function, ast.Name) and id(node) not in own:
                yield node.lineno, "calls hash()"
            elif called == "pop" and not node.args and _is_set(getattr(function, "value", function), names):
                yield node.lineno, "takes one out of a set"
            own |= {id(part) for part in node.args if called in _OUT_OF_ORDER}
        in_order = _put_in_order(node) if id(node) not in own else ()
        if any(_is_set(part, names) for part in in_order):
            yield getattr(node, "lineno", 0), "goes through a set"


def _put_in_order(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a part of a source goes through, one by one."""
    if isinstance(node, ast.For | ast.AsyncFor):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        yield from (loop.iter for loop in node.generators)
    elif isinstance(node, ast.Starred):
        yield node.value
    elif isinstance(node, ast.Call) and _called(node) in _IN_ORDER:
        yield from node.args


def _names_of_sets(tree: ast.Module) -> set[str]:
    """Return the names of variables and attributes that are a set at some time."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value and _is_set(node.value, names):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name for target in targets if (name := _named(target))}
    return names


def _is_set(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression is a set, and not just one of numbers, whose hashes are themselves."""
    if isinstance(node, ast.Set):
        return not all(isinstance(part, ast.Constant) and isinstance(part.value, int | float) for part in node.elts)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in _SET_METHODS and _is_set(node.func.value, names)
        return _called(node) in {"set", "frozenset"}
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, _OF_SETS) and (_is_set(node.left, names) or _is_set(node.right, names))
    if isinstance(node, ast.IfExp):
        return _is_set(node.body, names) or _is_set(node.orelse, names)
    return isinstance(node, ast.SetComp) or _named(node) in names


def _named(node: ast.expr) -> str | None:
    return getattr(node, "attr", None) or getattr(node, "id", None)
