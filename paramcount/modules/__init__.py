"""All that touches torch.nn.Module: building one without memory, and reading one into an Inventory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from paramcount.errors import ParamcountError
from paramcount.inventory import Inventory, Note
from paramcount.modules.failure import build_error
from paramcount.pause import paused_collector
from paramcount.signals import others_code

if TYPE_CHECKING:
    from torch import nn

    from paramcount.inputs import Input
    from paramcount.modules.build import Device


@paused_collector()  # until the model is gone again: nothing of it is garbage before
def take_inventory(
    construct: Callable[[], nn.Module],
    *,
    target: str,
    source: str,
    device: Device,
    inputs: Sequence[Input] = (),
    within: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Inventory:
    """Build a model without weights, run it once if there are inputs, and read it.

    Args:
        construct: what returns the model.
        target: as the user wrote it.
        source: the kind of target.
        device: where to build.
        inputs: for one forward.
        within: what gives the context that the model's own code runs in, each time that it is built.

    Raises:
        ParamcountError: as ``construct`` raised it, or a BuildError for whatever else it raised.

    """
    from paramcount.modules.build import build
    from paramcount.modules.forward import warm_up
    from paramcount.modules.lightning_hooks import run_hooks, unmade
    from paramcount.modules.read import read

    def make() -> tuple[nn.Module, tuple[Note, ...]]:
        with within():
            model, of_hooks = run_hooks(construct())
            model, of_inputs = warm_up(model, inputs)
            return model, (*of_hooks, *of_inputs)

    with failures_of(target):
        (model, said), notes = build(make, device=device)
        inventory = read(model, target=target, source=source)
    params = (*inventory.params, *unmade(said))
    return replace(inventory, params=params, notes=(*notes, *said, *inventory.notes))


@contextmanager
def failures_of(target: str) -> Iterator[None]:
    """Turn whatever code that is not ours raises into a BuildError that names ``target``."""
    try:
        with others_code():
            yield
    except (ParamcountError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise build_error(target, error) from error
