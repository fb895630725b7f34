"""All that touches torch.nn.Module: building one without memory, and reading one into an Inventory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from paramcount.errors import ParamcountError
from paramcount.inventory import Inventory
from paramcount.modules.failure import build_error
from paramcount.pause import paused_collector

if TYPE_CHECKING:
    from torch import nn

    from paramcount.inputs import Input
    from paramcount.modules.build import Device


@paused_collector()  # until the model is gone again: nothing of it is garbage before
def take_inventory(
    construct: Callable[[], nn.Module], *, target: str, source: str, device: Device, inputs: Sequence[Input] = ()
) -> Inventory:
    """Build a model without weights, run it once if there are inputs, and read it.

    Raises:
        ParamcountError: as ``construct`` raised it, or a BuildError for whatever else it raised.

    """
    from paramcount.modules.build import build
    from paramcount.modules.forward import warm_up
    from paramcount.modules.read import read

    with failures_of(target):
        (model, said), notes = build(lambda: warm_up(construct(), inputs), device=device)
        inventory = read(model, target=target, source=source)
    return replace(inventory, notes=(*notes, *said, *inventory.notes))


@contextmanager
def failures_of(target: str) -> Iterator[None]:
    """Turn whatever code that is not ours raises into a BuildError that names ``target``."""
    try:
        yield
    except (ParamcountError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise build_error(target, error) from error
