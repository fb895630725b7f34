"""Tells what packed weights stand for, by the tensors that quantising libraries keep beside them.

A layout is one entry of ``LAYOUTS``, and the function that it names: a new one is added there, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from math import prod
from typing import Any, NamedTuple, TypeGuard

from paramcount.files import scales
from paramcount.files.scales import is_grouped
from paramcount.files.stored import Stored
from paramcount.inventory import Note
from paramcount.jsons import MalformedJson, load
from paramcount.units import exact, plural
from paramcount.wrapping import IN_PAIRS, apart

Config = Callable[[], Mapping[str, Any] | None]  # what the config.json beside the file says; None: there is none

# Endings of the small tensors whose values say how another is packed, and how large they get.
PACKED_SHAPE = ".weight_shape"
VALUES = (
    *(PACKED_SHAPE, ".shape", ".nbits", ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"),
    ".comfy_quant",
)
LONGEST_VALUE = 4096  # bytes


class Unpacked(NamedTuple):
    """The tensors of a file, with packed ones as what they stand for."""

    tensors: list[Stored]  # in the order that they were given in
    overhead: frozenset[str]  # names of those that say how others are packed: no parameters, and no buffers
    notes: tuple[Note, ...]
    unclear: frozenset[str] = frozenset()  # names of those that may be packed: they count as stored


def unpacked(tensors: Iterable[Stored], config: Config = lambda: None) -> Unpacked:
    """Return all tensors, packed ones with the shape, number and dtype of the weights they stand for.

    What cannot be told for certain stays as it is stored, and a note says so.
    """
    given = list(tensors)
    if not _may_be_packed(given):
        return Unpacked(given, frozenset(), ())
    given = [_apart(tensor) if tensor.dtype == IN_PAIRS else tensor for tensor in given]
    # With a dot before each name, those of a lone layer's tensors end as those of any other do.
    by_name = {f".{tensor.name}": tensor for tensor in given}
    config = cache(config)
    found = _Findings()
    for name in by_name:
        if name.endswith(_MARKS):
            for layout, stem in _candidates(name):
                found.add(layout, Group(stem, by_name, config))
    for tensor in given:
        if tensor.dtype in _WITH_SCALES:
            found.add_whole(tensor, by_name)
        elif tensor.dtype in _NARROW:
            found.add_narrow(tensor)
    found.add_scaled(by_name)
    for name, tensor in by_name.items():
        found.add_alone(name, tensor)
    return Unpacked(
        [found.weights.get(tensor.name, tensor) for tensor in given],
        frozenset(found.overhead - found.weights.keys()),
        tuple(found.notes(given)),
        frozenset(found.unclear),
    )


def _apart(tensor: Stored) -> Stored:
    """Return a tensor of floats of four bits with their shape, where it has that of PyTorch's elements: of two each."""
    if tensor.numel != tensor.nbytes or not tensor.numel:
        return tensor
    return tensor._replace(shape=apart(tensor.shape), numel=2 * tensor.numel)


def packed_note(layout: str, weights: Collection[Stored], by: str) -> Note:
    """Return what to say of weights of a layout that are packed; ``by`` is what says how large they are."""
    dtypes = ", ".join(sorted({weight.dtype for weight in weights}))
    stand = "counts as the weights it stands" if len(weights) == 1 else "count as the weights they stand"
    elements = exact(sum(weight.numel for weight in weights))
    return Note(
        "packed", "", f"{plural(len(weights), 'tensor')} of {layout} ({dtypes}) {stand} for, {elements} by {by}"
    )


def _may_be_packed(tensors: Iterable[Stored]) -> bool:
    """Whether any name or dtype is one that a layout has: of most models, none is."""
    dtypes = {tensor.dtype for tensor in tensors}
    keys = {tensor.name.rpartition(".")[2] for tensor in tensors}
    if not dtypes.isdisjoint(_TELLING) or any(dtype.startswith("float8_") for dtype in dtypes):
        return True
    return any(key.endswith(_LAST_PARTS) for key in keys)


def _is_weight(name: str, tensor: Stored) -> bool:
    """Whether whole numbers have the name of weights: packed by a library that is not known."""
    if name.endswith(_CODES):
        return True
    return len(tensor.shape) > 1 and re.fullmatch(_OF_WEIGHTS, name.rpartition(".")[2]) is not None


def _candidates(name: str) -> Iterator[tuple[Layout, str]]:
    for layout in LAYOUTS:
        for mark in layout.marks:
            if name.endswith(mark):
                yield layout, name.removesuffix(mark)


