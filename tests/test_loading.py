"""A checkpoint is held against a model as ``load_state_dict(strict=True)`` would, and PyTorch is the judge of that."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torchvision.models.vision_transformer import MLPBlock

from paramcount.diff import Changes, Side, changes
from paramcount.inventory import Special
from paramcount.modules.read import read as read_live
from paramcount.report import Report
from paramcount.sources import Target, torch_file
from tests.strict_loading import (
    FORMATS,
    State,
    demand_equal,
    live,
    loading_of,
    said_by_pytorch,
    said_by_us,
    saved_by_torch,
    saved_plain,
    saved_safetensors,
)


class Net(nn.Module):
    """Has one of everything that makes a state dict more than its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False))
        self.again = self.body
        self.head = nn.Linear(4, 10)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.table = nn.Buffer(torch.zeros(2, 3))
        self.register_buffer("same", self.table)
        self.register_buffer("mask", torch.zeros(5), persistent=False)
        self.register_buffer("nothing", None)


class Half(Net):
    def __init__(self) -> None:
        super().__init__()
        self.half()


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LazyLinear(3)
        self.norm = nn.LazyBatchNorm1d()
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.norm(self.first(x)))


class Parallel(nn.DataParallel[Net]):
    def __init__(self) -> None:
        super().__init__(Net())


def _lazy_state() -> State:
    model = Lazy()
    model(torch.ones(2, 5))
    return model.state_dict()


def _without(*names: str) -> Callable[[State], State]:
    def without(state: State) -> State:
        for name in names:
            del state[name]
        return state

    return without


def _with(**tensors: Tensor) -> Callable[[State], State]:
    def with_(state: State) -> State:
        state.update({name.replace("__", "."): tensor for name, tensor in tensors.items()})
        return state

    return with_


def _renamed(change: Callable[[str], str]) -> Callable[[State], State]:
    return lambda state: OrderedDict((change(name), tensor) for name, tensor in state.items())


def _converted(dtype: torch.dtype) -> Callable[[State], State]:
    return lambda state: OrderedDict((name, tensor.to(dtype)) for name, tensor in state.items())


