"""Every torchvision name and every published count, in one process, against PyTorch's own sums."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

import paramcount
from paramcount.errors import BuildError, UnknownTarget, UsageError
from paramcount.sources import torchvision as source

NAMES = sorted(models.list_models())
PUBLISHED = [
    (name, weights) for name in NAMES if not name.startswith("quantized_") for weights in models.get_model_weights(name)
]


def test_the_names_read_off_torchvisions_source_are_those_that_it_registers() -> None:
    assert list(source.names()) == NAMES
    assert len(NAMES) >= 121


@contextmanager
def initialisers_off() -> Iterator[None]:
    """Let PyTorch's own build leave its memory untouched: that is all that makes it slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in vars(nn.init):
            if name.endswith("_") and not name.startswith("_"):
                patch.setattr(nn.init, name, lambda tensor, *_args, **_kwargs: tensor)
        yield


def built_by_torchvision_alone(name: str) -> nn.Module:
    builder = models.get_model_builder(name)
    offered: dict[str, Any] = {"weights": None, "weights_backbone": None}
    keywords = {key: value for key, value in offered.items() if key in inspect.signature(builder).parameters}
    with initialisers_off(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of initialisers to come
        return builder(**keywords)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_the_parameters_and_buffers_of_torchvisions_own_model(name: str) -> None:
    report = paramcount.count(name)
    model = built_by_torchvision_alone(name)
    assert report.total == sum(p.numel() for p in model.parameters())
    assert report.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.buffers.total == sum(b.numel() for b in model.buffers())
    assert report.nbytes == sum(p.numel() * p.element_size() for p in model.parameters())
    assert [(p.name, p.shape) for p in report.params if p.tied_to is None] == [
        (name, tuple(p.shape)) for name, p in model.named_parameters()
    ]
    assert "real-memory" not in {note.code for note in report.notes}


def test_there_are_as_many_published_counts_as_were_measured() -> None:
    assert len(PUBLISHED) >= 152


@pytest.mark.parametrize(("name", "weights"), PUBLISHED, ids=[f"{name}-{weights.name}" for name, weights in PUBLISHED])
def test_every_published_count_is_met_exactly(name: str, weights: models.WeightsEnum) -> None:
    assert paramcount.count(name, weights=weights.name).total == weights.meta["num_params"]


def test_quantised_weights_stand_for_the_float_model_that_they_were_made_from() -> None:
    published = models.get_model_weights("quantized_resnet50").DEFAULT
    assert paramcount.count("quantized_resnet50", weights="DEFAULT").total == published.meta["num_params"]


def test_what_the_library_warns_of_is_kept_out(recwarn: pytest.WarningsRecorder) -> None:
    paramcount.count("quantized_googlenet", args={"quantize": True})  # which warns of its observers, and of torch.ao
    assert [str(warning.message) for warning in recwarn] == []


def test_weights_may_be_named_with_or_without_their_enumeration() -> None:
    default = models.get_model_weights("fasterrcnn_resnet50_fpn").DEFAULT
    short = paramcount.count("fasterrcnn_resnet50_fpn", weights="DEFAULT")
    assert short == paramcount.count("fasterrcnn_resnet50_fpn", weights=str(default))
    assert short.frozen > 0  # published weights come with a frozen stem
    assert paramcount.count("fasterrcnn_resnet50_fpn").frozen == 0
    assert short.notes == ()


def test_unknown_weights_get_the_closest_or_all_there_are() -> None:
    with pytest.raises(UsageError, match="did you mean IMAGENET1K_V1"):
        paramcount.count("resnet18", weights="IMAGENET1K_V7")
    with pytest.raises(UsageError, match="published: IMAGENET1K_V1, IMAGENET1K_V2"):
        paramcount.count("resnet50", weights="x")


def test_arguments_reach_the_builder() -> None:
    model = models.resnet18(num_classes=10)
    assert paramcount.count("resnet18", args={"num_classes": 10}).total == sum(p.numel() for p in model.parameters())


def test_an_argument_that_the_model_does_not_take_gets_the_closest_and_the_signature() -> None:
    with pytest.raises(BuildError) as caught:
        paramcount.count("resnet18", args={"num_clases": 10})
    assert "num_clases" in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(
        "did you mean -a num_classes=…?; its signature is ResNet(block, layers, num_classes=1000"
    )


def test_a_misspelt_name_under_the_prefix_gets_the_closest() -> None:
    with pytest.raises(UnknownTarget, match="did you mean resnet18"):
        paramcount.count("torchvision:resnett18")


def test_torch_and_torchvision_that_do_not_fit_each_other_are_told_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real_import = builtins.__import__

    def failing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(BuildError) as caught:
        paramcount.count("resnet18")
    assert caught.value.exit_code == 3
    assert "operator torchvision::nms does not exist" in caught.value.message
    assert caught.value.hint is not None
    assert f"torch {version('torch')} and torchvision {version('torchvision')}" in caught.value.hint
    assert "from one index" in caught.value.hint


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a download was attempted")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for weights in (None, "DEFAULT"):
        assert paramcount.count("ssd300_vgg16", weights=weights).total > 0
    assert paramcount.count("fcn_resnet50", args={"weights_backbone": "DEFAULT"}).total > 0
