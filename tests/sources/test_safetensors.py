"""safetensors files, indexes and folders: counted as the library would load them, and never believed on their word."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from paramcount.errors import UnknownTarget, UnreadableFile, UsageError
from paramcount.report import Report
from paramcount.sources import Target, resolve
from paramcount.sources.safetensors import claims, names, read
from tests.conftest import Run

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def counted(word: object) -> Report:
    return Report.of(read(Target(str(word)), str(word)))


def refusal(word: object) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        counted(word)
    assert caught.value.exit_code == 3
    return caught.value


def codes(report: Report) -> list[str]:
    return [note.code for note in report.notes]


def save_index(folder: Path, weight_map: Any, **more: Any) -> Path:
    file = folder / INDEX
    file.write_text(json.dumps({"weight_map": weight_map, **more}))
    return file


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder with 12 + 8 elements in two shards, and their index."""
    save_file({"a.0.w": torch.zeros(3, 4), "a.running_mean": torch.zeros(5)}, tmp_path / ONE)
    save_file({"a.1.w": torch.zeros(2, 4, dtype=torch.bfloat16)}, tmp_path / TWO)
    save_index(
        tmp_path,
        {"a.0.w": ONE, "a.running_mean": ONE, "a.1.w": TWO},
        metadata={"total_size": 12 * 4 + 5 * 4 + 8 * 2},
    )
    return tmp_path


# What it counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
        *("resnet18", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_1"),
    ],
)
def test_a_saved_model_counts_what_the_live_one_does(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):  # without the time to draw weights
        model = torchvision.models.get_model(name, weights=None)
    model.to_empty(device="cpu")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    report = counted(tmp_path / "model.safetensors")
    assert {param.name: param.shape for param in report.params} == {
        name: tuple(param.shape) for name, param in model.named_parameters()
    }
    assert report.total == report.unknown == sum(param.numel() for param in model.parameters())
    assert report.nbytes == sum(param.nbytes for param in model.parameters())
    assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())
    assert report.trainable == report.frozen == 0
    assert codes(report) == ["buffers-by-name"]


def test_an_index_and_its_folder_count_all_shards(sharded: Path) -> None:
    for word in (sharded, f"{sharded}/", sharded / INDEX):
        report = counted(word)
        assert (report.total, report.nbytes, report.buffers.total) == (20, 64, 5)
        assert [param.name for param in report.params] == ["a.0.w", "a.1.w"]
        assert codes(report) == ["buffers-by-name"]


def test_a_folder_without_an_index_counts_all_its_files(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / "config.json").write_text("{}")
    (sharded / "._model.safetensors").write_bytes(b"of another program")
    assert counted(sharded).total == 20


def test_one_shard_alone_says_so(sharded: Path) -> None:
    report = counted(sharded / TWO)
    assert report.total == 8
    note = next(note for note in report.notes if note.code == "left-out")
    assert note.message == "this is shard 2 of 2: name the folder to count them all"


def test_a_file_is_counted_on_the_command_line_without_torch_and_numpy(sharded: Path) -> None:
    code = "import sys; from paramcount.cli import main; assert main(sys.argv[1:]) == 0; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(sharded), "--value", "total"], capture_output=True, text=True, check=True
    )
    value, loaded = done.stdout.splitlines()
    assert value == "20"
    assert not {"torch", "numpy", "safetensors"} & set(loaded.split())


