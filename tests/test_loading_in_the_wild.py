"""Files as trainers and users write them are held against models as PyTorch itself would load them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, load_model, save_model
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.optim.swa_utils import AveragedModel

from paramcount.diff import Side, changes
from paramcount.report import Report
from paramcount.sources import Target, safetensors, torch_file
from tests.strict_loading import demand_equal, live


class Net(nn.Module):
    """Has batch norm, a parameter at the top, and one with a name that trainers use for a number of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 3)
        self.pos = nn.Parameter(torch.zeros(4))
        self.register_buffer("mask", torch.zeros(2, dtype=torch.bool))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.emb.weight
        self.once = nn.Buffer(torch.ones(3))
        self.register_buffer("twice", self.once)


class Many(nn.Module):
    """Lists, a dictionary, sizes of none and scalars."""

    def __init__(self) -> None:
        super().__init__()
        self.list = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(()))])
        self.dict = nn.ParameterDict({"a": nn.Parameter(torch.ones(0)), "b": nn.Parameter(torch.ones(1))})
        self.blocks = nn.ModuleDict({"x": nn.Linear(2, 2), "y": nn.ModuleList([nn.Linear(2, 2)])})
        self.number = nn.Parameter(torch.ones(3, dtype=torch.complex64))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))


class OwnNorm(nn.Module):
    """Counts batches as batch norm does, and is none."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("num_batches_tracked", torch.tensor(0))


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.BatchNorm1d(4)
        self.two = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.three = nn.SyncBatchNorm(4)
        self.four = nn.BatchNorm1d(4, track_running_stats=False)
        self.five = OwnNorm()


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net()
        self.neck = nn.Linear(3, 3)


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = Net()
        self.discriminator = Many()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "net": Net,
    "tied": Tied,
    "many": Many,
    "norms": Norms,
    "detector": Detector,
    "gan": Gan,
    "averaged": lambda: AveragedModel(Net()),
    "replicated": lambda: nn.DataParallel(Net()),
    "replicated average": lambda: AveragedModel(nn.DataParallel(Net())),
    "lone layer": lambda: nn.Linear(3, 2),
    "recurrent": lambda: nn.LSTM(3, 2, num_layers=2, bidirectional=True),
    "half": lambda: Net().half(),
}


def _optimizer(model: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(model.parameters())
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    return optimizer.state_dict()


def _plain(state: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**state, **more}


def _renamed(state: Mapping[str, Any], name: Callable[[str], str]) -> dict[str, Any]:
    return {name(key): value for key, value in state.items()}


def _first(state: Mapping[str, Any], change: Callable[[Tensor], Any]) -> dict[str, Any]:
    """Return the state with the first of its tensors that has a floating-point dtype and several elements changed."""
    name = next(key for key, value in state.items() if value.is_floating_point() and value.numel() > 1)
    return {**state, name: change(state[name])}


def _without_counters(state: Mapping[str, Any], *, but: str = "?") -> Any:
    state = OrderedDict(state)
    for name in [name for name in state if name.endswith("num_batches_tracked") and but not in name]:
        del state[name]
    return state


def _with_versions(state: Any, versions: Mapping[str, int]) -> Any:
    state._metadata = OrderedDict((name, {"version": version}) for name, version in versions.items())
    return state


def _kept(model: nn.Module, change: Callable[[Any], Any]) -> Any:
    """Change a state dict in place, which keeps what it says of versions."""
    state = model.state_dict()
    metadata = state._metadata  # type: ignore[attr-defined]
    state = OrderedDict(change(state))
    state._metadata = metadata  # type: ignore[attr-defined]
    return state


FILES: dict[str, Callable[[nn.Module], Any]] = {
    "a state dict": lambda model: model.state_dict(),
    "a plain dictionary": lambda model: dict(model.state_dict()),
    "with an optimizer": lambda model: _plain(model.state_dict(), optimizer=_optimizer(model)),
    "with an average": lambda model: _plain(model.state_dict(), ema=dict(model.state_dict())),
    "with its best": lambda model: _plain(model.state_dict(), best_acc=torch.tensor(0.5), epoch=3),
    "with a loss": lambda model: _plain(model.state_dict(), loss=torch.tensor(0.5), step=torch.tensor(3)),
    "with a history": lambda model: _plain(model.state_dict(), history=[torch.zeros(3), 1], val_loss=torch.zeros(7)),
    "with a configuration": lambda model: _plain(model.state_dict(), config={"width": 4}, name="net", done=None),
    "with a scheduler and its tensors": lambda model: _plain(model.state_dict(), scheduler={"x": torch.zeros(3)}),
    "with an optimizer, versions kept": lambda model: _kept(
        model, lambda state: _plain(state, optim=_optimizer(model))
    ),
    "averaged": lambda model: AveragedModel(model).state_dict(),
    "averaged, replicated": lambda model: AveragedModel(nn.DataParallel(model)).state_dict(),
    "replicated": lambda model: nn.DataParallel(model).state_dict(),
    "replicated, with an optimizer": lambda model: _plain(
        nn.DataParallel(model).state_dict(), optimizer=_optimizer(model)
    ),
    "compiled": lambda model: _renamed(model.state_dict(), lambda key: f"_orig_mod.{key}"),
    "compiled and replicated": lambda model: _renamed(model.state_dict(), lambda key: f"module._orig_mod.{key}"),
    "compiled, layer by layer": lambda model: _renamed(
        model.state_dict(), lambda key: key.replace(".", "._orig_mod.", 1)
    ),
    "by Fabric": lambda model: _renamed(model.state_dict(), lambda key: f"_forward_module.{key}"),
    "by FSDP": lambda model: _renamed(
        model.state_dict(), lambda key: "_fsdp_wrapped_module." + key.replace(".", "._fsdp_wrapped_module.", 1)
    ),
    "in a model": lambda model: _renamed(model.state_dict(), lambda key: f"model.{key}"),
    "in a model, with weights of a loss": lambda model: _plain(
        _renamed(model.state_dict(), lambda key: f"model.{key}"), **{"criterion.weight": torch.ones(3)}
    ),
    "in a model, with several others": lambda model: _plain(
        _renamed(model.state_dict(), lambda key: f"student.{key}"),
        **_renamed(model.state_dict(), lambda key: f"teacher.{key}.x"),
    ),
    "both, with a prefix and without": lambda model: _plain(
        _renamed(model.state_dict(), lambda key: f"module.{key}"), **model.state_dict()
    ),
    "mappings": lambda model: {
        key: {name.removeprefix(f"{key}."): value for name, value in model.state_dict().items() if name.startswith(key)}
        for key in dict.fromkeys(name.partition(".")[0] for name in model.state_dict() if "." in name)
    },
    "of several models": lambda model: {"a": Many().state_dict(), "b": model.state_dict(), "c": {"x": torch.ones(2)}},
    "of several models, replicated": lambda model: {"a": Many().state_dict(), "b": nn.DataParallel(model).state_dict()},
    "of several models, without counters": lambda model: {
        "student": _kept(model, _without_counters),
        "teacher": Many().state_dict(),
        "best_acc": torch.tensor(0.5),
    },
    "with an array of NumPy": lambda model: _first(model.state_dict(), lambda tensor: tensor.float().numpy()),
    "with a list": lambda model: _first(model.state_dict(), lambda tensor: [1, 2]),
    "without counters": lambda model: _without_counters(model.state_dict()),
    "without counters, a plain dictionary": lambda model: dict(_without_counters(model.state_dict())),
    "without counters, versions kept": lambda model: _kept(model, _without_counters),
    "without counters, one version kept": lambda model: _with_versions(
        _without_counters(model.state_dict()), {"": 1, "one": 2, "body.1": 1, "module.body.1": 2}
    ),
    "without counters, old versions": lambda model: _with_versions(
        _without_counters(model.state_dict()), dict.fromkeys(("", "one", "two", "three", "body.1"), 1)
    ),
    "without the first key": lambda model: dict(list(model.state_dict().items())[1:]),
    "without the last key": lambda model: dict(list(model.state_dict().items())[:-1]),
    "without every other key": lambda model: dict(list(model.state_dict().items())[::2]),
    "sparse": lambda model: _first(model.state_dict(), lambda tensor: tensor.to_sparse()),
    "compressed": lambda model: _first(model.state_dict(), lambda tensor: tensor.reshape(1, -1).to_sparse_csr()),
    "without data": lambda model: _first(model.state_dict(), lambda tensor: tensor.to("meta")),
    "complex": lambda model: _first(model.state_dict(), lambda tensor: tensor.to(torch.complex64)),
    "boolean": lambda model: _first(model.state_dict(), lambda tensor: tensor.bool()),
    "of whole numbers": lambda model: _first(model.state_dict(), lambda tensor: tensor.long()),
    "in eight bits": lambda model: _first(model.state_dict(), lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "with lists of one for scalars": lambda model: {
        key: value.reshape(1) if not value.dim() else value for key, value in model.state_dict().items()
    },
    "with scalars for lists of one": lambda model: {
        key: value.reshape(()) if value.numel() == 1 else value for key, value in model.state_dict().items()
    },
    "of parameters": lambda model: model.state_dict(keep_vars=True),
    "parameters alone": lambda model: dict(model.named_parameters()),
    "of another model": lambda _: Many().state_dict(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("model", MODELS)
def test_a_file_is_judged_as_by_pytorch(model: str, file: str, tmp_path: Path) -> None:
    written = FILES[file](MODELS[model]())
    if set(written) == {"module"}:
        pytest.skip("what is counted is what is within, which would be loaded")
    path = str(tmp_path / "model.pt")
    torch.save(written, path)
    report = Report.of(torch_file.read(Target(path), path))
    demand_equal(MODELS[model], torch.load(path, weights_only=False), report)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("within", ["state_dict", "module"])
@pytest.mark.parametrize("file", FILES)
def test_what_is_within_a_checkpoint_is_judged_as_by_pytorch(file: str, within: str, tmp_path: Path) -> None:
    path = str(tmp_path / "last.ckpt")
    torch.save({"epoch": 3, within: FILES[file](Net()), "optimizer": _optimizer(Many())}, path)
    report = Report.of(torch_file.read(Target(path), path))
    demand_equal(Net, torch.load(path, weights_only=False)[within], report)


def test_a_weight_with_a_name_that_trainers_use_is_one_where_the_model_has_it(tmp_path: Path) -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.loss_scale = nn.Parameter(torch.ones(3))

    path = str(tmp_path / "model.pt")
    torch.save(dict(Scaled().state_dict()), path)
    assert demand_equal(Scaled, torch.load(path), Report.of(torch_file.read(Target(path), path))).keys == ()


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_state_is_no_equal_of_a_plain_one(tmp_path: Path) -> None:
    weight = torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)
    path = str(tmp_path / "model.pt")
    torch.save({"weight": weight, "bias": torch.zeros(3)}, path)
    with pytest.raises(RuntimeError, match="Copying from quantized Tensor"):
        nn.Linear(3, 3).load_state_dict(torch.load(path))
    saved = Report.of(torch_file.read(Target(path), path))
    assert changes(Side.of(live(nn.Linear(3, 3))), Side.of(saved)).different


# Tensors that are spread, and names that are tied ---------------------------------------------------------------------


@pytest.fixture
def mesh() -> Iterator[Any]:
    """A mesh of one process, in which DTensors can be made."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("placement", [Shard(0), Replicate()], ids=["sharded", "replicated"])
