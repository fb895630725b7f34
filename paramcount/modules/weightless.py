"""A way to run any constructor in next to no memory: small tensors are real, large ones have only a shape.

Large tensors live on the meta device, though to all but PyTorch itself they say that they are on the CPU. Small ones
are computed as usual, because constructors read values from them (drop-path rates from ``linspace``, layer widths from
``tolist()``). Where the two meet, the result is as unknown as its least known part. A value that is asked for and not
known is an obstacle: it goes into the log before it is raised, because a constructor may catch the error and go on
with a guess.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache, wraps
from itertools import zip_longest
from math import prod
from threading import Thread
from typing import Any, NamedTuple, Protocol

import torch
import torch.utils._device
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from paramcount.modules.budget import (
    LARGEST_COMPUTED,
    LARGEST_SEEDED,
    LARGEST_UNINITIALIZED,
    REQUESTS_A_DISPATCH,
    Budget,
    LoopCount,
    Loops,
)
from paramcount.modules.compiler import by_plain_sizes
from paramcount.modules.shape_cache import ATOMS, PLAIN_TENSORS, SEQUENCES, ShapeCache, is_simple
from paramcount.modules.storages import Storages, address_of

# The seed of a generator from which a draw was skipped: all it gives from now on differs from what PyTorch would draw.
# As a seed it goes wherever the generator's state goes, and ends when the constructor seeds anew.
_ASTRAY = 0x7061_7261_6D63_6F75

# The event that tells whoever listens, by sys.addaudithook, that a value is read that nobody seeded.

aten = torch.ops.aten
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Handler = Callable[["_Requests", Any, Args, Kwargs], Any]


class ValueNeeded(RuntimeError):
    """The constructor reads a value that only real memory would hold."""


class Log(Protocol):
    """Where the modes leave word of what they did."""

    nbytes: int
    obstacle: str | None
    loops: bool


class Weightless:
    """The two modes that together stand in for memory and for every device."""

    def __init__(self, log: Log, *, loops: bool = False, can_run_plain: bool = False) -> None:
        """Report to ``log``; for a constructor that ``loops`` over small tensors, those are real.

        One that is not known to loop is given up when that shows: early if it ``can_run_plain`` instead.
        """
        self._tensors = _Tensors(log, loops=loops, can_run_plain=can_run_plain)
        self._requests = _Requests(self._tensors)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Build without memory inside this context; if that fails, the log has the memory that was saved in the end."""
        with _one_thread(), _no_threads(self._tensors), _brief_resets(self._tensors), self._requests, self._tensors:
            try:
                yield
            except BaseException:
                self._tensors.log.nbytes = self._tensors.shells.nbytes()  # while what failed still holds its tensors
                raise
            if self._tensors.log.obstacle is not None:
                self._tensors.log.nbytes = self._tensors.shells.nbytes()

    def paused(self) -> AbstractContextManager[None]:
        """Let PyTorch be itself inside a context."""
        return self._tensors.pause()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: what is small is not worth waking others for, which may take longer than all the rest."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_threads(tensors: _Tensors) -> Iterator[None]:
    """Let the constructor start no thread: modes are each thread's own, so in another one it could read anything."""
    before = Thread.start

    @wraps(before)
    def start(self: Thread) -> None:
        if type(self).__module__ not in _HARMLESS_THREADS and tensors.is_at_work():
            raise tensors.need("a thread is started")
        before(self)

    Thread.start = start  # type: ignore[method-assign]
    try:
        yield
    finally:
        Thread.start = before  # type: ignore[method-assign]


@contextmanager
def _brief_resets(tensors: _Tensors) -> Iterator[None]:
    """Let PyTorch's own layers be initialised without a word of the modes: that is half the time of making one."""
    before = {layer: vars(layer)["reset_parameters"] for layer in _DRAWING}
    for layer, reset in before.items():
        layer.reset_parameters = _brief(reset, tensors, draws=_DRAWING[layer])
    try:
        yield
    finally:
        for layer, reset in before.items():
            layer.reset_parameters = reset


def _brief(reset: Callable[[Any], None], tensors: _Tensors, *, draws: bool) -> Callable[[Any], None]:
    @wraps(reset)
    def reset_parameters(layer: Any) -> None:
        if getattr(type(layer), "reset_running_stats", _RUNNING) is not _RUNNING:  # who knows what that does
            return reset(layer)
        written = [each for each in (*layer._parameters.values(), *layer._buffers.values()) if each is not None]  # noqa: SLF001
        with _unasked():
            if written and not tensors.paused and tensors.is_alone() and tensors.are_plain(written):
                if all(each.is_meta and (not draws or _is_ordinary(each)) for each in written):
                    return tensors.skip_draw(None) if draws else None
                if not draws:
                    with _undispatched():
                        return reset(layer)
        return reset(layer)

    return reset_parameters


def without_missing_devices(log: Log) -> AbstractContextManager[object]:
    """Put on the CPU, inside this context, what is wanted on a device, if this machine has but the CPU."""
    return nullcontext() if torch.accelerator.is_available() else _Requests(_Tensors(log))


class _Traits(NamedTuple):
    """What matters here of an operation."""

    is_view: bool  # the result is its argument's memory, or its argument itself, in another shape
    is_random: bool
    depends_on_values: bool  # even the result's shape does, or it is no tensor at all
    makes: bool  # a tensor from nothing but a size, which may be another tensor's
    leaves_empty: bool  # makes it, and writes nothing
    takes_device: bool
    size: int | None  # the position of what says how large a tensor it makes
    writes: tuple[int | str, ...]  # the arguments written to, by position or name
    writes_in_place: bool  # writes to its first argument, and returns nothing else
    is_pointwise: bool
    broadcasts: bool  # writes values of any shape that fits the target's
    is_alike_at_any_size: bool  # a write that fails, if it does, for a few elements just as for many