MODELS: dict[str, type[nn.Module]] = {"net": Net, "half": Half, "lazy": Lazy, "parallel": Parallel}
BENDS: dict[str, Callable[[State], State]] = {
    "as it is": lambda state: state,
    "without a weight": _without("body.0.weight"),
    "without one name of a tied weight": _without("head.weight"),
    "without the other name": _without("embed.weight"),
    "without a layer": _without("body.0.weight", "body.0.bias"),
    "without one name of a shared layer": _without("again.0.weight", "again.0.bias", "again.2.weight"),
    "without a buffer": _without("body.1.running_mean"),
    "without a buffer of its own": _without("table"),
    "without a counter of batch norm": _without("body.1.num_batches_tracked"),
    "without all counters": lambda state: OrderedDict((k, v) for k, v in state.items() if "num_batches" not in k),
    "with a weight": _with(extra=torch.zeros(3)),
    "with a layer": _with(tail__0__weight=torch.zeros(3, 3), tail__0__bias=torch.zeros(3)),
    "with a parameter below a parameter": _with(scale__weight=torch.zeros(3)),
    "with a buffer that is not persistent": _with(mask=torch.zeros(5)),
    "with another shape": _with(head__weight=torch.zeros(7, 4), head__bias=torch.zeros(7)),
    "with the shape transposed": _with(body__0__weight=torch.zeros(4, 4, 1)),
    "with another shape of a buffer": _with(table=torch.zeros(3, 2)),
    "with a scalar that is a list": _with(scale=torch.zeros(1)),
    "with a scalar that is a long list": _with(scale=torch.zeros(3)),
    "with a scalar that is a matrix": _with(scale=torch.zeros(1, 1)),
    "with a list that is a scalar": _with(body__0__bias=torch.zeros(())),
    "with a size of none": _with(body__0__bias=torch.zeros(0)),
    "renamed": _renamed(lambda name: name.replace("head.", "classifier.")),
    "in half precision": _converted(torch.float16),
    "in double precision": _converted(torch.float64),
    "one in half precision": _with(body__0__weight=torch.zeros(4, 4, dtype=torch.bfloat16)),
    "replicated": _renamed(lambda name: f"module.{name}"),
    "compiled": _renamed(lambda name: f"_orig_mod.{name}"),
    "compiled and replicated": _renamed(lambda name: f"module._orig_mod.{name}"),
    "in a model": _renamed(lambda name: f"model.{name}"),
    "partly in a model": _renamed(lambda name: f"model.{name}" if name.startswith("body") else name),
    "empty": lambda _: {},
    "everything at once": lambda state: _with(
        body__0__bias=torch.zeros(9), new=torch.zeros(1), table=torch.zeros(2, 3, dtype=torch.float64)
    )(_without("embed.weight", "body.1.bias")(state)),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("model", ["net", "half"])
def test_the_keys_are_those_that_pytorch_complains_of(model: str, bend: str, form: str, tmp_path: Path) -> None:
    state = BENDS[bend](Net().state_dict())
    loaded, saved = FORMATS[form](state, tmp_path)
    demand_equal(MODELS[model], loaded, saved)


@pytest.mark.parametrize("form", FORMATS)
def test_a_wrapped_model_takes_its_own_state_and_is_named_where_it_is_given_anothers(form: str, tmp_path: Path) -> None:
    demand_equal(Parallel, *FORMATS[form](Parallel().state_dict(), tmp_path))
    loaded, saved = FORMATS[form](Net().state_dict(), tmp_path)
    demand_equal(Parallel, loaded, saved)
    assert loading_of(live(Parallel()), saved).wrapper == "module."


@pytest.mark.parametrize("form", FORMATS)
def test_a_lazy_model_takes_any_shape(form: str, tmp_path: Path) -> None:
    demand_equal(Lazy, *FORMATS[form](_lazy_state(), tmp_path))
    demand_equal(Lazy, *FORMATS[form](_without("last.bias", "first.bias")(_lazy_state()), tmp_path))


def test_a_state_without_shapes_loads_into_none_but_a_lazy_model(tmp_path: Path) -> None:
    torch.save(Lazy().state_dict(), tmp_path / "model.pt")
    saved = Report.of(torch_file.read(Target(str(tmp_path / "model.pt")), str(tmp_path / "model.pt")))
    assert loading_of(live(Lazy()), saved).loads
    ready = Lazy()
    ready(torch.ones(2, 5))
    lazy = {"first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert said_by_us(loading_of(live(ready), saved))["shape"] == lazy


_NAMES = sorted(Net().state_dict())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    dropped=st.sets(st.sampled_from(_NAMES), max_size=5),
    renamed=st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(["x", "body.9.weight", "head.new"]), max_size=2),
    resized=st.dictionaries(st.sampled_from(_NAMES), st.sampled_from([(), (1,), (4,), (2, 3), (10, 4)]), max_size=4),
    form=st.sampled_from(sorted(FORMATS)),
)
def test_any_state_is_judged_as_by_pytorch(
    dropped: set[str], renamed: dict[str, str], resized: dict[str, tuple[int, ...]], form: str, tmp_path: Path
) -> None:
    state = Net().state_dict()
    state.update({name: torch.zeros(shape) for name, shape in resized.items()})
    for name in dropped:
        del state[name]
    for name, other in renamed.items():
        if name in state:
            state[other] = state.pop(name)
    demand_equal(Net, *FORMATS[form](state, tmp_path))


# Hooks, and what is no tensor -----------------------------------------------------------------------------------------


class Meter(nn.Linear):
    """Keeps more than tensors in its state dict."""

    def get_extra_state(self) -> Any:
        return {"scale": torch.zeros(2), "steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class TensorMeter(Meter):
    def get_extra_state(self) -> Tensor:
        return torch.zeros(5, dtype=torch.uint8)


class Saver(nn.Linear):
    """Writes extra state that it does not take back."""

    def get_extra_state(self) -> Any:
        return torch.zeros(2)


def _metered(kind: type[nn.Linear]) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), kind(2, 3), nn.Sequential(kind(3, 2)))


def _normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(norm(nn.Conv1d(2, 3, 2)), nn.Sequential(norm(nn.Linear(3, 2))), nn.Linear(2, 2))


class Old(nn.Module):
    """A module with parametrized weights at the root."""

    def __init__(self, norm: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, 2))
        norm(self, "w")


