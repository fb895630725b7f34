"""Reads parts of a file in any place that fsspec knows: the stores of the clouds, hubs, archives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from paramcount.errors import MissingLibrary, ParamcountError, UnknownTarget, UnreadableFile, closest, did_you_mean
from paramcount.files.blocks import Blocks
from paramcount.files.patience import in_time
from paramcount.files.ranges import last
from paramcount.files.together import in_common
from paramcount.urls import scheme, shown, split

_T = TypeVar("_T")

_AT_ONCE = 4 * 2**20  # bytes, for each of which there is patience anew
# What the packages of protocols within fsspec itself are installed as, by what they are imported as.
_PACKAGES = {"smbclient": "smbprotocol", "libarchive": "libarchive-c", "distributed": "'dask[distributed]'"}


@contextmanager
def opened(url: str) -> Iterator[Blocks]:
    """Open a file by its URL, for as long as the context lasts.

    Raises:
        MissingLibrary: the protocol's package is not installed.
        UnknownTarget: there is no such file, or no such protocol.
        UnreadableFile: it cannot be read.

    """
    system, path = _system(url)
    try:
        # No cache but ours: fsspec's would fetch megabytes for a header.
        stream = _asked(lambda: system.open(path, "rb", cache_type="none"), url)
    except UnreadableFile as error:
        if isinstance(error.__cause__, ValueError) and "/" not in path:  # as of S3, a bucket that cannot be listed
            raise _missing(shown(url)) from error
        raise
    try:
        size = _asked(lambda: _size(stream), url)
        yield Blocks(shown(url), size, lambda start, stop: _fetched(stream, start, stop, url))
    finally:
        stream.close()


def listed(url: str) -> list[str] | None:
    """Return the names in a folder, or None where there is none.

    Raises:
        MissingLibrary: the protocol's package is not installed.
        UnknownTarget: there is no such protocol.
        UnreadableFile: it cannot be listed.

    """
    system, path = _system(url)
    try:
        entries: list[str] = _asked(lambda: system.ls(path, detail=False), url)
    except UnknownTarget:
        return None
    inside = [entry.rstrip("/") for entry in entries if entry.rstrip("/") != path.rstrip("/")]
    if entries and not inside:  # of a file, stores list the file
        return None
    return sorted(entry.rpartition("/")[2] for entry in inside)


def _size(stream: Any) -> int:
    size = getattr(stream, "size", None)
    return size if isinstance(size, int) else int(stream.seek(0, 2))


def _fetched(stream: Any, start: int, stop: int, url: str) -> bytes:
    def part(at: int, length: int) -> bytes:
        stream.seek(at)
        return bytes(stream.read(length))

    return b"".join(
        _asked(lambda at=at: part(at, min(_AT_ONCE, stop - at)), url)  # type: ignore[misc]  # a default of a lambda
        for at in range(start, stop, _AT_ONCE)
    )


def _asked(work: Callable[[], _T], url: str) -> _T:
    """Return what a store answers. Each has errors of its own, and says most in their text."""
    name = shown(url)
    try:
        return in_time(work, name)
    except ParamcountError:
        raise
    except FileNotFoundError as error:
        raise _missing(name, _detail(error, last(url.rstrip("/")))) from error
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        kind = type(error).__name__
        problem = f"{kind}: {said}" if said else kind
        raise UnreadableFile(f"cannot read {name}: {problem}", hint=_access(scheme(url))) from error


def _missing(name: str, why: str = "") -> UnknownTarget:
    problem = f"there is no file {name}" + (f": {why}" if why else "")
    return UnknownTarget(problem, hint="check the address, and that you may read it")


def _detail(error: FileNotFoundError, name: str) -> str:
    """Return what a store says beside the name of a file that is missing, as that there is no such bucket."""
    said = next(iter(str(error).splitlines()), "").partition(". ")[0]
    return (said.rpartition(name)[2] if name and name in said else said).strip(" ()'")


def _access(protocol: str) -> str:
    options = f"FSSPEC_{protocol.upper()}_…"
    return f"check the address, and that you may read it; {options} variables give fsspec its options for {protocol}"


def _system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations
    except ImportError as error:
        raise MissingLibrary(
            f"reading {shown(url)} needs fsspec, which is not there", hint="pip install fsspec"
        ) from error
    protocol = scheme(url)
    try:
        if "::" in url:
            return cast("tuple[Any, str]", _asked(lambda: url_to_fs(url), url))
        # fsspec would make one for each thread, which each asks the hub again what is where.
        system = in_common(split(url).root, lambda: _asked(lambda: url_to_fs(url)[0], url))
    except UnreadableFile as error:
        cause = error.__cause__
        if isinstance(cause, ImportError):
            package = _package(cause, str(known_implementations.get(protocol, {}).get("class", "")))
            raise MissingLibrary(
                f"reading {shown(url)} needs the package {package}, which is not there", hint=f"pip install {package}"
            ) from cause
        if isinstance(cause, ValueError) and "Protocol not known" in str(cause):
            near = [f"{name}://" for name in closest(protocol, known_implementations)]
            hint = did_you_mean(near) or "https://, s3://, gs://, hf:// and what else fsspec opens can be read"
            raise UnknownTarget(f"{shown(url)}: {protocol}:// is no protocol that fsspec knows", hint=hint) from cause
        raise
    return system, str(system._strip_protocol(url))  # noqa: SLF001  # as fsspec's own url_to_fs() does


def _package(error: ImportError, implementation: str) -> str:
    """Return the name to install by, of what could not be imported."""
    own = implementation.partition(".")[0]
    if own not in {"", "fsspec"}:
        return own
    root: BaseException = error
    while isinstance(root.__cause__, ImportError):
        root = root.__cause__
    missing = (getattr(root, "name", None) or "").partition(".")[0]
    return _PACKAGES.get(missing, missing) or "fsspec[full]"
