"""Files of torch.save are counted as torch.load and the live module would have them, and never run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.fx
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from paramcount.errors import ParamcountError, UnknownTarget, UnreadableFile, UsageError
from paramcount.inventory import Buffer, Inventory, Param
from paramcount.modules.read import read as read_live
from paramcount.report import Report
from paramcount.sources import Target, safetensors, torch_file


def _read(word: object) -> Inventory:
    return torch_file.read(Target(str(word)), str(word))


def _save(value: object, path: Path, *, legacy: bool = False, protocol: int = 2) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format before 1.6 warns of classes whose source it cannot find
        torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return path


def _total(inventory: Inventory) -> int:
    return Report.of(inventory).total


def _codes(inventory: Inventory) -> list[str]:
    return [note.code for note in inventory.notes]


@pytest.fixture(params=["zip", "legacy"])
def save(request: pytest.FixtureRequest) -> Callable[..., Path]:
    def save(value: object, path: Path, *, protocol: int = 2) -> Path:
        return _save(value, path, legacy=request.param == "legacy", protocol=protocol)

    return save


class Net(nn.Module):
    """Has one of everything that a state dict leaves out or cannot tell."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LSTM(4, 3))
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.again = self.body
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("mask", torch.zeros(5, dtype=torch.bool), persistent=False)
        self.table = nn.Buffer(torch.zeros(2, 2), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("none", None)


# State dicts ----------------------------------------------------------------------------------------------------------

MODELS = [
    *("alexnet", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2", "resnet18"),
    *("shufflenet_v2_x0_5", "squeezenet1_1", "vit_b_16"),
]


@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_comes_to_the_live_model(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options)
    with torch.serialization.skip_data():  # the file is as large, and nothing is written into it
        path = _save(model.to_empty(device="cpu").state_dict(), tmp_path / "model.pt")
    report = Report.of(_read(path))
    assert report.total == report.unknown == sum(param.numel() for param in model.parameters())
    assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())
    assert _codes(_read(path)) == ["buffers-by-name"]


@pytest.mark.parametrize("name", MODELS)
def test_a_legacy_state_dict_comes_to_the_live_model(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options)
    # Each tensor of one element that is seen as many, so that the file stays small.
    state = OrderedDict(
        (key, torch.zeros((), dtype=each.dtype).expand(each.shape)) for key, each in model.state_dict().items()
    )
    report = Report.of(_read(_save(state, tmp_path / "model.pt", legacy=True)))
    assert report.total == report.unknown == sum(param.numel() for param in model.parameters())
    assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_tensor_is_as_torch_load_has_it(save: Callable[..., Path], protocol: int, tmp_path: Path) -> None:
    path = save(Net().state_dict(), tmp_path / "model.pth", protocol=protocol)
    inventory = _read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch would rather have protocol 2
        loaded = torch.load(path, map_location="meta", weights_only=protocol == 2)
    found: dict[str, Param | Buffer] = {each.name: each for each in inventory.params}
    found |= {each.name: each for each in inventory.buffers}
    assert list(found) == sorted(loaded, key=list(found).index)
    for name, tensor in loaded.items():
        assert found[name].shape == tuple(tensor.shape)
        assert found[name].dtype == str(tensor.dtype).removeprefix("torch.")
        assert found[name].numel == tensor.numel()
        assert found[name].nbytes == tensor.numel() * tensor.element_size()


def test_tied_tensors_count_once(save: Callable[..., Path], tmp_path: Path) -> None:
    inventory = _read(save(Net().state_dict(), tmp_path / "model.pt"))
    ties = {param.name: param.tied_to for param in inventory.params if param.tied_to}
    assert ties["head.weight"] == "embed.weight"
    assert ties["again.0.weight"] == "body.0.weight"
    assert _total(inventory) == sum(param.numel() for param in Net().parameters())


DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.complex32),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz, torch.float4_e2m1fn_x2),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
]


@pytest.mark.filterwarnings("ignore:ComplexHalf")  # PyTorch calls it experimental
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_has_its_name_and_size(dtype: torch.dtype, save: Callable[..., Path], tmp_path: Path) -> None:
    tensor = torch.empty(6, dtype=dtype)
    (param,) = _read(save({"weight": tensor}, tmp_path / "model.pt")).params
    weights = 12 if dtype is torch.float4_e2m1fn_x2 else 6  # of which PyTorch has two in an element
    assert (param.dtype, param.numel) == (str(dtype).removeprefix("torch."), weights)
    assert param.nbytes == 6 * tensor.element_size()


