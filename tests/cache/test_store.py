"""The files of the cache are whole, bounded and nobody else's."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paramcount.cache import store as module
from paramcount.cache.store import Store

KEYS = [f"{number:040x}" for number in range(10)]


def _write(folder: Path, letter: int) -> None:
    for _ in range(50):
        Store(folder).put(KEYS[0], bytes([letter]) * 300_000)


def test_processes_that_write_at_once_leave_one_whole_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, letter)) for letter in b"ab"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        data = Store(tmp_path).get(KEYS[0])
        if data is not None:
            assert data in {b"a" * 300_000, b"b" * 300_000}
            seen.add(data[:1])
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEYS[0]}.entry"]


def _used(folder: Path, number: int, when: int) -> None:
    os.utime(folder / f"{KEYS[number]}.entry", (when, when))


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 3)
    store = Store(tmp_path)
    for number in range(3):
        store.put(KEYS[number], b"data")
        _used(tmp_path, number, 1000 + number)
    assert store.get(KEYS[0]) == b"data"  # used just now
    store.put(KEYS[3], b"data")
    assert store.get(KEYS[1]) is None
    assert [store.get(KEYS[number]) for number in (0, 2, 3)] == [b"data"] * 3


def test_the_bytes_are_bounded_and_one_entry_may_be_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    store = Store(tmp_path)
    for number in range(3):
        store.put(KEYS[number], b"four")
        _used(tmp_path, number, 1000 + number)
    assert [file.nbytes for file in store.entries()] == [4, 4]
    store.put(KEYS[4], b"eleven bytes")
    assert [file.nbytes for file in store.entries()] == [12]


def test_only_what_is_ours_is_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(KEYS[0], b"data")
    (tmp_path / f".{KEYS[1]}.abc_1.draft").write_bytes(b"of a process that was killed")
    (tmp_path / "thesis.entry").write_text("precious")
    (tmp_path / "thesis.draft").write_text("precious")
    store.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.draft", "thesis.entry"]


def test_a_draft_that_nobody_writes_at_any_more_goes(tmp_path: Path) -> None:
    old, new = (tmp_path / f".{KEYS[1]}.{name}.draft" for name in ("old", "new"))
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (1000, 1000))
    Store(tmp_path).put(KEYS[0], b"data")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert (store.get(KEYS[0]), store.entries()) == (None, [])
    store.clear()
    assert not store.folder.exists()


def replaced(entry: Path, make: Callable[[Path], object]) -> None:
    entry.unlink()
    make(entry)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, _: folder.chmod(0o777),
        lambda folder, _: folder.chmod(0o770),
        lambda _, entry: entry.chmod(0o666),
        lambda _, entry: replaced(entry, os.mkfifo),
        lambda _, entry: replaced(entry, os.mkdir),
        lambda folder, entry: (entry.rename(folder / "mine"), entry.symlink_to(folder / "mine")),
    ],
    ids=["all write to the folder", "a group does", "all write to it", "a pipe", "a folder", "a link"],
)
def test_what_somebody_else_may_have_written_is_not_believed(
    change: Callable[[Path, Path], object], tmp_path: Path
) -> None:
    said: list[str] = []
    folder = tmp_path / "kept"
    store = Store(folder, said.append)
    store.put(KEYS[0], b"data")
    assert store.get(KEYS[0]) == b"data"
    change(folder, folder / f"{KEYS[0]}.entry")
    assert store.get(KEYS[0]) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", f"{KEYS[0]}.entry"])
def test_what_somebody_else_has_is_not_believed(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(tmp_path / "kept", said.append)
    store.put(KEYS[0], b"data")
    os.chown(store.folder / name, 65534, 65534)
    assert store.get(KEYS[0]) is None
    assert "is not believed" in said[0]
