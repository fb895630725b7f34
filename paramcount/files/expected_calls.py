"""Knows by their names the callables that checkpoints need; what else a pickle calls or imports is worth a word.

The list is short on purpose: tensors, containers, NumPy's arrays and scalars, modules and optimizers of PyTorch, plain
values of Python's library; and classes of other packages that are made without arguments, as pickle makes objects, or
of a number or a word, as enumerations are, or whose names say that they hold settings.
"""

from __future__ import annotations

import re
import sys

# What torch.load may call by PyTorch's own judgement (_get_allowed_globals() in torch/_weights_only_unpickler.py), and
# what its modules, optimizers and distributed tensors are pickled by.
_TORCH = r"""
    torch\._utils\._rebuild_\w+ | torch\._tensor\._rebuild_from_type(_v2)?
  | torch\.(_C\.)?(Size|device|dtype|layout|memory_format|Generator|finfo|iinfo) | torch\.(\w+\.)*\w*Tensor
  | torch\.(\w+\.)?\w*Storage | torch\.serialization\._get_layout | torch\.return_types\.\w+
  | torch\.(nn|optim|ao|quantization|distributions|amp|cuda\.amp)\.(\w+\.)*_*[A-Z]\w* | torch\.jit\._pickle\.\w+
  | torch\.(_C\.)?ScriptObject | torch\.utils\.hooks\.[A-Z]\w*
  | torch\.distributed\.(_tensor|tensor|_shard|checkpoint|fsdp|device_mesh|_composable)\.(\w+\.)*[A-Z]\w*
  | torch\.utils\.data\.(dataset|dataloader|sampler|distributed)\.[A-Z]\w*
  | torch\.sparse\.[A-Z]\w* | __torch__\.(\w+\.)*\w+
"""
_NUMPY = r"""
    numpy\.(core|_core)\.(multiarray|numeric)\.(_reconstruct|scalar|_frombuffer)
  | numpy\.(ndarray|dtype|bool_?|str_|bytes_|u?int\w*|float\w*|complex\w*|longdouble|datetime64|timedelta64)
  | numpy\.dtypes\.\w+ | numpy\.ma\.core\.(_mareconstruct|MaskedArray)
  | numpy\.((rec\.)?(recarray|record)|matrix|poly1d)
  | numpy\.random\.(_pickle\.__\w+_ctor|bit_generator\.__pyx_unpickle_SeedSequence)
  | numpy\.random\.(_\w+|mtrand|bit_generator)\.[A-Z]\w*
"""
_PYTHON = r"""
    builtins\.(object|list|dict|set|frozenset|tuple|bytearray|bytes|complex|int|float|bool|str|slice|range)
  | builtins\.([A-Z]\w*(Error|Exception|Warning)|StopIteration)
  | collections\.(OrderedDict|defaultdict|Counter|deque|ChainMap|UserDict|UserList)
  | argparse\.Namespace | types\.SimpleNamespace | uuid\.(UUID|SafeUUID) | decimal\.Decimal | fractions\.Fraction
  | datetime\.(datetime|date|time|timedelta|timezone) | zoneinfo\.ZoneInfo\._unpickle | random\.Random
  | pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path | functools\.partial | logging\.(getLogger|Logger)
  | re\._compile | array\.(_array_reconstructor|array)
"""
_EXPECTED = "|".join((_TORCH, _NUMPY, _PYTHON))  # as the others here, compiled when it is needed

