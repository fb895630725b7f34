"""Runs a model's constructor without allocating or initialising weights, and says so where that was impossible."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from paramcount.errors import BuildError, ParamcountError
from paramcount.inventory import Note
from paramcount.pause import paused_collector
from paramcount.units import size

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "meta", "cpu"]
Made = TypeVar("Made")


@dataclass(slots=True)
class Attempt:
    """What a way of building reports about itself while the constructor runs."""

    nbytes: int = 0  # of the tensors that were not allocated
    obstacle: str | None = None  # the value that the constructor wanted, and could not have without memory
    skipped_downloads: list[str] = field(default_factory=list)


def build(construct: Callable[[], Made], *, device: Device = "auto") -> tuple[Made, tuple[Note, ...]]:
    """Return what ``construct`` returns, and what there is to say about how it was built.

    The ways are tried in turn until one succeeds: ``weightless`` (only small tensors are real), plain
    ``torch.device("meta")``, and real memory, as the constructor alone would have it. ``device`` "meta" leaves out the
    last way, "cpu" all but the last. ``construct`` must be fit to be called again.

    Raises:
        BuildError: the constructor needs more memory than there is.
        Exception: the constructor's own, as the last way raised it.

    """
    from paramcount.modules.weightless import Weightless

    attempt = Attempt()
    failure: BaseException | None = None
    if device != "cpu":
        for way in (Weightless(attempt).active, _on_meta):
            try:
                with _undisturbed(attempt), way():
                    made = construct()
            except (ParamcountError, *_NOT_OUR_DOING):
                raise
            except Exception as error:  # noqa: BLE001  # whatever a user's constructor raises
                failure = failure or error
            else:
                if attempt.obstacle is None:
                    return made, _notes(attempt)
            if attempt.obstacle is not None:  # also where the constructor caught our error and went on with a guess
                break
        if device == "meta":
            raise failure or BuildError(f"it cannot be built without memory: {attempt.obstacle}")
        _demand_memory(attempt, failure)
    attempt.skipped_downloads.clear()
    with _undisturbed(attempt):
        made = construct()
    reason = attempt.obstacle or _told(failure)
    return made, (
        *_notes(attempt),
        *([] if device == "cpu" else [Note("real-memory", "", f"built in real memory: {reason}")]),
    )


def _told(failure: BaseException | None) -> str:
    lines = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {lines[0]}" if lines else type(failure).__name__


def _notes(attempt: Attempt) -> tuple[Note, ...]:
    if not attempt.skipped_downloads:
        return ()
    urls = ", ".join(dict.fromkeys(attempt.skipped_downloads))
    return (Note("weights-skipped", "", f"pretrained weights were not fetched, the count does not need them: {urls}"),)


def _demand_memory(attempt: Attempt, failure: BaseException | None) -> None:
    """Raise rather than let the operating system kill the process."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    if available is not None and attempt.nbytes > available:
        reason = attempt.obstacle or _told(failure)
        raise BuildError(
            f"it cannot be built without memory ({reason}), and in memory it takes at least {size(attempt.nbytes)}, "
            f"of which {size(available)} are free"
        ) from failure


@contextmanager
def _on_meta() -> Iterator[None]:
    import torch

    with torch.device("meta"):
        yield


@contextmanager
def _undisturbed(attempt: Attempt) -> Iterator[None]:
    """Fetch nothing, and leave PyTorch's process-wide settings as they were."""
    import torch

    dtype, grad, random_state = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
    default_device = torch.get_default_device()
    with paused_collector(), warnings.catch_warnings(), _no_downloads(attempt):
        for message in _OUR_DOING:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            torch.set_rng_state(random_state)
            if torch.get_default_device() != default_device:
                torch.set_default_device(default_device)


# What a constructor raises with memory just as without: trying again would only repeat what it prints.
_NOT_OUR_DOING = (ImportError, NameError, OSError, SyntaxError)

# Warnings that a plain build would not give.
_OUR_DOING = (
    r"for .*: copying from a non-meta parameter in the checkpoint to a meta parameter",
    r"Initializing zero-element tensors is a no-op",
)


class _Unfetched(dict[str, Any]):
    """Stands for a checkpoint that was not downloaded: empty, whatever part of it is asked for."""

    def __missing__(self, key: str) -> _Unfetched:
        return _Unfetched()

    def pop(self, key: str, default: object = None) -> Any:  # noqa: ARG002  # it has none
        return default


@contextmanager
def _no_downloads(attempt: Attempt) -> Iterator[None]:
    """Let ``torch.hub``, and all who use its function, return empty checkpoints; and let models accept them."""
    import torch

    fetch, load = torch.hub.load_state_dict_from_url, torch.nn.Module.load_state_dict

    def load_state_dict_from_url(url: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        attempt.skipped_downloads.append(url.rpartition("/")[2])
        return _Unfetched()

    def load_state_dict(self: torch.nn.Module, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:  # noqa: FBT001, FBT002
        return load(self, state_dict, strict=strict and not attempt.skipped_downloads, assign=assign)

    _replace_everywhere(fetch, load_state_dict_from_url)
    torch.nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.load_state_dict = load  # type: ignore[method-assign]
        _replace_everywhere(load_state_dict_from_url, fetch)


def _replace_everywhere(function: Callable[..., Any], other: Callable[..., Any]) -> None:
    """Put ``other`` in the place of ``function`` in every module that holds it under its own name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(fetch_name := "load_state_dict_from_url") is function:
            setattr(module, fetch_name, other)
