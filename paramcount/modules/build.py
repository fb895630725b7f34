"""Runs a model's constructor without allocating or initialising weights, and says so where that was impossible."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from paramcount.errors import BuildError, ParamcountError
from paramcount.inventory import Note
from paramcount.modules.downloads import no_downloads
from paramcount.modules.failure import NeedsNetwork, is_installed
from paramcount.modules.network import Fetches
from paramcount.pause import paused_collector
from paramcount.units import size

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "meta", "cpu"]
Made = TypeVar("Made")


@dataclass(slots=True)
class Attempt:
    """What a way of building reports about itself while the constructor runs."""

    nbytes: int = 0  # of the tensors that were not allocated, and existed at its end
    obstacle: str | None = None  # what the constructor wanted, and could not have without memory
    loops: bool = False  # whether it does thousands of small operations, which take less time in memory
    invented: list[str] = field(default_factory=list)  # what a GPU that is not here was asked of its kind
    fetches: Fetches = field(default_factory=Fetches)


def build(construct: Callable[[], Made], *, device: Device = "auto") -> tuple[Made, tuple[Note, ...]]:
    """Return what ``construct`` returns, and what there is to say about how it was built.

    First without weights: only small tensors are real. Where that fails, or the constructor asked for a value that was
    not there, in real memory, as the constructor alone would have it. ``device`` "meta" leaves out the second way,
    "cpu" the first. ``construct`` must be fit to be called again.

    Raises:
        BuildError: the constructor needs more memory than there is.
        Exception: the constructor's own, as the last way raised it.

    """
    from paramcount.modules.bounded import can_bound
    from paramcount.modules.budget import LARGEST_BUSY
    from paramcount.modules.weightless import without_missing_devices

    attempt = Attempt()
    outputs = (_Output("stdout"), _Output("stderr"))
    failure: BaseException | None = None
    if device != "cpu":
        can_run_plain = device == "auto" and can_bound(_available_memory())
        made, failure = _without_weights(construct, attempt, outputs, can_run_plain=can_run_plain)
        if attempt.loops:
            failure = None  # with it go all tensors of the constructor that it ended
            if can_run_plain and attempt.nbytes <= 4 * LARGEST_BUSY:
                attempt = Attempt()
                if plain := _within_bounds(construct, attempt, outputs):
                    return plain[0], (*_notes(attempt),)
            attempt = Attempt()
            made, failure = _without_weights(construct, attempt, outputs, loops=True)
        if attempt.obstacle is None and failure is None:
            return cast("Made", made), (*_notes(attempt),)
        # If nothing failed, the constructor caught our error, and went on with a guess.
        if device == "meta":
            raise failure or BuildError(f"it cannot be built without memory: {attempt.obstacle}")
        _demand_memory(attempt, failure)
        attempt.fetches.clear()
        attempt.invented.clear()
    with _undisturbed(attempt, outputs), without_missing_devices(attempt):
        made = construct()
    if device == "cpu":
        return made, (*_notes(attempt),)
    reason = attempt.obstacle or _told(failure)
    return made, (*_notes(attempt), Note("real-memory", "", f"built in real memory: {reason}"))


def _without_weights(
    construct: Callable[[], Made],
    attempt: Attempt,
    outputs: Iterable[_Output],
    *,
    loops: bool = False,
    can_run_plain: bool = False,
) -> tuple[Made | None, BaseException | None]:
    """Return what ``construct`` makes where only small tensors are real, or what it raises if memory might mend it."""
    from paramcount.modules.weightless import Weightless

    weightless = Weightless(attempt, loops=loops, can_run_plain=can_run_plain)
    try:
        with _undisturbed(attempt, outputs), _plain_imports(weightless.paused), weightless.active():
            return construct(), None
    except (ParamcountError, NeedsNetwork, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever a user's constructor raises
        if attempt.obstacle is None and not attempt.loops and isinstance(error, _NOT_OUR_DOING):
            raise
        return None, error


def _within_bounds(construct: Callable[[], Made], attempt: Attempt, outputs: Iterable[_Output]) -> tuple[Made] | None:
    """Return what ``construct`` makes if nobody but the network's guard intervenes, and if it takes little memory.

    None if it fails, or if its outcome could be another one without these bounds: what it raises then is nobody's word.
    """
    from paramcount.modules.bounded import Bounded

    bounded = Bounded()
    try:
        with _undisturbed(attempt, outputs), _plain_imports(bounded.paused), bounded.active():
            made = construct()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # whatever a user's constructor raises, and what ends it
        return None
    return None if bounded.is_spoiled else (made,)


def _told(failure: BaseException | None) -> str:
    lines = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {lines[0]}" if lines else type(failure).__name__


def _notes(attempt: Attempt) -> Iterator[Note]:
    if skipped := dict.fromkeys(attempt.fetches.skipped):
        names = ", ".join(name.rpartition("/")[2] if "://" in name else name for name in skipped)
        needless = "" if attempt.fetches.decides else ", the count does not need them"
        message = f"pretrained weights were not fetched{needless}: {names}"
        yield Note("weights-skipped", "", message)
    if attempt.fetches.decides:
        message = (
            "the constructor looks at weights that were not fetched before it makes its last layer: "
            "where a layer depends on what is in them, the count is another"
        )
        yield Note("weights-unknown", "", message)
    if refused := dict.fromkeys(attempt.fetches.refused):
        message = f"nothing is fetched, and the constructor went on without: {', '.join(refused)}"
        yield Note("network-refused", "", message)
    if attempt.invented:
        from paramcount.modules.gpu import ASSUMED

        asked = ", ".join(dict.fromkeys(attempt.invented))
        message = f"{asked} asked of a GPU that is not here, and got {ASSUMED}: the count may be another on yours"
        yield Note("gpu-assumed", "", message)


def _demand_memory(attempt: Attempt, failure: BaseException | None) -> None:
    """Raise rather than let the operating system kill the process."""
    available = _available_memory()
    if available is None or attempt.nbytes <= available:
        return
    if failure is not None and attempt.obstacle is None:
        raise failure  # most likely the constructor's own error, which memory would not mend
    raise BuildError(
        f"it cannot be built without memory ({attempt.obstacle}), and in memory it takes at least "
        f"{size(attempt.nbytes)}, of which {size(available)} are free"
    ) from failure


def _available_memory() -> int | None:
    """Return how many bytes this process may still take, or None where the operating system does not say."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    with suppress(OSError, ValueError):  # a container's own limit, or none: "max"
        limit, used = (int((_CONTAINER / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        available = min(available, max(0, limit - used))
    return available


# Where Linux says what limits a container's processes: https://docs.kernel.org/admin-guide/cgroup-v2.html
_CONTAINER = Path("/sys/fs/cgroup")


@contextmanager
def _undisturbed(attempt: Attempt, outputs: Iterable[_Output] = ()) -> Iterator[None]:
    """Fetch nothing, ask no GPU that is not here, and leave the settings of the whole process as they were."""
    import torch

    from paramcount.modules.gpu import missing_gpu

    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    random_state, python_random_state, numpy_state = torch.get_rng_state(), random.getstate(), _numpy_state()
    device = _default_device()
    with ExitStack() as stack:
        stack.enter_context(paused_collector())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(no_downloads(attempt.fetches))
        stack.enter_context(missing_gpu(attempt.invented.append))
        for output in outputs:
            stack.enter_context(output)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            torch.set_rng_state(random_state)
            random.setstate(python_random_state)
            if numpy_state is not None:
                sys.modules["numpy.random"].set_state(numpy_state)
            if _default_device() != device:
                torch.set_default_device(device)


def _numpy_state() -> Any:
    """Return the state of NumPy's own generator; None where it is not loaded."""
    library = sys.modules.get("numpy.random")
    return None if library is None else library.get_state(legacy=False)


def _default_device() -> torch.device | None:
    """Return what torch.set_default_device() was called with: get_default_device() fails for a missing one."""
    import torch

    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)  # noqa: SLF001  # for want of a public one
    return None if context is None else context.device


@contextmanager
def _plain_imports(paused: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Run installed modules, imported only now, as ever: what they make when they are imported outlives the build."""

    def exec_module(self: SourceFileLoader, module: ModuleType) -> None:
        with paused() if is_installed(self.path) else nullcontext():
            run(self, module)

    run = SourceFileLoader.exec_module
    before = vars(SourceFileLoader).get("exec_module")  # another build's; of its own it has none, and inherits it
    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign,assignment]  # a module is a module
    try:
        yield
    finally:
        if before is None:
            del SourceFileLoader.exec_module
        else:
            SourceFileLoader.exec_module = before  # type: ignore[method-assign]  # the same


class _Output:
    """One of the process's output streams, on which a retry does not repeat what it has in common with the first try.

    Entered once for each try, it stands in the stream's place.
    """

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name
        self._printed = ""  # by the tries so far: by the one that got furthest
        self._text = ""  # by this try
        self._repeats = False  # whether that is, so far, what an earlier one has printed
        self._is_first = True

    def __enter__(self) -> None:
        self._stream = getattr(sys, self._name)
        if self._stream is not None:
            setattr(sys, self._name, self)
        self._text, self._repeats = "", not self._is_first

    def __exit__(self, *_exception: object) -> None:
        setattr(sys, self._name, self._stream)
        self._is_first = False
        if not self._printed.startswith(self._text):
            self._printed = self._text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        common = 0
        if self._repeats:
            common = _common(self._printed[len(self._text) :], text)
            self._repeats = common == len(text)  # from the first difference on, all is news
        self._text += text
        if common < len(text):
            self._stream.write(text[common:])
        return len(text)


# What a constructor raises with memory just as without: trying again would only repeat what it prints.
_NOT_OUR_DOING = (ImportError, NameError, OSError, SyntaxError)


def _common(text: str, other: str) -> int:
    """Return how many characters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