# What may stand in a pickle as a value, a layer's activation say, although no checkpoint calls it.
_VALUES = r"""
    builtins\.(?!(eval|exec|compile|open|input|breakpoint|__import__|globals|locals|vars|setattr|delattr)$)\w+
  | (math|cmath|operator|statistics|typing|enum|abc|numbers|string|itertools|functools|dataclasses|copy|copyreg)\.\w+
  | (collections(\.abc)?|datetime|decimal|fractions|random|time|json|_codecs)\.\w+
  | torch\.(?!(load|save|compile)$)\w+ | torch\.storage\._load_from_bytes
  | torch\.(nn|optim|ao|quantization|distributions|special|linalg|fft|functional|_C\._nn|utils\.checkpoint)\.(\w+\.)*\w+
  | torch\.amp\.grad_scaler\._refresh_per_optimizer_state
  | torch\._C\._VariableFunctions(Class)?(\.\w+)?
  | torch\.fx\.graph_module\.reduce_graph_module | torch\._jit_internal\.\w+
  | numpy\.ma\.MaskedArray
  | numpy\.(?!(load\w*|save\w*|fromfile|memmap|genfromtxt|DataSource)$)\w+ | numpy\.(core|_core)\.\w+\.\w+
"""

# Of other packages: such names have what holds settings or a state, and enumerations.
_SETTINGS = (
    r"([A-Z]\w*)?(Config(uration)?|Cfg|Settings|Options|Arg(ument)?s|Params?|Parameters|H[Pp]arams|Namespace|Dict|Node"
    r"|Container|State|Mode|Type|Kind|Enum|Strategy|Level|Format|Backend|Precision|Status|Stage|Phase|Split|Task"
    r"|Schedule|Scheduler|Optimizer|Meter|Metrics?|Tracker|HistoryBuffer|Version|Timestamp|Scaler|Buffer|Names?"
    r"|Output\w*)"
)
_CLASS = r"([A-Z]\w*\.)*_*[A-Z]\w*"
# Functions and classes of other packages that only make objects: Cython's, pandas' and scikit-learn's.
_OF_OTHERS = (
    r"(\w+\.)+__pyx_unpickle_\w+|sklearn\.(tree\._tree\.Tree|(\w+\.)+newObj)"
    r"|pandas\.(\w+\.)*(_\w*unpickle\w*|_new_\w*Index|new_block|BlockManager|__newobj__|\w+Dtype|Period|Interval)"
)


_OF_ANY_STATE_DICT = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}


def is_of_any_state_dict(module: str, name: str) -> bool:
    """Whether nearly every checkpoint has this name: to know it takes no pattern, which takes milliseconds to make."""
    return (module, name) in _OF_ANY_STATE_DICT or (
        module == "torch" and name.isidentifier() and name.endswith("Storage")
    )


def modern(module: str, name: str) -> tuple[str, str]:
    """Return the module and name that unpickling looks up: those of Python 2 as they are called today."""
    import _compat_pickle

    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


def is_expected(module: str, name: str, *, has_args: bool = True, is_bare: bool = False) -> bool:
    """Whether checkpoints call what goes by this name in this module.

    Args:
        module: what is imported.
        name: the attributes of it to follow, joined by dots.
        has_args: whether the call has any argument but a number or a word.
        is_bare: whether this is a class whose constructor does not run, as where ``copyreg.__newobj__`` makes objects.

    """
    if _leads_elsewhere(name):
        return False
    if _is_of_python_or_pytorch(module):
        return re.fullmatch(_EXPECTED, f"{module}.{name}", re.VERBOSE) is not None
    if re.fullmatch(_OF_OTHERS, f"{module}.{name}") or (is_bare and not has_args):
        return True
    own_name = name.rpartition(".")[2]
    if not re.fullmatch(_CLASS, own_name):
        return False
    return is_bare or not has_args or re.fullmatch(_SETTINGS, own_name) is not None


def is_expected_value(module: str, name: str) -> bool:
    """Whether a pickle of a checkpoint may import this, to keep it or to call it."""
    if not _is_of_python_or_pytorch(module):
        return True
    if _leads_elsewhere(name):
        return False
    return any(re.fullmatch(form, f"{module}.{name}", re.VERBOSE) for form in (_EXPECTED, _VALUES))


def _leads_elsewhere(name: str) -> bool:
    """Whether a name leads through anything but classes, by which one module's attributes lead to another module."""
    outer = name.rpartition(".")[0]
    return bool(outer) and re.fullmatch(_CLASS, outer) is None


def _is_of_python_or_pytorch(module: str) -> bool:
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names or top in {"torch", "numpy", "test", "__torch__"}