SPECIAL: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "extra state": (lambda: _metered(Meter), lambda: _metered(Meter)),
    "extra state that is missing": (lambda: _metered(Meter), lambda: _metered(nn.Linear)),
    "extra state that nobody wants": (lambda: _metered(nn.Linear), lambda: _metered(Meter)),
    "extra state in a tensor": (lambda: _metered(TensorMeter), lambda: _metered(TensorMeter)),
    "a tensor that nobody wants": (lambda: _metered(nn.Linear), lambda: _metered(TensorMeter)),
    "extra state that its own module refuses": (lambda: _metered(Saver), lambda: _metered(Saver)),
    "extra state at the root": (lambda: Meter(2, 3), lambda: Meter(2, 3)),
    "extra state missing at the root": (lambda: Meter(2, 3), lambda: nn.Linear(2, 3)),
    "weight norm": (lambda: _normed(parametrizations.weight_norm), lambda: _normed(parametrizations.weight_norm)),
    "weight norm as it was": (lambda: _normed(parametrizations.weight_norm), lambda: _normed(weight_norm)),
    "weight norm at the root": (lambda: Old(parametrizations.weight_norm), lambda: Old(weight_norm)),
    "weight norm for plain weights": (lambda: _normed(lambda layer: layer), lambda: _normed(weight_norm)),
    "plain weights for weight norm": (
        lambda: _normed(parametrizations.weight_norm),
        lambda: _normed(lambda layer: layer),
    ),
    "new weight norm for old": (lambda: _normed(weight_norm), lambda: _normed(parametrizations.weight_norm)),
    "orthogonal": (lambda: _normed(parametrizations.orthogonal), lambda: _normed(parametrizations.orthogonal)),
    "spectral norm": (lambda: _normed(spectral_norm), lambda: _normed(spectral_norm)),
    "spectral norm for plain weights": (lambda: _normed(lambda layer: layer), lambda: _normed(spectral_norm)),
    "plain weights for spectral norm": (lambda: _normed(spectral_norm), lambda: _normed(lambda layer: layer)),
    "torchvision's attention": (lambda: MLPBlock(4, 8, 0.0), lambda: MLPBlock(4, 8, 0.0)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2), lambda: nn.TransformerDecoderLayer(4, 2)),
    "instance norm": (
        lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
        lambda: nn.InstanceNorm1d(3, affine=True),
    ),
}


@pytest.mark.parametrize("form", ["torch", "plain", "nested"])
@pytest.mark.parametrize("pair", SPECIAL)
def test_hooks_of_pytorch_and_extra_state_are_judged_as_by_pytorch(pair: str, form: str, tmp_path: Path) -> None:
    model, saved = SPECIAL[pair]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old functions are deprecated, and their files are everywhere
        path = tmp_path / "model.pt"
        state = saved().state_dict()
        written: dict[str, Any] = {"torch": state, "plain": dict(state), "nested": {"epoch": 1, "state_dict": state}}
        torch.save(written[form], path)
        loaded = torch.load(path, weights_only=True)
        expected = said_by_pytorch(model(), loaded["state_dict"] if form == "nested" else loaded)
        report = Report.of(torch_file.read(Target(str(path)), str(path)))
        loading = loading_of(live(model()), report)
    assert not loading.taken
    assert said_by_us(loading) == expected
    assert loading.loads == (not any(expected.values()))
    # Of what such a hook would do with another's names nothing is known.
    assert bool(loading.own) == (pair == "plain weights for spectral norm")
    assert loading.sizes[1] == len(state)


def test_a_file_of_an_earlier_torchvision_is_said_to_be_uncertain(tmp_path: Path) -> None:
    """As torchvision itself loads it, by ``MLPBlock._load_from_state_dict``."""
    names = {"0": "linear_1", "3": "linear_2"}
    state = {re.sub(r"^\d", lambda m: names[m[0]], k): v for k, v in MLPBlock(4, 8, 0.0).state_dict().items()}
    MLPBlock(4, 8, 0.0).load_state_dict(dict(state), strict=True)
    assert loading_of(live(MLPBlock(4, 8, 0.0)), saved_by_torch(state, tmp_path)[1]).own == ("",)


