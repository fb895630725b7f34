"""Says of a file that cannot be counted what it is, by its first bytes, and what to do instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from paramcount.errors import UnreadableFile
from paramcount.files import tars, torch_zip
from paramcount.files.kinds import is_pickle
from paramcount.files.ranges import Ranges, is_pipe
from paramcount.urls import is_web

START = 512  # bytes: a tar archive says what it is at 257
_SHOWN = 16
_COUNT_THE_MODEL = "count the model it was made from: net.py:Net, or what its library has"
_IN_PYTORCH = "load it there, and torch.save() the state_dict() of the PyTorch model"
_CONVERT = "convert it with llama.cpp's convert_llama_ggml_to_gguf.py, or fetch it as GGUF, and count that"
_WHERE_MADE = "where it was made, torch.save() its tensors by name, and count that"
_OTHER_DATA = "name a file of weights: safetensors, a file of torch.save, or GGUF"

# By what a file begins with: what it is, and the next step.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "is HDF5, as Keras saves", "keras.models.load_model(FILE).count_params() counts it"),
    (b"lmgg", "is in a format of llama.cpp before GGUF (ggml)", _CONVERT),
    (b"fmgg", "is in a format of llama.cpp before GGUF (ggmf)", _CONVERT),
    (b"tjgg", "is in a format of llama.cpp before GGUF (ggjt)", _CONVERT),
    (b"algg", "is an adapter in a format of llama.cpp before GGUF (ggla)", _CONVERT),
    (b"ftrt", "is an engine of TensorRT", _COUNT_THE_MODEL),
    (b"ptrt", "is an engine of TensorRT", _COUNT_THE_MODEL),
    (b"PAR1", "is a table in Parquet", _OTHER_DATA),
    (b"ARROW1", "is a table of Arrow", _OTHER_DATA),
    (b"SQLite format 3", "is a database of SQLite", _OTHER_DATA),
    (b"%PDF", "is a PDF", _OTHER_DATA),
    (b"\x89PNG", "is a picture (PNG)", _OTHER_DATA),
    (b"\xff\xd8\xff", "is a picture (JPEG)", _OTHER_DATA),
    (b"7z\xbc\xaf\x27\x1c", "is packed by 7-Zip", "unpack it, and count what is in it: 7z x FILE"),
    (b"Rar!", "is packed by RAR", "unpack it, and count what is in it: unrar x FILE"),
    (b"ZF", "is a joblib file, compressed", _WHERE_MADE),
)
# By the identifier of a FlatBuffer, which stands after its first four bytes.
_FLATBUFFERS = {
    b"TFL3": ("is a model of TensorFlow Lite", _COUNT_THE_MODEL),
    b"PTMF": ("is a program for PyTorch Mobile", _COUNT_THE_MODEL),
    b"ET12": ("is a program of ExecuTorch", _COUNT_THE_MODEL),
    b"ORTM": ("is a model of ONNX Runtime", _COUNT_THE_MODEL),
}
# Protocol buffers have no first bytes of their own: what else may start so has another ending.
_PROTOBUF = rb"\x08[\x01-\x1f](?:[\x12\x1a\x22\x32\x3a\x42]|\x28)"  # patterns are compiled if one is needed
_NAMES = (
    (".mlmodel", "is a model of Core ML", _COUNT_THE_MODEL),
    (".pb", "is a graph of TensorFlow", _COUNT_THE_MODEL),
    (".tflite", "is a model of TensorFlow Lite", _COUNT_THE_MODEL),
    (".h5", "is no HDF5, which its ending says", "fetch or save it again"),
    (".ckpt.index", "is the index of a checkpoint of TensorFlow", _IN_PYTORCH),
)
_OF_TENSORFLOW = r"(?s).+\.(?:index|data-[0-9]{5}-of-[0-9]{5})"
_MSGPACK = rb"(?s)(?:[\x81-\x8f]|\xde..)(?:[\xa1-\xbf]|\xd9.)[\w/.-]+"  # a mapping with text for keys

# By what a file begins with: what packed it, the command that unpacks one, and tar's options.
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gzip -dc", "-xzf"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc", "--zstd -xf"),
    b"\xfd7zXZ\0": ("xz", "xz -dc", "-xJf"),
    b"BZh": ("bzip2", "bzip2 -dc", "-xjf"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc", "-I lz4 -xf"),
}
_PACKED_TAR = r"(?si).+\.(?:tar\.\w+|t[gbx]z2?|tzst|nemo)"
_ENOUGH = 2**16  # bytes that unpack to the beginning of what was packed; bzip2's first block may take more


def refusal(file: Ranges, start: bytes) -> UnreadableFile | None:
    """Return the error for a file that is known to be something else; ``start`` is what it begins with."""
    found = _packed(file, start) or _zipped(file, start) or next(_told(file.name, start), None)
    return found and UnreadableFile(f"{file.name} {found[0]}", hint=named(found[1], file.name))


def named(hint: str, name: str) -> str:
    """Return a next step for a file; what comes by a pipe has no name that would help."""
    return hint if is_pipe(name) else hint.replace("FILE", name)


def unknown(file: Ranges, start: bytes) -> UnreadableFile:
    """Return the error for a file that is none of those that can be counted."""
    return refusal(file, start) or UnreadableFile(
        f"{file.name} begins with {start[:_SHOWN]!r}, as no file that can be counted does",
        hint="safetensors, files of torch.save, GGUF and reports of -f json can be",
    )


def in_zip(names: Collection[str]) -> tuple[str, str] | None:
    """Return what a zip archive is that torch.save did not write, by the names in it, and what to do instead."""
    if "model.weights.h5" in names or {"metadata.json", "config.json"} <= set(names):
        return "is a model of Keras", "keras.models.load_model(FILE).count_params() counts it"
    if "MAR-INF/MANIFEST.json" in names:
        return "is an archive of TorchServe", "unpack it, and count the file of weights in it: unzip FILE"
    if any(name.endswith("data.pkl") for name in names):
        return None
    weights = [name for name in names if name.endswith((".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".gguf"))]
    if weights:
        return f"is a zip archive with {weights[0]} in it", f"unpack it, and count that: unzip FILE {weights[0]}"
    return None


def _told(name: str, start: bytes) -> Iterator[tuple[str, str]]:
    text = start.lstrip(b" \t\r\n\xef\xbb\xbf")
    if not start:
        yield "is empty: nothing came", "look at what should have written it"
    yield from ((what, hint) for beginning, what, hint in _BEGINNINGS if start.startswith(beginning))
    if text[:1] == b"<":
        is_xml = text[:5].lower() == b"<?xml"
        what = "is XML, as a store's refusal is, not a checkpoint" if is_xml else "is a web page, not a checkpoint"
        yield what, "fetch it from the address of the file itself"
    if start[4:8] in _FLATBUFFERS:
        yield _FLATBUFFERS[start[4:8]]
    if start.startswith(b"\x80") and b"joblib.numpy_pickle" in start:
        yield "is a joblib file of NumPy's arrays", _WHERE_MADE
    if is_pickle(start):  # a pickle, whatever it is called
        return
    yield from ((what, hint) for ending, what, hint in _NAMES if name.lower().endswith(ending))
    if re.fullmatch(_OF_TENSORFLOW, name):
        yield "is part of a checkpoint of TensorFlow", _IN_PYTORCH
    if re.match(_PROTOBUF, start) or name.lower().endswith(".onnx"):
        yield "is a model in ONNX", _COUNT_THE_MODEL
    if re.match(_MSGPACK, start):
        yield "is MessagePack, as Flax saves", _IN_PYTORCH


def _zipped(file: Ranges, start: bytes) -> tuple[str, str] | None:
    try:
        return in_zip(torch_zip.entries(file).keys()) if start.startswith(b"PK\x03\x04") else None
    except torch_zip.MalformedZip:
        return None


def _packed(file: Ranges, start: bytes) -> tuple[str, str] | None:
    """Return what packed a file, and the command that unpacks it; of a tar archive, the files in that."""
    for beginning, (packer, command, options) in _COMPRESSED.items():
        if not start.startswith(beginning):
            continue
        if re.fullmatch(_PACKED_TAR, file.name) or tars.is_tar(_beginning(file, packer)):
            return f"is a tar archive packed by {packer}", f"unpack it, and count the file in it: tar {options} FILE"
        unpacked = f"curl -sL 'FILE' | {command}" if is_web(file.name) else f"{command} FILE"
        return f"is packed by {packer}", f"unpack it on the way: {unpacked} | paramcount /dev/stdin"
    return None


def _beginning(file: Ranges, packer: str) -> bytes:
    """Return what a packed file begins with when it is unpacked, where Python can do that."""
    import bz2
    import lzma
    import zlib

    data = file.upto(0, _ENOUGH)
    try:
        match packer:
            case "gzip":
                return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, START)
            case "xz":
                return lzma.LZMADecompressor().decompress(data, START)
            case "bzip2":
                return bz2.BZ2Decompressor().decompress(data, START)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
        pass  # it is damaged, which is told by what unpacks it
    return b""
