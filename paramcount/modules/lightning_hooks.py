"""Runs the hooks in which a Lightning module makes layers after its constructor, as a Trainer does before training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from paramcount.inventory import Note, Param
from paramcount.modules.attributes import bases, class_module, class_name, definer
from paramcount.modules.failure import HookFailed
from paramcount.modules.own_parameters import elements, registered_parameters
from paramcount.units import plural

_LIBRARIES = ("lightning.", "pytorch_lightning.", "lightning_fabric.")
_CONFIGURE = ("configure_model", "configure_sharded_model")  # the second until Lightning 2.0
UNMADE = "unmade"  # the note of layers that a hook could not make
_SETUP = "setup"  # for data sets as a rule, so only where nothing else makes layers


def run_hooks(model: nn.Module) -> tuple[nn.Module, tuple[Note, ...]]:
    """Return a model with the layers that its own ``configure_model()`` makes, and what there is to say of that.

    ``setup("fit")`` is run where the model has no parameters otherwise. Lightning is told by the names of its classes,
    and not imported.

    Raises:
        HookFailed: a hook raised an exception, which is its cause, and there are no parameters without it.

    """
    notes: list[Note] = []
    for hook in _own_hooks(type(model)):
        before = registered_parameters(model)
        if hook == _SETUP and before:
            continue
        try:
            getattr(model, hook)(*(["fit"] if hook == _SETUP else []))
        except Exception as error:
            if not registered_parameters(model):
                raise HookFailed(hook) from error
            said = f"its {hook}() failed ({type(error).__name__}): what that makes is missing: totals are lower bounds"
            notes.append(Note(UNMADE, "", said))
            continue
        made = elements(registered_parameters(model)) - elements(before)
        if made:
            what = f"{'makes' if made > 0 else 'takes away'} {plural(abs(made), 'parameter')}"
            said = f"its {hook}() was run, as Lightning does before training, and {what}"
            notes.append(Note("configured", "", said))
    return model, tuple(notes)


def unmade(notes: Iterable[Note]) -> tuple[Param, ...]:
    """Return what stands for the parameters of layers that a hook could not make: one, of which nothing is known."""
    is_short = any(note.code == UNMADE for note in notes)
    return (Param("(unmade)", None, "float32", None, None, trainable=True),) if is_short else ()


def hook_notes(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[Note]:
    """Note each Lightning module that has no parameters as it stands, and hooks that may make some."""
    modules = list(modules)
    kinds = {kind: own for kind in {type(module) for _, module in modules} if (own := _own_hooks(kind))}
    for name, module in modules if kinds else ():
        if type(module) in kinds and not registered_parameters(module):
            hooks = " and ".join(f"{hook}()" for hook in kinds[type(module)])
            yield Note("unconfigured", name, f"has no parameters: it may make its layers in {hooks}; run that first")


def unsure_notes(model: nn.Module) -> Iterator[Note]:
    """Note that a model which no Trainer has seen may lack what its ``configure_model()`` makes."""
    hooks = [hook for hook in _own_hooks(type(model)) if hook != _SETUP]
    if hooks and vars(model).get("_trainer") is None and registered_parameters(model):
        yield Note("unconfigured", "", f"what its {hooks[0]}() makes is in the count only if that has been run")


def _own_hooks(kind: type) -> list[str]:
    """Return the hooks that a user's class defines itself, in the order in which they are tried."""
    if not any(class_name(base) == "LightningModule" and _is_lightnings(base) for base in bases(kind)):
        return []
    owners = {hook: definer(kind, hook) for hook in (*_CONFIGURE, _SETUP)}
    return [hook for hook, owner in owners.items() if owner is not None and not _is_lightnings(owner)]


def _is_lightnings(kind: type) -> bool:
    return class_module(kind).startswith(_LIBRARIES)