def test_a_shard_may_be_a_link_to_elsewhere_or_in_a_folder_below(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    (hub / "parts").mkdir(parents=True)
    save_file({"a": torch.zeros(3)}, tmp_path / "blob")
    (hub / "linked.safetensors").symlink_to(tmp_path / "blob")
    save_file({"b": torch.zeros(4)}, hub / "parts" / "b.safetensors")
    save_index(hub, {"a": "linked.safetensors", "b": "parts/b.safetensors"})
    assert counted(hub).total == 7


# What an index says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [85, 0, -1, "84", True, None, [84], 84.5])
def test_a_total_that_the_shards_contradict_is_noted_and_not_believed(said: object, sharded: Path) -> None:
    document = json.loads((sharded / INDEX).read_text())
    (sharded / INDEX).write_text(json.dumps({**document, "metadata": {"total_size": said, "total_parameters": 7}}))
    report = counted(sharded)
    assert (report.total, report.nbytes) == (20, 64)
    note = next(note for note in report.notes if note.code == "index-total")
    assert note.message.endswith("and they hold 84, which is what counts")


def test_tensors_that_an_index_does_not_list_count_and_are_noted(sharded: Path) -> None:
    save_index(sharded, {"a.0.w": ONE, "a.running_mean": ONE, "a.1.w": TWO})
    save_file({"a.1.w": torch.zeros(2, 4), "extra": torch.zeros(7)}, sharded / TWO)
    report = counted(sharded)
    assert report.total == 27
    note = next(note for note in report.notes if note.code == "index-unlisted")
    assert note.message == "the shards hold 1 tensor that the index does not list: 'extra'; they count"


def test_files_that_an_index_does_not_name_are_left_out_and_noted(sharded: Path) -> None:
    save_file({"other": torch.zeros(7)}, sharded / "consolidated.safetensors")
    report = counted(sharded)
    assert report.total == 20
    note = next(note for note in report.notes if note.code == "left-out")
    assert note.message == "the index does not name 'consolidated.safetensors', which is not counted"


def test_a_missing_shard_is_named_with_what_it_should_hold(sharded: Path) -> None:
    (sharded / TWO).unlink()
    assert refusal(sharded).message == f"{sharded / INDEX}: the shard '{TWO}' is missing, which should hold 'a.1.w'"


def test_a_missing_shard_is_named_without_an_index_too(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / ONE).unlink()
    assert refusal(sharded).message == f"{sharded} has no {ONE}, and {TWO} is there"


@pytest.mark.parametrize("indexed", [True, False])
def test_a_name_in_two_shards_is_refused(indexed: bool, sharded: Path) -> None:
    save_file({"a.0.w": torch.zeros(1), "a.1.w": torch.zeros(1)}, sharded / TWO)
    if not indexed:
        (sharded / INDEX).unlink()
    place = sharded / INDEX if indexed else sharded
    assert refusal(sharded).message == f"{place}: 'a.0.w' is in '{ONE}' and in '{TWO}'"


def test_a_name_that_its_shard_does_not_hold_is_refused(sharded: Path) -> None:
    save_index(sharded, {"a.0.w": TWO, "a.1.w": TWO, "a.running_mean": ONE})
    assert refusal(sharded).message == f"{sharded / INDEX}: 'a.0.w' should be in '{TWO}', which does not hold it"


@pytest.mark.parametrize(
    "shard",
    [
        *("/tmp/x.safetensors", "../x.safetensors", "a/../../x.safetensors", "", "//host/x.safetensors"),
        *("..\\x.safetensors", "C:\\x.safetensors", "C:x.safetensors", "\\\\host\\x", ".."),
    ],
)
def test_a_shard_outside_the_folder_is_refused(shard: str, sharded: Path) -> None:
    save_index(sharded, {"a.0.w": shard})
    problem = f"the shard {shard!r} of 'a.0.w' is not in the index's folder"
    assert refusal(sharded).message == f"{sharded / INDEX}: {problem}"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("", "it is not JSON"),
        ("[]", "it is no mapping"),
        ("{}", "it has no mapping weight_map"),
        ('{"weight_map": []}', "it has no mapping weight_map"),
        ('{"weight_map": {"a": 1}}', "weight_map says of 'a' no shard, but 1"),
        ('{"weight_map": {"a": null}}', "weight_map says of 'a' no shard, but None"),
        ('{"weight_map": {"a": "x\\u0000"}}', "cannot be the name of a file"),
        ('{"weight_map": {"a": "."}}', "Is a directory"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "the key 'a' is there twice"),
        ('{"weight_map": {"a": NaN}}', "NaN is no number"),
        ('{"weight_map": ' + "[" * 100_000, "it is nested too deep"),
        ('{"weight_map": {"a": "' + INDEX + '"}}', "is no safetensors file"),
    ],
)
def test_a_malformed_index_is_refused(document: str, problem: str, sharded: Path) -> None:
    (sharded / INDEX).write_text(document)
    assert problem in refusal(sharded / INDEX).message


def test_an_index_that_would_take_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(b'{"weight_map": [' + b"[]," * 4_000_001 + b"0]}")
    with pytest.raises(UnreadableFile, match="values"):
        read(Target(str(path)), str(path))
    path.write_bytes(b" " * 30_000_001)
    with pytest.raises(UnreadableFile, match="30,000,001 bytes long"):
        read(Target(str(path)), str(path))


def test_a_broken_shard_is_named(sharded: Path) -> None:
    (sharded / TWO).write_bytes((sharded / TWO).read_bytes()[:-1])
    problem = "its tensors take 16 bytes, and 15 are there: it is cut short"
    assert refusal(sharded).message == f"{sharded / TWO} is no valid safetensors file: {problem}"


# Mixtures of experts --------------------------------------------------------------------------------------------------