class _Findings:
    """What is found out, weight by weight."""

    def __init__(self) -> None:
        self.weights: dict[str, Stored] = {}
        self.overhead: set[str] = set()
        self._told: dict[tuple[str, str], list[Stored]] = {}  # weights by their layout, and by what tells their size
        self.unclear: dict[str, tuple[str, str, str]] = {}  # the layout, the problem and its cure by name

    def add(self, layout: Layout, group: Group) -> None:
        held = group.get(layout.holder)
        if held is None or held.packed or held.name in self.weights:
            return
        try:
            weight = layout.read(group, held)
        except Unclear as problem:
            self.unclear.setdefault(held.name, (layout.name, problem.problem, problem.cure))
            return
        if weight is not None:
            whole = held._replace(shape=weight.shape, numel=prod(weight.shape), dtype=weight.dtype, packed=True)
            self.weights[held.name] = whole
            self._told.setdefault((layout.name, weight.told or layout.told), []).append(whole)
            self.overhead |= set(group.names(layout.beside, layout.around)) - {held.name}

    def add_scaled(self, tensors: Mapping[str, Stored]) -> None:
        """Add the weights of eight bits and less that have scales beside them, and what scales those and others."""
        packed = {
            name
            for name, tensor in tensors.items()
            if tensor.name in self.weights or tensor.dtype in _EIGHT_BITS or tensor.dtype.startswith("float8_")
        }
        for name, beside in scales.scaled(tensors, packed).items():
            held = tensors[name]
            if held.name not in self.weights and not held.packed:
                try:
                    weight = _scaled(held, beside)
                except Unclear as problem:
                    self.unclear.setdefault(held.name, ("scaled weights", problem.problem, problem.cure))
                    continue
                if weight is None:
                    continue
                whole = held._replace(shape=weight.shape, numel=prod(weight.shape), dtype=weight.dtype, packed=True)
                self.weights[held.name] = whole
                self._told.setdefault(("scaled weights", weight.told or "their shapes and scales"), []).append(whole)
            self.overhead.update(each.name for each in beside if scales.fits(each, held))

    def add_alone(self, name: str, tensor: Stored) -> None:
        """Add a tensor that is not packed, as far as it tells."""
        if tensor.packed or tensor.name in self.weights or tensor.name in self.overhead:
            return
        if scales.is_of_none(tensor) and (self.weights or tensor.dtype == "uint8"):
            self.overhead.add(tensor.name)
        elif tensor.dtype in _INTEGERS and _is_weight(name, tensor):
            self.unclear.setdefault(tensor.name, ("", "of a layout that is not known", ""))

    def add_narrow(self, tensor: Stored) -> None:
        """Add a tensor of floats of four or six bits, as which they count whatever is beside it."""
        if tensor.name not in self.weights and tensor.numel:
            self.weights[tensor.name] = tensor._replace(packed=True)
            self._told.setdefault(_NARROW[tensor.dtype], []).append(tensor)

    def add_whole(self, tensor: Stored, tensors: Mapping[str, Stored]) -> None:
        """Add a quantised tensor of PyTorch's own: its scales are in it, and those of its layer's output beside it."""
        self.weights[tensor.name] = tensor._replace(packed=True)
        self._told.setdefault(("torch.ao", "their shapes"), []).append(tensor)
        layer = tensor.name.partition("._packed_params.")[0]
        layer = tensor.name.rpartition(".")[0] if layer == tensor.name else layer
        beside = (tensors.get(f".{layer}.{key}") for key in ("scale", "zero_point"))
        self.overhead.update(each.name for each in beside if each is not None and each.numel == 1)

    def notes(self, tensors: Iterable[Stored]) -> Iterator[Note]:
        for (layout, by), weights in self._told.items():
            yield packed_note(layout, weights, by)
        yield from self._beside(tensors)
        alike: dict[tuple[str, str, str], list[str]] = {}
        for name, why in self.unclear.items():
            if name not in self.weights and name not in self.overhead:
                alike.setdefault(why, []).append(name)
        for (layout, problem, cure), names in alike.items():
            others = f", as {plural(len(names) - 1, 'other')}," if len(names) > 1 else ""
            what = f"is packed as by {layout}{others}" if layout else f"holds integers{others}"
            message = f"{what} {problem}: what counts are the elements that are stored, not the weights they stand for"
            yield Note("stored-elements", names[0], f"{message}; {cure}" if cure else message)

    def _beside(self, tensors: Iterable[Stored]) -> Iterator[Note]:
        """Note what is beside a packed weight in its layer and counts, though it is neither weight nor bias."""
        layers = {module for name in self.weights for module, _, key in (name.rpartition("."),) if key in _LONE}
        branches: list[Stored] = []
        others: list[Stored] = []
        for tensor in tensors:
            layer, _, key = tensor.name.rpartition(".")
            if layer not in layers or tensor.name in self.weights or tensor.name in self.overhead:
                continue
            if key in _BRANCHES:
                branches.append(tensor)
            elif not key.endswith(_ORDINARY) and "float" in tensor.dtype:
                others.append(tensor)
        if branches:
            elements = exact(sum(each.numel for each in branches))
            message = (
                f"{plural(len(branches), 'tensor')} of low-rank branches, {elements} elements, count as parameters"
            )
            yield Note("low-rank", "", f"{message}: the model had none before it was quantised")
        if others:
            more = f", as {plural(len(others) - 1, 'other')}," if len(others) > 1 else ""
            message = f"is beside a packed weight{more} and of no layout that is known: it counts as a parameter"
            yield Note("beside-packed", others[0].name, message)


# What a layout is -----------------------------------------------------------------------------------------------------


class Unclear(ValueError):
    """Tensors have the names of a layout, and do not say what it stands for: what is missing, or contradicts itself."""

    def __init__(self, problem: str, cure: str = "") -> None:
        """Keep the two apart: what counts instead is said between them."""
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def absent(key: str) -> Unclear:
    """Return the error for a tensor that a layout needs, and that is not there."""
    return Unclear(f"and lacks its {key}", "where that is in another shard, name the folder")


class Weight(NamedTuple):
    """What a packed tensor stands for."""

    shape: tuple[int, ...]
    dtype: str  # "int4", "nf4"
    told: str = ""  # by what, where it is not what the layout says


