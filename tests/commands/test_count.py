"""``paramcount count`` as its users meet it: results on stdout, all else on stderr, and the exit code to the letter."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

import paramcount
from paramcount.sources import python as python_source
from tests.conftest import MODELS, Run

CNN = f"{MODELS / 'tutorial_cnn.py'}:Net"
LAZY = f"{MODELS / 'lazy.py'}:Net"
FROZEN = f"{MODELS / 'frozen_backbone.py'}:Net"


def test_count_may_be_left_out(run: Run) -> None:
    assert run("count", CNN) == run(CNN)
    assert run("--depth", "1", CNN).out == run("count", CNN, "--depth", "1").out


def test_the_table_shows_every_layer_and_the_total(run: Run) -> None:
    outcome = run(CNN)
    assert outcome.code == 0
    assert outcome.err == ""
    for number in ("448", "4,640", "81,930", "87,018"):
        assert number in outcome.out


def test_global_options_may_stand_anywhere(run: Run) -> None:
    colored = run("--color", "always", CNN).out
    assert "\x1b[" in colored
    assert run(CNN, "--color=always").out == run("count", CNN, "-q", "--color", "always").out == colored


@pytest.mark.parametrize("value", ["total", "trainable", "frozen", "unknown", "bytes", "buffers"])
def test_value_prints_one_bare_integer_a_target(run: Run, value: str) -> None:
    expected = [
        {"total": 87018, "trainable": 87018, "frozen": 0, "unknown": 0, "bytes": 348072, "buffers": 0}[value],
        {"total": 62, "trainable": 12, "frozen": 50, "unknown": 0, "bytes": 248, "buffers": 11}[value],
    ]
    assert run(CNN, FROZEN, "--value", value).out == "".join(f"{number}\n" for number in expected)


def test_a_number_that_is_not_known_is_an_error_and_not_a_lower_bound(run: Run) -> None:
    outcome = run(LAZY, CNN, "--value", "total")
    assert (outcome.code, outcome.out) == (3, "\n87018\n")  # each target keeps its line
    assert "2 of its parameters have no shape yet" in outcome.err
    assert "at least 24" in outcome.err


def test_lower_bounds_are_shown_as_such(run: Run) -> None:
    assert "≥ 24" in run(LAZY).out
    report = run(LAZY, "-f", "json").json["reports"][0]
    assert (report["total"], report["uninitialized"]) == (24, 2)
    bias = report["params"][-1]
    assert (bias["name"], bias["shape"], bias["numel"], bias["bytes"]) == ("lazy.bias", None, None, None)


def test_rules_reach_the_count(run: Run) -> None:
    assert run(CNN, "--freeze", "*", "--unfreeze", "fc", "--value", "trainable").out == "81930\n"
    assert run(CNN, "--include", "conv*", "--exclude", "*.bias", "--value", "total").out == "5040\n"
    assert run(FROZEN, "--only", "frozen", "--value", "total").out == "50\n"


def test_arguments_are_typed_as_yaml(run: Run, folder: Path) -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef build(**args):\n    print(repr(args))\n    return nn.Identity()\n"
    )
    given = {
        "i=3": ("i", 3),
        "f=1e-3": ("f", 0.001),
        "b=true": ("b", True),
        "s=relu": ("s", "relu"),
        "yes=yes": ("yes", "yes"),
        "l=[1, 2]": ("l", [1, 2]),
        "m={a: 1}": ("m", {"a": 1}),
        "n=null": ("n", None),
        "empty=": ("empty", None),
        "eq=a=b": ("eq", "a=b"),
        "t=1:30": ("t", "1:30"),
        "q='3'": ("q", "3"),
    }
    outcome = run("net.py:build", *[word for pair in given for word in ("-a", pair)])
    assert outcome.err.splitlines()[0] == repr(dict(given.values()))


def test_what_a_users_file_prints_goes_to_stderr_however_it_is_printed(run: Run, folder: Path) -> None:
    Path("net.py").write_text(
        "import os, subprocess, sys\n"
        "print('by print')\n"
        "os.write(1, b'by the system\\n')\n"
        "subprocess.run(['echo', 'by a child'])\n"
        "sys.__stdout__.write('past sys.stdout\\n'); sys.__stdout__.flush()\n"
        "from torch import nn\n"
        "def build(): return nn.Linear(1, 1)\n"
    )
    outcome = run("net.py:build", "--value", "total")
    assert outcome.out == "2\n"
    for said in ("by print", "by the system", "by a child", "past sys.stdout"):
        assert said in outcome.err


def test_several_targets_are_compared_after_their_tables(run: Run) -> None:
    out = run(CNN, FROZEN).out
    assert out.count("Total") == 2
    comparison = out[out.index("2 targets") :]
    assert "87,018" in comparison
    assert "62" in comparison
    assert run(CNN, FROZEN, "--depth", "0").out.count("Total") == 0  # only the comparison


def test_the_code_of_one_target_changes_nothing_for_the_next(run: Run, folder: Path) -> None:
    (folder / "one.py").write_text(
        "import os\nfrom torch import nn\nos.environ['NET_WIDTH'] = '64'\n"
        "class Net(nn.Conv1d):\n    def __init__(self):\n"
        "        super().__init__(1, 2, 3)\n        nn.Linear = nn.Conv2d\n"
    )
    (folder / "other.py").write_text(
        "import os\nfrom torch import nn\n"
        "class Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Linear(int(os.environ.get('NET_WIDTH', '8')), 2))\n"
    )
    assert run("one.py:Net", "other.py:Net", "--value", "total").out.split() == ["8", "18"]
    assert run("other.py:Net", "one.py:Net", "--value", "total").out.split() == ["18", "8"]


def test_a_target_that_fails_does_not_stop_the_others(run: Run) -> None:
    outcome = run("resnet5O", CNN, "-f", "json")
    assert outcome.code == 2
    document = outcome.json
    assert [report["total"] for report in document["reports"]] == [87018]
    (error,) = document["errors"]
    assert (error["target"], error["code"]) == ("resnet5O", "unknown-target")
    assert error["hint"].startswith("did you mean resnet50")
    assert "unknown target 'resnet5O'" in outcome.err


def test_of_several_failures_the_gravest_code_counts(run: Run, folder: Path) -> None:
    Path("bad.py").write_text("raise ValueError('no')\n")
    assert run("bad.py:Net").code == 3
    assert run("bad.py:Net", "nowhere.py:Net", CNN).code == 2


def test_json_is_one_document_with_the_reports_of_the_python_api(run: Run) -> None:
    document = run(CNN, FROZEN, "-f", "json").json
    assert list(document) == ["format_version", "paramcount_version", "reports", "errors"]
    assert document["format_version"] == "1.0"
    assert document["paramcount_version"] == paramcount.__version__
    assert document["reports"] == [paramcount.count(CNN).to_dict(), paramcount.count(FROZEN).to_dict()]
    assert document["errors"] == []


@pytest.mark.parametrize(
    "args",
    [
        ["resnet5O"],
        [CNN, "--depth", "x"],
        [CNN, "--no-such-option"],
        [CNN, "-a", "novalue"],
        [],
        [CNN, "--sort", "weight"],
        [CNN, "--freeze", "nothing"],
        [LAZY, "--weights", "DEFAULT"],
    ],
    ids=str,
)
def test_a_usage_error_exits_2_and_json_is_a_document_all_the_same(run: Run, args: list[str]) -> None:
    outcome = run("count", *args, "--format", "json")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    (error,) = outcome.json["errors"]
    assert set(error) == {"target", "code", "message", "hint"}
    assert outcome.json["reports"] == []


def test_a_bad_option_is_named_with_the_closest(run: Run) -> None:
    outcome = run(CNN, "--dpeth", "2")
    assert outcome.code == 2
    assert "--dpeth" in outcome.err
    assert "--depth" in outcome.err
    assert outcome.out == ""


def test_nothing_to_count_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("count").code == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("\n  \n"))
    outcome = run("-")
    assert outcome.code == 2
    assert "no target given" in outcome.err


def test_many_files_are_one_run_that_goes_on_past_broken_ones(folder: Path, run: Run) -> None:
    from safetensors.torch import save_file

    totals: dict[str, int] = {}
    for number in range(45):
        model = nn.Sequential(nn.Linear(number + 1, 3), nn.Linear(3, 2))
        name = f"{number:02}.{('safetensors', 'pt', 'ckpt')[number % 3]}"
        if name.endswith("safetensors"):
            save_file(model.state_dict(), name)
        else:
            torch.save(model.state_dict() if name.endswith("pt") else {"epoch": 1, "model": model.state_dict()}, name)
        totals[name] = sum(param.numel() for param in model.parameters())
    broken = {
        "10a.pt": b"",
        "20a.safetensors": b"",
        "20b.ckpt": b"PK\x03\x04",
        "30a.pt": b"hello",
        "44a.pt": b"\x80\x02",
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    names = sorted([*totals, *broken])
    done = run(*names, "--depth", "0")
    assert done.code == 3
    rows = [line.split()[:2] for line in done.out.splitlines()[3:]]
    assert rows == [[name, f"{totals[name]:,}"] for name in names if name in totals]
    assert [line.split()[1].rstrip(":") for line in done.err.splitlines() if line.startswith("error: ")] == sorted(
        broken
    )


@pytest.mark.parametrize("content", [b"PK\x03\x04\0\0", b"\x80\x02\x8a"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_file_is_no_list_of_targets(content: bytes, errors: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8", errors))
    done = run("-")
    assert done.code == 2
    assert done.err.startswith("error: - reads targets from stdin, one a line, and what comes there is no text\n")
    assert "cat model.safetensors | paramcount /dev/stdin" in done.err


def test_a_dash_reads_targets_from_stdin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CNN}\n\n  {FROZEN}  \n"))
    assert run("-", "--value", "total").out == "87018\n62\n"


def test_a_word_that_is_neither_command_nor_target_names_the_closest_of_both(run: Run) -> None:
    outcome = run("coumt")
    assert outcome.code == 2
    assert "did you mean the command count" in outcome.err


def test_a_users_traceback_is_trimmed_unless_verbose(run: Run, folder: Path) -> None:
    Path("net.py").write_text("def build():\n    raise ValueError('too wide')\n")
    outcome = run("net.py:build")
    assert outcome.code == 3
    assert "net.py:build could not be built: ValueError: too wide" in outcome.err
    assert "line 2, in build" in outcome.err
    assert "paramcount/modules" not in outcome.err
    assert "paramcount/modules" in run("net.py:build", "-v").err


@pytest.mark.parametrize("command", ["count", "check"])
def test_a_file_that_is_broken_shows_its_traceback_once_whatever_is_asked_of_it(
    command: str, run: Run, folder: Path
) -> None:
    Path("net.py").write_text("raise ValueError('no such width')\n")
    Path("other.py").write_text("raise ValueError('no such height')\n")
    targets = ["net.py:A", "net.py:B", "other.py:A"]
    models = (f"  {number}: {{target: {target}, budget: {{total: 1}}}}\n" for number, target in enumerate(targets))
    Path("models.yaml").write_text(f"version: 1\nmodels:\n{''.join(models)}")
    outcome = run(command, *(targets if command == "count" else []))
    assert outcome.code == 3
    assert all(f"{target} could not be built: ValueError: no such" in outcome.err for target in targets)
    assert outcome.err.count("\nValueError: no such width") == outcome.err.count("\nValueError: no such height") == 1


def test_a_bug_of_our_own_costs_one_target_and_exits_70(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = python_source.read

    def broken(target: object, name: str) -> object:
        if "lazy" in name:
            raise ZeroDivisionError("oh no")
        return real(target, name)  # type: ignore[arg-type]

    monkeypatch.setattr(python_source, "read", broken)
    outcome = run(LAZY, CNN, "-f", "json")
    assert outcome.code == 70
    assert "bug in paramcount: ZeroDivisionError: oh no" in outcome.err
    assert "Traceback" not in outcome.err
    assert [report["total"] for report in outcome.json["reports"]] == [87018]
    assert outcome.json["errors"][0]["code"] == "internal-error"
    assert "Traceback" in run(LAZY, "-v").err


def test_an_interrupt_exits_130_and_keeps_what_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(word: str, *_how: object, **_keywords: object) -> paramcount.Report:
        if word == "second":
            raise KeyboardInterrupt
        return paramcount.Report.of(python_source_inventory())

    def python_source_inventory() -> paramcount.inventory.Inventory:
        from paramcount.modules.read import read

        return read(nn.Linear(1, 1), target="first", source="module")

    monkeypatch.setattr("paramcount.commands.count.count_word", interrupted)
    outcome = run("first", "second", "third", "-f", "json")
    assert outcome.code == 130
    assert [report["target"] for report in outcome.json["reports"]] == ["first"]
    assert [error["code"] for error in outcome.json["errors"]] == ["interrupted"]


def test_a_result_goes_whole_into_a_file_and_nothing_to_stdout(run: Run, folder: Path) -> None:
    outcome = run(CNN, "-f", "json", "-o", "report.json")
    assert (outcome.code, outcome.out) == (0, "")
    assert json.loads(Path("report.json").read_text())["reports"][0]["total"] == 87018
    assert [path.name for path in folder.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("name", "first"), [("r.json", "{"), ("r.csv", "target,"), ("r.tsv", "target\t"), ("r.md", "###"), ("r.txt", "/")]
)
def test_the_files_ending_chooses_the_format(run: Run, folder: Path, name: str, first: str) -> None:
    run(CNN, "-o", name)
    assert Path(name).read_text().startswith(first)


def test_a_file_keeps_its_permissions_and_a_link_stays_a_link(run: Run, folder: Path) -> None:
    Path("real.csv").write_text("old")
    Path("real.csv").chmod(0o640)
    Path("link.csv").symlink_to("real.csv")
    assert run(CNN, "-o", "link.csv").code == 0
    assert Path("link.csv").is_symlink()
    assert stat.S_IMODE(Path("real.csv").stat().st_mode) == 0o640
    assert Path("real.csv").read_text().startswith("target,")


def test_a_file_that_cannot_be_written_is_an_error_before_the_work_starts(run: Run, folder: Path) -> None:
    Path("net.py").write_text("print('built')\n")
    outcome = run("net.py:Net", "-o", "no/such/folder/report.json")
    assert outcome.code == 2
    assert "cannot write to no/such/folder/report.json" in outcome.err
    assert "built" not in outcome.err
    assert run("net.py:Net", "-o", ".").code == 2


def test_a_failure_leaves_the_old_file_alone(run: Run, folder: Path) -> None:
    Path("report.csv").write_text("old")
    assert run("nowhere.py:Net", "-o", "report.csv").code == 2
    assert Path("report.csv").read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["report.csv"]


def test_value_and_format_contradict_each_other(run: Run) -> None:
    assert run(CNN, "--value", "total", "-f", "json").code == 2


def test_device_meta_never_falls_back_to_real_memory(run: Run, folder: Path) -> None:
    Path("net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def build():\n"
        "    width = int(torch.ones(1_000_000).sum().item()) // 100_000\n"
        "    return nn.Linear(width, 1)\n"
    )
    assert run("net.py:build", "--device", "cpu", "--value", "total").out == "11\n"
    fallen_back = run("net.py:build", "-f", "json").json["reports"][0]
    assert (fallen_back["total"], [note["code"] for note in fallen_back["notes"]]) == (11, ["real-memory"])
    assert run("net.py:build", "--device", "meta").code == 3


def test_a_key_picks_the_part_of_a_checkpoint(run: Run, folder: Path) -> None:
    weights, average = nn.Linear(2, 3).state_dict(), nn.Linear(2, 3, bias=False).state_dict()
    torch.save({"model": weights, "ema": average, "epoch": 3}, "last.ckpt")
    assert run("last.ckpt", "--value", "total").out == "9\n"
    assert run("last.ckpt", "--key", "ema", "--value", "total").out == "6\n"
    assert run("last.ckpt:ema", "--value", "total").out == "6\n"
    outcome = run("last.ckpt", "--key", "emma")
    assert outcome.code == 2
    assert "did you mean" in outcome.err


def test_what_is_hidden_is_said_where_a_result_has_only_numbers(run: Run) -> None:
    hidden = f"{MODELS / 'unregistered.py'}:Net"
    for args in ((hidden, "--value", "total"), (hidden, "-f", "csv")):
        outcome = run(*args)
        assert outcome.code == 0
        assert "unregistered: layers[0]: Linear with 12 parameters" in outcome.err
        assert "layers[0]" not in outcome.out
    assert "unregistered: layers[0]" in run(hidden, CNN, "--depth", "0").out


def test_buffers_without_a_shape_are_not_counted_as_none(run: Run, folder: Path) -> None:
    Path("net.py").write_text("from torch import nn\ndef build(): return nn.LazyBatchNorm1d()\n")
    assert run("net.py:build", "--value", "buffers").code == 3


def test_a_model_that_swallows_an_interrupt_is_interrupted_all_the_same(run: Run, folder: Path) -> None:
    Path("net.py").write_text(
        "import os, signal\nfrom torch import nn\n"
        "def build():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n        import time; time.sleep(5)\n"
        "    except KeyboardInterrupt:\n        pass\n"
        "    return nn.Linear(1, 1)\n"
    )
    assert run("net.py:build").code == 130


def test_an_os_exit_in_a_model_is_no_exit_of_ours(run: Run, folder: Path) -> None:
    Path("net.py").write_text("import os\ndef build(): os._exit(0)\n")
    assert run("net.py:build").code == 3


def test_a_full_disk_is_a_clear_error(run: Run) -> None:
    outcome = run(CNN, "-o", "/dev/full")
    assert outcome.code == 2
    assert "cannot write to /dev/full" in outcome.err


def test_a_report_saved_of_files_can_be_picked_by_the_names_it_gives(run: Run, folder: Path) -> None:
    Path("a.py").write_text("from torch import nn\ndef build(): return nn.Linear(1, 1)\n")
    Path("b.py").write_text("from torch import nn\ndef build(): return nn.Linear(2, 2)\n")
    run("a.py:build", "b.py:build", "-o", "two.json")
    assert run("two.json:b.py:build", "--value", "total").out == "6\n"


def test_a_pipe_gets_every_row_of_a_wide_model(run: Run, folder: Path) -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(*(nn.Linear(1, n) for n in range(1, 101)))\n"
    )
    out = run("net.py:build").out
    assert "more row" not in out
    assert sum(" Linear " in line for line in out.splitlines()) == 100


def test_no_result_is_written_over_a_target(run: Run, folder: Path) -> None:
    Path("net.py").write_text("from torch import nn\ndef build(): return nn.Linear(1, 1)\n")
    before = Path("net.py").read_text()
    assert run("net.py:build", "--value", "total", "-o", "net.py").code == 2
    assert Path("net.py").read_text() == before


def test_what_an_exception_says_does_not_act_on_the_terminal(run: Run, folder: Path) -> None:
    Path("net.py").write_text("def build(): raise ValueError('\\x1b[31mred')\n")
    assert "\x1b" not in run("net.py:build").err.splitlines()[0]
