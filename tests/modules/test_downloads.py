"""Pretrained weights stay where they are, whoever asks for them: the architecture counts."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from paramcount.errors import BuildError
from paramcount.modules import take_inventory
from paramcount.modules.build import build

AWAY = "https://nowhere.invalid/weights.pth"


def total(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def filled(state: Any) -> nn.Module:
    model = nn.Linear(4, 3)
    model.load_state_dict(state)
    return model


def failure(construct: Callable[[], nn.Module]) -> BuildError:
    with pytest.raises(BuildError) as caught:
        take_inventory(construct, target="net.py:Net", source="python", device="auto")
    return caught.value


def test_no_weights_are_fetched() -> None:
    """torchvision's own default weights, and a user's URL, are left where they are; a note names them."""
    from torchvision.models import resnet18
    from torchvision.models.feature_extraction import create_feature_extractor

    def construct() -> nn.Module:
        backbone = resnet18(weights="DEFAULT")
        other = nn.Linear(30, 40)
        state = torch.hub.load_state_dict_from_url("https://nowhere.invalid/other-1234.pth", progress=False)
        state["weight"] = state.pop("module.weight")
        del state["head.bias"]
        other.load_state_dict({key.removeprefix("x"): value for key, value in state["state_dict"].items()})
        other.load_state_dict(state)
        return nn.Sequential(create_feature_extractor(backbone, ["layer4"]), other)

    model, notes = build(construct)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512 - 513_000 + 1240
    assert [note.code for note in notes] == ["weights-skipped"]
    assert notes[0].message.endswith(": resnet18-f37072fd.pth, other-1234.pth")


def test_no_weights_are_fetched_by_any_other_name_of_the_function() -> None:
    """PyTorch itself has it as load_url, too; and a constructor may count a model of its own."""
    from torch.utils.model_zoo import load_url  # type: ignore[attr-defined]  # PyTorch does not say that it exports it

    def construct() -> nn.Module:
        model = nn.Linear(300, 300)
        assert build(lambda: nn.Linear(2, 2))[1] == ()
        model.load_state_dict(load_url("https://nowhere.invalid/old-1234.pth", progress=False))
        return model

    _, notes = build(construct)
    assert [note.message.rpartition(": ")[2] for note in notes] == ["old-1234.pth"]


def test_a_look_into_unfetched_weights_is_refused() -> None:
    """Where the architecture depends on what was not fetched, there is an error and not a guess."""

    def construct() -> nn.Module:
        state = torch.hub.load_state_dict_from_url("https://nowhere.invalid/model.pth")
        return nn.Linear(state["conv1.weight"].shape[1], 3)

    with pytest.raises(BuildError, match="takes \\.shape from pretrained weights, and no weights are ever fetched"):
        build(construct)


def by_counting(state: Any) -> nn.Module:
    return nn.ModuleList(nn.Linear(2, 2) for _ in range(1 + len({key.split(".")[1] for key in state})))


def by_nothing_but_names(state: Any) -> nn.Module:
    return nn.ModuleList(nn.Linear(2, 2) for key in state if key.endswith("weight"))


def by_a_default(state: Any) -> nn.Module:
    return nn.Linear(2, state.get("width", 3))


def by_a_name(state: Any) -> nn.Module:
    return nn.Linear(2, 2, bias="bias" in state["model"])


def by_emptiness(state: Any) -> nn.Module:
    return nn.Linear(2, 2 if state else 3)


def by_a_caught_error(state: Any) -> nn.Module:
    try:
        return nn.Linear(2, state["weight"].shape[1])
    except AttributeError:
        return nn.Linear(2, 2)


def by_arguments(state: Any) -> nn.Module:
    return nn.Linear(2, 2, **state["config"])


@pytest.mark.parametrize(
    "make", [by_counting, by_nothing_but_names, by_a_default, by_a_name, by_emptiness, by_a_caught_error, by_arguments]
)
def test_layers_that_follow_from_names_in_unfetched_weights_are_a_guess_and_told(
    make: Callable[[Any], nn.Module],
) -> None:
    _, notes = build(lambda: make(torch.hub.load_state_dict_from_url(AWAY)))
    assert [note.code for note in notes] == ["weights-skipped", "weights-unknown"]
    assert "not need" not in notes[0].message


def test_a_look_at_names_after_the_last_layer_decides_about_none() -> None:
    def construct() -> nn.Module:
        model = nn.Linear(4, 3)
        state = torch.hub.load_state_dict_from_url(AWAY)
        if "model" in state:
            raise AssertionError
        state = {key.removeprefix("module."): value for key, value in state.items() if key in model.state_dict()}
        model.load_state_dict({**model.state_dict(), **state})
        assert state.get("epoch") is None
        return nn.Sequential(model)

    model, notes = build(construct)
    assert total(model) == 15
    assert [note.code for note in notes] == ["weights-skipped"]


def test_a_parameter_of_unfetched_weights_is_no_silent_0() -> None:
    def construct() -> nn.Module:
        model = nn.Module()
        model.weight = nn.Parameter(torch.hub.load_state_dict_from_url(AWAY)["weight"])
        return model

    assert "takes a parameter from pretrained weights" in failure(construct).message


def by_retrieving(folder: Path) -> nn.Module:
    file, _ = urllib.request.urlretrieve(AWAY, filename=str(folder / "weights.pth"))
    return filled(torch.load(f=file)["state_dict"])


def by_the_hubs_file(folder: Path) -> nn.Module:
    torch.hub.download_url_to_file(AWAY, dst=str(folder / "weights.pth"), progress=False)
    return filled(torch.load(folder / "weights.pth", map_location="cpu"))


def by_huggingface(folder: Path) -> nn.Module:
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file, load_model

    model = filled(load_file(hf_hub_download(repo_id="org/name", filename="model.safetensors")))
    load_model(model, hf_hub_download("org/name", "other.safetensors", cache_dir=folder))
    with open(hf_hub_download("org/name", "pytorch_model.bin"), "rb") as file:  # noqa: PTH123  # as many write it
        model.load_state_dict(torch.load(file))
    return model


def by_torchvisions_data_sets(folder: Path) -> nn.Module:
    from torchvision.datasets.utils import download_url

    download_url(AWAY, str(folder), filename="weights.pth")
    return filled(torch.load(folder / "weights.pth"))


def by_what_is_made_of_them(folder: Path) -> nn.Module:
    state: Any = torch.hub.load_state_dict_from_url(AWAY)
    resized = nn.functional.interpolate(state["pos_embed"].permute(0, 2).float(), size=3)
    model = filled({"weight": (state["a"] * 2).t(), "bias": torch.cat([state["b"], resized])})
    parameters = dict(model.named_parameters())
    parameters["weight"].data.copy_(state["a"])
    return model


@pytest.mark.parametrize(
    "construct",
    [by_retrieving, by_the_hubs_file, by_huggingface, by_torchvisions_data_sets, by_what_is_made_of_them],
)
def test_weights_are_skipped_however_they_are_asked_for(construct: Callable[[Path], nn.Module], tmp_path: Path) -> None:
    model, notes = build(lambda: construct(tmp_path))
    assert total(model) == 15
    assert [note.code for note in notes] == ["weights-skipped"]
    assert not list(tmp_path.iterdir())  # or the model itself would take what is there for its weights


def test_what_a_model_is_known_to_lack_is_missing() -> None:
    """Some libraries demand that just the layer which they took out is."""

    def construct() -> nn.Module:
        state = torch.hub.load_state_dict_from_url(AWAY)
        state.pop("bias")
        model = nn.Linear(4, 3)
        assert model.load_state_dict(state, strict=False).missing_keys == ["bias"]
        return model

    assert total(build(construct)[0]) == 15


def test_the_length_of_an_unfetched_tensor_is_no_zero() -> None:
    def construct() -> nn.Module:
        return nn.Linear(4, len(torch.hub.load_state_dict_from_url(AWAY)["fc.bias"]))

    with pytest.raises(BuildError, match=r"takes the length of fc\.bias from pretrained weights"):
        build(construct)


@pytest.mark.parametrize("name", ["resnet18", "tnt_s_patch16_224"])
def test_timms_weights_are_skipped(name: str) -> None:
    """Also where timm rearranges them before it loads them."""
    import timm

    model, notes = build(lambda: timm.create_model(name, pretrained=True, num_classes=0, in_chans=1))
    assert total(model) == total(timm.create_model(name, num_classes=0, in_chans=1))
    assert [note.code for note in notes] == ["weights-skipped"]


def test_a_transformers_model_counts_by_its_configuration(tmp_path: Path) -> None:
    """Also where it is given more labels, another dtype, and a kernel for attention that is not installed."""
    from transformers import BertConfig, GPT2Config

    causal: Any = transformers.AutoModelForCausalLM
    classifier: Any = transformers.AutoModelForSequenceClassification
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    bert, gpt2 = BertConfig(vocab_size=50, **sizes), GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2)
    bert.save_pretrained(tmp_path / "bert")
    gpt2.save_pretrained(tmp_path / "gpt2")
    labelled = BertConfig(vocab_size=50, **{**sizes, "num_labels": 7})
    for construct, plain in (
        (
            lambda: classifier.from_pretrained(tmp_path / "bert", num_labels=7),
            classifier.from_config(labelled),
        ),
        (
            lambda: causal.from_pretrained(
                str(tmp_path / "gpt2"), dtype=torch.float16, attn_implementation="flash_attention_2"
            ),
            causal.from_config(gpt2, dtype=torch.float16),
        ),
    ):
        model, notes = build(construct)
        assert [(n, p.shape, p.dtype) for n, p in model.named_parameters()] == [
            (n, p.shape, p.dtype) for n, p in plain.named_parameters()
        ]
        assert [note.code for note in notes] == ["weights-skipped"]


def test_a_configuration_in_the_hubs_cache_is_enough(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    commit = "0" * 40
    repository = tmp_path / "models--org--name"
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    model, notes = build(lambda: BertModel.from_pretrained("org/name", cache_dir=tmp_path))
    assert total(model) == total(BertModel(config))
    assert [(note.code, note.message.rpartition(": ")[2]) for note in notes] == [("weights-skipped", "org/name")]


def test_weights_that_are_here_are_read(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(tmp_path)
    model, notes = build(lambda: BertModel.from_pretrained(tmp_path))
    assert total(model) == total(BertModel(config))
    assert "weights-skipped" not in {note.code for note in notes}


def test_a_configuration_that_only_the_hub_has_is_an_error_at_once(tmp_path: Path) -> None:
    from transformers import BertModel

    began = time.perf_counter()
    error = failure(lambda: BertModel.from_pretrained("org/name", cache_dir=tmp_path))
    assert time.perf_counter() - began < 5  # retries take ten times that
    assert error.message.startswith("net.py:Net could not be built: it needs ")
    assert error.message.endswith("org/name on the hub, and nothing is fetched")
    assert error.hint is not None
    assert "hf download org/name config.json" in error.hint
    assert "BertModel.from_pretrained" in error.details
    assert "NeedsNetwork" not in error.details


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`")  # an argument of diffusers
def test_a_diffusers_model_counts_by_its_configuration(tmp_path: Path) -> None:
    import diffusers

    unet: Any = diffusers.UNet2DModel
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (32,)}
    unet(sample_size=8, layers_per_block=1, **blocks).save_config(tmp_path / "unet")
    plain = unet.from_config(unet.load_config(tmp_path / "unet"))
    model, notes = build(lambda: unet.from_pretrained(tmp_path, subfolder="unet", torch_dtype=torch.float16))
    assert total(model) == total(plain)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert [note.code for note in notes] == ["weights-skipped"]
    assert "config.json of org/vae on the hub" in failure(lambda: unet.from_pretrained("org/vae")).message


def asks_a_socket() -> object:
    return socket.create_connection(("nowhere.invalid", 80))


def asks_an_address() -> object:
    with socket.socket() as a_socket:
        a_socket.connect(("192.0.2.1", 80))
    return None


def asks_by_urllib() -> object:
    return urllib.request.urlopen(AWAY)


def asks_by_requests() -> object:
    import requests

    return requests.get(AWAY, timeout=9)


def asks_by_a_program() -> object:
    return subprocess.run(["wget", "-q", AWAY], check=True)  # it is not run


def asks_for_ever() -> object:
    while True:
        try:
            return asks_by_requests()
        except Exception:  # noqa: BLE001  # as such code does
            time.sleep(60)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (asks_a_socket, "nowhere.invalid:80"),
        (asks_an_address, "192.0.2.1:80"),
        (asks_by_urllib, AWAY),
        (asks_by_requests, AWAY),
        (asks_by_a_program, AWAY),
        (asks_for_ever, AWAY),
    ],
)
def test_nothing_is_connected_to(ask: Callable[[], object], told: str) -> None:
    """The error names what was asked for; who goes on without has a note of it."""

    def construct() -> nn.Module:
        ask()
        return nn.Linear(4, 3)

    assert failure(construct).message == f"net.py:Net could not be built: it needs {told}, and nothing is fetched"
    if ask is asks_for_ever:
        return

    def without() -> nn.Module:
        try:
            return construct()
        except OSError:
            return nn.Linear(4, 3)

    model, notes = build(without)
    assert total(model) == 15
    assert [note.code for note in notes] == ["network-refused"]
    assert notes[0].message.endswith(told)


class Backbone(nn.Linear):
    def __init__(self, encoder_weights: str | None = "imagenet", **options: object) -> None:
        super().__init__(4, 3)
        if encoder_weights is not None or options.get("pretrained"):
            urllib.request.urlopen(AWAY)


def test_the_argument_to_set_is_named() -> None:
    """Of the target itself as an option, which then works; of what it calls as Python has it."""
    hint = "build it without weights: "
    assert failure(Backbone).hint == f"{hint}-a encoder_weights=null"
    assert failure(lambda: Backbone(None, pretrained=True)).hint == f"{hint}give Backbone() pretrained=False"
    assert total(build(lambda: Backbone(encoder_weights=None))[0]) == 15


def test_an_address_of_this_machine_is_looked_up_and_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "sizes.txt").write_text("3")

    def construct() -> nn.Module:
        assert socket.getaddrinfo("localhost", 80)
        with urllib.request.urlopen((tmp_path / "sizes.txt").as_uri()) as file:
            width = int(file.read())
        assert subprocess.run(["true"], check=True).returncode == 0  # any program will do
        return nn.Linear(4, width)

    model, notes = build(construct)
    assert (total(model), notes) == (15, ())


def test_afterwards_all_is_as_it_was() -> None:
    functions = [torch.load, torch.hub.download_url_to_file, urllib.request.urlretrieve, socket.getaddrinfo]
    before = [(each.__code__, each.__defaults__, each.__kwdefaults__, dict(vars(each))) for each in functions]
    connect, sleep = socket.socket.connect, time.sleep
    build(lambda: nn.Linear(4, 3))
    assert [(each.__code__, each.__defaults__, each.__kwdefaults__, dict(vars(each))) for each in functions] == before
    assert (socket.socket.connect, time.sleep) == (connect, sleep)
    assert "connect" not in vars(socket.socket)
