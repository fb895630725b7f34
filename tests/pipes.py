"""Pipes that somebody writes a file into."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path


class Pipe:
    """What is written into a pipe, and how much of it was taken."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.written = 0  # bytes, when all has been read, or nobody reads any more

    def write(self, file: FileIO, content: bytes) -> None:
        with suppress(BrokenPipeError), file:  # the reader may have had enough
            for start in range(0, len(content), 2**14):
                self.written += file.write(content[start : start + 2**14]) or 0


@contextmanager
def piped(content: bytes) -> Iterator[Pipe]:
    """Write to a pipe, which then has a name as a shell gives it to <(command)."""
    source, sink = os.pipe()
    pipe = Pipe(f"/dev/fd/{source}")
    writer = threading.Thread(target=lambda: pipe.write(FileIO(sink, "wb"), content))
    writer.start()
    try:
        yield pipe
    finally:
        os.close(source)
        writer.join()


@contextmanager
def named_pipe(content: bytes, path: Path) -> Iterator[Pipe]:
    """Write to a pipe that has a name."""
    os.mkfifo(path)
    pipe = Pipe(str(path))
    writer = threading.Thread(target=lambda: pipe.write(FileIO(path, "wb"), content))
    writer.start()
    try:
        yield pipe
    finally:
        writer.join()
