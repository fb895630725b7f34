"""Names in a source that stand for what changes by itself: the clock, chance, the load of the machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# By the dotted name that a source means, however it imports it. Seeds are no draws.
_REASONS = {
    "the clock": r"time(?!\.(sleep|struct_time)\b)|datetime\.(datetime|date)\.(now|utcnow|today)",
    "chance": (
        r"(random|numpy\.random)(?!\.(seed|setstate|set_state|getstate|get_state|Random|RandomState|Generator)\b)"
        r"|secrets|uuid\.(uuid[14]|getnode)|os\.(urandom|getrandom)|torch\.(random\.|cuda\.)?seed"
    ),
    "the process or its load": (
        r"os\.(getpid|getppid|getlogin|getloadavg|times|statvfs|get_terminal_size)|sys\.stdin|psutil|resource|getpass"
        r"|shutil\.(disk_usage|get_terminal_size)|torch\.cuda\.(mem|memory|max_memory|utilization|list_gpu)\w*"
    ),
    "the network": r"socket|platform\.(node|uname)",
    # Compiled, they open files that Python does not hear of.
    "files in an unseen way": r"safetensors|h5py|cv2|onnx|onnxruntime|lmdb|pyarrow|zarr|netCDF4|torch\.jit\.load",
}
_DOUBTFUL = {reason: re.compile(rf"(?:{names})(?![\w])") for reason, names in _REASONS.items()}


def doubts_in(file: str) -> Iterator[str]:
    """Yield the reasons for which what a source makes may differ from one run to the next, with their places."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        yield f"{file} cannot be read as Python"
        return
    meanings = dict(_imported(tree))
    everything = [(1, name) for name in meanings.values() if name.endswith(".*")]  # from time import *
    for line, name in [*everything, *_meant(tree, meanings)]:
        for reason, form in _DOUBTFUL.items():
            if form.match(name):
                yield f"{file}:{line} names {name}: it may depend on {reason}"


def _meant(tree: ast.Module, meanings: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield each line that uses an imported name, and the dotted name that is meant."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        inner, attributes = node, []
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in meanings:
            yield inner.lineno, ".".join([meanings[inner.id], *reversed(attributes)])
        elif isinstance(inner, ast.Name):
            continue
        else:
            waiting.extend(ast.iter_child_nodes(inner))


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, and the dotted name it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                bound = alias.asname or (node.module if alias.name == "*" else alias.name)
                yield bound, f"{node.module}.{alias.name}"
