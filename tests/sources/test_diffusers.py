"""Pipelines of diffusers, against the sums of its own models and against published sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import transformers

import paramcount
from paramcount import ParamcountError
from paramcount.errors import MissingLibrary, UnknownTarget, UsageError
from paramcount.files.configuration import BadConfiguration
from tests.sweeps import Sums, on_meta

# Stable Diffusion 1.5, by what of its configurations is not a default.
UNET = {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768, "sample_size": 64}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
TEXT = {
    "model_type": "clip_text_model",
    "architectures": ["CLIPTextModel"],
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
}
PUBLISHED = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write(name: str, said: object) -> None:
    path = Path("pipe") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said if isinstance(said, str) else json.dumps(said))


@pytest.fixture
def pipeline(folder: Path) -> str:
    write("model_index.json", INDEX)
    for name, said in (("unet", UNET), ("vae", VAE), ("text_encoder", TEXT)):
        write(f"{name}/config.json", said)
    write("scheduler/scheduler_config.json", {"_class_name": "PNDMScheduler"})
    return "diffusers:pipe"


def test_every_component_of_a_pipeline_has_its_published_size(pipeline: str) -> None:
    report = paramcount.count(pipeline)
    assert report.root.type == "StableDiffusionPipeline"
    assert {layer.name: report[layer.name].total for layer in report.root.children} == PUBLISHED
    assert report.total == sum(PUBLISHED.values())
    assert report.notes == ()


def test_a_component_alone_has_the_sums_of_its_own_model(pipeline: str) -> None:
    unet: Any = diffusers.UNet2DConditionModel
    vae: Any = diffusers.AutoencoderKL
    for name, plain in (("unet", unet), ("vae", vae)):
        model = on_meta(lambda name=name, plain=plain: plain.from_config(plain.load_config(f"pipe/{name}")))  # type: ignore[misc]  # bound now
        assert Sums.of_report(paramcount.count(f"diffusers:pipe/{name}")) == Sums.of_model(model)
    with_text = paramcount.count(pipeline)["text_encoder"].total
    config = transformers.CLIPTextConfig.from_pretrained("pipe/text_encoder")
    assert with_text == Sums.of_model(on_meta(lambda: transformers.CLIPTextModel(config))).total


def test_a_model_without_its_configuration_is_left_out_and_noted(pipeline: str) -> None:
    Path("pipe/vae/config.json").unlink()
    report = paramcount.count(pipeline)
    assert report.total == PUBLISHED["unet"] + PUBLISHED["text_encoder"]
    (note,) = report.notes
    assert (note.code, note.where) == ("left-out", "vae")
    assert str(Path("pipe/vae/config.json")) in note.message


def test_a_component_that_only_code_of_its_own_could_build_is_left_out_and_noted(pipeline: str) -> None:
    write("model_index.json", {**INDEX, "own": ["pipeline_own", "OwnModel"]})
    write("own/config.json", {"_class_name": "OwnModel"})
    (note,) = paramcount.count(pipeline).notes
    assert (note.code, note.where) == ("left-out", "own")


@pytest.mark.parametrize(
    ("file", "said", "expected"),
    [
        ("model_index.json", "{", "pipe/model_index.json:1: it is not JSON"),
        ("model_index.json", {}, "pipe/model_index.json: it has no _class_name"),
        ("model_index.json", {"_class_name": "X"}, "pipe/model_index.json: it has no component"),
        ("config.json", TEXT, "pipe/config.json: it has no _class_name"),
        ("config.json", {"_class_name": "PNDMScheduler"}, "diffusers has no model 'PNDMScheduler'"),
    ],
)
def test_a_folder_that_describes_no_model_says_so(file: str, said: object, expected: str, folder: Path) -> None:
    write(file, said)
    with pytest.raises(BadConfiguration) as caught:
        paramcount.count("diffusers:pipe")
    assert expected in caught.value.message
    assert caught.value.exit_code == 3


def test_what_is_no_pipeline_gets_the_closest(pipeline: str) -> None:
    with pytest.raises(UnknownTarget, match="did you mean diffusers:pipe"):
        paramcount.count("diffusers:pip")
    for word in ("diffusers:", "diffusers:\0", "diffusers:pipe/scheduler"):
        with pytest.raises(UnknownTarget):
            paramcount.count(word)
    with pytest.raises(UsageError):
        paramcount.count(pipeline, args={"width": 3})


def test_without_diffusers_the_command_that_installs_it_is_named(
    pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingLibrary) as caught:
        paramcount.count(pipeline)
    assert isinstance(caught.value, ParamcountError)
    assert caught.value.hint == "pip install 'paramcount[diffusers]'"