@cache
def _traits(func: Any) -> _Traits:
    schema, tags = func._schema, func.tags  # noqa: SLF001  # the only way to an operation's schema
    arguments = list(enumerate(schema.arguments))
    is_view = func.is_view or torch.Tag.inplace_view in tags
    writes = tuple(
        argument.name if argument.kwarg_only else position
        for position, argument in arguments
        if argument.alias_info is not None and argument.alias_info.is_write and not is_view
    )
    writes_in_place = 0 in writes and all(returned.alias_info is not None for returned in schema.returns)
    is_pointwise = torch.Tag.pointwise in tags
    broadcasts = func is aten.copy_.default or is_pointwise
    is_random = torch.Tag.nondeterministic_seeded in tags
    operands = [str(argument.type) for _, argument in arguments if "Tensor" in str(argument.type)]
    return _Traits(
        is_view=is_view,
        is_random=is_random,
        depends_on_values=torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags,
        makes=func in _LIKE_FACTORIES or not any("Tensor" in str(argument.type) for _, argument in arguments),
        leaves_empty=func in _EMPTY_FACTORIES,
        takes_device=any(argument.name == "device" for _, argument in arguments),
        size=next((position for position, argument in arguments if argument.name in ("size", "steps")), None),
        writes=writes,
        writes_in_place=writes_in_place,
        is_pointwise=is_pointwise,
        broadcasts=broadcasts,
        is_alike_at_any_size=func.namespace == "aten"
        and writes_in_place
        and (broadcasts or (is_random and operands == ["Tensor"]) or func in _FILLERS)
        and func is not aten.mvlgamma_.default,  # which may fail for its values
    )


