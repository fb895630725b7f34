"""NumPy's own files count by their headers, as many elements as numpy.load() has."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramcount.errors import ParamcountError, UnreadableFile
from paramcount.inventory import Inventory
from paramcount.sources import Target, read


def _read(path: Path) -> Inventory:
    return read(Target(str(path)))


def _shapes(inventory: Inventory) -> dict[str, Any]:
    params = {each.name: (each.shape, each.dtype) for each in inventory.params}
    return params | {each.name: (each.shape, each.dtype) for each in inventory.buffers}


ARRAYS = {
    "w": np.zeros((3, 4), np.float32),
    "layer.b": np.zeros(5, ">f8"),
    "fortran": np.zeros((2, 3), np.float16, order="F"),
    "bias/scalar": np.array(2.0),
    "none": np.zeros((0, 3), np.int8),
    "W": np.zeros(2, np.float32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_counts_as_numpy_loads_it(save: Callable[..., None], tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    with np.load(tmp_path / "a.npz") as loaded:
        right = {key: (loaded[key].shape, loaded[key].dtype.name) for key in loaded}
    inventory = _read(tmp_path / "a.npz")
    assert _shapes(inventory) == right
    assert "arrays" in {note.code for note in inventory.notes}


def test_one_array_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAYS["fortran"])
    assert _shapes(_read(tmp_path / "a.npy")) == {"array": ((2, 3), "float16")}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_no_array_of_numbers_is_left_out_and_named(save: Callable[..., None], tmp_path: Path) -> None:
    save(tmp_path / "a.npz", w=ARRAYS["w"], names=np.array(["a"]), pairs=np.zeros(1, [("a", "f4")]))
    inventory = _read(tmp_path / "a.npz")
    assert _shapes(inventory) == {"w": ((3, 4), "float32")}
    assert any("names, pairs" in note.message for note in inventory.notes if note.code == "left-out")


def test_text_alone_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(["a"]))
    np.savez(tmp_path / "a.npz", x=np.array(["a"]))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(UnreadableFile, match="no weights"):
            _read(tmp_path / name)


def test_a_mapping_that_numpy_pickled_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"w": np.zeros((3, 4)), "b": np.zeros(7)}))
    inventory = _read(tmp_path / "a.npy")
    assert _shapes(inventory) == {"w": ((3, 4), "float64"), "b": ((7,), "float64")}
    codes = {note.code for note in inventory.notes}
    assert "pickled-array" in codes
    assert "calls" not in codes


class _Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.mkdir, ("made",)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_calls_of_a_pickled_array_are_said(save: Callable[..., None], tmp_path: Path) -> None:
    array = np.array([_Harmful()], dtype=object)
    save(tmp_path / "a.npz", w=ARRAYS["w"], x=array)
    notes = [note.message for note in _read(tmp_path / "a.npz").notes if note.code == "calls"]
    assert notes == ["numpy.load(allow_pickle=True) would call posix.mkdir('made'); nothing in it was executed here"]
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ParamcountError, match=r"posix\.mkdir") as caught:
        _read(tmp_path / "a.npy")
    assert caught.value.hint == "do not load it"


def _bent(data: bytes) -> list[bytes]:
    return [
        data[:-1],
        data[:20],
        *(data.replace(b"(3, 4)", shape) for shape in (b"(3, x)", b"(34 4)", b"(3,,4)", b"(L, 4)", b"(3, -4")),
        data.replace(b"NUMPY\1", b"NUMPY\3"),
    ]


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, ARRAYS["w"])
    for data in _bent(stream.getvalue()):
        (tmp_path / "a.npy").write_bytes(data)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("w.npy", data)
        for name in ("a.npy", "a.npz"):
            with pytest.raises(UnreadableFile):
                _read(tmp_path / name)