@pytest.mark.parametrize("names", [("weight",), ("weight", "bias")], ids=["one", "all"])
def test_a_dtensor_does_not_load_into_a_plain_model(
    names: tuple[str, ...], placement: Any, mesh: Any, tmp_path: Path
) -> None:
    state = dict(nn.Linear(4, 2).state_dict())
    torch.save(
        {**state, **{name: distribute_tensor(state[name], mesh, [placement]) for name in names}}, tmp_path / "m.pt"
    )
    report = Report.of(torch_file.read(Target(str(tmp_path / "m.pt")), str(tmp_path / "m.pt")))
    loading = demand_equal(lambda: nn.Linear(4, 2), torch.load(tmp_path / "m.pt", weights_only=False), report)
    assert [(key.name, key.problem) for key in loading.keys] == [(name, "layout") for name in names]
    lines = [remark.text for remark in loading.grid("", fold=True).remarks]
    assert any("full_tensor() makes plain tensors of them" in line for line in lines)


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=32, n_positions=16))


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [_gpt2, _llama, _t5, Tied])
def test_a_key_that_is_missing_because_it_is_tied_says_to_what(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """safetensors keeps each tensor under one of its names, and only loaders that know the tie fill the others."""
    model: Any = make()
    file = tmp_path / "model.safetensors"
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(tmp_path)
    else:
        save_model(model, str(file))
    state = load_file(file)
    assert not any(load_model(make(), str(file)))  # it does, and misses nothing
    loading = demand_equal(make, state, Report.of(safetensors.read(Target(str(file)), str(file))))
    tensors = dict(model.state_dict(keep_vars=True))
    missing = {key.name: key.tied_to for key in loading.keys}
    assert missing.keys() == tensors.keys() - state.keys() != set()
    for name, other in missing.items():
        assert other in state
        assert tensors[name] is tensors[other]