class _Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's own lack
    """Decides for each operation whether its result is real, and skips all writing of values nobody can read."""

    def __init__(self, log: Log, *, loops: bool = False, can_run_plain: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.log = log
        self.paused = False
        self.budget = Budget(loops=loops)
        self.shapes = ShapeCache()
        # Real storages without their values, because writing those was skipped, and meta storages that the constructor
        # itself wished for: both kept alive, so that no other tensor can come by the same address.
        self.hollow = Storages()
        self.declared = Storages()
        self.shells = Storages()  # what was not allocated
        self.count = LoopCount(self.shells, gives_up=not loops, can_run_plain=can_run_plain)
        self.unseeded = torch.default_generator.initial_seed()
        self.knows_all = True  # no tensor is without its values

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch wraps a mode's method so that its compiler leaves it alone, and imports the whole compiler for that.
        return False

    @contextmanager
    def pause(self) -> Iterator[None]:
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def is_at_work(self) -> bool:
        """Whether this mode hears of what the thread it is asked in does."""
        return not self.paused and any(_mode_at(place) is self for place in range(_count_modes()))

    def is_alone(self) -> bool:
        """Whether nobody but this mode wants to hear of operations: no other mode, and no transform as by vmap."""
        return _count_modes() == 1 and _mode_at(0) is self and _transform_level() is None

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        return tensor.is_meta or self.is_hollow(tensor)

    def is_hollow(self, tensor: torch.Tensor) -> bool:
        return bool(self.hollow) and address_of(tensor) in self.hollow

    def are_plain(self, tensors: Iterable[torch.Tensor]) -> bool:
        """Whether all that is to be known of each is where it lives: on the CPU, with its values, or on meta."""
        return PLAIN_TENSORS.issuperset(map(type, tensors)) and not (self.hollow and any(map(self.is_hollow, tensors)))

    def is_too_large(self, tensor: torch.Tensor) -> bool:
        return tensor.numel() > self.budget.largest and not _is_foreign(tensor)

    def stands_in(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor is on the meta device by our choice, not the constructor's."""
        return tensor.is_meta and not (self.declared and address_of(tensor) in self.declared)

    def hollow_out(self, tensor: torch.Tensor) -> None:
        address = address_of(tensor)
        if not tensor.is_meta and address is not None:
            if _is_foreign(tensor):
                raise self.need("values that are not there are written to memory that is not PyTorch's alone")
            self.knows_all = False
            self.hollow.keep(address, tensor)

    def declare(self, made: Any) -> Any:
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor) and (address := address_of(tensor)) is not None:
                self.knows_all = False
                self.declared.keep(address, tensor)
        return made

    def saved(self, made: Any) -> Any:
        for tensor in (made,) if isinstance(made, torch.Tensor) else _tensors_in((made,)):
            if tensor.is_meta and (address := address_of(tensor)) is not None:
                self.knows_all = False
                self.shells.keep(address, tensor)
        return made

    def keep_real(self, made: Any, limit: int) -> Any:
        self.budget.keep((made,) if isinstance(made, torch.Tensor) else _tensors_in((made,)), limit)
        return made

    def count_small(self, requests: int = 1) -> None:
        """Take down that something is done with tensors' values, and no mere layer is made."""
        count = self.count
        count.requests += requests
        if count.requests >= count.look_at and count.is_loop():
            self.give_up_loop()

    def give_up_loop(self) -> None:
        """Leave a constructor that loops, which takes less time another way."""
        self.log.loops = True
        raise Loops

    def is_seeded(self, generator: torch.Generator | None) -> bool:
        """Whether the constructor gave the generator a seed, by which it may know what comes."""
        generator = generator or torch.default_generator
        return generator.initial_seed() not in (_ASTRAY, self.unseeded)

    def may_hurry(self, arguments: Iterable[Any]) -> bool:
        """Whether an operation on these is nobody's business: its operands are real, and its result will be small."""
        if _count_modes() != 1 or _transform_level() is not None:
            return False
        size = 1
        for argument in arguments:
            kind = type(argument)
            if kind in PLAIN_TENSORS:
                if argument.is_meta or (self.hollow and self.is_hollow(argument)):
                    return False
                size *= argument.numel() or 1
            elif kind not in ATOMS:
                return False
        return size <= LARGEST_COMPUTED

    def need(self, what: str) -> ValueNeeded:
        self.log.obstacle = self.log.obstacle or what
        return ValueNeeded(f"paramcount builds without memory, and here {what}")

    def is_astray(self, generator: torch.Generator | None) -> bool:
        """Whether what this generator draws depends on draws that were skipped."""
        return (generator or torch.default_generator).initial_seed() == _ASTRAY

    def skip_draw(self, generator: torch.Generator | None) -> None:
        generator = generator or torch.default_generator
        # What nobody seeded could as well have been drawn otherwise.
        if generator is not torch.default_generator or generator.initial_seed() != self.unseeded:
            generator.manual_seed(_ASTRAY)

    def __torch_dispatch__(self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        traits = _traits(func)
        if traits.writes:
            return self.write(func, traits, args, kwargs)
        if traits.makes:
            return self.create(func, traits, args, kwargs)
        self.count_small(REQUESTS_A_DISPATCH)
        tensors = _tensors_in(args, kwargs)
        if any(map(self.is_unknown, tensors)):
            return self.infer(func, traits, args, kwargs)
        if traits.is_view or (not traits.is_random and _certainly_small(func, traits, tensors, args)):
            return func(*args, **kwargs)
        # What is made of a tensor that was drawn to be read is as real as that.
        known = max((tensor.numel() for tensor in tensors), default=0)
        return self.compute(func, traits, args, kwargs, limit=max(LARGEST_COMPUTED, min(known, LARGEST_SEEDED)))

    def write(self, func: Any, traits: _Traits, args: Args, kwargs: Kwargs) -> Any:
        """Write values, or not: a target that is large, or gets unknown values, is not worth the memory."""
        targets = _tensors_in(kwargs.get(place) if isinstance(place, str) else args[place] for place in traits.writes)
        tensors = _tensors_in(args, kwargs)
        generator = kwargs.get("generator")
        if not any(map(self.is_unknown, tensors)) and not (
            traits.is_random and (self.is_astray(generator) or any(map(self.is_too_large, targets)))
        ):
            return func(*args, **kwargs)
        if traits.is_random:
            self.skip_draw(generator)
        if not traits.writes_in_place:
            return self.write_out(func, targets, args, kwargs)
        if traits.broadcasts and not all(_fits(tensor.shape, targets[0].shape) for tensor in tensors):
            func(*_on_meta(args), **_on_meta(kwargs))  # raises PyTorch's own error
        if traits.is_alike_at_any_size:
            if not self.would_succeed(func, traits.is_random, tensors, args, kwargs):
                return func(*args, **kwargs)
        elif len(tensors) > 1:
            self.infer_shape(func, args, kwargs)  # fails where they do not fit each other
        for target in targets:
            self.hollow_out(target)
        return args[0] if func._schema.returns else None  # noqa: SLF001

    def would_succeed(
        self,
        func: Any,
        is_random: bool,  # noqa: FBT001
        tensors: Sequence[torch.Tensor],
        args: Args,
        kwargs: Kwargs,
    ) -> bool:
        """Whether PyTorch can do a write that is going to be skipped. Where it cannot, raise its error, except for the
        meta device that the constructor itself wished for, of which PyTorch does not ask all that it asks of memory.
        """
        if not all(map(is_simple, tensors)):
            return True
        try:
            if kwargs:
                kwargs = {key: _form(value) for key, value in kwargs.items()}
            _rehearse(func, is_random, *map(_form, args), **kwargs)
        except Exception:
            if tensors[0].is_meta and not self.stands_in(tensors[0]):
                return False
            raise
        return True

    def write_out(self, func: Any, targets: list[torch.Tensor], args: Args, kwargs: Kwargs) -> Any:
        """Find the shapes of results, some of which go into ``targets``: those are then what is returned."""
        made = self.infer_shape(func, args, kwargs)
        remaining = iter(targets)
        made = made if isinstance(made, tuple) else (made,)
        returned = []
        for result, place in zip(made, func._schema.returns, strict=False):  # noqa: SLF001
            target = result if place.alias_info is None else next(remaining, result)
            if target.shape != result.shape:
                raise self.need(f"the result of {_name(func)} changes the size of a tensor that it is written to")
            returned.append(target)
        for target in targets:
            self.hollow_out(target)
        return returned[0] if len(returned) == 1 else tuple(returned)

    def create(self, func: Any, traits: _Traits, args: Args, kwargs: Kwargs) -> Any:
        """Make a tensor from nothing but its size, real where it is small."""
        if not traits.takes_device:
            return func(*args, **kwargs)
        if _device_type(kwargs.get("device")) == "meta":
            return func(*args, **kwargs)
        if args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            made = by_plain_sizes(func, *args, **{**kwargs, "device": "meta"})
            return self.saved(made)  # it is going to meet what it is like
        limit = LARGEST_UNINITIALIZED if traits.leaves_empty or traits.is_random else LARGEST_COMPUTED
        size = args[traits.size] if traits.size is not None and traits.size < len(args) else None
        shell = None
        if size is None and all(type(arg) is int for arg in args):
            size = [abs(arg) or 1 for arg in args] * 2  # none makes more: eye(n) has n * n elements, arange(n) has n
        if size is None or (traits.size is None and prod(size) > limit):
            shell = by_plain_sizes(func, *args, **{**kwargs, "device": "meta"})
            size = shell.shape
        numel = size if isinstance(size, int) else prod(size)
        generator = kwargs.get("generator")
        if not (traits.is_random and self.is_astray(generator)) and self.budget.allows(
            numel, limit, is_seeded=traits.is_random and self.is_seeded(generator)
        ):
            return self.keep_real(func(*args, **{**kwargs, "device": "cpu"}), limit)
        if traits.is_random:
            self.skip_draw(kwargs.get("generator"))
        if shell is None and func in _OF_DEFAULT_DTYPE:
            # For these PyTorch has Python code on meta; for an empty tensor of the same form it has none.
            shell = torch.empty(size, dtype=kwargs.get("dtype"), device="meta")
        return self.saved(by_plain_sizes(func, *args, **{**kwargs, "device": "meta"}) if shell is None else shell)

    def infer(self, func: Any, traits: _Traits, args: Args, kwargs: Kwargs) -> Any:
        """Find only the shape of a result, because a part of it is unknown."""
        if traits.is_view:
            if not args[0].is_meta or len(args) == 1 or not isinstance(args[1], torch.Tensor):
                return func(*args, **kwargs)  # a view of a hollow storage is as hollow, and still the same memory
            return func(*_on_meta(args), **_on_meta(kwargs))
        # The second is not the user's .cpu(), which never gets this far: PyTorch itself is about to read the memory.
        if func is aten._local_scalar_dense.default or (  # noqa: SLF001
            func is aten._to_copy.default and _device_type(kwargs.get("device")) == "cpu" and args[0].is_meta  # noqa: SLF001
        ):
            raise self.need("a value is read from a tensor that has none")
        if traits.depends_on_values:
            raise self.need(f"the outcome of {_name(func)} depends on values that are not there")
        if traits.is_random:
            self.skip_draw(kwargs.get("generator"))
        made = self.infer_shape(func, args, {**kwargs, "device": "meta"} if "device" in kwargs else kwargs)
        if self.count.is_loop_of(made):
            self.give_up_loop()
        return self.saved(made)

    def shell(self, func: Any, traits: _Traits, args: Args, kwargs: Kwargs) -> Any:
        """Return what an operation gives, without values; for one like an earlier one without asking PyTorch again."""
        key = None if traits.writes or traits.is_view else self.shapes.key((func, *args, *kwargs.items()))
        if key is not None and (form := self.shapes.get(key)) is not None:
            with _unasked(), _undispatched():
                return torch.empty_strided(form.size, form.stride, dtype=form.dtype, device="meta")
        made = by_plain_sizes(func, *_on_meta(args), **_on_meta(kwargs))
        if key is not None:
            self.shapes.keep(key, made)
        return made

    def infer_shape(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        try:
            return self.shell(func, _traits(func), args, kwargs)
        except Exception as error:
            # It may be that only the meta device cannot do it, and that the constructor catches this.
            self.log.obstacle = self.log.obstacle or f"{_name(func)} fails: {str(error).partition(': ')[0][:80]}"
            raise

    def compute(self, func: Any, traits: _Traits, args: Args, kwargs: Kwargs, *, limit: int) -> Any:
        """Compute what may be large only if it is not."""
        try:
            shell = self.shell(func, traits, args, kwargs)
        except Exception:  # noqa: BLE001  # no shape without values: compute it
            return func(*args, **kwargs)
        generator = kwargs.get("generator")
        if any(not self.budget.allows(result.numel(), limit) for result in _tensors_in((shell,))):
            if traits.is_random:
                self.skip_draw(generator)
            return self.saved(shell)
        if traits.is_random and self.is_astray(generator):
            return self.saved(shell)
        return self.keep_real(func(*args, **kwargs), limit)


class _Requests(TorchFunctionMode):
    """Answers requests that the dispatcher would see too late: for a device, and for values by another way."""

    def __init__(self, tensors: _Tensors) -> None:
        super().__init__()
        self.tensors = tensors
        self.handlers = _handlers()
        self.steady = _STEADY

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        # A model asks thousands of times for what nobody here has a word in: its tensors' sizes, the grad mode.
        tensors = self.tensors
        if tensors.knows_all and not kwargs and func in self.steady and not tensors.paused and _is_steady(func, args):
            tensors.count_small()
            with _undispatched():
                return func(*args)
        handler = self.handlers.get(func)
        if handler is None and not kwargs:
            return func(*args)
        kwargs = kwargs or {}
        if self.tensors.paused:
            return func(*args, **kwargs)
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        if handler is not None:
            return handler(self, func, args, kwargs)
        return func(*args, **kwargs) if kwargs.get("device") is None else self.place(func, args, kwargs)

    def make(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Make a tensor from its size, as ``_Tensors.create`` does, without the way through the dispatcher."""
        try:
            numel = prod(args[0] if len(args) == 1 and type(args[0]) in SEQUENCES else args)
        except TypeError:
            numel = None  # PyTorch has its own words for such a size
        device = kwargs.get("device")
        if device is None:
            device = torch.utils._device.CURRENT_DEVICE  # noqa: SLF001  # as in place()
        if (
            type(numel) is not int
            or not kwargs.keys() <= _PLAIN_OPTIONS
            or (device is not None and _device_type(device) == "meta")
            or not self.tensors.is_alone()
        ):
            return self.place(func, args, kwargs)
        limit = LARGEST_UNINITIALIZED if func is torch.empty else LARGEST_COMPUTED
        if self.tensors.budget.allows(numel, limit):
            with _undispatched():
                made = func(*args, **{**kwargs, "device": "cpu"})
            return made if numel <= limit else self.tensors.keep_real(made, limit)
        with _undispatched():
            made = func(*args, **{**kwargs, "device": "meta"})
        return self.tensors.saved(made)

    def wrap(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Make a tensor of a single number, which is real, and else place it as any other."""
        device = kwargs.get("device")
        if device is None:
            device = torch.utils._device.CURRENT_DEVICE  # noqa: SLF001  # as in place()
        if (
            len(args) != 1
            or type(args[0]) not in _NUMBERS
            or kwargs.keys() - {"dtype", "device"}
            or _device_type(device) == "meta"
            or not self.tensors.is_alone()
        ):
            return self.place(func, args, kwargs)
        with _undispatched():
            return func(*args, **{**kwargs, "device": "cpu"})

    def write(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Write numbers all over a tensor, as ``_Tensors.write`` does, without the way through the dispatcher."""
        least, most, names = _WRITERS[func]
        target, *numbers = args
        if (
            len(args) > most
            or len(args) + len(kwargs) < least
            or not _NUMBERS.issuperset(map(type, numbers))
            or (kwargs and not (names.issuperset(kwargs) and _OPTIONS.issuperset(map(type, kwargs.values()))))
            or (target.requires_grad and torch.is_grad_enabled())  # autograd has a word in it
        ):
            return func(*args, **kwargs)
        return self.overwrite(func, target, "generator" in names, args, kwargs)

    def index(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Get or set elements by number, of which the dispatcher would hear each step."""
        target, place, *values = args
        places = place if isinstance(place, tuple) else (place,)
        if (
            type(target) not in PLAIN_TENSORS
            or not (_PLACES.issuperset(map(type, places)) or all(map(_is_place, places)))
            or not (_NUMBERS.issuperset(map(type, values)) or (not target.is_meta and self.tensors.may_hurry(values)))
            or self.tensors.is_hollow(target)
            or not self.tensors.is_alone()
        ):
            return func(*args, **kwargs)
        self.tensors.count_small()
        with _undispatched():
            return func(*args)

    def hurry(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Do a small operation on real tensors without a word to the dispatcher's mode."""
        if (kwargs and not ATOMS.issuperset(map(type, kwargs.values()))) or not self.tensors.may_hurry(args):
            return func(*args, **kwargs)
        self.tensors.count_small()
        with _undispatched():
            return func(*args, **kwargs)

    def initialise(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Call a function of ``torch.nn.init``, unless it has nothing to say and nothing to write."""
        settings = {**kwargs}
        target = settings.pop("tensor", None)
        if (
            args
            or type(target) not in PLAIN_TENSORS
            or not _SETTINGS.issuperset(map(type, settings.values()))
            or (func is nn.init.kaiming_uniform_ and not _has_fans(**kwargs))
        ):
            return func(*args, **kwargs)
        return self.overwrite(func, target, func is not nn.init.constant_, args, kwargs)

    def overwrite(self, func: Any, target: torch.Tensor, is_random: bool, args: Args, kwargs: Kwargs) -> Any:  # noqa: FBT001
        tensors, generator = self.tensors, kwargs.get("generator")
        if type(target) not in PLAIN_TENSORS or not tensors.is_alone() or tensors.is_hollow(target):
            return func(*args, **kwargs)
        if target.is_meta:
            if not tensors.would_succeed(func, is_random, (target,), args, kwargs):
                return func(*args, **kwargs)
            if is_random:
                tensors.skip_draw(generator)
            return target
        if is_random and (target.numel() > tensors.budget.largest or tensors.is_astray(generator)):
            return func(*args, **kwargs)
        with _undispatched():
            return func(*args, **kwargs)

    def place(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Make a tensor on the CPU, wherever it was wanted, unless that is the meta device."""
        device = kwargs.get("device")
        if device is None:
            device = torch.utils._device.CURRENT_DEVICE  # noqa: SLF001  # get_default_device() fails for a missing one
        if _device_type(device) == "meta":
            return self.tensors.declare(func(*args, **{**kwargs, "device": "meta"}))
        if "out" in kwargs or (func in _CONVERTERS and args and isinstance(args[0], torch.Tensor)):
            return func(*args, **{**kwargs, "device": None})  # it is as the other tensor is
        return func(*args, **{**kwargs, "device": "cpu"})

    def to(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Convert without a move, unless that is to the meta device."""
        tensor, *rest = args
        flags = [arg for arg in rest if isinstance(arg, bool)]  # non_blocking, copy
        copy = kwargs.get("copy", len(flags) > 1 and flags[1])
        other = rest[0] if rest else kwargs.get("other")
        if isinstance(other, torch.Tensor) and self.tensors.stands_in(other):
            device, dtype, memory_format = torch.device("cpu"), other.dtype, None
        else:
            rest = [arg for arg in rest if not isinstance(arg, bool)]
            kwargs = {key: value for key, value in kwargs.items() if key not in ("copy", "non_blocking")}
            device, dtype, _, memory_format = torch._C._nn._parse_to(*rest, **kwargs)  # noqa: SLF001  # as Module.to
        if _device_type(device) == "meta":
            return self.tensors.declare(func(*args, **kwargs))
        converted = func(
            tensor, dtype=dtype or tensor.dtype, copy=copy, memory_format=memory_format or torch.preserve_format
        )
        # A tensor that is moved is a copy: no longer a parameter, if it was one.
        return converted.clone() if converted is tensor and _device_type(device) not in (None, "cpu") else converted

    def to_type(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Convert by ``tensor.type(torch.HalfTensor)``, whose types name a device as well."""
        tensor, wanted, *_ = (*args, kwargs.get("dtype"))
        if wanted is None:
            return f"torch.{_TYPES.get(tensor.dtype, 'Float')}Tensor" if tensor.is_meta else func(tensor)
        if not isinstance(wanted, torch.dtype):
            name = wanted if isinstance(wanted, str) else f"{wanted.__module__}.{wanted.__name__}"
            wanted = torch.empty(0).type(name.replace("torch.cuda.", "torch.")).dtype
        return torch.Tensor.to(tensor, dtype=wanted)

    def to_type_of(self, _func: Any, args: Args, _kwargs: Kwargs) -> Any:
        return torch.Tensor.to(args[0], dtype=args[1].dtype)

    def join(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Call what insists on one device for all its arguments."""
        tensors = [leaf for leaf in tree_iter(args) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
        if any(tensor.is_meta for tensor in tensors):  # integers are lengths, and those stay on the CPU
            args = tree_map_only(torch.Tensor, lambda leaf: _to_meta(leaf) if leaf.is_floating_point() else leaf, args)
        return func(*args, **kwargs)

    def move(self, _func: Any, args: Args, _kwargs: Kwargs) -> Any:
        return args[0].clone()

    def stay(self, _func: Any, args: Args, _kwargs: Kwargs) -> Any:
        return args[0]

    def read(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        if self.tensors.is_unknown(args[0]):
            raise self.tensors.need("a value is read from a tensor that has none")
        return func(*args, **kwargs)

    def copy_out(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Copy, pickle or print by the Python code that PyTorch has for it, which knows what a meta tensor is."""
        tensor, *rest = args
        if not self.tensors.is_hollow(tensor):
            return func(*args, **kwargs)
        shell = tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        made = func(shell, *rest, **kwargs)
        if func is torch.Tensor.__deepcopy__:
            rest[0][id(tensor)] = made
        return made

    def get_device(self, func: Any, args: Args, _kwargs: Kwargs) -> Any:
        return torch.device("cpu") if self.pretends(args[0]) else func(*args)

    def is_meta(self, func: Any, args: Args, _kwargs: Kwargs) -> Any:
        return func(*args) and not self.pretends(args[0])

    def is_cpu(self, func: Any, args: Args, _kwargs: Kwargs) -> Any:
        return func(*args) or self.pretends(args[0])

    def pretends(self, tensor: torch.Tensor) -> bool:
        """Whether to call a tensor on the meta device one on the CPU: that is what the constructor made, and it may
        go by it. PyTorch's own code asks in order to leave alone what has no memory, and with it perhaps a draw.
        """
        if not self.tensors.stands_in(tensor):
            return False
        asker = sys._getframe(3).f_globals.get("__name__", "")  # noqa: SLF001  # beyond this, the getter and the mode
        if asker.partition(".")[0] != "torch":
            return True
        self.tensors.skip_draw(None)
        return False

    def open_memory(self, func: Any, args: Args, _kwargs: Kwargs) -> Any:
        if self.tensors.is_hollow(args[0]):
            raise self.tensors.need("a value is read from a tensor that has none")
        return func(*args)

    def data_ptr(self, func: Any, args: Args, _kwargs: Kwargs) -> Any:
        """Return an address to compare with others: PyTorch has 0 for all that is on the meta device."""
        tensor = args[0]
        if not tensor.is_meta:
            return func(tensor)
        return (address_of(tensor) or 0) + tensor.storage_offset() * tensor.element_size()

    def can_take(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Answer whether ``tensor.data`` can be set, which Module.to asks lest it lose a tied parameter's identity."""
        return func(*args, **kwargs) or args[0].is_meta != args[1].is_meta

    def set_data(self, func: Any, args: Args, _kwargs: Kwargs) -> None:
        """Assign ``tensor.data``, which PyTorch refuses between a real tensor and one that has only a shape."""
        tensor, value = args
        if tensor.is_meta == value.is_meta:
            func(tensor, value)
        elif tensor.is_meta:
            func(tensor, _to_meta(value))
        elif value.numel() <= LARGEST_COMPUTED:
            with self.tensors.pause():
                real = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
            self.tensors.hollow_out(real)
            func(tensor, real)
        else:
            shell = torch.Tensor._make_subclass(type(tensor), value.detach(), tensor.requires_grad)  # noqa: SLF001
            shell.__dict__.update(tensor.__dict__)
            torch.utils.swap_tensors(tensor, shell)  # type: ignore[no-untyped-call]  # PyTorch's own lack


_HANDLERS: dict[Any, Handler] = {
    torch.Tensor.to: _Requests.to,
    torch.Tensor.type: _Requests.to_type,
    torch.Tensor.type_as: _Requests.to_type_of,
    torch.Tensor.cuda: _Requests.move,
    torch.Tensor.xpu: _Requests.move,
    torch.Tensor.cpu: _Requests.stay,
    torch.Tensor.share_memory_: _Requests.stay,
    torch.Tensor.pin_memory: _Requests.stay,
    torch.lstm: _Requests.join,
    torch.gru: _Requests.join,
    torch.rnn_tanh: _Requests.join,
    torch.rnn_relu: _Requests.join,
    torch.Tensor.tolist: _Requests.read,
    torch.Tensor.numpy: _Requests.read,
    torch.Tensor.__array__: _Requests.read,
    torch.Tensor.__dlpack__: _Requests.read,
    torch.Tensor.__deepcopy__: _Requests.copy_out,
    torch.Tensor.__reduce_ex__: _Requests.copy_out,
    torch.Tensor.__repr__: _Requests.copy_out,
    torch.Tensor.device.__get__: _Requests.get_device,
    torch.Tensor.is_meta.__get__: _Requests.is_meta,  # type: ignore[attr-defined]  # the same
    torch.Tensor.is_cpu.__get__: _Requests.is_cpu,  # type: ignore[attr-defined]  # the same
    torch.Tensor.data.__set__: _Requests.set_data,  # type: ignore[attr-defined]  # a setter
    torch.Tensor.untyped_storage: _Requests.open_memory,
    torch.Tensor.data_ptr: _Requests.data_ptr,
    torch._has_compatible_shallow_copy_type: _Requests.can_take,  # noqa: SLF001  # what Module._apply calls
}
# The functions that write numbers all over their first argument: how many arguments they take at least, how many by
# position at most, and which by name. Those that draw take a generator.
_WRITERS: dict[Any, tuple[int, int, frozenset[str]]] = {
    torch.Tensor.zero_: (1, 1, frozenset()),
    torch.Tensor.fill_: (2, 2, frozenset()),
    torch.Tensor.add_: (2, 2, frozenset()),
    torch.Tensor.sub_: (2, 2, frozenset()),
    torch.Tensor.mul_: (2, 2, frozenset()),
    torch.Tensor.div_: (2, 2, frozenset()),
    torch.Tensor.clamp_: (2, 3, frozenset({"min", "max"})),
    torch.Tensor.erfinv_: (1, 1, frozenset()),
    torch.Tensor.uniform_: (1, 3, frozenset({"generator"})),
    torch.Tensor.normal_: (1, 3, frozenset({"mean", "std", "generator"})),
}
_OPTIONS = {int, float, bool, type(None), torch.Generator}
_SETTINGS = {*_OPTIONS, str}
_PLACES = {int, type(None), type(...)}
_HARMLESS_THREADS = {"tqdm._monitor"}  # which look at no tensor
# For want of public ones: the way around all modes, and what tells of modes and of transforms, as by vmap.
_undispatched = torch._C._DisableTorchDispatch  # noqa: SLF001
_unasked = torch._C.DisableTorchFunction  # noqa: SLF001
_count_modes = torch._C._len_torch_dispatch_stack  # noqa: SLF001
_mode_at = torch._C._get_dispatch_stack_at  # noqa: SLF001
_transform_level = torch._C._functorch.maybe_current_level  # noqa: SLF001

# Layers whose reset_parameters() does nothing but write values, and whether it draws them.
_DRAWING: dict[Any, bool] = {
    nn.Linear: True,
    nn.modules.conv._ConvNd: True,  # noqa: SLF001  # of all convolutions
    nn.Embedding: True,
    nn.modules.batchnorm._NormBase: False,  # noqa: SLF001  # of all batch and instance norms
    nn.LayerNorm: False,
    nn.GroupNorm: False,
}
_RUNNING = nn.modules.batchnorm._NormBase.reset_running_stats  # noqa: SLF001  # what theirs calls
_PLAIN_OPTIONS = {"dtype", "device", "requires_grad"}
_NUMBERS = {int, float, bool}
_DRAWN_DTYPES = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
_CONVERTERS = {torch.tensor, torch.as_tensor, torch.asarray}
_TYPES = {
    torch.float64: "Double",
    torch.float16: "Half",
    torch.bfloat16: "BFloat16",
    torch.int64: "Long",
    torch.int32: "Int",
    torch.int16: "Short",
    torch.int8: "Char",
    torch.uint8: "Byte",
    torch.bool: "Bool",
}
_LIKE_FACTORIES = {
    aten.empty_like.default,
    aten.full_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten.new_full.default,
    aten.new_ones.default,
    aten.new_zeros.default,
    aten.ones_like.default,
    aten.rand_like.default,
    aten.randint_like.default,
    aten.randint_like.low_dtype,
    aten.randn_like.default,
    aten.zeros_like.default,
}
_OF_DEFAULT_DTYPE = {
    aten.normal.float_float,
    aten.ones.default,
    aten.rand.default,
    aten.rand.generator,
    aten.randn.default,
    aten.randn.generator,
    aten.zeros.default,
}
_JOINERS = {aten.cat.default, aten.stack.default}
_FILLERS = {aten.fill_.Scalar, aten.zero_.default}
_EMPTY_FACTORIES = {
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}


# Operations whose results have no more elements than the product of their operands has; also those that end in "_".
_SHRINKING = """
    abs acos add asin atan atan2 bitwise_and bitwise_or bitwise_xor ceil clamp clamp_max clamp_min copysign cos cosh div
    eq erf exp exp2 expm1 float_power floor floor_divide fmod ge gt heaviside hypot le lerp log log10 log1p log2
    logical_and logical_not logical_or lt maximum minimum mul ne neg pow reciprocal relu remainder round rsqrt sigmoid
    sign sin sinh sqrt square sub tan tanh true_divide trunc
    all amax amin any argmax argmin clone copy cross cumprod cumsum detach dot flatten flip inner item matmul max mean
    median min mm mv norm outer permute prod ravel reshape roll sort squeeze std sum t transpose unbind unsqueeze var
    view __bool__ __float__ __int__ __index__ __len__ __pow__ __rdiv__ __rpow__ __rsub__
""".split()  # noqa: SIM905  # a list of 100 lines


def _shrinking(ending: str = "") -> list[Any]:
    names = [name + ending for name in _SHRINKING]
    return [getattr(place, name) for place in (torch, torch.Tensor) for name in names if hasattr(place, name)]


# Those whose result is no larger than the first operand if the second is a number; and those that write to the first.
_INTO_FIRST = {*_shrinking("_"), torch.Tensor.__setitem__}
_STEADY = {*_shrinking(), *_INTO_FIRST, torch.Tensor.__getitem__}


def _is_steady(func: Any, args: Args) -> bool:
    """Whether an operation on tensors that have their values makes none that is larger, and nobody else listens."""
    return (
        type(args[0]) in PLAIN_TENSORS
        and (len(args) == 1 or type(args[1]) in _NUMBERS or func in _INTO_FIRST)
        and _count_modes() == 1
        and _transform_level() is None
    )


@cache
def _handlers() -> dict[Any, Handler]:
    return {
        **dict.fromkeys(_device_constructors(), _Requests.place),
        **dict.fromkeys((torch.empty, torch.zeros, torch.ones), _Requests.make),
        **dict.fromkeys(_WRITERS, _Requests.write),
        **dict.fromkeys(
            (nn.init.constant_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_), _Requests.initialise
        ),
        torch.tensor: _Requests.wrap,
        **dict.fromkeys((*_shrinking(), *_shrinking("_")), _Requests.hurry),
        torch.Tensor.__getitem__: _Requests.index,
        torch.Tensor.__setitem__: _Requests.index,
        **_HANDLERS,
    }


class _Form(NamedTuple):
    """What decides, of a tensor and besides its values, whether it can be written to."""

    dtype: torch.dtype
    shape: tuple[int, ...]  # of no more than two in each dimension
    is_expanded: bool  # one place in memory is several elements


def _form(argument: Any) -> Any:
    """Return what of an argument decides whether an operation can be done."""
    if type(argument) in _NUMBERS:
        return argument
    if isinstance(argument, torch.Tensor):
        is_expanded = not argument.is_contiguous() and any(
            step == 0 and size > 1 for step, size in zip(argument.stride(), argument.shape, strict=True)
        )
        return _form_of(argument.dtype, argument.shape, is_expanded)
    return None if isinstance(argument, torch.Generator) else argument


@lru_cache(maxsize=1 << 12)
def _form_of(dtype: torch.dtype, shape: torch.Size, is_expanded: bool) -> _Form:  # noqa: FBT001
    return _Form(dtype, tuple([min(size, 2) for size in shape]), is_expanded)


@lru_cache(maxsize=1 << 12, typed=True)  # an integer can be multiplied by 2, but not by 2.0
def _rehearse(func: Any, is_random: bool, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001
    """Do an operation to a few elements, in memory, or raise what PyTorch raises."""
    if is_random:
        kwargs = {**kwargs, "generator": torch.Generator()}
    with _unasked(), _undispatched(), torch.no_grad():
        func(*map(_stand_in, args), **{key: _stand_in(value) for key, value in kwargs.items()})


def _stand_in(argument: Any) -> Any:
    if type(argument) is not _Form:
        return argument
    made = torch.ones([1] * len(argument.shape) if argument.is_expanded else argument.shape, dtype=argument.dtype)
    return made.expand(argument.shape)


def _is_ordinary(tensor: torch.Tensor) -> bool:
    """Whether all of PyTorch's random numbers can be written to the tensor."""
    return tensor.dtype in _DRAWN_DTYPES and tensor.is_contiguous()


def _is_place(index: object) -> bool:
    """Whether an index says by itself which elements are meant, without a tensor to look into."""
    if type(index) is slice:
        return all(type(end) in _PLACES for end in (index.start, index.stop, index.step))
    return type(index) in _PLACES


def _has_fans(tensor: torch.Tensor, a: Any, mode: Any, nonlinearity: Any, generator: Any) -> bool:  # noqa: ARG001
    """Whether ``kaiming_uniform_`` can be called with these, and has nothing to warn of."""
    return (
        tensor.dim() > 1
        and 0 not in tensor.shape
        and mode in ("fan_in", "fan_out")
        and nonlinearity == "leaky_relu"
        and type(a) in (int, float)
    )


def _name(func: Any) -> str:
    return str(func.__name__).partition(".")[0]


def _is_foreign(tensor: torch.Tensor) -> bool:
    """Whether others than PyTorch can look into the tensor's memory, as NumPy where they share an array."""
    return not tensor.is_meta and address_of(tensor) is not None and not tensor.untyped_storage().resizable()


def _certainly_small(func: Any, traits: _Traits, tensors: list[torch.Tensor], args: Args) -> bool:
    """Whether the operation cannot make something large of these: neither an outer product nor a repetition."""
    if traits.is_pointwise:
        sizes = zip_longest(*[reversed(tensor.shape) for tensor in tensors], fillvalue=1)
        return prod(map(max, sizes)) <= LARGEST_COMPUTED
    if func in _JOINERS:
        return sum(tensor.numel() for tensor in tensors) <= LARGEST_COMPUTED
    bound = prod(max(1, tensor.numel()) for tensor in tensors)
    bound *= prod(leaf for leaf in tree_iter(args) if type(leaf) is int and leaf > 1)
    return bound <= LARGEST_COMPUTED


def _fits(shape: torch.Size, target: torch.Size) -> bool:
    """Whether a tensor can be broadcast to the target's shape."""
    excess = len(shape) - len(target)
    return all(size == 1 for size in shape[: max(0, excess)]) and all(
        size in (1, wanted) for size, wanted in zip(reversed(shape), reversed(target), strict=False)
    )


def _device_type(device: Any) -> str | None:
    """Return «cpu», «cuda», …, or None where no device is named."""
    if device is None:
        return None
    return torch.device(device).type


def _tensors_in(args: Iterable[Any], kwargs: Kwargs | None = None) -> list[torch.Tensor]:
    """Return an operation's operands; its arguments are plain values, and lists of such."""
    found = []
    for argument in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(argument, torch.Tensor):
            found.append(argument)
        elif isinstance(argument, list | tuple):
            found += [element for element in argument if isinstance(element, torch.Tensor)]
    return found


def _on_meta(arguments: Any) -> Any:
    return tree_map_only(torch.Tensor, _to_meta, arguments)


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_meta else tensor.to("meta")
