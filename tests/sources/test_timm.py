"""A name of each of timm's families, in one process, against PyTorch's own sums; tests/sweeps has all names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import paramcount
from paramcount.errors import BuildError, MissingLibrary, UnknownTarget, UsageError
from paramcount.sources import resolve
from paramcount.sources import timm as source
from tests.conftest import Run
from tests.sweeps import Sums, on_meta
from tests.sweeps.every_timm import case

# One of each of forty families: convolutional, attention, hybrid, with values computed in the constructor, with ties.
FAMILIES = (
    "resnet50d",
    "vit_base_patch16_224",
    "beit_base_patch16_224",
    "botnet26t_256",
    "cait_xxs24_224",
    "coat_tiny",
    "coatnet_0_rw_224",
    "convit_tiny",
    "convmixer_768_32",
    "convnext_atto",
    "cspresnet50",
    "davit_tiny",
    "deit_tiny_distilled_patch16_224",
    "densenet121",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientnet_b0",
    "efficientvit_b0",
    "eva02_tiny_patch14_224",
    "fastvit_t8",
    "ghostnetv2_100",
    "halonet26t",
    "hgnet_tiny",
    "inception_v4",
    "levit_128s",
    "maxvit_pico_rw_256",
    "mixer_s32_224",
    "mobilenetv4_conv_small",
    "mvitv2_tiny",
    "nasnetalarge",
    "nfnet_f0",
    "pit_ti_224",
    "regnety_002",
    "repvgg_a0",
    "rexnet_100",
    "swin_tiny_patch4_window7_224",
    "tiny_vit_5m_224",
    "twins_pcpvt_small",
    "vgg11",
    "volo_d1_224",
    "xcit_nano_12_p8_224",
)


def test_the_names_read_off_timms_source_are_those_that_it_registers() -> None:
    assert list(source.names()) == [f"timm:{name}" for name in sorted(timm.list_models())]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_name_of_each_family_has_the_sums_of_timms_own_model(name: str) -> None:
    built = case(name)
    report = built.counted()
    assert Sums.of_report(report) == Sums.of_model(on_meta(built.construct))
    assert report.notes == ()


def test_a_tag_builds_the_variant_that_goes_with_its_weights() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224.augreg_in21k")
    expected = sum(p.numel() for p in model.parameters())
    tagged = paramcount.count("timm:vit_tiny_patch16_224.augreg_in21k")
    assert tagged.total == expected
    assert tagged["head"].total == 192 * 21843 + 21843
    weights = "augreg_in21k"
    assert paramcount.count("timm:vit_tiny_patch16_224", weights=weights).total == expected
    assert paramcount.count("timm:vit_tiny_patch16_224", weights=f"vit_tiny_patch16_224.{weights}").total == expected
    default = paramcount.count("timm:vit_tiny_patch16_224")
    assert paramcount.count("timm:vit_tiny_patch16_224", weights="DEFAULT") == default
    assert default.total < expected


def test_arguments_reach_the_builder() -> None:
    args: dict[str, Any] = {"num_classes": 10, "features_only": True, "out_indices": [1, 2]}
    with torch.device("meta"):
        model = timm.create_model("resnet18", **args)
    assert paramcount.count("timm:resnet18", args=args).total == sum(p.numel() for p in model.parameters())
    assert args["out_indices"] == [1, 2]


def test_a_published_name_of_earlier_versions_is_known(recwarn: pytest.WarningsRecorder) -> None:
    assert paramcount.count("timm:vit_tiny_patch16_224_in21k", args={"num_classes": 0}).total == 5_524_416


def test_an_unknown_name_gets_the_closest() -> None:
    with pytest.raises(UnknownTarget) as caught:
        paramcount.count("timm:resnet5O")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean timm:resnet50")


def test_a_bare_name_that_only_timm_has_is_offered_under_its_prefix() -> None:
    with pytest.raises(UnknownTarget) as caught:
        resolve("resnet50d")
    assert caught.value.hint == "did you mean timm:resnet50d?"


def test_an_unknown_tag_gets_the_closest_or_all_there_are() -> None:
    with pytest.raises(UsageError, match="did you mean a1_in1k"):
        paramcount.count("timm:resnet50.a1_in1l")
    with pytest.raises(UsageError, match="published: a1_in1k"):
        paramcount.count("timm:resnet50", weights="x")
    with pytest.raises(UsageError, match="give one"):
        paramcount.count("timm:resnet50.a1_in1k", weights="a2_in1k")


def test_an_argument_that_the_model_does_not_take_gets_the_closest() -> None:
    with pytest.raises(BuildError) as caught:
        paramcount.count("timm:resnet18", args={"num_clases": 10})
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean -a num_classes=…?; its signature is ResNet(")


@pytest.mark.parametrize("word", ["timm:hf-hub:timm/resnet18.a1_in1k", "timm:hf_hub:timm/resnet18"])
def test_nothing_is_looked_up_on_a_network(word: str) -> None:
    with pytest.raises(UsageError, match="network"):
        paramcount.count(word)


@pytest.mark.parametrize("key", ["pretrained", "checkpoint_path"])
def test_weights_are_never_loaded(key: str) -> None:
    with pytest.raises(UsageError, match="loads weights, which are never loaded"):
        paramcount.count("timm:resnet18", args={key: True})


def test_a_model_saved_in_a_folder_is_built_from_what_it_says(folder: Path) -> None:
    text = '{"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": {"num_classes": 7}}'
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"")
    expected = paramcount.count("timm:resnet18", args={"num_classes": 7}).total
    assert paramcount.count(f"timm:local-dir:{folder}").total == expected


def test_without_timm_the_command_that_installs_it_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    outcome = run("timm:resnet18")
    assert outcome.code == 3
    assert "timm:resnet18 needs the timm library, which is not there\n  pip install 'paramcount[timm]'" in outcome.err
    with pytest.raises(MissingLibrary):
        paramcount.count("timm:resnet18")