def test_half_of_an_old_weight_norm_is_not_renamed(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = _without("0.weight_g")(_normed(weight_norm).state_dict())
    demand_equal(lambda: _normed(parametrizations.weight_norm), *saved_by_torch(state, tmp_path))


def test_what_is_no_tensor_is_unexpected(tmp_path: Path) -> None:
    beside: Any = {"epoch": 3, "tag": "x", "config": {"width": 3}}
    loaded, saved = saved_plain({**Net().state_dict(), **beside}, tmp_path)
    assert said_by_us(loading_of(live(Net()), saved)) == said_by_pytorch(Net(), loaded)


def test_extra_state_is_no_parameter(tmp_path: Path) -> None:
    model = _metered(TensorMeter)
    for report in (saved_by_torch(model.state_dict(), tmp_path)[1], saved_safetensors(model.state_dict(), tmp_path)[1]):
        assert report.total == sum(param.numel() for param in model.parameters())
        (note,) = (note for note in report.notes if note.code == "left-out")
        assert (note.where, note.message) == (
            "1._extra_state",
            "what a module keeps beside its tensors, and 1 more such key, is no parameter: not counted",
        )


@pytest.mark.parametrize(
    ("own", "listed"),
    [
        (("0",), "0 loads by a hook or code of its own"),
        (("",), "the model itself loads by a hook or code of its own"),
        (tuple("01234"), "0, 1, 2 and 2 more load by hooks or code of their own"),
    ],
)
def test_modules_that_load_by_code_of_their_own_are_named(own: tuple[str, ...], listed: str, tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
    live = read_live(model, target="net.py:Net", source="python")
    live = replace(live, special=tuple(Special(name, "own") for name in own))
    changed = _compared(Report.of(live), saved_by_torch(model.state_dict(), tmp_path)[1])
    assert changed.loading is not None
    assert (changed.loading.own, changed.loading.to_dict()["own_loading"]) == (own, list(own))
    said, unknown = _lines(changed)
    assert said == "no difference: by names alone, load_state_dict(strict=True) would take model.pt"
    assert unknown.startswith(listed)
    assert unknown.endswith(" own: what that takes is not known, and here told by names alone")


# What is said of it ---------------------------------------------------------------------------------------------------


def _compared(old: Report, new: Report) -> Changes:
    return changes(Side.of(old, "net.py:Net"), Side.of(new, "model.pt"))


def _lines(changed: Changes) -> list[str]:
    return [remark.text for remark in changed.grids()[0].remarks]


def _rows(changed: Changes, *, fold: bool = True) -> list[tuple[Any, ...]]:
    return [row.cells for row in changed.grids(fold=fold)[0].rows]


def test_a_state_that_fits_is_no_difference(tmp_path: Path) -> None:
    changed = _compared(live(Net()), saved_by_torch(Net().state_dict(), tmp_path)[1])
    assert not changed.different
    assert _rows(changed) == []
    assert _lines(changed) == ["no difference: load_state_dict(strict=True) would take model.pt"]


def test_every_key_has_a_row_with_what_is_expected_and_what_is_there(tmp_path: Path) -> None:
    changed = _compared(live(Net()), saved_by_torch(BENDS["everything at once"](Net().state_dict()), tmp_path)[1])
    wrong = [
        ("embed.*", "", "missing", "float32 [10, 4]", "as head.weight"),
        ("body.1.bias", "parameter", "missing", "float32 [4]", "as again.1.bias"),
        ("new", "", "unexpected", "", "float32 [1]"),
        ("body.0.bias", "parameter", "shape", "float32 [4]", "float32 [9]"),
    ]
    assert _rows(changed) == [("embed.weight", "parameter", *wrong[0][2:]), *wrong[1:]]
    assert _rows(changed, fold=False) == [
        *_rows(changed),
        ("table", "buffer", "dtype", "float32 [2, 3]", "float64 [2, 3]"),
    ]
    assert changed.different
    said, *others = _lines(changed)
    assert said == (
        "load_state_dict(strict=True) would refuse model.pt: "
        "2 keys are missing, 1 key is unexpected, 1 key is of another shape"
    )
    assert others[0] == (
        "embed.weight is tied to head.weight, body.1.bias is tied to again.1.bias, which are there: loaders that know "
        "the tie fill it (safetensors.torch.load_model, from_pretrained of transformers, or strict=False)"
    )
    assert others[1] == "1 key is float32 in net.py:Net and float64 in model.pt, which load_state_dict converts: table"


def test_a_layer_that_is_missing_or_unexpected_is_one_row(tmp_path: Path) -> None:
    state = BENDS["renamed"](Net().state_dict())
    assert _rows(_compared(live(Net()), saved_by_torch(state, tmp_path)[1])) == [
        ("head.*", "", "missing", "2 keys", ""),
        ("classifier.*", "", "unexpected", "", "2 keys"),
    ]


def test_a_model_in_another_precision_differs_and_loads(tmp_path: Path) -> None:
    changed = _compared(live(Net()), saved_by_torch(Half().state_dict(), tmp_path)[1])
    assert changed.loading is not None
    assert (changed.loading.loads, changed.different, _rows(changed)) == (True, True, [])
    number = sum(tensor.is_floating_point() for tensor in Net().state_dict().values())
    assert f"{number} keys are float32 in net.py:Net and float16 in model.pt" in _lines(changed)[1]


def test_a_prefix_is_named_with_the_way_to_take_it_off(tmp_path: Path) -> None:
    changed = _compared(live(Net()), saved_by_torch(BENDS["replicated"](Net().state_dict()), tmp_path)[1])
    assert changed.different
    assert "key.removeprefix('module.')" in _lines(changed)[0]
    assert _lines(changed)[1] == "without that, all keys match"


def test_the_order_of_the_two_does_not_matter(tmp_path: Path) -> None:
    model, saved = live(Net()), saved_by_torch(BENDS["renamed"](Net().state_dict()), tmp_path)[1]
    assert said_by_us(loading_of(model, saved)) == said_by_us(loading_of(saved, model))


def test_two_checkpoints_are_compared_key_by_key(tmp_path: Path) -> None:
    old = saved_by_torch(Net().state_dict(), tmp_path)[1]
    new = saved_safetensors(BENDS["everything at once"](Net().state_dict()), tmp_path)[1]
    changed = _compared(old, new)
    assert changed.loading is not None
    assert said_by_us(changed.loading) == {
        "missing": {"embed.weight", "body.1.bias"},
        "unexpected": {"new"},
        "shape": {"body.0.bias"},
        "layout": set(),
    }
    assert "a model with the keys of net.py:Net would refuse model.pt" in _lines(changed)[0]


def test_a_buffer_that_the_model_tells_from_a_parameter_is_one_in_the_file_too(tmp_path: Path) -> None:
    changed = _compared(live(Net()), saved_safetensors(Net().state_dict(), tmp_path)[1])
    extra = Net().embed.weight.numel() + sum(tensor.numel() for tensor in Net().body.parameters())  # no ties in there
    assert changed.new.tally.total == changed.old.tally.total + extra
    assert changed.new.buffers == sum(t.numel() for name, t in Net().state_dict().items() if name in _BUFFERS)


_BUFFERS = {
    *(f"{body}.1.{name}" for body in ("body", "again") for name in ("running_mean", "running_var")),
    *("body.1.num_batches_tracked", "again.1.num_batches_tracked", "table", "same"),
}


class Misnamed(nn.Module):
    """Has parameters under the names of well-known buffers, and buffers under those of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(3, 3))
        self.criterion = nn.Module()
        self.criterion.weight = nn.Parameter(torch.zeros(7))
        self.table = nn.Linear(2, 5)
        self.table.register_buffer("weight2", torch.zeros(11))
        self.norm = nn.BatchNorm1d(2)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_model_decides_what_is_a_parameter_and_what_a_buffer(form: str, prefix: str, tmp_path: Path) -> None:
    model = Misnamed()
    state = {prefix + key: each for key, each in model.state_dict().items()}
    changed = _compared(live(model), FORMATS[form](state, tmp_path)[1])
    assert changed.new.tally.total == sum(param.numel() for param in model.parameters())
    assert changed.new.buffers == sum(buffer.numel() for buffer in model.buffers())
    assert not changed.rows


def test_a_pickled_module_is_a_model_whose_passing_buffers_are_not_expected(tmp_path: Path) -> None:
    for protocol in (2, 4):
        torch.save(Net(), tmp_path / "whole.pt", pickle_protocol=protocol)
        path = str(tmp_path / "whole.pt")
        whole = Report.of(torch_file.read(Target(path), path))
        assert loading_of(whole, saved_by_torch(Net().state_dict(), tmp_path)[1]).loads


def test_what_has_no_state_dict_is_compared_layer_by_layer(tmp_path: Path) -> None:
    saved = saved_by_torch(Net().state_dict(), tmp_path)[1]
    from paramcount.rules import Rules, apply

    part = Report.of(apply(Rules(include=("body",)), read_live(Net(), target="", source="python")))
    assert changes(Side.of(part), Side.of(saved)).loading is None
    assert changes(Side.of(live(Net())), Side.of(live(Half()))).loading is None


def test_the_document_says_all_of_it(tmp_path: Path) -> None:
    changed = _compared(live(Net()), saved_by_torch(BENDS["without a layer"](Net().state_dict()), tmp_path)[1])
    assert changed.to_dict()["state_dict"] == {
        "expected_by": "net.py:Net",
        "found_in": "model.pt",
        "loads": False,
        "prefix": None,
        "wrapper": None,
        "keys": [
            {
                "name": f"body.0.{name}",
                "problem": "missing",
                "kind": "parameter",
                "expected": {"shape": shape, "dtype": "float32"},
                "found": None,
                "tied_to": f"again.0.{name}",
            }
            for name, shape in (("weight", [4, 4]), ("bias", [4]))
        ],
    }
    assert "state_dict" not in _compared(live(Net()), live(Net())).to_dict()
