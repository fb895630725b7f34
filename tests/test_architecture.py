"""The direction of imports, and what is not imported at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import paramcount

PACKAGE = Path(paramcount.__file__).parent

# From the command line down to plain values: a module imports from its own layer and from those after it.
LAYERS = (
    ("paramcount.__main__", "paramcount.process", "paramcount.cli"),
    ("paramcount.commands",),
    ("paramcount",),  # the Python API, which commands call, too
    ("paramcount.sources", "paramcount.renderers", "paramcount.config", "paramcount.lock", "paramcount.cache"),
    ("paramcount.modules", "paramcount.files"),
    ("paramcount.groups",),
    (
        "paramcount.verdicts",
        "paramcount.outline",
        "paramcount.rules",
        "paramcount.budgets",
        "paramcount.diff",
        "paramcount.loading",
        "paramcount.catalogue",
        "paramcount.documents",
    ),
    ("paramcount.routing",),
    ("paramcount.report", "paramcount.grid", "paramcount.patterns"),
    ("paramcount.inventory",),
    ("paramcount.inputs",),
    (
        "paramcount.errors",
        "paramcount.harmless",
        "paramcount.jsons",
        "paramcount.pause",
        "paramcount.signals",
        "paramcount.shards",
        "paramcount.typed_json",
        "paramcount.units",
        "paramcount.wrapping",
        "paramcount.yamls",
    ),
    ("paramcount.urls",),
)
MODEL_LIBRARIES = {"torch", "torchvision", "timm", "transformers", "safetensors", "gguf"}
HEAVY = {"torch", "torchvision", "rich", "typer", "yaml", "pydantic"}
PURE = (
    "paramcount.catalogue",
    "paramcount.outline",
    "paramcount.budgets",
    "paramcount.rules",
    "paramcount.report",
    "paramcount.grid",
    "paramcount.inventory",
)


def module_name(file: Path) -> str:
    parts = ("paramcount", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def layer(module: str) -> int:
    """Return the number of a module's layer: that of the longest name in LAYERS that it is, or is beneath."""
    depths = {name: depth for depth, names in enumerate(LAYERS) for name in names if name != "paramcount"}
    while module != "paramcount":
        if module in depths:
            return depths[module]
        module = module.rpartition(".")[0]
    return next(depth for depth, names in enumerate(LAYERS) if "paramcount" in names)


def imports(file: Path) -> set[str]:
    """Return the modules of our own that a file imports, at the top or in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            candidates = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in candidates}
    return found & MODULES


MODULES = {module_name(file) for file in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_every_module_imports_only_from_its_own_layer_and_those_below(file: Path) -> None:
    importer = module_name(file)
    for imported in imports(file):
        assert layer(imported) >= layer(importer), f"{importer} imports {imported}"


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("sources/*.py")), ids=module_name)
def test_a_source_knows_no_other_source_and_no_renderer(file: Path) -> None:
    strangers = {name for name in imports(file) if name.startswith(("paramcount.sources.", "paramcount.renderers"))}
    assert not strangers - {module_name(file)}


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("renderers/*.py")), ids=module_name)
def test_a_renderer_knows_no_source_and_no_report(file: Path) -> None:
    assert not {name for name in imports(file) if name.startswith(("paramcount.sources", "paramcount.report"))}


def modules_after(statement: str) -> set[str]:
    """Return the top-level packages, and our own modules, that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_and_all_below_the_report_loads_no_heavy_library() -> None:
    loaded = modules_after("import paramcount, " + ", ".join(PURE))
    assert not loaded & HEAVY