@pytest.fixture
def mixture(tmp_path: Path) -> torch.nn.Module:
    """A model of 2 layers with 4 experts each, of which a token passes through 1, saved in several shards."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=1,
    )
    model = MixtralForCausalLM(config)
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    return model


def test_how_many_experts_are_active_is_told_by_the_config_beside_the_weights(
    tmp_path: Path, mixture: torch.nn.Module
) -> None:
    held = sum(param.numel() for name, param in mixture.named_parameters() if ".experts." in name)
    total = sum(param.numel() for param in mixture.parameters())
    assert held == 2 * 4 * 3 * 16 * 32  # layers, experts, matrices
    report = counted(tmp_path)
    assert (report.total, report.active) == (total, total - held * 3 // 4)
    assert report.active == counted_by_transformers(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"text_config": said}))
    assert counted(tmp_path).active == report.active
    for useless in ("{", "{}", json.dumps({**said, "num_experts_per_tok": 9}), json.dumps({"model_type": []})):
        (tmp_path / "config.json").write_text(useless)
        assert (counted(tmp_path).total, counted(tmp_path).active) == (total, total)


def counted_by_transformers(folder: Path) -> int:
    return Report.of(resolve(f"transformers:{folder}")[0].read(Target(f"transformers:{folder}"), str(folder))).active


def test_a_shard_with_some_of_the_experts_is_counted_all_the_same(tmp_path: Path, mixture: torch.nn.Module) -> None:
    shards = sorted(tmp_path.glob("*-of-*.safetensors"))
    assert len(shards) > 2
    reports = [counted(shard) for shard in shards]
    assert sum(report.total for report in reports) == sum(param.numel() for param in mixture.parameters())


# What is such a target ------------------------------------------------------------------------------------------------


def test_files_and_folders_are_claimed_by_their_form(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sharded)
    for word in ("x.safetensors", f"x/{INDEX}", str(sharded), ".", "~/x.safetensors"):
        assert claims(word)
    (sharded / "empty").mkdir()
    for word in ("empty", "safetensors", ".safetensors", "x.safetensors.json", "x\0", ""):
        assert not claims(word)
    assert names() == [ONE, TWO, INDEX]
    assert resolve(str(sharded))[0].EXAMPLE.startswith("model.safetensors")


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.safetensors").mkdir()
    outcome = run(tmp_path / "x.safetensors")
    assert outcome.code == 3
    assert "is a folder, and holds no safetensors file" in outcome.err


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["model", "consolidated"], ["model"]),
        (["model", "adapter_model"], ["model"]),
        (["model", "model-00001-of-00002", "model-00002-of-00002"], ["model"]),
        (
            ["model-00001-of-00002", "model-00002-of-00002", "consolidated"],
            ["model-00001-of-00002", "model-00002-of-00002"],
        ),
        (["model", "model.fp16"], ["model"]),
        (["diffusion_pytorch_model", "diffusion_pytorch_model.fp16"], ["diffusion_pytorch_model"]),
        (["diffusion_pytorch_model", "diffusion_pytorch_model.non_ema", "x"], ["diffusion_pytorch_model"]),
        (["unet", "unet.fp16"], ["unet"]),
        (["unet.fp16-00001-of-00002", "unet.fp16-00002-of-00002", "unet"], ["unet"]),
        (["ckpt-00001-of-00002", "ckpt-00002-of-00002"], ["ckpt-00001-of-00002", "ckpt-00002-of-00002"]),
    ],
    ids=" ".join,
)
def test_of_a_model_in_two_forms_a_folder_counts_what_transformers_loads(
    files: list[str], chosen: list[str], tmp_path: Path
) -> None:
    sizes = {name: number for number, name in enumerate(files, start=3)}
    for name, size in sizes.items():
        save_file({f"{name}.weight": torch.zeros(size)}, tmp_path / f"{name}.safetensors")
    report = counted(tmp_path)
    assert report.total == sum(sizes[name] for name in chosen)
    notes = [note.message for note in report.notes if note.code == "left-out"]
    assert len(notes) == (len(files) > len(chosen))
    assert all(f"'{name}.safetensors'" in note for note in notes for name in files)


@pytest.mark.parametrize(
    "files",
    [
        *(["checkpoint", "vae", "lora"], ["unet", "vae"], ["unet.fp16", "unet.non_ema"]),
        *(["a-00001-of-00001", "b-00001-of-00001"], ["a", "a-lora"]),
    ],
    ids=" ".join,
)
def test_files_of_several_models_are_not_summed_but_named(files: list[str], tmp_path: Path) -> None:
    for name in files:
        save_file({f"{name}.weight": torch.zeros(3)}, tmp_path / f"{name}.safetensors")
    error = refusal(tmp_path)
    assert error.message == f"{tmp_path} holds {len(files)} models, by the names of its files: which is meant?"
    assert all(repr(f"{tmp_path}/{name}.safetensors") in str(error.hint) for name in files)


def test_weights_in_the_folders_below_are_told(tmp_path: Path) -> None:
    """As sentence-transformers has layers there, PEFT further adapters, and a trainer checkpoints."""
    save_file({"w": torch.zeros(3)}, tmp_path / "model.safetensors")
    for below in ("1_Pooling/config.json", "2_Dense/model.safetensors", "checkpoint-5/pytorch_model.bin"):
        (tmp_path / below).parent.mkdir()
        (tmp_path / below).touch()
    report = counted(tmp_path)
    assert report.total == 3
    (note,) = (note.message for note in report.notes if note.code == "left-out")
    assert note == "in folders below are '2_Dense/model.safetensors', 'checkpoint-5/pytorch_model.bin': not counted"


# As torch.distributed.checkpoint's HuggingFaceStorageWriter writes two processes' parts of a, b and c.
PIECES: list[dict[str, tuple[list[int], list[int]]]] = [
    {"a": ([3, 10], [0, 0]), "b": ([5, 4], [0, 0])},
    {"a": ([3, 10], [3, 0]), "b": ([5, 3], [0, 4]), "c": ([7], [0]), "n": ([], [])},
]


@pytest.fixture
def pieces(tmp_path: Path) -> list[Path]:
    files = []
    for number, held in enumerate(PIECES, start=1):
        info = json.dumps({name: {"saved_offsets": offset} for name, (_, offset) in held.items()})
        files.append(tmp_path / f"shard-{number:05}-model-00001-of-00001.safetensors")
        save_file(
            {name: torch.zeros(shape) for name, (shape, _) in held.items()},
            files[-1],
            {"format": "pt", "DCP_SHARDING_INFO": info, "DCP_VERSION": "1.0"},
        )
    return files


def test_pieces_of_tensors_count_as_the_tensors(pieces: list[Path]) -> None:
    report = counted(pieces[0].parent)
    assert {param.name: param.shape for param in report.params} == {"a": (6, 10), "b": (5, 7), "c": (7,), "n": ()}
    assert (report.total, report.nbytes) == (60 + 35 + 7 + 1, 4 * (60 + 35 + 7 + 1))
    assert "pieces" in codes(report)
    alone = counted(pieces[0])
    assert (alone.total, alone.form) == (30 + 20, "other")
    (note,) = (note.message for note in alone.notes if note.code == "left-out")
    assert "pieces of tensors: name the folder" in note


def test_a_hole_between_pieces_is_refused(pieces: list[Path]) -> None:
    pieces[0].unlink()
    assert "the pieces of 'a' make no whole of [6, 10]" in refusal(pieces[0].parent).message


@pytest.mark.filterwarnings("ignore")
def test_a_writers_own_files_count_what_was_saved(tmp_path: Path) -> None:
    dcp: Any = import_module("torch.distributed.checkpoint")
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    writer = dcp.HuggingFaceStorageWriter(str(tmp_path), save_distributed=True)
    dcp.save(model.state_dict(), storage_writer=writer, no_dist=True)
    assert counted(tmp_path).total == sum(param.numel() for param in model.parameters())


def test_a_link_to_nothing_is_told_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("../blobs/none")
    for word in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(UnknownTarget, match=r"is a link to \.\./blobs/none, which is not there"):
            counted(word)


def test_several_indexes_in_a_folder_ask_for_one(sharded: Path) -> None:
    (sharded / "model.fp16.safetensors.index.json").write_text("{}")
    error = refusal(sharded)
    assert error.message == f"{sharded} holds 'model.fp16.safetensors.index.json', '{INDEX}': which is meant?"
    assert error.hint == "name one of them"


def test_what_is_not_there_is_an_unknown_target(sharded: Path) -> None:
    for word in (
        f"{sharded}x/{ONE}",
        sharded / "model-00001-of-00003.safetensors",
        sharded / "x",
        f"{sharded}/x{INDEX}",
    ):
        with pytest.raises(UnknownTarget):
            counted(word)


def test_a_file_takes_no_arguments(sharded: Path) -> None:
    for target in (Target(str(sharded), {"a": 1}), Target(str(sharded), weights="DEFAULT")):
        with pytest.raises(UsageError):
            read(target, target.word)
