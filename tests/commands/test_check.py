"""``paramcount check`` as a gate: every exit code, every form of output, the lock, and what GitHub is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent, indent

import pytest
import torch

import paramcount
from tests.conftest import Run

NET = """\
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.backbone = nn.Linear(3, width)
        self.head = nn.Linear(width, 2)

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.known = nn.Linear(3, 4)
        self.lazy = nn.LazyLinear(2)

def broken():
    raise ValueError("too wide")
"""
# Net has (3 × 4 + 4) + (4 × 2 + 2) = 16 + 10 = 26 parameters, in 104 bytes.


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(folder: Path) -> Path:
    (folder / "net.py").write_text(NET)
    return folder


def write(text: str) -> None:
    Path("models.yaml").write_text("version: 1\nmodels:\n" + indent(dedent(text), "  "))


def findings(document: object) -> list[tuple[str, str, object, object]]:
    return [
        (report["name"], finding["rule"], finding["limit"], finding["actual"])
        for report in document["reports"]  # type: ignore[index]
        for finding in report["findings"]
    ]


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("{target: net.py:Net, budget: {total: 26, bytes: 104, trainable: {min: 1}}}", 0),
        ("{target: net.py:Net, freeze: [backbone], budget: {trainable: 10, frozen: {exactly: 16}}}", 0),
        ("{target: net.py:Net, budget: {total: 25}}", 1),
        ("{target: net.py:Net, budget: {total: {min: 27}}}", 1),
        ("{target: net.py:Net, layers: {'*': {each: {total: 15}}}}", 1),
        ("{target: net.py:Nett, budget: {total: 26}}", 2),
        ("{target: no_such_model, budget: {total: 26}}", 2),
        ("{target: net.py:Net, freeze: [bakbone], budget: {total: 26}}", 2),
        ("{target: net.py:Net, layers: {bakbone: {total: 26}}}", 2),
        ("{target: net.py:Net, budgt: {total: 26}}", 2),
        ("{target: net.py:Net, budget: {total: 1e6}}", 2),
        ("{target: net.py:broken, budget: {total: 26}}", 3),
        ("{target: net.py:Lazy, budget: {total: 1000}}", 3),  # a lower bound of 16 is no pass
        ("{target: net.py:Lazy, budget: {total: 15}}", 1),  # it is over whatever the lazy layer gets
    ],
)
def test_the_exit_code_says_what_is_wrong(run: Run, project: Path, model: str, code: int) -> None:
    write(f"  net: {model}\n")
    assert run("check").code == code
    assert run("check", "-j", "2").code == code


def test_of_several_models_the_gravest_code_counts_and_each_is_reported(run: Run, project: Path) -> None:
    write(
        """\
          fine: {target: net.py:Net, budget: {total: 26}}
          over: {target: net.py:Net, budget: {total: 25}}
          broken: {target: net.py:broken, budget: {total: 25}}
        """
    )
    outcome = run("check", "-f", "json")
    assert outcome.code == 3
    assert [(r["name"], r["status"]) for r in outcome.json["reports"]] == [
        ("fine", "ok"),
        ("over", "over"),
        ("broken", "error"),
    ]
    assert "total" not in outcome.json["reports"][2]
    assert outcome.json["errors"][0]["message"] == "net.py:broken could not be built: ValueError: too wide"
    assert run("check", "fine").code == 0
    assert run("check", "over", "fine").code == 1


def test_a_finding_says_what_where_and_by_how_much(run: Run, project: Path) -> None:
    write("  net:\n    target: net.py:Net\n    budget:\n      total: 20\n")
    report = run("check", "-f", "json").json["reports"][0]
    assert report["total"] == 26
    assert report["findings"] == [
        {
            "rule": "total",
            "layer": "",
            "limit": 20,
            "actual": 26,
            "over": 6,
            "message": "total is 26, 6 over the limit of 20",
            "location": {"file": "models.yaml", "line": 6, "column": 7},
        }
    ]
    table = run("check").out
    assert "net: total is 26, 6 over the limit of 20 (models.yaml:6:7)" in table
    assert "≤ 20" in table


def test_nothing_selected_is_never_a_pass(run: Run, project: Path) -> None:
    assert run("check").code == 2  # no models.yaml
    write("  net: {target: net.py:Net, budget: {total: 26}}\n")
    outcome = run("check", "nett")
    assert outcome.code == 2
    assert "did you mean net?" in outcome.err
    Path("models.yaml").write_text("version: 1\nmodels: {}\n")
    assert run("check").code == 2


def test_targets_are_relative_to_the_file(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("  net: {target: net.py:Net, budget: {total: 26}}\n")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run("check", "-c", "../models.yaml", "--export", "json=report.json").code == 0
    assert (elsewhere / "report.json").exists()


def test_every_mistake_in_the_file_comes_at_once_in_every_form(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, budget: {totl: 26}}\n  other: {targt: x}\n")
    outcome = run("check", "-f", "github")
    assert outcome.code == 2
    assert "models.yaml:3:38: unknown key 'totl'; did you mean 'total'?" in outcome.err
    assert "file=models.yaml,line=3,col=38" in outcome.out
    assert "file=models.yaml,line=4,col=11" in outcome.out
    document = run("check", "-f", "json").json
    assert [error["location"]["line"] for error in document["errors"]][:2] == [3, 4]
    assert run("check", "-f", "markdown").out.startswith("### 0 models\n")


def test_one_run_writes_every_form(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, budget: {total: 20}}\n")
    forms = ("json", "markdown", "github", "gitlab", "junit", "sarif", "table")
    outcome = run("check", *[word for form in forms for word in ("--export", f"{form}=out.{form}")])
    assert outcome.code == 1
    said = "total is 26, 6 over the limit of 20"
    assert findings(json.loads(Path("out.json").read_text())) == [("net", "total", 20, 26)]
    assert said in json.loads(Path("out.gitlab").read_text())[0]["description"]
    failure = ET.parse("out.junit").getroot().find(".//failure")
    assert failure is not None
    assert failure.get("message") == said
    assert said in json.loads(Path("out.sarif").read_text())["runs"][0]["results"][0]["message"]["text"]
    assert Path("out.github").read_text().startswith("::error file=models.yaml,line=3,col=38,")
    assert said in Path("out.markdown").read_text()
    assert Path("out.table").read_text() == outcome.out


def test_exports_are_opened_before_the_work_starts(run: Run, project: Path) -> None:
    Path("net.py").write_text(NET + "print('built')\n")
    write("  net: {target: net.py:Net, budget: {total: 26}}\n")
    outcome = run("check", "--export", "json=ok.json", "--export", "sarif=no/such/folder/x.sarif")
    assert outcome.code == 2
    assert "built" not in outcome.err
    assert sorted(path.name for path in project.iterdir()) == ["models.yaml", "net.py"]
    outcome = run("check", "--export", "sariff=x")
    assert outcome.code == 2
    assert "did you mean sarif?" in outcome.err


def test_github_is_told_by_itself(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("  net: {target: net.py:Net, budget: {total: 20}}\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    outcome = run("check", "-f", "json")
    assert "::error file=models.yaml,line=3,col=38,title=paramcount%3A total::net: total is 26" in outcome.err
    assert outcome.json["reports"][0]["status"] == "over"  # stdout holds the document alone
    assert "| `net` | total |" in Path("summary.md").read_text()
    Path("summary.md").unlink()
    assert "::error" not in run("check", "--no-annotations").err
    assert not Path("summary.md").exists()


def test_growth_is_measured_from_the_lock(run: Run, project: Path) -> None:
    def with_width(width: int) -> None:
        write(
            f"""\
              net:
                target: net.py:Net
                args: {{width: {width}}}
                growth: {{percent: 10, params: 5}}
            """
        )

    with_width(4)
    first = run("check")
    assert first.code == 0
    assert "there is no baseline to grow from" in first.out
    assert run("lock").code == 0
    assert run("check").code == 0
    with_width(5)  # 6 × 5 + 2 = 32: six more, which is 23 %
    outcome = run("check", "-f", "json")
    assert outcome.code == 1
    assert findings(outcome.json) == [("net", "growth", 31, 32)]
    assert "+6" in run("check").out
    with_width(3)
    assert run("check").code == 0
    assert "−6" in run("check").out


def test_growth_of_a_model_that_the_lock_lacks_is_no_pass(run: Run, project: Path) -> None:
    write("old: {target: net.py:Net}\n")
    run("lock")
    write("old: {target: net.py:Net}\nnew: {target: net.py:Net, growth: {percent: 10}}\n")
    outcome = run("check", "-f", "json")
    assert outcome.code == 3
    assert [report["status"] for report in outcome.json["reports"]] == ["ok", "error"]
    assert findings(outcome.json) == [("new", "growth", None, 26)]
    run("lock")
    assert run("check").code == 0


def test_locked_demands_that_no_locked_model_is_gone(run: Run, project: Path) -> None:
    write("kept: {target: net.py:Net, budget: {total: 26}}\ngone: {target: net.py:Net}\n")
    run("lock")
    write("kept: {target: net.py:Net, budget: {total: 26}}\n")
    outcome = run("check", "--locked", "-f", "json")
    assert outcome.code == 1
    (error,) = outcome.json["errors"]
    assert (error["name"], error["code"]) == ("gone", "unlisted")
    assert error["message"] == "model 'gone' is in models.lock.json, and not in models.yaml"
    Path("whole.json").write_text(outcome.out)
    assert run("merge", "whole.json").code == 1
    assert run("check", "--locked", "kept").code == 0  # the others were not asked for
    assert run("check").code == 0
    run("lock")
    assert run("check", "--locked").code == 0


def test_locked_demands_equality_and_a_baseline(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, budget: {total: 100}}\n")
    outcome = run("check", "--locked")
    assert outcome.code == 1
    assert "net: has no baseline" in outcome.out
    run("lock")
    assert run("check", "--locked").code == 0
    write("  net: {target: net.py:Net, freeze: [head], budget: {total: 100}}\n")
    assert run("check").code == 0
    outcome = run("check", "--locked")
    assert outcome.code == 1  # as many parameters, of which fewer train
    assert "net: is not what the lock says: trainable 26 → 16" in outcome.out


def test_an_unreadable_lock_is_an_error_and_not_an_empty_one(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, budget: {total: 100}}\n")
    Path("models.lock.json").write_text("{")
    outcome = run("check")
    assert outcome.code == 3
    assert "models.lock.json:1: " in outcome.err


def test_an_allowance_holds_until_the_end_of_its_last_day(run: Run, project: Path) -> None:
    write(
        """\
          net:
            target: net.py:Net
            budget: {total: 20}
            allow: [{rule: total, max: 30, until: 2999-12-31, reason: trial}]
        """
    )
    outcome = run("check")
    assert outcome.code == 0
    assert "as allowed until 2999-12-31: trial" in outcome.out
    Path("models.yaml").write_text(Path("models.yaml").read_text().replace("2999", "2001"))
    outcome = run("check")
    assert outcome.code == 1
    assert "its allowance expired on 2001-12-31" in outcome.out


@pytest.mark.parametrize("statement", ["os._exit(0)", "os.abort()", "sys.exit(0)", "raise BaseException('no')"])
def test_a_model_that_ends_the_process_fails_and_the_others_are_judged(run: Run, project: Path, statement: str) -> None:
    Path("ends.py").write_text(f"import os, sys\ndef build():\n    {statement}\n")
    write("ends: {target: ends.py:build, budget: {total: 1}}\nover: {target: net.py:Net, budget: {total: 25}}\n")
    outcome = run("check", "-f", "json")
    assert outcome.code == 3
    assert [report["status"] for report in outcome.json["reports"]] == ["error", "over"]


def test_a_model_changes_nothing_for_those_after_it(run: Run, project: Path) -> None:
    Path("wild.py").write_text(NET + "nn.Linear = lambda *_: nn.Identity()\n")
    write("wild: {target: wild.py:Net, budget: {total: {min: 0}}}\nover: {target: net.py:Net, budget: {total: 25}}\n")
    assert findings(run("check", "-f", "json").json) == [("over", "total", 25, 26)]


def test_patterns_that_match_nothing_come_together_at_their_own_place(run: Run, project: Path) -> None:
    write("net:\n  target: net.py:Net\n  freeze: [hed, bakbone]\n  budget: {total: 26}\n")
    outcome = run("check", "-f", "json")
    (error,) = outcome.json["errors"]
    assert "'hed'" in error["message"]
    assert "'bakbone'" in error["message"]
    assert error["location"] == {"file": "models.yaml", "line": 5, "column": 5}
    assert "models.yaml:5:5: freeze 'hed' matches nothing" in outcome.err


def test_a_limit_on_a_folded_name_is_on_all_that_it_shows(run: Run, project: Path) -> None:
    Path("deep.py").write_text(
        "from torch import nn\n"
        "def deep():\n"
        "    blocks = nn.ModuleList(nn.Linear(1, 9 if n == 11 else 1) for n in range(12))\n"
        "    return nn.ModuleDict({'blocks': blocks})\n"
    )
    write('deep: {target: deep.py:deep, layers: {"blocks.[0-11]": {total: 39, each: {total: 17}}}}\n')
    outcome = run("check", "-f", "json")
    assert outcome.code == 1
    found = [(finding["layer"], finding["actual"]) for finding in outcome.json["reports"][0]["findings"]]
    assert found == [("blocks.[0-11]", 11 * 2 + 18), ("blocks.11", 18)]


def test_a_pattern_that_matches_layers_within_others_says_so_and_counts_them_once(run: Run, project: Path) -> None:
    Path("deep.py").write_text(
        "from torch import nn\n"
        "def deep():\n"
        "    blocks = nn.ModuleList(nn.Sequential(nn.Linear(1, 1)) for _ in range(3))\n"
        "    return nn.ModuleDict({'blocks': blocks})\n"
    )
    said = "3 of the 6 layers that match are within others, such as blocks.0.0 in blocks.0; "
    write('deep: {target: deep.py:deep, layers: {"blocks.*": {total: 6}}}\n')
    outcome = run("check")
    assert outcome.code == 0
    assert "blocks.*, sum of 3" in outcome.out
    assert f"blocks.*: * crosses dots: {said}what is within counts once (models.yaml:3:" in outcome.out
    write('deep: {target: deep.py:deep, layers: {"blocks.*": {each: {total: 2}}}}\n')
    assert f"{said}each is judged by itself" in run("check").out
    write('deep: {target: deep.py:deep, layers: {"blocks.[0-2]": {each: {total: 2}}}}\n')
    assert "crosses dots" not in run("check").out


def test_a_models_own_minimum_lifts_no_default_maximum(run: Run, project: Path) -> None:
    Path("models.yaml").write_text(
        "version: 1\ndefaults: {budget: {total: 20}}\nmodels:\n  net: {target: net.py:Net, budget: {total: {min: 1}}}\n"
    )
    assert findings(run("check", "-f", "json").json) == [("net", "total", 20, 26)]


def test_a_default_and_a_models_own_limit_that_contradict_each_other_are_an_error(run: Run, project: Path) -> None:
    Path("models.yaml").write_text(
        "version: 1\ndefaults: {budget: {total: 5}}\nmodels:\n  net: {target: net.py:Net, budget: {total: {min: 6}}}\n"
    )
    outcome = run("check")
    assert outcome.code == 2
    assert "models.yaml:4:38: total: cannot be met beside the defaults: min 6 is above max 5" in outcome.err


def test_two_lower_bounds_are_not_known_to_be_equal(run: Run, project: Path) -> None:
    write("lazy: {target: net.py:Lazy}\n")
    assert "total ≥ 16" in run("lock").out
    assert run("check", "--locked").code == 3


def test_each_file_of_budgets_has_a_lock_of_its_own(run: Run, project: Path) -> None:
    write("net: {target: net.py:Net}\n")
    Path("other.yaml").write_text("version: 1\nmodels:\n  wide: {target: net.py:Net, args: {width: 9}}\n")
    run("lock")
    run("lock", "-c", "other.yaml")
    assert list(json.loads(Path("models.lock.json").read_text())["models"]) == ["net"]
    assert list(json.loads(Path("other.lock.json").read_text())["models"]) == ["wide"]


def test_no_two_exports_go_to_one_file(run: Run, project: Path) -> None:
    write("net: {target: net.py:Net, budget: {total: 26}}\n")
    assert run("check", "--export", "json=x", "--export", "junit=./x").code == 2
    assert run("check", "--export", "json=x", "--export", f"junit={project.resolve() / 'X'}").code == 2
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "name", ["models.yaml", "models.lock.json", "net.py", "part.pt", "sub/part.pt", "link", "hard"]
)
@pytest.mark.parametrize("spelt", ["{}", "./{}", "sub/../{}", "{absolute}"])
def test_no_export_overwrites_what_is_read(run: Run, project: Path, name: str, spelt: str) -> None:
    Path("sub").mkdir()
    for file in ("part.pt", "sub/part.pt"):
        torch.save({"weight": torch.zeros(3)}, file)
    Path("link").symlink_to("models.yaml")
    write("net: {target: net.py:Net, budget: {total: 26}}\npart: {target: 'part.pt'}\nother: {target: 'sub/part.pt'}\n")
    Path("hard").hardlink_to("models.yaml")
    run("lock")
    before = Path(name).read_bytes()
    outcome = run("check", "--export", f"json={spelt.format(name, absolute=project / name)}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "it would overwrite what is read" in outcome.err
    assert Path(name).read_bytes() == before


def test_a_step_summary_that_cannot_be_written_costs_no_verdict(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("net: {target: net.py:Net, budget: {total: 25}}\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/folder/summary.md")
    outcome = run("check", "-f", "json")
    assert outcome.code == 1
    assert outcome.json["reports"][0]["status"] == "over"
    assert "cannot write the step summary" in outcome.err


def test_layers_that_no_optimizer_sees_are_named(run: Run, project: Path) -> None:
    Path("net.py").write_text(NET + "\nclass Hidden(Net):\n    def __init__(self):\n        super().__init__()\n"
                              "        self.more = [nn.Linear(9, 9)]\n")  # fmt: skip
    write("hidden: {target: net.py:Hidden, budget: {total: 26}}\n")
    assert "hidden: unregistered: more[0]: Linear with 90 parameters" in run("check").out


def test_a_note_about_the_whole_model_names_no_place(run: Run, project: Path) -> None:
    (project / "net.py").write_text("from torch import nn\nnet = nn.Sequential(nn.LazyLinear(2))\n")
    write('  net: {target: net.py, input: "1,3", budget: {total: 8}}\n')
    assert "  net: input: 2 parameters of lazy layers" in run("check").out


def test_the_python_api_raises_an_assertion_error_with_the_findings(project: Path) -> None:
    report = paramcount.count("net.py:Net")
    assert paramcount.check(report, total=26, bytes="104", trainable={"min": 1, "max": "1K"}) is report
    with pytest.raises(paramcount.OverBudget, match=r"net\.py:Net: total is 26, 1 over the limit of 25") as caught:
        paramcount.check(report, total=25, frozen=0)
    assert isinstance(caught.value, AssertionError)
    assert caught.value.exit_code == 1
    assert [(f.rule, f.limit, f.actual) for f in caught.value.findings] == [("total", 25, 26)]
    with pytest.raises(paramcount.ParamcountError, match="cannot be judged"):
        paramcount.check("net.py:Lazy", total="1M")
    for nonsense in ({}, {"totl": 3}, {"total": "3 apples"}, {"total": {"max": 1, "min": 2}}):
        with pytest.raises(paramcount.ParamcountError) as refused:
            paramcount.check(report, **nonsense)
        assert refused.value.exit_code == 2


def test_all_that_does_not_fit_a_model_comes_at_once_each_at_its_own_place(run: Run, project: Path) -> None:
    write(
        """\
          net:
            target: net.py:Net
            freeze: [hed]
            unfreeze: [bakbone]
            active: ['experts=1/2']
            layers:
              heed: {total: 26}
              head: {total: 10}
          other: {target: net.py:Net, freeze: [hed]}
        """
    )
    outcome = run("check", "-f", "json")
    assert outcome.code == 2
    said = [(error["name"], error["code"], error["location"]["line"]) for error in outcome.json["errors"]]
    assert said == [("net", "unmatched-pattern", line) for line in (7, 5, 6, 9)] + [("other", "unmatched-pattern", 11)]
    assert "net: 4 mistakes\nmodels.yaml:7:5: active 'experts' matches nothing in net.py:Net" in outcome.err
    assert "models.yaml:9:7: layers 'heed' matches no layer of net.py:Net; did you mean head?" in outcome.err
    assert "::error file=models.yaml,line=9,col=7" in run("check", "-f", "github").out


def test_neither_of_two_models_of_one_name_hides_the_mistakes_of_the_other(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, budget: {totl: 26}}\n" * 2 + "  net: {target: net.py:Net, freez: [a]}\n")
    said = [(each["location"]["line"], each["message"]) for each in run("check", "-f", "json").json["errors"]]
    assert said == [
        (3, "unknown key 'totl'; did you mean 'total'?"),
        (4, "duplicate key 'net': it is on line 3 already"),
        (4, "unknown key 'totl'; did you mean 'total'?"),
        (5, "duplicate key 'net': it is on line 3 already"),
        (5, "unknown key 'freez'; did you mean 'freeze'?"),
    ]


@pytest.mark.parametrize("root", ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"])
def test_a_ci_server_is_told_of_files_from_the_root_of_the_repository(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    write("  net: {target: net.py:Net, budget: {total: 20}}\n  bad: {target: net.py:Net, freeze: [hed]}\n")
    monkeypatch.setenv(root, str(project.parent))
    file = f"{project.name}/models.yaml"
    assert f"::error file={file},line=3,col=38," in run("check", "-f", "github").out
    assert {each["location"]["path"] for each in json.loads(run("check", "-f", "gitlab").out)} == {file}
    (logged,) = json.loads(run("check", "-f", "sarif").out)["runs"]
    assert logged["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == file
    junit = ET.fromstring(run("check", "-f", "junit").out)
    assert [case.text.partition(" ")[0] for case in junit.iter() if case.tag in {"failure", "error"} and case.text] == [
        f"{file}:3:38:",
        f"{file}:4:29:",
    ]
    document = run("check", "-f", "json", "--export", "github=annotations").json
    assert document["reports"][0]["findings"][0]["location"]["file"] == "models.yaml"  # JSON is for other readers, too
    assert f"file={file}," in Path("annotations").read_text()
    Path("check.json").write_text(json.dumps(document))
    assert run("merge", "check.json", "-f", "github").out == Path("annotations").read_text()
    monkeypatch.setenv(root, str(project / "elsewhere"))
    assert "::error file=models.yaml,line=3,col=38," in run("check", "-f", "github").out


def test_what_no_line_asks_for_is_placed_at_the_model(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, budget: {total: 100}}\n")
    (finding,) = run("check", "--locked", "-f", "json").json["reports"][0]["findings"]
    assert finding["location"] == {"file": "models.yaml", "line": 3, "column": 3}


def test_growth_that_is_met_has_a_row_as_a_limit_has(run: Run, project: Path) -> None:
    write("  net: {target: net.py:Net, growth: {percent: 10, params: 5}}\n")
    run("lock")
    # Of 26 parameters 10 % are 2, and 5 is more.
    row = next(line for line in run("check").out.splitlines() if "growth" in line)
    assert row.split()[:5] == ["net", "growth", "≤", "31", "26"]
    assert "ok" in row.split()


def test_an_export_to_a_named_pipe_waits_for_its_reader_but_not_for_ever(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("  net: {target: net.py:Net, budget: {total: 26}}\n")
    os.mkfifo("pipe")
    monkeypatch.setenv("PARAMCOUNT_TIMEOUT", "0.1")
    outcome = run("check", "--export", "json=pipe")
    assert (outcome.code, outcome.out) == (2, "")
    assert "cannot write to pipe: nobody read it in 0.1 seconds" in outcome.err
    assert "PARAMCOUNT_TIMEOUT=0.2 waits longer" in outcome.err
    monkeypatch.setenv("PARAMCOUNT_TIMEOUT", "60")
    with ThreadPoolExecutor() as pool:
        read = pool.submit(Path("pipe").read_text)
        assert run("check", "--export", "json=pipe").code == 0
        assert json.loads(read.result(60))["reports"][0]["total"] == 26
    assert Path("pipe").is_fifo()


def test_ten_models_of_a_project_import_torch_once(project: Path) -> None:
    """Each says whether it was there before the model's own code began: in the process that all of theirs come from."""
    names = [f"net{number}" for number in range(10)]
    for name in names:
        code = "import sys\nprint('torch is there' if 'torch' in sys.modules else 'torch is missing')\n"
        Path(f"{name}.py").write_text(
            f"{code}from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(2, 3)\n"
        )
    write("".join(f"{name}: {{target: '{name}.py:Net', budget: {{total: 9}}}}\n" for name in names))
    command = [sys.executable, "-X", "importtime", "-m", "paramcount", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == ["torch is there"] * 10
    assert [line.rpartition("|")[2].strip() for line in lines].count("torch.nn") == 1
