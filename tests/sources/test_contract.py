"""What every source on disk promises."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy
import pytest
import safetensors.torch
import torch
from torch import nn

import paramcount
from paramcount.commands.counting import document
from paramcount.errors import UnknownTarget
from paramcount.inventory import Inventory
from paramcount.sources import Source, Target, resolve, sources
from tests.conftest import MODELS
from tests.language_models import CONFIGS

# One target of each source that can be counted here and now. A new source is to be added.
READABLE = {
    "adapter": "adapter_model.safetensors",
    "diffusers": "diffusers:pipeline",
    "gguf": "model.gguf",
    "python": f"{MODELS / 'tutorial_cnn.py'}:Net",
    "safetensors": "model.safetensors",
    "saved": "report.json",
    "timm": "timm:resnet18",
    "torch_file": "model.pt",
    "torchvision": "squeezenet1_1",
    "transformers": f"transformers:{CONFIGS / 't5-small.json'}",
}


def test_every_source_on_disk_is_tested() -> None:
    assert set(sources()) == set(READABLE)


@pytest.fixture(params=sorted(READABLE))
def name(request: pytest.FixtureRequest, folder: Path) -> str:
    report = paramcount.count(READABLE["python"])
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    (folder / "report.json").write_text(json.dumps(document([report.to_dict()], [])))
    safetensors.torch.save_file(state, "model.safetensors")
    safetensors.torch.save_file(state, "adapter_model.safetensors")
    torch.save(state, "model.pt")
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    writer = gguf.GGUFWriter("model.gguf", "test")
    writer.add_tensor("blk.0.weight", numpy.zeros((2, 3), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(request.param)


@pytest.fixture
def source(name: str) -> Source:
    return sources()[name]


def test_a_source_has_examples_that_are_its_own(source: Source) -> None:
    for example in source.EXAMPLE.split(", "):
        assert resolve(example)[0] is source
    assert source.MEANING


def test_only_a_catalogue_has_names_in_an_empty_folder(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Path("empty")
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert bool(list(source.names())) == source.IS_CATALOGUE


def test_a_source_claims_no_nonsense(source: Source) -> None:
    for word in ("", " ", "no such thing", "?", "resnet5O", "a/b", "-"):
        assert not source.claims(word)


def test_a_word_and_its_prefixed_form_are_the_same_target(name: str) -> None:
    word = READABLE[name]
    bare = word.removeprefix(f"{name}:")
    assert resolve(word) == (sources()[name], bare)
    assert resolve(f"{name}:{bare}") == (sources()[name], bare)


def test_an_inventory_is_complete_and_consistent(name: str, source: Source) -> None:
    word = READABLE[name]
    inventory = source.read(Target(word), resolve(word)[1])
    assert isinstance(inventory, Inventory)
    assert (inventory.target, inventory.source) == (word, name)
    assert inventory.modules[0].name == ""
    names = [param.name for param in inventory.params]
    modules = {module.name for module in inventory.modules}
    assert len(set(names)) == len(names)
    assert len(modules) == len(inventory.modules)
    assert all(param.name.rpartition(".")[0] in modules for param in inventory.params if param.tied_to is None)
    assert all(param.tied_to in names for param in inventory.params if param.tied_to is not None)


def test_an_unknown_name_under_a_prefix_is_an_unknown_target(name: str, source: Source) -> None:
    with pytest.raises(UnknownTarget):
        source.read(Target(f"{name}:nothing_of_the_kind"), "nothing_of_the_kind")


def test_a_word_that_no_source_claims_gets_the_closest_names_and_every_form() -> None:
    with pytest.raises(UnknownTarget) as caught:
        resolve("resnet5O")
    assert caught.value.exit_code == 2
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean resnet50")
    for source in sources().values():
        assert source.EXAMPLE in caught.value.details


def test_a_folder_that_is_no_target_is_an_error_with_the_files_in_it_that_are(folder: Path) -> None:
    Path("run").mkdir()
    with pytest.raises(UnknownTarget, match="the folder run is no target by itself") as caught:
        resolve("run")
    assert caught.value.hint == "it holds no file to count"
    for name in ("args.json", "events.log", "optimizer.bin"):
        (Path("run") / name).touch()
    with pytest.raises(UnknownTarget) as caught:
        resolve("run")
    assert caught.value.hint == "name what is meant: run/optimizer.bin"
    for step in range(4):
        (Path("run") / f"step{step}.ckpt").touch()
    with pytest.raises(UnknownTarget) as caught:
        resolve("run")
    assert caught.value.hint == "name what is meant: run/step0.ckpt run/step1.ckpt run/step2.ckpt and 1 more"


def test_what_counts_below_a_folder_is_named(folder: Path) -> None:
    """Checkpoints of a trainer, the Hub's cache, a pipeline, and a file whose name ends as no other does."""
    for file in (
        *("run/checkpoint-4/model.safetensors", "models--org--name/snapshots/abc/model.safetensors"),
        *("pipeline/model_index.json", "timm/last.pth.tar", "timm/README.md"),
    ):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(b"PK\3\4")
    hints = {
        "run": "name what is meant: run/checkpoint-4",
        "models--org--name": "name what is meant: models--org--name/snapshots/abc",
        "pipeline": "it is a pipeline: diffusers:pipeline",
        "timm": "name what is meant: timm/last.pth.tar",
    }
    for word, hint in hints.items():
        with pytest.raises(UnknownTarget) as caught:
            resolve(word)
        assert caught.value.hint == hint