class Group:
    """Tensors whose names begin alike."""

    def __init__(self, stem: str, tensors: Mapping[str, Stored], config: Config) -> None:
        """Take those of ``tensors`` whose names, which begin with a dot, begin with ``stem``."""
        self.stem = stem
        self.config = config
        self._tensors = tensors

    def get(self, ending: str) -> Stored | None:
        """Return the tensor with this ending, if there is one."""
        return self._tensors.get(self.stem + ending)

    def demand(self, ending: str) -> Stored:
        """Return the tensor with this ending.

        Raises:
            Unclear: there is none.

        """
        found = self.get(ending)
        if found is None:
            raise absent((self.stem.rpartition(".")[2] + ending).rpartition(".")[2])
        return found

    def names(self, beside: Iterable[str], around: Iterable[str]) -> Iterator[str]:
        """Yield the names of tensors with endings of the group's stem, and of the module it is in."""
        module = self.stem.rpartition(".")[0] if self.stem.endswith(".weight") else self.stem
        for name in (*(self.stem + ending for ending in beside), *(f"{module}.{key}" for key in around)):
            if name in self._tensors:
                yield self._tensors[name].name


class Layout(NamedTuple):
    """How one kind of library packs weights."""

    name: str
    marks: tuple[str, ...]  # endings of names that tell it; what is before is the stem
    holder: str  # the ending, after the stem, of the tensor that holds the weights
    read: Callable[[Group, Stored], Weight | None]  # None: it is something else after all
    told: str  # what says how large a weight is, for a note
    beside: tuple[str, ...] = ()  # endings, after the stem, of what is overhead
    around: tuple[str, ...] = ()  # keys, in the weight's module, of what is overhead


# GPTQ and AWQ ---------------------------------------------------------------------------------------------------------

_WORDS = {"int8": 8, "uint8": 8, "int16": 16, "int32": 32, "uint32": 32, "int64": 64}  # bits
_BITS = range(2, 9)
_MISFIT = "and the shapes of its tensors do not go together"


def _gptq(group: Group, held: Stored) -> Weight | None:
    """Read ``qweight [in * bits / 32, out]`` beside ``scales [groups, out]``.

    ``qzeros [groups, out * bits / 32]`` and ``g_idx [in]`` say how many bits, and each may be missing:
    https://github.com/ModelCloud/GPTQModel/blob/main/gptqmodel/nn_modules/qlinear/__init__.py
    """
    if held.dtype not in _WORDS or len(held.shape) != 2:  # noqa: PLR2004  # a matrix
        return None
    scales, zeros, order = group.demand(".scales"), group.get(".qzeros"), group.get(".g_idx")
    (rows, out), word = held.shape, _WORDS[held.dtype]
    if scales.shape[1:] != (out,):
        return None
    if zeros is not None and (len(zeros.shape) != 2 or zeros.shape[0] != scales.shape[0]):  # noqa: PLR2004  # a matrix
        raise Unclear(_MISFIT)
    found = {
        bits: order.numel if order is not None else rows * word // bits
        for bits in _BITS
        if (zeros is None or zeros.shape[1] == _words(out, bits, word))
        and (rows == _words(order.numel, bits, word) if order is not None else rows * word % bits == 0)
    }
    return _settled({bits: each for bits, each in found.items() if is_grouped(each, scales.shape[0])}, out, group)


def _words(elements: int, bits: int, word: int) -> int:
    return -(-elements * bits // word)


def _settled(found: Mapping[int, int], out: int, group: Group) -> Weight:
    """Return the matrix of the one width that is possible, or of the one that the config says among several."""
    if not found:
        raise Unclear(_MISFIT)
    bits = min(found) if len(found) == 1 else _quantization(group).get("bits")
    if type(bits) is not int or bits not in found:
        raise Unclear(f"and its shapes allow {_either(found)} bits", _put_config(group))
    present = [key for key in ("scales", "qzeros", "g_idx") if group.get(f".{key}") is not None]
    by = f"the shapes of {' and '.join(present)}" + (", and config.json" if len(found) > 1 else "")
    return Weight((out, found[bits]), f"int{bits}", by)


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, numbers))


def _awq(group: Group, held: Stored) -> Weight | None:
    """Read AWQ's forms: GEMM, Marlin, GEMV and GEMV fast.

    https://github.com/casper-hansen/AutoAWQ/tree/main/awq/modules/linear
    """
    if held.dtype not in {"int16", "int32"} or len(held.shape) != 2:  # noqa: PLR2004  # a matrix
        return None
    scales, zeros = group.demand(".scales"), group.get(".qzeros")
    if len(scales.shape) != 2 or (zeros is not None and len(zeros.shape) != 2):  # noqa: PLR2004  # a matrix
        raise Unclear(_MISFIT)
    (rows, columns), (first, last) = held.shape, scales.shape
    zero_shape = None if zeros is None else zeros.shape
    shape = None
    if held.dtype == "int16":
        if rows * 4 == last and zero_shape == scales.shape:
            shape = (last, columns)
    elif columns * 8 == last and zero_shape in {None, (first, columns)} and is_grouped(rows, first):
        shape = (last, rows)
    elif columns == last * 2 and zero_shape is None and is_grouped(rows * 16, first):
        shape = (last, rows * 16)
    elif zero_shape is not None and first == rows == zero_shape[0] and zero_shape[1] * 8 == last:
        shape = (rows, columns * 8)
    if shape is None:
        raise Unclear(_MISFIT)
    return Weight(shape, "int4")