class Pairs(nn.Module):
    """Has floats of four bits, of which PyTorch has two in an element."""

    def __init__(self) -> None:
        super().__init__()
        pairs = torch.zeros(3, 8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
        self.weight = nn.Parameter(pairs, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(3))


def test_four_bit_floats_count_alike_in_every_form_of_a_model(tmp_path: Path) -> None:
    model = Pairs()
    state = {"weight": model.weight.detach(), "bias": model.bias.detach()}
    save_file(state, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        shape, loaded = file.get_slice("weight").get_shape(), file.get_tensor("weight")
    assert (shape, loaded.shape) == ([3, 16], (3, 8))  # as the library writes the floats, and gives back the pairs
    live = read_live(model, target="", source="")
    inventories = [
        safetensors.read(Target(""), str(tmp_path / "model.safetensors")),
        _read(_save(state, tmp_path / "state.pt")),
        _read(_save(state, tmp_path / "legacy.pt", legacy=True)),
        _read(_save(model.state_dict(keep_vars=True), tmp_path / "vars.pt")),
        _read(_save(model, tmp_path / "whole.pt")),
        live,
    ]
    assert _read(tmp_path / "whole.pt").params == live.params
    for inventory in inventories:
        report = Report.of(inventory)
        assert (report.total, report.packed, report.nbytes) == (3 * 16 + 3, 3 * 16, 3 * 8 + 3 * 4)
        found = {param.name: (param.shape, param.packed) for param in inventory.params}
        assert (found["weight"], found["bias"]) == (((3, 16), True), ((3,), False))
        assert "packed" in _codes(inventory)
    for inventory in inventories[:4]:
        (note,) = [note for note in inventory.notes if note.code == "packed"]
        assert "two floats in an element (float4_e2m1fn_x2)" in note.message


def test_quantised_tensors_are_read(save: Callable[..., Path], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to drop them
        whole = torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)
        each = torch.quantize_per_channel(torch.ones(2, 3), torch.ones(2), torch.zeros(2), 0, torch.quint8)
        path = save({"whole": whole, "each": each}, tmp_path / "model.pt")
    params = _read(path).params
    assert [(param.dtype, param.shape, param.nbytes) for param in params] == [
        ("qint8", (2, 3), 6),
        ("quint8", (2, 3), 6),
    ]


@pytest.mark.parametrize(("dtype", "nbytes"), [(torch.quint4x2, 4), (torch.quint2x4, 2)], ids=str)
def test_quantised_elements_that_share_a_byte_are_read(
    dtype: torch.dtype, nbytes: int, save: Callable[..., Path], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to drop them
        tensor = torch._empty_affine_quantized((7,), scale=0.1, zero_point=0, dtype=dtype)
        (param,) = _read(save({"weight": tensor}, tmp_path / "model.pt")).params
    assert (param.dtype, param.numel) == (str(dtype).removeprefix("torch."), 7)
    assert param.nbytes == nbytes == tensor.untyped_storage().nbytes()


@pytest.mark.filterwarnings("ignore:.*Complex.*experimental")
def test_no_dtype_of_pytorch_is_left_out(tmp_path: Path) -> None:
    dtypes = {each for each in vars(torch).values() if isinstance(each, torch.dtype)}
    quantised = {each for each in dtypes if "torch.q" in str(each)}
    for dtype in dtypes - quantised:
        tensor = torch.empty(6, dtype=dtype)
        try:
            path = _save({"weight": tensor}, tmp_path / "model.pt")
        except KeyError:  # one that torch.save does not know itself: integers of less than a byte
            assert str(dtype).startswith(("torch.int", "torch.uint"))
            continue
        (param,) = _read(path).params
        assert (param.dtype, param.nbytes) == (str(dtype).removeprefix("torch."), 6 * tensor.element_size())


UNUSUAL: dict[str, Callable[[], torch.Tensor]] = {
    "scalar": lambda: torch.tensor(1.0),
    "empty": lambda: torch.zeros(0, 3),
    "transposed": lambda: torch.zeros(2, 3).t(),
    "part of a larger one": lambda: torch.zeros(10)[3:7],
    "expanded": lambda: torch.zeros(1).expand(5),
    "on the meta device": lambda: torch.zeros(4, 5, device="meta"),
    "sparse": lambda: torch.eye(4).to_sparse(),
    "conjugate": lambda: torch.zeros(3, dtype=torch.complex64).conj(),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_tensors_have_their_shape(kind: str, save: Callable[..., Path], tmp_path: Path) -> None:
    tensor = UNUSUAL[kind]()
    (param,) = _read(save({"weight": tensor}, tmp_path / "model.pt")).params
    assert (param.shape, param.numel) == (tuple(tensor.shape), tensor.numel())


def test_compressed_sparse_tensors_have_their_shape(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls them a prototype
        path = _save({"weight": torch.eye(4).to_sparse_csr()}, tmp_path / "model.pt")
    assert _read(path).params[0].shape == (4, 4)


class Marked(torch.Tensor):
    pass


def test_subclasses_of_tensors_are_tensors(save: Callable[..., Path], tmp_path: Path) -> None:
    plain = torch.zeros(2, 3)
    marked = torch.zeros(4).as_subclass(Marked)
    plain.note = "kept"  # type: ignore[attr-defined]  # an attribute of one's own
    inventory = _read(save({"plain": plain, "marked": marked}, tmp_path / "model.pt"))
    assert [param.shape for param in inventory.params] == [(2, 3), (4,)]


class OwnParameter(nn.Parameter):
    pass


class Subclasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = OwnParameter(torch.zeros(2))
        self.marked = nn.Parameter(torch.zeros(3).as_subclass(Marked))
        self.frozen = nn.Parameter(torch.zeros(4).as_subclass(Marked), requires_grad=False)
        self.register_buffer("plain", torch.zeros(5))
        self.register_buffer("kept", torch.zeros(6).as_subclass(Marked))


def test_parameters_of_classes_of_their_own_are_told_from_buffers(save: Callable[..., Path], tmp_path: Path) -> None:
    model = Subclasses()
    live = read_live(model, target="", source="")
    for value in (model, model.state_dict(keep_vars=True)):
        inventory = _read(save(value, tmp_path / "model.pt"))
        assert inventory.params == live.params
        assert inventory.buffers == live.buffers


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[nn.Linear]:
    """A layer whose weight is a DTensor, of one process."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.Linear(4, 6)
        mesh = init_device_mesh("cpu", (1,))
        model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), mesh, [Shard(0)]))
        yield model
    finally:
        distributed.destroy_process_group()


def test_a_distributed_tensor_is_a_tensor(sharded: nn.Linear, save: Callable[..., Path], tmp_path: Path) -> None:
    for value in (sharded, sharded.state_dict(), sharded.state_dict(keep_vars=True)):
        inventory = _read(save(value, tmp_path / "model.pt"))
        assert {param.name: (param.shape, param.dtype) for param in inventory.params} == {
            "weight": ((6, 4), "float32"),
            "bias": ((6,), "float32"),
        }
        assert inventory.buffers == ()


def test_views_that_differ_are_noted_and_count_in_full(save: Callable[..., Path], tmp_path: Path) -> None:
    memory = torch.zeros(10)
    inventory = _read(save({"all": memory, "part": memory[2:5], "same": memory}, tmp_path / "model.pt"))
    assert _total(inventory) == 13
    (note,) = [note for note in inventory.notes if note.code == "shared-storage"]
    assert (note.where, "view of the same storage as all" in note.message) == ("part", True)


def test_a_state_dict_that_keeps_parameters_says_what_trains_and_what_is_a_buffer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    model.register_buffer("table", torch.zeros(7))
    inventory = _read(_save(model.state_dict(keep_vars=True), tmp_path / "model.pt"))
    live = read_live(model, target="", source="")
    assert {param.name: param.trainable for param in inventory.params} == {
        param.name: param.trainable for param in live.params
    }
    assert {buffer.name for buffer in inventory.buffers} == {buffer.name for buffer in live.buffers}


def test_a_lazy_state_dict_has_no_sizes_yet(tmp_path: Path) -> None:
    report = Report.of(_read(_save(_lazy().state_dict(), tmp_path / "model.pt")))
    assert (report.uninitialized, report.total) == (2, 12)
    assert "uninitialized" in [note.code for note in report.notes]


def test_an_empty_state_dict_has_no_parameters(save: Callable[..., Path], tmp_path: Path) -> None:
    assert _total(_read(save(nn.ReLU().state_dict(), tmp_path / "model.pt"))) == 0
    assert _total(_read(save({"state_dict": {}, "epoch": 1}, tmp_path / "nested.pt"))) == 0


def test_a_lone_tensor_and_a_list_are_counted(save: Callable[..., Path], tmp_path: Path) -> None:
    assert [param.name for param in _read(save(torch.zeros(3), tmp_path / "one.pt")).params] == ["tensor"]
    assert [param.name for param in _read(save([torch.zeros(3)] * 2, tmp_path / "two.pt")).params] == ["0", "1"]


# Whole modules --------------------------------------------------------------------------------------------------------


def _lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3))


def _shared() -> nn.Module:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = nn.Parameter(first.weight.data)
    return nn.Sequential(first, second)


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "one of everything": Net,
    "lazy": _lazy,
    "shared memory": _shared,
    "replicated": lambda: nn.DataParallel(Net()),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True),
    "torchvision": torchvision.models.squeezenet1_1,
    "empty": nn.Identity,
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", WHOLE)
def test_a_pickled_module_is_the_live_one(kind: str, protocol: int, save: Callable[..., Path], tmp_path: Path) -> None:
    model = WHOLE[kind]()
    live = read_live(model, target="", source="")
    saved = _read(save(model, tmp_path / "model.pt", protocol=protocol))
    assert saved.modules == live.modules
    assert saved.params == live.params
    assert saved.buffers == live.buffers
    assert [(note.code, note.where) for note in saved.notes] == [(note.code, note.where) for note in live.notes]


def test_a_compiled_module_is_the_live_one(save: Callable[..., Path], tmp_path: Path) -> None:
    model: Any = torch.compile(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    inventory = _read(save(model, tmp_path / "model.pt"))
    live = read_live(model, target="", source="")
    assert (inventory.params, inventory.buffers) == (live.params, live.buffers)
    assert [module.name for module in inventory.modules] == [module.name for module in live.modules]


def test_the_class_of_a_module_need_not_exist(tmp_path: Path) -> None:
    class Gone(nn.Linear):
        pass

    Gone.__qualname__ = "Gone"
    globals()["Gone"] = Gone
    path = _save(Gone(2, 3), tmp_path / "model.pt")
    del globals()["Gone"]
    inventory = _read(path)
    assert (inventory.modules[0].type, _total(inventory)) == ("Gone", 9)


def test_torchscript_is_counted_by_what_its_code_declares(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model[0].bias.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to drop it
        torch.jit.save(torch.jit.script(model), str(tmp_path / "model.pt"))
    inventory = _read(tmp_path / "model.pt")
    live = read_live(model, target="", source="")
    assert inventory.params == live.params
    assert inventory.buffers == live.buffers
    assert inventory.modules == live.modules


def test_a_traced_graph_is_a_module(tmp_path: Path) -> None:
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    inventory = _read(_save(model, tmp_path / "model.pt"))
    assert inventory.params == read_live(model, target="", source="").params


@pytest.mark.parametrize("name", [None, "Traced"])
def test_a_traced_graph_has_the_class_that_loading_it_gives(name: str | None, tmp_path: Path) -> None:
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    if name is not None:  # as PyTorch notes it in packages
        vars(graph)["_graphmodule_cls_name"] = name
    path = _save(nn.Sequential(graph), tmp_path / "model.pt")
    loaded = torch.load(path, weights_only=False)
    types = {module.name: module.type for module in _read(path).modules}
    assert types == {place: type(module).__name__ for place, module in loaded.named_modules()}
    assert types["0"] == (name or "GraphModule")


def test_torchscript_without_its_code_is_refused_by_name(tmp_path: Path) -> None:
    data = b"\x80\x02c__torch__\nNet\n)\x81}" + _text("weight") + b"Nsb."
    (tmp_path / "model.pt").write_bytes(_zip({"a/data.pkl": data, "a/code/__torch__.py": b"class Net: pass"}))
    with pytest.raises(UnreadableFile, match="TorchScript"):
        _read(tmp_path / "model.pt")


# Checkpoints ----------------------------------------------------------------------------------------------------------


def _training() -> tuple[nn.Module, dict[str, Any]]:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return model, optimizer.state_dict()


LAYOUTS: dict[str, Callable[[Any, Any], Any]] = {
    "trainer": lambda sd, opt: {
        "epoch": 1,
        "model_state_dict": sd,
        "optimizer_state_dict": opt,
        "loss": torch.ones(()),
    },
    "imagenet example": lambda sd, opt: {"arch": "x", "state_dict": sd, "best_acc1": torch.ones(()), "optimizer": opt},
    "lightning": lambda sd, opt: {
        "pytorch-lightning_version": "2.0",
        "state_dict": sd,
        "optimizer_states": [opt],
        "lr_schedulers": [{"last_epoch": 1}],
        "callbacks": {"EarlyStopping{}": {"best_score": torch.ones(())}},
        "loops": {},
    },
    "deepspeed": lambda sd, opt: {
        "module": sd,
        "optimizer": opt,
        "buffer_names": ["1.running_mean", "1.running_var", "1.num_batches_tracked"],
        "dp_world_size": 1,
    },
    "fairseq": lambda sd, opt: {"args": None, "model": sd, "last_optimizer_state": opt, "extra_state": {}},
    "timm": lambda sd, opt: {"arch": "x", "state_dict": sd, "state_dict_ema": sd, "optimizer": opt},
    "detectron": lambda sd, opt: {"model": sd, "optimizer": opt, "scheduler": {"last_epoch": 1}, "iteration": 3},
    "nested twice": lambda sd, opt: {"model": {"state_dict": sd}, "optimizer": opt},
    "averages only": lambda sd, opt: {"params_ema": sd},
    "no name known": lambda sd, opt: {"backbone": sd, "optim": opt, "lr": 0.1, "rng_state": torch.zeros(9)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_told_from_what_training_keeps_beside_them(
    layout: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    model, optimizer = _training()
    path = save(LAYOUTS[layout](model.state_dict(), optimizer), tmp_path / "last.ckpt")
    inventory = _read(path)
    assert _total(inventory) == sum(param.numel() for param in model.parameters())
    assert len(inventory.buffers) == 3
    assert ("left-out" in _codes(inventory)) == (layout != "averages only")


class Shared(nn.Module):
    """Has a parameter of two names, a frozen one, a scalar, and a buffer whose name does not say that it is one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7)
        self.head.weight = self.embedding.weight
        self.head.bias.requires_grad = False
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("table", torch.zeros(2, 3))


def _model_states(model: nn.Module, shared: object) -> dict[str, Any]:
    """Return what DeepSpeed's ZeRO-3 saves: parameters are empty, buffers are not."""
    names = dict(model.named_parameters(remove_duplicate=False))
    state = {name: torch.empty(0) if name in names else each for name, each in model.state_dict().items()}
    params = list(model.named_parameters())
    return {
        "module": OrderedDict(state),
        "buffer_names": [name for name, _ in model.named_buffers()],
        "param_shapes": [OrderedDict([(name, each.shape)]) for name, each in params if each.requires_grad],
        "frozen_param_shapes": OrderedDict((name, each.shape) for name, each in params if not each.requires_grad),
        "shared_params": shared,
        "optimizer": None,
    }


@pytest.mark.parametrize(
    "shared", [{"head.weight": "embedding.weight"}, [["head.weight", "embedding.weight"]]], ids=["mapping", "pairs"]
)
def test_parameters_that_zero_3_leaves_empty_have_the_shapes_kept_beside_them(
    shared: object, save: Callable[..., Path], tmp_path: Path
) -> None:
    model = Shared()
    inventory = _read(save(_model_states(model, shared), tmp_path / "mp_rank_00_model_states.pt"))
    assert {param.name: param.shape for param in inventory.params} == {
        name: param.shape for name, param in model.named_parameters(remove_duplicate=False)
    }
    assert _total(inventory) == sum(param.numel() for param in model.parameters())
    assert [buffer.name for buffer in inventory.buffers] == ["table"]
    assert _codes(inventory) == ["sharded"]
    assert inventory.form == "other"  # load_state_dict() would not take it


def test_frozen_parameters_of_which_zero_3_keeps_no_shapes_are_unknown_and_not_0(tmp_path: Path) -> None:
    states = {**_model_states(Shared(), None), "frozen_param_shapes": None}
    inventory = _read(_save(states, tmp_path / "mp_rank_00_model_states.pt"))
    report = Report.of(inventory)
    # Without the pairs of those that are shared, nothing says the shape of the second either.
    assert {param.name for param in inventory.params if param.shape is None} == {"head.bias", "head.weight"}
    assert (report.uninitialized, report.total) == (2, 7 * 5 + 1)
    (note,) = [note for note in inventory.notes if note.code == "uninitialized"]
    assert "keeps no shape of it, as 1 other: totals are lower bounds" in note.message


def test_a_shape_beside_a_state_dict_that_is_none_is_an_error(tmp_path: Path) -> None:
    states = _model_states(Shared(), None)
    states["param_shapes"] = [{"scale": "(3,)"}]
    with pytest.raises(UnreadableFile, match="whose shape is no list of sizes"):
        _read(_save(states, tmp_path / "mp_rank_00_model_states.pt"))


@pytest.mark.parametrize("form", [list, tuple])
def test_in_a_list_the_states_of_optimizers_are_left_out(form: type, save: Callable[..., Path], tmp_path: Path) -> None:
    model, optimizer = _training()
    inventory = _read(save(form([model.state_dict(), optimizer]), tmp_path / "both.pt"))
    assert _total(inventory) == sum(param.numel() for param in model.parameters())
    assert [note.code for note in inventory.notes] == ["left-out", "buffers-by-name"]
    with pytest.raises(UnreadableFile, match="holds no weights"):
        _read(save(form([optimizer, 3]), tmp_path / "optimizers.pt"))


def test_a_note_names_what_is_left_out_and_how_large_it_is(tmp_path: Path) -> None:
    model, optimizer = _training()
    path = _save({"state_dict": model.state_dict(), "optimizer": optimizer}, tmp_path / "last.ckpt")
    (note,) = [note for note in _read(path).notes if note.code == "left-out"]
    # Of each of the four parameters two averages, and a counter.
    assert "optimizer (12 tensors, 46 elements, 184 B)" in note.message
    assert f"{path}:optimizer" in note.message


def test_several_models_in_one_file_all_count(tmp_path: Path) -> None:
    value = {
        "generator": {"weight": torch.zeros(2)},
        "discriminator": {"weight": torch.zeros(3)},
        "ema": [torch.ones(9)],
    }
    inventory = _read(_save(value, tmp_path / "gan.pt"))
    assert [param.name for param in inventory.params] == ["generator.weight", "discriminator.weight"]


def test_a_module_in_a_checkpoint_is_read_as_a_module(save: Callable[..., Path], tmp_path: Path) -> None:
    model = Net()
    inventory = _read(save({"epoch": 3, "model": model, "ema": Net(), "optimizer": None}, tmp_path / "yolo.pt"))
    assert inventory.params == read_live(model, target="", source="").params
    assert _codes(inventory) == ["left-out"]


def test_parameters_with_names_like_a_trainers_are_parameters(tmp_path: Path) -> None:
    value = {"amplitude": torch.zeros(2), "optimizer.weight": torch.zeros(3), "argsort": torch.zeros(4)}
    assert _total(_read(_save(value, tmp_path / "model.pt"))) == 9


class Suspicious(nn.Module):
    """Has parameters of names that trainers give to other things."""

    def __init__(self) -> None:
        super().__init__()
        self.loss_fn = nn.Linear(3, 2)
        self.ema_model = nn.Linear(2, 2)
        self.train_head = nn.Linear(2, 5)
        self.lr = nn.Parameter(torch.ones(()))
        self.step = nn.Parameter(torch.ones(4))
        self.state = nn.Parameter(torch.ones(3))
        self.param_groups = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    "layout",
    [
        lambda sd: sd,
        lambda sd: {"state_dict": sd, "epoch": 3},
        lambda sd: {"model": dict(sd), "lr": torch.ones(())},
        lambda sd: {"best_state": sd},
    ],
    ids=["alone", "under its name", "as a plain dict", "under no known name"],
)
def test_no_parameter_is_left_out_for_its_name(
    layout: Callable[[Any], Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    model = Suspicious()
    inventory = _read(save(layout(model.state_dict()), tmp_path / "model.pt"))
    assert [param.name for param in inventory.params] == [name for name, _ in model.named_parameters()]
    assert _total(inventory) == sum(param.numel() for param in model.parameters())


@pytest.mark.parametrize("prefix", ["loss_fn.", "ema_model.", "train_head."])
def test_a_dotted_name_is_a_parameters_in_a_plain_dict(prefix: str, tmp_path: Path) -> None:
    state = {name: each for name, each in Suspicious().state_dict().items() if name.startswith(prefix)}
    inventory = _read(_save({**state, "epoch": torch.ones(())}, tmp_path / "model.pt"))
    assert [param.name for param in inventory.params] == list(state)


def test_a_single_parameter_among_detached_tensors_makes_no_buffers_of_those(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    state = {**model.state_dict(), "0.weight": nn.Parameter(torch.ones(4, 4))}
    inventory = _read(_save(state, tmp_path / "model.pt"))
    assert _total(inventory) == sum(param.numel() for param in model.parameters())
    assert [buffer.name for buffer in inventory.buffers] == [name for name, _ in model.named_buffers()]
    assert "buffers-by-name" in _codes(inventory)


def test_frozen_batch_norm_has_its_weight_as_a_buffer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), torchvision.ops.FrozenBatchNorm2d(4))
    inventory = _read(_save(model.state_dict(keep_vars=True), tmp_path / "model.pt"))
    assert _total(inventory) == sum(param.numel() for param in model.parameters())


def test_the_state_of_a_quantised_model_comes_to_the_live_one(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces that it moves
        model = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]  # PyTorch's own lack
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), {nn.Linear}
        )
        saved = Report.of(_read(_save(model.state_dict(), tmp_path / "model.pt")))
    live = Report.of(read_live(model, target="", source=""))
    assert (saved.total, saved.packed, saved.nbytes) == (live.total, live.packed, live.nbytes)


class Quantisable(nn.Module):
    """Has one of each kind of layer that torch.ao gives scales: as buffers, as numbers, or within a packed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.add = torch.ao.nn.quantized.FloatFunctional()
        self.group = nn.GroupNorm(2, 4)
        self.swish = nn.Hardswish()
        self.head = nn.Linear(4, 5)
        self.table = nn.Embedding(7, 4)
        self.gain = nn.Parameter(torch.ones(2))
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, image: torch.Tensor) -> Any:
        seen = self.relu(self.norm(self.conv(self.quant(image))))
        seen = self.swish(self.group(self.add.add(seen, seen)))
        return self.dequant(self.head(seen.mean((2, 3))))


@pytest.mark.filterwarnings("ignore")  # torch.ao announces that it moves
def test_the_scales_of_a_quantised_model_are_what_the_live_one_has_them_as(tmp_path: Path) -> None:
    ao: Any = torch.ao.quantization
    model = ao.fuse_modules(Quantisable().eval(), [["conv", "norm", "relu"]])
    weights = sum(param.numel() for param in model.parameters())
    model.qconfig, model.table.qconfig = ao.get_default_qconfig("fbgemm"), None
    ao.prepare(model, inplace=True)(torch.randn(2, 3, 8, 8))
    ao.convert(model, inplace=True)
    buffers = {name: buffer.numel() for name, buffer in model.named_buffers()}
    assert {"quant.scale", "group.zero_point", "swish.scale"} <= buffers.keys()
    live = read_live(model, target="", source="")
    state = model.state_dict()
    found = _read(_save(state, tmp_path / "model.pt"))
    assert _total(found) == _total(live) == weights
    assert {buffer.name: buffer.numel for buffer in found.buffers} == buffers
    of_numbers = {f"{layer}.{key}" for layer in ("conv", "head", "add") for key in ("scale", "zero_point")}
    names = {part.name.replace("head._packed_params._packed_params.0", "head.weight") for part in found.overhead}
    assert names == {part.name for part in live.overhead} | of_numbers
    # Without what a state dict keeps beside its tensors, a function with a scale is as a layer without weights.
    plain = _read(_save(dict(state), tmp_path / "plain.pt"))
    assert _total(plain) == weights
    assert {buffer.name for buffer in plain.buffers} == {*buffers, "add.scale", "add.zero_point"}


@pytest.mark.parametrize("key", ["python", "random_state"])
def test_the_state_of_random_numbers_is_no_model(key: str, tmp_path: Path) -> None:
    of_trainer = {"python": 1, "numpy": 2, "cpu": torch.get_rng_state()}
    of_accelerate = {"random_state": 1, "numpy_random_seed": 2, "torch_manual_seed": torch.get_rng_state()}
    with pytest.raises(UnreadableFile, match="holds no weights"):
        _read(_save(of_trainer if key == "python" else of_accelerate, tmp_path / "rng_state.pth"))


def test_a_counter_is_a_mapping_and_keys_that_read_alike_are_two(tmp_path: Path) -> None:
    assert _total(_read(_save(Counter({"a": torch.ones(3)}), tmp_path / "counter.pt"))) == 3
    assert _total(_read(_save({1: torch.ones(2), "1": torch.ones(3)}, tmp_path / "alike.pt"))) == 5


@pytest.mark.parametrize("kind", ["list", "parameters", "shapes"])
def test_what_is_shared_by_thousands_is_looked_at_once(kind: str, tmp_path: Path) -> None:
    """Looking into it at each of its places would take minutes."""
    shared: dict[Any, Any] = dict.fromkeys(map(str, range(20_000)))
    if kind == "parameters":
        model = nn.Sequential(*(nn.Identity() for _ in range(2_000)))
        for module in model:
            module._parameters = shared
        with pytest.raises(UnreadableFile, match="more than"):
            _read(_save(model, tmp_path / "model.pt"))
        return
    key = "l" if kind == "list" else "param_shapes"
    value = {"module": {"w": torch.ones(2)}, "buffer_names": [], "d": shared, key: [shared] * 20_000}
    value["frozen_param_shapes"] = {}
    if kind == "shapes":
        shared.clear()
        shared.update({f"{number}": torch.Size([1]) for number in range(20_000)})
    assert _total(_read(_save(value, tmp_path / "model.pt"))) == 2


def test_a_path_picks_another_part(tmp_path: Path) -> None:
    model, optimizer = _training()
    value = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer,
        "ema": {"0.weight": torch.zeros(5)},
        "net": model,
    }
    path = _save(value, tmp_path / "last.ckpt")
    assert _total(_read(f"{path}:ema")) == 5
    assert _total(_read(f"{path}:optimizer.state")) == 46
    assert _total(_read(f"{path}:optimizer.state.0.exp_avg")) == 12
    assert _total(_read(f"{path}:state_dict.0.weight")) == 12
    assert _read(f"{path}:net").modules[0].type == "Sequential"
    assert _read(f"{path}:net.0").modules[0].type == "Linear"


def test_an_unknown_path_gets_the_closest(tmp_path: Path) -> None:
    path = _save({"state_dict": {"a": torch.zeros(1)}, "optimizer": {"b": torch.zeros(1)}}, tmp_path / "last.ckpt")
    with pytest.raises(UnknownTarget) as caught:
        _read(f"{path}:optimiser")
    assert caught.value.hint is not None
    assert f"{path}:optimizer" in caught.value.hint


def test_a_file_without_weights_says_what_it_holds(save: Callable[..., Path], tmp_path: Path) -> None:
    _, optimizer = _training()
    path = save(optimizer, tmp_path / "optimizer.pt")
    with pytest.raises(UnreadableFile) as caught:
        _read(path)
    assert f"{path}:state" in str(caught.value.hint)
    with pytest.raises(UnreadableFile, match="no weights"):
        _read(save({"epoch": 3}, tmp_path / "counters.pt"))


# Words and files that are something else ------------------------------------------------------------------------------


def test_words_are_claimed_by_their_ending() -> None:
    assert all(map(torch_file.claims, ("a.pt", "b/c.pth", "d.bin", "e.ckpt", "a.pt:state_dict", "a.pt2")))
    assert not any(map(torch_file.claims, ("a.pt:", ".pt", "a.py:Net", "pt", "a.safetensors", "a.ptx")))


def test_a_file_takes_no_arguments(tmp_path: Path) -> None:
    path = str(_save({}, tmp_path / "model.pt"))
    with pytest.raises(UsageError):
        torch_file.read(replace(Target(path), args={"width": 3}), path)


def test_a_missing_file_is_an_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(UnknownTarget):
        _read(tmp_path / "none.pt")


OTHERS = {
    "empty": (b"", "is empty"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "tar": (b"\0" * 257 + b"ustar" + b"\0" * 300, "tar archive"),
    "noise": (b"\x93NUMBER\x01\x00" * 40, "no file that torch.save wrote"),
    "an array": (b"\x93NUMPY\x01\x00" * 40, "no array of NumPy's"),
    "plain pickle": (pickle.dumps({"a": 1}), "which pickle.dump\\(\\) wrote, holds no weights"),
    "true": (b"\x88.", "which pickle.dump\\(\\) wrote, holds no weights"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused_by_what_they_are(name: str, tmp_path: Path) -> None:
    data, message = OTHERS[name]
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(UnreadableFile, match=message):
        _read(tmp_path / "model.bin")


def _zip(records: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in records.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({"word/document.xml": b""}, "torch.save did not write"),
        ({"a/archive_format": b"pt2", "a/models/model.json": b"{}"}, "no program that torch.export saved"),
        ({"a/archive_format": b"pt2"}, "no exported program"),
        ({"serialized_exported_program.json": b"{}"}, "no program that torch.export saved"),
        ({"a/.data/extern_modules": b"", "a/model.pkl": b""}, "torch.package"),
        ({"a/data.pkl": b"N.", "b/data.pkl": b"N."}, "torch.save did not write"),
    ],
)
def test_other_archives_are_refused_by_what_they_are(records: dict[str, bytes], message: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(_zip(records))
    with pytest.raises(UnreadableFile, match=message) as caught:
        _read(tmp_path / "model.pt")
    assert caught.value.hint


# Malformed and hostile files ------------------------------------------------------------------------------------------


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _tensor(
    *,
    numel: bytes = b"K\x06",
    offset: bytes = b"K\x00",
    shape: bytes = b"K\x02K\x03\x86",
    stride: bytes = b"K\x03K\x01\x86",
    grad: bytes = b"\x89",
    kind: bytes = b"ctorch\nFloatStorage\n",
    key: bytes = _text("0"),
    persistent: bytes | None = None,
) -> bytes:
    memory = persistent or b"(" + _text("storage") + kind + key + _text("cpu") + numel + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + memory + offset + shape + stride + grad + hooks + b"tR"
    return b"\x80\x02}" + _text("weight") + made + b"s."


def _archive(data: bytes, storage: bytes = b"\0" * 24) -> bytes:
    return _zip({"archive/data.pkl": data, "archive/version": b"3", "archive/data/0": storage})


def test_the_tensor_that_is_bent_below_is_sound(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(_archive(_tensor()))
    assert _total(_read(tmp_path / "model.pt")) == 6


_MINUS = b"J\xff\xff\xff\xff"
_HUGE = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"
_HUGER = b"\x8a\x0a" + b"\xff" * 9 + b"\x7f"

BENT = {
    "negative size": _tensor(shape=_MINUS + b"K\x03\x86"),
    "boolean size": _tensor(shape=b"\x88K\x03\x86"),
    "fractional size": _tensor(shape=b"G?\xf0\0\0\0\0\0\0K\x03\x86"),
    "size of text": _tensor(shape=_text("2") + b"K\x03\x86"),
    "shape that is no tuple": _tensor(shape=b"K\x06"),
    "shape that is nothing": _tensor(shape=b"N"),
    "huge shape": _tensor(shape=_HUGE + _HUGE + b"\x86"),
    "size beyond 64 bits": _tensor(shape=_HUGER + b"K\x00\x86"),
    "huge shape of no stride": _tensor(shape=_HUGE + _HUGE + b"\x86", stride=b"K\x00K\x00\x86"),
    "too many dimensions": _tensor(shape=b"(" + b"K\x01" * 5000 + b"t", stride=b"(" + b"K\x01" * 5000 + b"t"),
    "negative stride": _tensor(stride=_MINUS + b"K\x01\x86"),
    "boolean stride": _tensor(stride=b"\x88\x88\x86"),
    "huge stride": _tensor(stride=_HUGE + b"K\x01\x86"),
    "fewer strides than sizes": _tensor(stride=b"K\x01\x85"),
    "negative offset": _tensor(offset=_MINUS),
    "boolean offset": _tensor(offset=b"\x88"),
    "offset beyond the storage": _tensor(offset=b"K\x01"),
    "huge offset": _tensor(offset=_HUGE),
    "requires_grad of a number": _tensor(grad=b"K\x01"),
    "negative storage": _tensor(numel=_MINUS),
    "boolean storage": _tensor(numel=b"\x88"),
    "storage larger than its data": _tensor(numel=b"K\x07"),
    "huge storage": _tensor(numel=_HUGE),
    "storage without data": _tensor(key=_text("1")),
    "storage key of a number": _tensor(key=b"K\x00"),
    "storage key that leaves the archive": _tensor(key=_text("../data.pkl")),
    "storage of an unknown kind": _tensor(kind=b"ctorch\nCurlyStorage\n"),
    "storage of text": _tensor(kind=_text("FloatStorage")),
    "no storage": _tensor(persistent=b"N"),
    "persistent id of text": _tensor(persistent=_text("0") + b"Q"),
    "persistent id of a line": _tensor(persistent=b"Pstorage\n"),
    "persistent id of nothing": _tensor(persistent=b")Q"),
    "persistent id of another kind": _tensor(persistent=_text("file") + b"\x85Q"),
    "persistent id of a list": _tensor(persistent=b"]" + _text("storage") + b"aQ"),
    "persistent id cut short": _tensor(persistent=_text("storage") + b"\x85Q"),
    "tensor without arguments": b"}" + _text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n)Rs.",
    "tensor of no tuple": b"}" + _text("a") + b"ctorch._utils\n_rebuild_tensor_v2\nNRs.",
    "meta tensor of an unknown dtype": b"}"
    + _text("a")
    + b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(cos\nfloat32\n))\x89tRs.",
    "parameters in parameters": b"}"
    + _text("a") + b"ctorch._utils\n_rebuild_parameter\n" * 20 + b"N" + b"\x88N\x87R" * 20 + b"s.",
    "a parameter of itself": b"}" + _text("a") + b"ctorch._utils\n_rebuild_parameter\n(]q\x00h\x00atRs.",
    "a mapping of itself": b"}q\x00" + _text("a") + b"h\x00s.",
    "mappings that double": b"}q\x00" + b"".join(
        b"}(" + _text("a") + b"h" + bytes([n]) + _text("b") + b"h" + bytes([n]) + b"uq" + bytes([n + 1]) + b"\x86" * 0
        + b"(h\x000" + b"1"
        for n in range(40)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BENT)
def test_a_bent_tensor_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(_archive(BENT[name]))
    with pytest.raises(UnreadableFile) as caught:
        _read(tmp_path / "model.pt")
    assert caught.value.exit_code == 3


def test_names_that_double_at_each_level_end(tmp_path: Path) -> None:
    leaf = torch.zeros(1)
    value: Any = {"weight": leaf}
    for _ in range(40):
        value = {"a": value, "b": value}
    with pytest.raises(UnreadableFile, match="more than"):
        _read(_save({"state_dict": value}, tmp_path / "model.pt"))


def test_modules_that_double_at_each_level_count_once(tmp_path: Path) -> None:
    model: nn.Module = nn.Linear(1, 1)
    for _ in range(40):
        model = nn.Sequential(model, model)
    assert _total(_read(_save(model, tmp_path / "model.pt"))) == 2


def _bad_zips() -> dict[str, bytes]:
    good = _archive(_tensor())
    end = good.rindex(b"PK\x05\x06")
    central = good.index(b"PK\x01\x02")
    return {
        "no end": good[:end],
        "end cut short": good[: end + 10],
        "directory cut short": good[: central + 60] + good[end:],
        "too many entries": good[: end + 8] + b"\xff\xff\xff\xff" + good[end + 12 :],
        "directory elsewhere": good[: end + 16] + b"\x00\x00\x00\x7f" + good[end + 20 :],
        "directory damaged": good[:central] + b"XXXX" + good[central + 4 :],
        "several disks": good[: end + 4] + b"\x01\x00\x01\x00" + good[end + 8 :],
        "encrypted": good[: central + 8] + b"\x01\x00" + good[central + 10 :],
        "unknown method": good[: central + 10] + b"\x0c\x00" + good[central + 12 :],
        "size below the packed one": good[: central + 24] + b"\x01\x00\x00\x00" + good[central + 28 :],
        "record beyond the data": good[: central + 42] + b"\xff\xff\xff\x0f" + good[central + 46 :],
        "large size left out": good[: central + 20] + b"\xff" * 8 + good[central + 28 :],
        "no local header": b"PK\x03\x04" + b"\0" * 20 + good[24:central] + good[central : central + 42] + b"\x05\0\0\0"
        + good[central + 46 :],
        "twice the same": _zip({"archive/data.pkl": _tensor()})[:0] + _twice(),
        "a bomb": _zip({"archive/data.pkl": b"N" * (80 * 2**20)}, method=zipfile.ZIP_DEFLATED),
        "a bomb that lies about its size": _lying_bomb(),
        "not deflated": good[: central + 10] + b"\x08\x00" + good[central + 12 :],
    }  # fmt: skip


def _twice() -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("archive/data.pkl", _tensor())
        archive.writestr("archive/data.pkl", _tensor())
    return stream.getvalue()


def _lying_bomb() -> bytes:
    data = _zip({"archive/data.pkl": b"N" * (80 * 2**20)}, method=zipfile.ZIP_DEFLATED)
    central = data.index(b"PK\x01\x02")
    return data[: central + 24] + struct.pack("<I", 1000) + data[central + 28 :]


BAD_ZIPS = _bad_zips()


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_a_damaged_archive_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(BAD_ZIPS[name])
    with pytest.raises(UnreadableFile):
        _read(tmp_path / "model.pt")


def test_a_deflated_pickle_is_read(tmp_path: Path) -> None:
    records = {"archive/data.pkl": _tensor(), "archive/data/0": b"\0" * 24}
    (tmp_path / "model.pt").write_bytes(_zip(records, method=zipfile.ZIP_DEFLATED))
    assert _total(_read(tmp_path / "model.pt")) == 6


def test_a_file_cut_short_anywhere_is_refused(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save({"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}, tmp_path / "model.pt")
    data = path.read_bytes()
    for end in range(0, len(data), 5):
        path.write_bytes(data[:end])
        with pytest.raises(UnreadableFile):
            _read(path)


def test_legacy_storages_must_be_those_of_the_tensors(tmp_path: Path) -> None:
    path = _save({"weight": torch.zeros(6)}, tmp_path / "model.pt", legacy=True)
    data = path.read_bytes()
    shorter = data[:-32] + struct.pack("<q", 5) + data[-24:]
    negative = data[:-32] + struct.pack("<q", -1) + data[-24:]
    for bent in (shorter, negative, data.replace(b"\xe9\x03", b"\xea\x03"), data[: -32 - 20] + data[-32:]):
        path.write_bytes(bent)
        with pytest.raises(UnreadableFile):
            _read(path)


def _calls(command: str) -> dict[str, bytes]:
    run = _text(command)
    return {
        "REDUCE": b"cos\nsystem\n" + run + b"\x85R",
        "INST": b"(" + run + b"ios\nsystem\n",
        "OBJ": b"(cos\nsystem\n" + run + b"o",
        "NEWOBJ": b"cos\nsystem\n" + run + b"\x85\x81",
        "NEWOBJ_EX": b"cos\nsystem\n" + run + b"\x85}\x92",
        "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93" + run + b"\x85R",
        "EXT": b"\x82\x01" + run + b"\x85R",
        "eval": b"cbuiltins\neval\n" + _text(f"__import__('os').system({command!r})") + b"\x85R",
        "exec": b"cbuiltins\nexec\n" + _text(f"import os; os.system({command!r})") + b"\x85R",
        "__import__": b"cbuiltins\n__import__\n" + _text("antigravity") + b"\x85R",
        "BUILD": b"ccollections\nOrderedDict\n)R}" + _text("__setstate__") + b"cos\nsystem\nsb" + run + b"b",
        "torch.load": b"ctorch.serialization\nload\n" + run + b"\x85R",
        "runpy": b"crunpy\n_run_code\n" + run + b"\x85R",
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("way", _calls(""))
def test_nothing_in_a_file_is_ever_called(
    way: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    called: list[object] = []
    monkeypatch.setattr(os, "system", called.append)
    call = _calls(f"touch {canary}")[way]
    tensor = _tensor()[:-1] + _text("call") + call + b"s."
    if legacy:
        start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        data = start + tensor + pickle.dumps(["0"], 2) + struct.pack("<q", 6) + b"\0" * 24
    else:
        data = _archive(tensor)
    (tmp_path / "model.pt").write_bytes(data)
    inventory = _read(tmp_path / "model.pt")
    assert _total(inventory) == 6
    assert "calls" in _codes(inventory)
    assert not canary.exists()
    assert called == []


def test_a_file_that_is_there_to_be_loaded_says_what_it_would_call(tmp_path: Path) -> None:
    call = b"\x80\x02cposix\nsystem\n" + _text("rm -rf ~\n\x1b[2J" + "a" * 99) + b"\x85R."
    for data, problem in ((_archive(call), "holds no weights"), (call, "holds no weights")):
        (tmp_path / "model.pt").write_bytes(data)
        with pytest.raises(UnreadableFile, match=problem) as caught:
            _read(tmp_path / "model.pt")
        assert "would call posix.system('rm -rf ~\\n\\x1b[2Ja" in caught.value.message
        assert "nothing in it was executed" in caught.value.message
        assert (caught.value.message.isprintable(), caught.value.hint) == (True, "do not load it")
    odd = b"\x80\x02" + _text("os.\x1b[2J" + "a" * 10_000) + _text("\n") + b"\x93)R."
    (tmp_path / "model.pt").write_bytes(_archive(odd))
    with pytest.raises(UnreadableFile, match=r"would call os") as caught:
        _read(tmp_path / "model.pt")
    assert (caught.value.message.isprintable(), len(caught.value.message) < 400) == (True, True)
    many = b"\x80\x02](" + b"".join(b"cos\nremove\nK%c\x85R" % n for n in b"abcde") + b"e."
    (tmp_path / "model.pt").write_bytes(_archive(many))
    with pytest.raises(
        UnreadableFile,
        match=r"os\.remove\(97\), os\.remove\(98\), os\.remove\(99\), os\.remove\(100\), os\.remove\(101\);",
    ):
        _read(tmp_path / "model.pt")


@pytest.mark.parametrize("kind", WHOLE)
def test_no_file_of_pytorchs_own_is_said_to_call_anything(kind: str, save: Callable[..., Path], tmp_path: Path) -> None:
    model = WHOLE[kind]()
    assert "calls" not in _codes(
        _read(save({"model": model, "where": tmp_path, "args": slice(3)}, tmp_path / "model.pt"))
    )


def _valid_files() -> list[bytes]:
    module = nn.Sequential(nn.Linear(2, 1))
    values: list[object] = [OrderedDict(weight=torch.zeros(2)), {"model": module, "optimizer": {"state": {}}}]
    files = []
    for value in values:
        for legacy in (False, True):
            stream = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
            files.append(stream.getvalue())
    return [*files, _archive(_tensor())]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    file=st.sampled_from(_valid_files()),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=6)), max_size=4),
)
def test_a_mutated_file_is_read_or_refused(file: bytes, edits: list[tuple[float, int, bytes]], tmp_path: Path) -> None:
    data = bytearray(file)
    for place, removed, put in edits:
        at = int(place * len(data))
        data[at : at + (len(put) if removed == 3 else removed)] = put
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    try:
        report = Report.of(_read(path))
    except ParamcountError as error:
        code = error.exit_code
        assert code == 3, error.message  # noqa: PT017  # it need not be raised
    else:
        assert report.total == report.trainable + report.frozen + report.unknown