def test_the_version_is_said_without_a_command_line_and_by_one_alike() -> None:
    run = "import atexit, sys\nfrom paramcount.process import run\n"
    told = "atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    for args, is_parsed in ((["--version"], False), (["-q", "--version"], True)):
        code = f"{run}sys.argv[1:] = {args!r}\n{told}\nrun()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == f"paramcount {paramcount.__version__}\n"
        assert bool(set(done.stderr.split()) & {"typer", "dataclasses", "inspect"}) == is_parsed


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["schema"], "schema"),
        (["cache"], "cache"),
        (["list", "resnet18"], "list"),
        (["count", "-h"], "count"),
    ],
)
def test_a_command_is_imported_without_the_others(args: list[str], wanted: str) -> None:
    loaded = modules_after(f"from paramcount.cli import main\nassert main({args!r}) == 0")
    commands = {"count", "list", "merge", "check", "lock", "diff", "init", "schema", "cache"}
    assert {name for name in commands if f"paramcount.commands.{name}" in loaded} == {wanted}


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["count", "--help"], ["schema"]], ids=" ".join)
def test_what_says_nothing_of_a_model_loads_no_library_of_models(args: list[str]) -> None:
    loaded = modules_after(f"from paramcount.cli import main\nassert main({args!r}) == 0")
    assert not loaded & {*MODEL_LIBRARIES, "numpy"}
    assert ("yaml" in loaded) == (args == ["schema"])  # what it prints is in the module that reads models.yaml


@pytest.mark.parametrize(
    "words",
    ["co", "count\nresn", "timm\n:\nvit", f"{Path(__file__).parent}/models/tutorial_cnn.py\n:\n", "list\n--source\n"],
)
def test_completion_loads_no_library_of_models(words: str) -> None:
    asked = {
        "_PARAMCOUNT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"paramcount\n{words}",
        "COMP_CWORD": f"{words.count(chr(10)) + 1}",
    }
    loaded = modules_after(
        f"import os\nos.environ |= {asked!r}\nfrom contextlib import redirect_stdout\nfrom io import StringIO\n"
        "from paramcount.cli import main\n"
        "with redirect_stdout(StringIO()) as said: assert main([]) == 0\n"
        "assert said.getvalue().strip()"
    )
    assert "paramcount.cli" in loaded
    assert not loaded & {*MODEL_LIBRARIES, "numpy", "yaml"}


def test_words_are_shown_to_the_sources_without_what_reads_files() -> None:
    code = "from paramcount.sources import resolve\nassert resolve('net.py:Net')[0].__name__.endswith('python')"
    assert not {
        name for name in modules_after(code) if name.startswith(("paramcount.files.torch", "paramcount.files.s"))
    }


def test_names_are_listed_without_torch() -> None:
    loaded = modules_after("from paramcount.cli import main\nassert main(['list', '*resnet*']) == 0")
    assert not loaded & {"torch", "torchvision", "timm"}


def test_a_users_file_loads_no_torchvision(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n  def __init__(self): super().__init__(2, 3)\n"
    )
    loaded = modules_after(f"from paramcount.cli import main\nassert main([{str(tmp_path / 'net.py')!r}]) == 0")
    assert "torch" in loaded
    assert "torchvision" not in loaded


def test_a_torchvision_name_loads_no_compiler() -> None:
    """torchvision imports it for a function that no constructor calls; it takes a second."""
    loaded = modules_after("from paramcount.cli import main\nassert main(['resnet18', '--no-cache']) == 0")
    assert "torchvision.models" in loaded
    assert not loaded & {"torch._dynamo", "torch._inductor", "sympy", "timm", "transformers"}


def test_a_misspelt_word_is_told_so_without_importing_what_it_may_have_meant() -> None:
    loaded = modules_after("from paramcount.cli import main\nassert main(['resnet5O']) == 2")
    assert not loaded & {"torch.nn", "torchvision.models", "timm.models", "transformers.models"}


def test_a_checkpoint_is_counted_without_torch(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "model.pt")
    save_file(state, tmp_path / "model.safetensors")
    files = [str(tmp_path / name) for name in ("model.pt", "model.safetensors")]
    loaded = modules_after(f"from paramcount.cli import main\nassert main([*{files!r}, '--value', 'total']) == 0")
    assert not loaded & {"torch", "numpy", "safetensors", "fsspec", "http.client", "urllib.request"}
    assert not loaded & {"pydantic", "rich", "paramcount.cache.record", "paramcount.commands.check"}
