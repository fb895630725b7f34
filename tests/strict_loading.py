"""Saves state dicts, lets PyTorch judge how they load, and demands that we say the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paramcount.diff import Side, changes
from paramcount.loading import Loading
from paramcount.modules.read import read as read_live
from paramcount.report import Report
from paramcount.sources import Target, safetensors, torch_file

State = dict[str, Tensor]


def saved_by_torch(state: State, folder: Path) -> tuple[State, Report]:
    path = str(folder / "model.pt")
    torch.save(state, path)
    return torch.load(path, weights_only=True), Report.of(torch_file.read(Target(path), path))


def saved_plain(state: State, folder: Path) -> tuple[State, Report]:
    return saved_by_torch(dict(state), folder)


def saved_nested(state: State, folder: Path) -> tuple[State, Report]:
    path = str(folder / "last.ckpt")
    torch.save({"epoch": 3, "state_dict": state}, path)
    return torch.load(path, weights_only=True)["state_dict"], Report.of(torch_file.read(Target(path), path))


def saved_safetensors(state: State, folder: Path) -> tuple[State, Report]:
    path = str(folder / "model.safetensors")
    kept = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    save_file(kept, path)
    return kept, Report.of(safetensors.read(Target(path), path))


FORMATS = {"torch": saved_by_torch, "plain": saved_plain, "nested": saved_nested, "safetensors": saved_safetensors}


def live(model: nn.Module) -> Report:
    return Report.of(read_live(model, target="net.py:Net", source="python"))


PROBLEMS = ("missing", "unexpected", "shape", "layout")


def said_by_pytorch(model: nn.Module, state: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the keys that load_state_dict(strict=True) complains of, by what it says of them."""
    said: dict[str, set[str]] = {problem: set() for problem in PROBLEMS}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        for kind, problem in (("Missing", "missing"), ("Unexpected", "unexpected")):
            found = re.search(rf'{kind} key\(s\) in state_dict: ((?:"[^"]*"(?:, )?)+)', str(error))
            said[problem] = set(re.findall(r'"([^"]*)"', found[1])) if found else set()
        said["shape"] = set(re.findall(r"size mismatch for ([^:]+):", str(error)))
        said["layout"] = set(re.findall(r'While copying the parameter named "([^"]*)", (?:whose|expected)', str(error)))
        if not any(said.values()):
            raise
    return said


def said_by_us(loading: Loading) -> dict[str, set[str]]:
    return {problem: {key.name for key in loading.keys if key.problem == problem} for problem in PROBLEMS}


def loading_of(old: Report, new: Report) -> Loading:
    loading = changes(Side.of(old), Side.of(new)).loading
    assert loading is not None
    return loading


def demand_equal(model: Callable[[], nn.Module], loaded: Mapping[str, Any], saved: Report) -> Loading:
    """Demand that the two say the same of each key, also of what is left once the advice was followed."""
    expected = said_by_pytorch(model(), loaded)
    loading = loading_of(live(model()), saved)
    assert loading.loads == (not any(expected.values()))
    if loading.nested:
        assert {*loading.nested} <= expected["unexpected"]
        loaded = loaded[loading.within] if loading.within else dict(_flat(loaded, loading.nested))
        expected = said_by_pytorch(model(), loaded)
    if loading.taken:
        (cure,) = re.findall(r"\(take it off by (.*)\)", str(loading.taken))
        loaded = eval(cure, {"state": loaded})  # the advice is to be followed to the letter
        expected = said_by_pytorch(model(), loaded)
    elif loading.wrapper:
        expected = said_by_pytorch(next(model().children()), loaded)
    assert said_by_us(loading) == expected
    return loading


def _flat(state: Mapping[str, Any], nested: Collection[str]) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if key in nested:
            yield from ((f"{key}.{below}", each) for below, each in _flat(value, value.keys() - _tensors(value)))
        else:
            yield key, value


def _tensors(state: Mapping[str, Any]) -> set[str]:
    return {key for key, value in state.items() if isinstance(value, Tensor)}