def _marlin(group: Group, held: Stored) -> Weight | None:
    """Read ``B [in / 16, out * 2]`` in int32, and ``s [groups, out]``, of 4 bits.

    https://github.com/IST-DASLab/marlin/blob/master/marlin/__init__.py
    """
    scales = group.get(".s")
    if scales is None or held.dtype != "int32" or len(held.shape) != 2:  # noqa: PLR2004  # a matrix
        return None
    if scales.shape[1:] != (held.shape[1] // 2,) or not is_grouped(held.shape[0] * 16, scales.shape[0]):
        raise Unclear(_MISFIT)
    return Weight((held.shape[1] // 2, held.shape[0] * 16), "int4")


# Codes of vectors, and of a grid --------------------------------------------------------------------------------------


def _aqlm(group: Group, held: Stored) -> Weight | None:
    """Read ``codes [out groups, in groups, books]``, each of an entry of ``codebooks [books, entries, out, in]``.

    https://github.com/Vahe1994/AQLM/blob/main/inference_lib/src/aqlm/inference.py
    """
    books = group.get(".codebooks")
    if books is None or len(books.shape) != 4 or len(held.shape) != 3:  # noqa: PLR2004  # the numbers of sizes
        return None
    shape = (held.shape[0] * books.shape[2], held.shape[1] * books.shape[3])
    if books.shape[0] != held.shape[2] or prod(shape) > 8 * held.nbytes:  # no such code has less than a bit a weight
        raise Unclear(_MISFIT)
    return Weight(shape, "aqlm")


def _vptq(group: Group, held: Stored) -> Weight | None:
    """Recognise packed indices into centroids, of which only the config says how long each is.

    https://github.com/microsoft/VPTQ/blob/main/vptq/layers/vqlinear.py
    """
    if group.get(".centroids.weight") is None or held.dtype.startswith(("float", "bfloat")):
        return None
    raise Unclear("of a length that its shapes do not tell")


def _higgs(group: Group, held: Stored) -> Weight | None:
    """Read ``weight [out * bits / 16, in]`` in int16, beside ``scales [out, groups]`` and ``tables [2 ** bits]``.

    https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/higgs.py, ``HiggsLinear``.
    """
    scales, tables = group.get(".scales"), group.demand(".tables")
    if held.dtype != "int16" or scales is None or len(held.shape) != 2 or len(scales.shape) != 2:  # noqa: PLR2004  # matrices
        return None
    (rows, columns), out = held.shape, scales.shape[0]
    bits = rows * 16 // out if out else 0
    if bits not in _BITS or rows * 16 != out * bits or tables.numel != 2**bits:
        raise Unclear(_MISFIT)
    return Weight((out, columns), f"int{bits}")


# bitsandbytes ---------------------------------------------------------------------------------------------------------


def _bnb_4bit(group: Group, held: Stored) -> Weight | None:
    """Read a weight as bytes, two elements each, beside a ``quant_state`` of JSON that has its shape.

    ``QuantState.as_dict`` in https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py
    """
    states = [(kind, group.get(f".quant_state.bitsandbytes__{kind}")) for kind in ("nf4", "fp4")]
    kind, state = next(((kind, each) for kind, each in states if each is not None), ("", None))
    if state is None:
        raise absent("quant_state")
    most = 2 * held.nbytes  # an odd number of elements leaves half of the last byte empty
    if state.value is None:
        return Weight((most,), kind, "their bytes, two weights each")
    try:
        said = load(state.value)
    except MalformedJson as error:
        raise Unclear("and its quant_state is no JSON") from error
    shape = said.get("shape") if isinstance(said, dict) else None
    if not _is_shape(shape) or prod(shape) not in {most, most - 1}:
        raise Unclear("and the shape in its quant_state does not go with its size")
    return Weight(tuple(shape), kind)


def _is_shape(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _bnb_8bit(group: Group, held: Stored) -> Weight | None:
    """Read ``weight`` in int8, one byte an element, beside ``SCB [out]``.

    https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/nn/modules.py, ``Linear8bitLt``.
    """
    if held.dtype != "int8":
        return None
    if group.demand(".SCB").shape != held.shape[:1]:
        raise Unclear(_MISFIT)
    return Weight(held.shape, "int8")


# Scaled floats and integers of eight bits, and block floats of four and six -------------------------------------------


def _scaled(held: Stored, beside: Iterable[Stored]) -> Weight | None:
    """Read a weight in eight bits beside its scales, of which the largest says how many elements share a byte."""
    of_weights = [each for each in beside if scales.is_of_weights(each)]
    if not of_weights:
        return None
    if not all(scales.fits(each, held) for each in of_weights):
        raise Unclear(_MISFIT)
    return _with_scale(held, max(of_weights, key=lambda each: each.numel))


def _comfy(group: Group, held: Stored) -> Weight | None:
    """Read ``weight`` beside ``comfy_quant``, which is JSON and names the format.

    https://github.com/Comfy-Org/ComfyUI/blob/master/QUANTIZATION.md
    """
    value = group.demand(".comfy_quant").value
    try:
        said = load(value) if value else None
    except MalformedJson:
        return None
    form = said.get("format") if isinstance(said, dict) else None
    if form not in {"nvfp4", "mxfp4"} or held.dtype != "uint8" or not held.shape:
        return None
    return Weight((*held.shape[:-1], 2 * held.shape[-1]), str(form))


def _svdquant(group: Group, held: Stored) -> Weight | None:
    """Read ``qweight``, four bits a weight in the order of a kernel, beside ``wscales [in / group, out]``.

    https://github.com/nunchaku-ai/nunchaku/blob/main/nunchaku/models/linear.py
    """
    scale, bias = group.get(".wscales"), group.get(".bias")
    if scale is None or held.dtype not in {"int8", "uint8", "int32"} or len(scale.shape) != 2:  # noqa: PLR2004  # a matrix
        return None
    groups, out = scale.shape
    into, rest = divmod(2 * held.nbytes, out) if out else (0, 1)
    if rest or not is_grouped(into, groups) or (bias is not None and bias.shape != (out,)):
        raise Unclear(_MISFIT)
    return Weight((out, into), "fp4" if scale.dtype.startswith("float8_") else "int4")


def _eetq(group: Group, held: Stored) -> Weight | None:
    """Read ``weight [in, out]`` in int8, beside ``weight_scales [out]``.

    https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/eetq.py, ``EetqLinear``.
    """
    scales = group.demand(".weight_scales")
    if held.dtype != "int8" or len(held.shape) != 2:  # noqa: PLR2004  # a matrix
        return None
    if scales.shape != held.shape[1:]:
        raise Unclear(_MISFIT)
    return Weight((held.shape[1], held.shape[0]), "int8")


def _bitnet(group: Group, held: Stored) -> Weight | None:
    """Read ``weight [out / 4, in]`` in bytes of four ternary weights, as only the config says that it is.

    https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/bitnet.py, ``BitLinear``.
    """
    if held.dtype != "uint8" or len(held.shape) != 2 or group.demand(".weight_scale").numel != 1:  # noqa: PLR2004  # a matrix
        return None
    if _quantization(group).get("quant_method") != "bitnet":
        return None
    return Weight((4 * held.shape[0], held.shape[1]), "int2")


def _gemma_embedding(group: Group, held: Stored) -> Weight | None:
    """Read ``embedding_quantized`` beside ``embedding_scale``: in int8 as it is, in bytes of several weights not.

    https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/gemma_quant.py
    """
    if group.demand(".embedding_scale").numel > held.numel:
        raise Unclear(_MISFIT)
    if held.dtype == "uint8":
        raise Unclear("and nothing says how many weights share a byte")
    return Weight(held.shape, "int8") if held.dtype == "int8" else None


def _fp_quant(group: Group, held: Stored) -> Weight | None:
    """Read ``qweight [out, in / 2]`` in bytes, beside ``scales [out, blocks]``.

    https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/fp_quant.py
    """
    scales = group.demand(".scales")
    if held.dtype != "uint8" or scales.dtype not in {"uint8", "float8_e4m3fn", "float8_e8m0fnu"}:
        return None
    return _blocks_of_floats(held, scales)


def _nvfp4_linear(group: Group, held: Stored) -> Weight | None:
    """Read ``weight [out, in / 2]`` in bytes, beside ``weight_sf_rowmajor [out, in / 16]``.

    https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/nvfp4.py, ``NVFP4Linear``.
    """
    return _blocks_of_floats(held, group.demand(".weight_sf_rowmajor")) if held.dtype == "uint8" else None


def _torchao(group: Group, held: Stored) -> Weight | None:
    """Read ``_weight_qdata``, as torchao takes its tensors apart, by its dtype and the shape of ``_weight_scale``.

    https://github.com/pytorch/ao/blob/main/torchao/prototype/safetensors/safetensors_support.py, and the classes of its
    tensors.
    """
    scale = group.get("_scale")
    if scale is None:  # tiles of 4 bits, whose rows and columns are padded
        raise Unclear("in tiles whose padding nothing tells")
    *above, rows, columns = (1, 1, *held.shape)[-max(len(held.shape), 2) :]
    if held.dtype.startswith("float8_"):
        return Weight(held.shape, held.dtype)
    if held.dtype == "uint8" and scale.dtype == "float8_e4m3fn":
        return Weight((*above, rows, 2 * columns), "nvfp4")
    if held.dtype == "uint8" and scale.dtype == "float8_e8m0fnu":
        return _blocks_of_floats(held, scale)
    is_by_row = scale.numel == 1 or scale.shape[-2:-1] == (rows,)  # [out, groups]: of a byte each
    is_by_group = len(scale.shape) > 1 and scale.shape[-1] == rows  # [groups, out]: of four bits
    if is_by_group and not is_by_row and held.dtype in _WORDS:
        return Weight((*above, rows, columns * _WORDS[held.dtype] // 4), "int4")
    if is_by_row and not is_by_group and held.dtype == "int8":
        return Weight(held.shape, "int8")
    raise Unclear("and its scale does not tell how many weights share a byte")


def _with_scale(held: Stored, scale: Stored) -> Weight | None:
    if held.dtype == "uint8" or (held.dtype == "int8" and scale.dtype == "float8_e8m0fnu"):
        return _blocks_of_floats(held, scale)
    if held.dtype != "int8" and not held.dtype.startswith("float8_"):
        return None
    return Weight(held.shape, held.dtype)


# By the bytes that share a scale: the dtype, and elements in so many bytes.
# The formats of the Open Compute Project have blocks of 32, https://www.opencompute.org/documents/
# ocp-microscaling-formats-mx-v1-0-spec-final-pdf; NVIDIA's has blocks of 16 and scales in float8.
_BLOCKS = {8: ("nvfp4", 2, 1), 16: ("mxfp4", 2, 1), 24: ("mxfp6", 4, 3)}


def _blocks_of_floats(held: Stored, scale: Stored) -> Weight:
    """Read ``weight [..., in / 2]`` in bytes, and a scale for each block of a row."""
    columns, blocks = (each.shape[-1] if each.shape else 0 for each in (held, scale))
    size, rest = divmod(columns, blocks) if blocks else (0, 0)
    if rest or size not in _BLOCKS or held.shape[:-1] != scale.shape[:-1]:
        raise Unclear("and the scales do not tell how many weights share a byte")
    dtype, elements, in_bytes = _BLOCKS[size]
    return Weight((*held.shape[:-1], columns // in_bytes * elements), dtype, "their shapes and scales")


def _gpt_oss(ending: str) -> Callable[[Group, Stored], Weight | None]:
    """Read ``blocks [..., groups, 16]`` and ``scales [..., groups]``, 32 elements a group.

    https://github.com/openai/gpt-oss/blob/main/gpt_oss/torch/weights.py
    """

    def read(group: Group, held: Stored) -> Weight | None:
        if held.dtype != "uint8" or held.shape[-1:] != (16,):
            return None
        if group.demand(ending).shape != held.shape[:-1]:
            raise Unclear(_MISFIT)
        return Weight((*held.shape[:-2], held.shape[-2] * 32), "mxfp4")

    return read


# compressed-tensors ---------------------------------------------------------------------------------------------------


def _compressed(group: Group, held: Stored) -> Weight | None:
    """Read ``weight_packed [..., in * bits / 32]``, whose ``weight_shape`` holds the shape; floats as bytes have none.

    https://github.com/vllm-project/compressed-tensors/tree/main/src/compressed_tensors/compressors
    """
    if held.dtype == "uint8":
        return _blocks_of_floats(held, group.demand("_scale"))
    if held.dtype != "int32":
        return None
    said = group.demand("_shape")
    shape = _numbers(said)
    if shape is None:
        raise Unclear("and its weight_shape cannot be read", "save it as safetensors")
    word = _WORDS[held.dtype]
    if len(shape) != len(held.shape) or tuple(shape[:-1]) != held.shape[:-1] or not shape[-1]:
        raise Unclear(_MISFIT)
    fits = [bits for bits in _BITS if held.shape[-1] == _words(shape[-1], bits, word)]
    if not fits:  # older versions let no element reach into the next word
        fits = [bits for bits in _BITS if held.shape[-1] == -(-shape[-1] // (word // bits))]
    if not fits:
        raise Unclear(_MISFIT)
    asked = [scheme.get("num_bits") for scheme in _schemes(group)] if len(fits) > 1 else []
    bits = next((b for b in fits if b in asked), fits[0])
    told = "the weight_shape of others with tensors of the same shapes" if said.is_of_another else ""
    return Weight(tuple(shape), f"int{bits}", told)


def _marlin_24(group: Group, held: Stored) -> Weight | None:
    """Read ``weight_packed [in / 32, out * bits / 2]``: half of the weights, and ``meta``, a bit for each of all.

    https://github.com/vllm-project/compressed-tensors/blob/0.9.4/src/compressed_tensors/compressors/quantized_compressors,
    ``marlin_24.py``.
    """
    scales, meta = group.get(".scale_packed"), group.get(".meta")
    if scales is None or meta is None or held.dtype != "int32":
        return None
    if len(held.shape) != 2 or len(scales.shape) != 2:  # noqa: PLR2004  # matrices
        raise Unclear(_MISFIT)
    shape = (scales.shape[1], held.shape[0] * 32)
    bits = held.shape[1] * 2 // shape[0] if shape[0] else 0
    if bits not in _BITS or held.shape[1] * 2 != shape[0] * bits or meta.nbytes * 8 != prod(shape):
        raise Unclear(_MISFIT)
    return Weight(shape, f"int{bits}")


def _schemes(group: Group) -> Iterator[Mapping[str, Any]]:
    """Yield what the config says of weights, of each group of modules."""
    groups = _quantization(group).get("config_groups")
    for each in groups.values() if isinstance(groups, dict) else ():
        weights = each.get("weights") if isinstance(each, dict) else None
        if isinstance(weights, dict):
            yield weights


def _bitmask(group: Group, held: Stored) -> Weight | None:
    """Read ``compressed``, the elements that are not 0, beside ``bitmask``, a bit for each, and ``shape``."""
    mask, stored_shape = group.demand(".bitmask"), group.get(".shape")
    shape = _numbers(stored_shape) if stored_shape is not None else None
    if mask.dtype != "uint8" or shape is None:
        return None
    if prod(shape[:-1]) * -(-shape[-1] // 8) != mask.numel or held.numel > prod(shape):
        raise Unclear(_MISFIT)
    return Weight(tuple(shape), held.dtype)


def _numbers(tensor: Stored) -> list[int] | None:
    """Return the elements of a list of whole numbers; None where they were not read."""
    width = _WORDS.get(tensor.dtype, 0) // 8
    if tensor.value is None or not width or not tensor.value or len(tensor.value) % width:
        return None
    parts = (tensor.value[at : at + width] for at in range(0, len(tensor.value), width))
    numbers = [int.from_bytes(part, "little", signed=True) for part in parts]
    return numbers if all(number >= 0 for number in numbers) else None


# MLX ------------------------------------------------------------------------------------------------------------------

# By the bits of a row that share a scale in uint8: what it is, and how wide.
_MLX_FLOATS = {64: ("nvfp4", 4), 128: ("mxfp4", 4), 256: ("mxfp8", 8)}


def _mlx(group: Group, held: Stored) -> Weight | None:
    """Read ``weight [..., in * bits / 32]`` in uint32, ``scales`` and ``biases [..., in / group_size]``.

    The shapes alone fit several widths; config.json says which:
    https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/utils.py, ``load_model``.
    """
    if held.dtype != "uint32" or not held.shape:
        return None
    scales, word = group.demand(".scales"), _WORDS[held.dtype]
    row, groups = held.shape[-1] * word, scales.shape[-1] if scales.shape else 0
    if held.shape[:-1] != scales.shape[:-1] or not groups or row % groups:
        raise Unclear(_MISFIT)
    if scales.dtype == "uint8":
        if row // groups not in _MLX_FLOATS:
            raise Unclear(_MISFIT)
        dtype, bits = _MLX_FLOATS[row // groups]
    else:
        bits = _mlx_bits(group, row // groups)
        dtype = f"int{bits}"
    if row % bits:
        raise Unclear(_MISFIT)
    return Weight((*held.shape[:-1], row // bits), dtype, "their shapes and scales" if scales.dtype == "uint8" else "")


def _mlx_bits(group: Group, shared: int) -> int:
    """Return what the config says of a module, whose scales are for ``shared`` bits each."""
    config = group.config()
    said = (config.get("quantization") or config.get("quantization_config")) if config is not None else None
    if not isinstance(said, dict):
        raise Unclear("and nothing says of how many bits", _put_config(group))
    own = said.get(group.stem.removeprefix("."))
    said = {**said, **own} if isinstance(own, dict) else said
    bits, size = said.get("bits"), said.get("group_size")
    if type(bits) is not int or type(size) is not int:
        raise Unclear("and nothing says of how many bits", _put_config(group))
    if bits not in _BITS or bits * size != shared:
        raise Unclear(f"and the config.json says {bits} bits in groups of {size}, which its shapes contradict")
    return bits


def _quantization(group: Group) -> Mapping[str, Any]:
    config = group.config() or {}
    found = config.get("quantization_config") or config.get("quantization") or config.get("compression_config")
    return found if isinstance(found, dict) else {}


def _put_config(group: Group) -> str:
    if group.config() is None:
        return "put the model's config.json beside the file"
    return "the config.json beside the file would be the place"


# HQQ and quanto -------------------------------------------------------------------------------------------------------


def _hqq(group: Group, held: Stored) -> Weight | None:
    """Read ``W_q``, packed, beside ``shape`` and ``nbits``.

    https://github.com/dropbox/hqq/blob/master/hqq/core/quantize.py, ``HQQLinear.state_dict``.
    """
    shape, bits = _numbers(group.demand(".shape")), _numbers(group.demand(".nbits"))
    if shape is None or bits is None or len(bits) != 1 or bits[0] not in range(1, 9):
        raise Unclear("and its shape and nbits could not be read")
    if not prod(shape) * bits[0] <= held.nbytes * 8 < 2 * prod(shape) * bits[0]:  # 3 bits leave some empty
        raise Unclear(_MISFIT)
    return Weight(tuple(shape), f"int{bits[0]}")


def _quanto(group: Group, held: Stored) -> Weight | None:
    """Read ``weight._data`` in eight bits, beside ``weight._scale``; of fewer bits it does not say how many.

    https://github.com/huggingface/optimum-quanto/blob/main/optimum/quanto/tensor/qtensor.py
    """
    if held.dtype != "int8" and not held.dtype.startswith("float8_"):
        return None
    if group.demand("._scale").numel > held.numel:
        raise Unclear(_MISFIT)
    return Weight(held.shape, held.dtype)


# All of them ----------------------------------------------------------------------------------------------------------

_BNB_STATES = (".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4")
_BESIDE_WEIGHT = (
    *("_scale_inv", "_scale", "_scale_2", "_zero_point", "_global_scale", "_g_idx", "_shape"),
    *("_input_scale", "_activation_scale", "_activation_scale_inv"),
)
_AROUND_WEIGHT = (
    *("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point"),
    *("activation_scale", "activation_scale_inv", "scale_input", "input_activation_scale", "output_activation_scale"),
)
_BESIDE_HQQ = (
    *(".shape", ".nbits", ".group_size", ".scale", ".zero", ".axis", ".packing", ".unpack_view_dtype"),
    *(".view_as_float", ".quant_scale", ".quant_zero", ".compute_dtype", ".offload_meta", ".encoded_state_dict"),
    *(".stores_quant_config", ".channel_wise", ".optimize", ".round_zero"),
)

# Where several have the same mark, the first that reads a weight has it.
LAYOUTS = (
    Layout(
        "GPTQ",
        (".qweight",),
        ".qweight",
        _gptq,
        "the shapes of scales and qzeros",
        (".scales", ".qzeros", ".g_idx"),
    ),
    Layout("AWQ", (".qweight",), ".qweight", _awq, "the shapes of scales and qzeros", (".scales", ".qzeros")),
    Layout(
        "FP-Quant",
        (".qweight",),
        ".qweight",
        _fp_quant,
        "their shapes and scales",
        (".scales",),
        ("weight_global_scale", "act_global_scale", "forward_hadamard_matrix", "backward_hadamard_matrix"),
    ),
    Layout("Marlin", (".B",), ".B", _marlin, "the shapes of B and s", (".s", ".workspace")),
    Layout("AQLM", (".codes",), ".codes", _aqlm, "the shapes of codes and codebooks", (".codebooks", ".scales")),
    Layout("VPTQ", (".indices",), ".indices", _vptq, ""),
    Layout("HIGGS", (".tables",), ".weight", _higgs, "the shapes of scales", (".scales", ".tables", ".tables2")),
    Layout(
        "bitsandbytes 4-bit",
        (*_BNB_STATES, ".absmax"),
        "",
        _bnb_4bit,
        "their quant_state",
        (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", *_BNB_STATES),
    ),
    Layout("bitsandbytes 8-bit", (".SCB",), ".weight", _bnb_8bit, "their shapes", (".SCB", ".weight_format")),
    Layout("MXFP4", ("_blocks",), "_blocks", _gpt_oss("_scales"), "the shapes of blocks and scales", ("_scales",)),
    Layout("MXFP4", (".blocks",), ".blocks", _gpt_oss(".scales"), "the shapes of blocks and scales", (".scales",)),
    Layout(
        "Marlin 2:4",
        (".weight_packed",),
        ".weight_packed",
        _marlin_24,
        "the shapes of scales and meta",
        (".scale_packed", ".meta"),
        _AROUND_WEIGHT,
    ),
    Layout(
        "compressed-tensors",
        ("_packed",),
        "_packed",
        _compressed,
        "their weight_shape and scales",
        _BESIDE_WEIGHT,
        _AROUND_WEIGHT,
    ),
    Layout(
        "a sparse bitmask",
        (".bitmask",),
        ".compressed",
        _bitmask,
        "their bitmask and shape",
        (".bitmask", ".shape", ".row_offsets", *_BESIDE_WEIGHT),
        _AROUND_WEIGHT,
    ),
    Layout("BitNet", (".weight_scale",), ".weight", _bitnet, "config.json", (".weight_scale",), _AROUND_WEIGHT),
    Layout("EETQ", (".weight_scales",), ".weight", _eetq, "their shapes", (".weight_scales",)),
    Layout(
        "scaled embeddings",
        (".embedding_scale",),
        ".embedding_quantized",
        _gemma_embedding,
        "their shapes",
        (".embedding_scale",),
    ),
    Layout(
        "NVFP4",
        (".weight_sf_rowmajor",),
        ".weight",
        _nvfp4_linear,
        "their shapes and scales",
        (".weight_sf", ".weight_sf_rowmajor", ".weight_global_scale"),
    ),
    Layout(
        "torchao",
        ("_qdata",),
        "_qdata",
        _torchao,
        "the shapes of data and scale",
        ("_scale", "_zero_point", "_per_tensor_scale", "_act_per_tensor_scale", "_act_pre_scale", "_act_scale"),
    ),
    Layout("ComfyUI", (".comfy_quant",), ".weight", _comfy, "what comfy_quant says", (".comfy_quant",)),
    Layout(
        "SVDQuant",
        (".wscales",),
        ".qweight",
        _svdquant,
        "the shapes of qweight and wscales",
        (".wscales", ".wzeros", ".wtscale", ".wcscales"),
        ("smooth", "smooth_orig", "smooth_factor", "smooth_factor_orig"),
    ),
    Layout("MLX", (".scales",), ".weight", _mlx, "config.json and their shapes", (".scales", ".biases", ".qbiases")),
    Layout("HQQ", (".W_q",), ".W_q", _hqq, "their shape and nbits", _BESIDE_HQQ),
    Layout("quanto", ("._scale",), "._data", _quanto, "their shapes", ("._scale", "._shift"), _AROUND_WEIGHT),
)

_MARKS = tuple({mark for layout in LAYOUTS for mark in layout.marks})
_LAST_PARTS = tuple({mark.rpartition(".")[2] for mark in _MARKS})
# What other libraries keep packed weights in, whose width nothing tells: EXL2, EXL3, QuIP#, quanto, Quark, SpQR, 4/6.
_CODES = (
    *(
        ".weight",
        ".qweight",
        ".weight_packed",
        ".q_weight",
        ".codes",
        ".trellis",
        ".Qidxs",
        "._data",
        ".W_q",
        "_blocks",
    ),
    *("_qdata", ".dense_weights", ".quantized_weight_values"),
)
_WITH_SCALES = frozenset({"qint8", "quint8", "qint32", "quint4x2", "quint2x4"})
_INTEGERS = frozenset({"bool"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})
_OF_WEIGHTS = r".*_proj|.*_weight|.*kernel|w\d+"  # of fused experts, mostly: the key of a tensor
# Floats of fewer bits than a byte, in safetensors and PyTorch: what they are, and what tells how many.
_NARROW = {
    IN_PAIRS: ("PyTorch's, which has two floats in an element", "their dtype"),
    "float6_e2m3fn": ("floats of six bits", "their dtype"),
    "float6_e3m2fn": ("floats of six bits", "their dtype"),
}
_EIGHT_BITS = frozenset({"int8", "uint8"})
_TELLING = _WITH_SCALES | _INTEGERS | _NARROW.keys()
# What a layer calls the one weight that it has, packed.
_LONE = frozenset({"weight", "qweight", "weight_packed", "_weight_qdata", "W_q"})
_BRANCHES = frozenset({"proj_down", "proj_up", "lora_down", "lora_up"})
_ORDINARY = ("weight", "bias", "_g", "_v", "_orig")
