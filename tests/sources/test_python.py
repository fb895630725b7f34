"""A user's own code: however it is laid out and whatever it does, it is counted, or told clearly why not."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

import paramcount
from paramcount.errors import BuildError, ParamcountError, UnknownTarget, UsageError

NET = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.fc = nn.Linear(3, width)
"""


def write(path: str, text: str = NET) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(text), encoding="utf-8")
    return file


def failure(target: str, **keywords: object) -> ParamcountError:
    with pytest.raises(ParamcountError) as caught:
        paramcount.count(target, **keywords)  # type: ignore[arg-type]
    return caught.value


def test_a_class_a_factory_and_an_instance_are_models(folder: Path) -> None:
    write("net.py", NET + "\n    model = Net(5)\n    def build(width): return Net(width)\n")
    assert paramcount.count("net.py:Net").total == 16
    assert paramcount.count("net.py:Net", args={"width": 7}).total == 28
    assert paramcount.count("net.py:build", args={"width": 2}).total == 8
    assert paramcount.count("net.py:model").total == 20


def test_a_dotted_attribute_is_looked_up_part_by_part(folder: Path) -> None:
    write("net.py", NET + "\n    class Zoo:\n        small = Net\n")
    assert paramcount.count("net.py:Zoo.small").total == 16


def test_a_file_with_one_candidate_needs_no_name(folder: Path) -> None:
    write("net.py", "from torch.nn import Linear, Module\n" + dedent(NET))
    assert paramcount.count("net.py").total == 16


def test_of_several_classes_the_one_that_can_be_built_as_things_stand_is_it(folder: Path) -> None:
    write("net.py", NET + "\n    class Block(nn.Module):\n        def __init__(self, size): ...\n")
    assert paramcount.count("net.py").total == 16
    assert paramcount.count("net.py", args={"width": 1}).total == 4


def test_an_instance_in_the_file_is_the_model(folder: Path) -> None:
    write("net.py", NET + "\n    class Other(Net): ...\n    model = Net(5)\n")
    assert paramcount.count("net.py").total == 20


def test_a_factory_that_says_what_it_returns_is_a_candidate(folder: Path) -> None:
    write("net.py", "from torch import nn\ndef tiny() -> nn.Module: return nn.Linear(1, 1)\ndef other(): ...\n")
    assert paramcount.count("net.py").total == 2


def test_several_candidates_are_listed(folder: Path) -> None:
    write("net.py", NET + "\n    class Wide(Net): ...\n")
    error = failure("net.py")
    assert isinstance(error, UsageError)
    assert (error.message, error.hint) == ("net.py holds 2 models", "name one: net.py:Net, net.py:Wide")


def test_a_file_without_a_model_says_so(folder: Path) -> None:
    write("net.py", "x = 1\n")
    assert failure("net.py").message == "net.py holds no model"


def test_a_module_by_name_is_found_from_the_current_folder(folder: Path) -> None:
    write("pkg/__init__.py", "")
    write("pkg/sub/nets.py")
    before = set(sys.modules)
    assert paramcount.count("pkg.sub.nets:Net").total == 16
    assert set(sys.modules) == before


def test_a_file_in_a_package_keeps_its_relative_imports(folder: Path) -> None:
    write("pkg/__init__.py", "width = 9\n")
    write("pkg/sub/__init__.py", "")
    write("pkg/sub/part.py", "from .. import width\n")
    write("pkg/sub/net.py", "from .part import width\n" + dedent(NET) + "def wide(): return Net(width)\n")
    assert paramcount.count("pkg/sub/net.py:wide").total == 36
    os.chdir("pkg/sub")
    assert paramcount.count("net.py:wide").total == 36


def test_a_files_siblings_are_importable_and_each_folder_has_its_own(folder: Path) -> None:
    for name, width in (("a", 2), ("b", 3)):
        write(f"{name}/sizes.py", f"width = {width}\n")
        write(f"{name}/net.py", "from sizes import width\n" + dedent(NET) + "def wide(): return Net(width)\n")
    assert [paramcount.count(f"{name}/net.py:wide").total for name in "aba"] == [8, 12, 8]


@pytest.mark.parametrize("target", ["net.py:Net", "net:Net", "package/net.py:Net"])
def test_an_edit_counts_also_where_neither_size_nor_time_tell(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write("package/__init__.py", "")
    for width in (4, 5):
        for file in (write("net.py"), write("package/net.py")):
            write(str(file), NET.replace("width: int = 4", f"width: int = {width}"))
            os.utime(file, (1_800_000_000, 1_800_000_000))
        assert paramcount.count(target).total == 4 * width
    assert not list(folder.rglob("*.pyc"))
    assert not sys.dont_write_bytecode


BLOCK = """
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
"""
PROJECT = """
    from torch import nn
    {imports}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.b, self.h = Block(), nn.Linear(3, W)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from models.layers import Block; from utils.misc import W",
        "from .layers import Block; from utils.misc import W",
        "from .layers import Block; from ..utils.misc import W",
        "import models.layers; from utils import misc; Block, W = models.layers.Block, misc.W",
    ],
)
def test_imports_start_at_the_projects_root(folder: Path, imports: str) -> None:
    """From the root and from the file's own folder, with packages that have no __init__.py."""
    root = folder / "project"
    write(str(root / "models/layers.py"), BLOCK)
    write(str(root / "utils/misc.py"), "W = 2\n")
    write(str(root / "models/net.py"), PROJECT.format(imports=imports))
    os.chdir(folder if ".." in imports else root)  # what is two folders up is in a package of its own
    assert paramcount.count(f"{root}/models/net.py:Net").total == 23
    assert paramcount.count(f"{os.path.relpath(root)}/models/net.py:Net").total == 23
    if ".." not in imports:
        os.chdir(root / "models")
        assert paramcount.count("net.py:Net").total == 23


def test_a_package_in_a_folder_that_is_none_is_imported_from_the_root(folder: Path) -> None:
    write("ldm/modules/diffusion/__init__.py", "")
    write("ldm/modules/diffusion/parts.py", BLOCK)
    write("ldm/util.py", "W = 2\n")
    imports = "from ldm.modules.diffusion.parts import Block; from ldm.util import W"
    write("ldm/modules/diffusion/net.py", PROJECT.format(imports=imports))
    assert paramcount.count("ldm/modules/diffusion/net.py:Net").total == 23


@pytest.mark.parametrize("name", ["types", "torch", "colorsys", "installed_thing"])
def test_a_file_beside_the_models_stands_for_no_library(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that is run from its root means what is installed by the names of its models' files."""
    write("site-packages/installed_thing.py", "W = 2\n")
    monkeypatch.syspath_prepend(str(folder / "site-packages"))
    write(f"models/{name}.py", "raise RuntimeError\n")
    write("models/net.py", f"import {name}\n" + dedent(NET))
    sys.modules.pop("colorsys", None)
    assert paramcount.count("models/net.py:Net").total == 16
    sys.modules.pop("installed_thing", None)


@pytest.mark.parametrize(
    "imports", ["from installed_thing import width", "import installed_thing; width = installed_thing.width"]
)
def test_a_sibling_that_has_a_librarys_name_is_found_where_only_it_has_what_is_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, imports: str
) -> None:
    write("site-packages/installed_thing.py", "V = 2\n")
    monkeypatch.syspath_prepend(str(folder / "site-packages"))
    write("models/installed_thing.py", "width = 7\n")
    write("models/net.py", f"{imports}\n" + dedent(NET) + "def wide(): return Net(width)\n")
    assert paramcount.count("models/net.py:wide").total == 28
    sys.modules.pop("installed_thing", None)


def test_a_folder_above_that_has_the_missing_module_is_named(folder: Path) -> None:
    write("project/lib/sizes/width.py", "width = 7\n")
    write("project/lib/nets/net.py", "from sizes.width import width\n" + dedent(NET))
    error = failure("project/lib/nets/net.py:Net")
    assert (error.exit_code, "No module named 'sizes'" in error.message) == (3, True)
    assert error.hint is not None
    assert error.hint.startswith(f"sizes is in {folder}/project/lib, and was looked for in {folder}/project/lib/nets, ")
    os.chdir("project/lib")
    assert paramcount.count("nets/net.py:Net").total == 16


@pytest.mark.parametrize(
    ("statement", "lacks"),
    [
        ("from torch._six import container_abcs", "torch._six"),
        ("from torchvision.models.utils import load_state_dict_from_url", "torchvision.models.utils"),
        ("from torchvision.models.resnet import model_urls", "torchvision.models.resnet.model_urls"),
    ],
)
def test_code_for_an_older_library_is_told_so(folder: Path, statement: str, lacks: str) -> None:
    write("net.py", f"{statement}\n" + dedent(NET))
    error = failure("net.py:Net")
    assert error.exit_code == 3
    assert error.hint is not None
    assert f"has no {lacks}: the code is for an older version" in error.hint


def test_an_installed_module_is_a_target_too(folder: Path) -> None:
    assert paramcount.count("torch.nn:Linear", args={"in_features": 2, "out_features": 3}).total == 9
    assert "torch.nn" in sys.modules


@pytest.mark.parametrize("name", ["random.py", "torch.py", "with-dash.py", "two words.py", "1st.py", "日本.py"])
def test_a_file_of_any_name_is_counted(folder: Path, name: str) -> None:
    write(name)
    assert paramcount.count(f"{name}:Net").total == 16


def test_a_dataclass_and_a_pickle_find_their_module(folder: Path) -> None:
    write(
        "net.py",
        """
        from __future__ import annotations
        import copy, pickle
        from dataclasses import dataclass
        from torch import nn

        @dataclass
        class Config:
            width: int = 3

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(pickle.loads(pickle.dumps(Config())).width, 1)
        """,
    )
    assert paramcount.count("net.py:Net").total == 4


def test_a_file_that_changes_the_interpreter_leaves_no_trace(folder: Path) -> None:
    write(
        "net.py",
        """
        import os, sys, torch
        os.makedirs("elsewhere", exist_ok=True)
        os.chdir("elsewhere")
        assert sys.argv[1:] == []
        sys.argv.append("x")
        sys.path.insert(0, "/nonsense")
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(0)
        from torch import nn
        def build(): return nn.Linear(1, 1)
        """,
    )
    before = (sys.argv[:], sys.path[:], set(sys.modules), Path.cwd(), torch.get_default_dtype())
    state = torch.get_rng_state()
    assert paramcount.count("net.py:build").nbytes == 16
    assert (sys.argv[:], sys.path[:], set(sys.modules), Path.cwd(), torch.get_default_dtype()) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_missing_file_is_unknown_with_the_closest(folder: Path) -> None:
    write("models/resnet.py")
    error = failure("models/restnet.py:Net")
    assert isinstance(error, UnknownTarget)
    assert error.hint == "did you mean models/resnet.py?"


def test_a_missing_attribute_is_unknown_with_the_candidates_of_that_file(folder: Path) -> None:
    write("net.py", NET + "\n    class Wide(Net): ...\n")
    error = failure("net.py:Nett")
    assert isinstance(error, UnknownTarget)
    assert (error.message, error.hint) == ("net.py has no 'Nett'", "did you mean net.py:Net?")
    assert failure("net.py:xyz").hint == "there is net.py:Net, net.py:Wide"


def test_a_missing_module_is_unknown(folder: Path) -> None:
    error = failure("nowhere.net:Net")
    assert isinstance(error, UnknownTarget)
    assert "no module 'nowhere'" in error.message


def test_a_misspelt_prefix_reads_as_a_module_and_is_told_what_it_may_mean(folder: Path) -> None:
    error = failure("transformer:some/model")
    assert (error.exit_code, error.hint) == (2, "did you mean transformers:some/model?")
    write("transform.py", NET)
    assert failure("transform:Nett").hint == "did you mean transform:Net?"


def test_a_module_that_misses_a_library_is_told_which(folder: Path) -> None:
    write("net.py", "import no_such_library\n")
    for target in ("net.py:Net", "net:Net"):
        error = failure(target)
        assert isinstance(error, BuildError)
        assert "No module named 'no_such_library'" in error.message
        assert error.hint is not None
        assert error.hint.startswith("install what provides 'no_such_library'")


def test_missing_arguments_are_named_with_what_to_add_and_the_signature(folder: Path) -> None:
    write(
        "net.py",
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, width, *, depth, act='relu'): ...\n",
    )
    error = failure("net.py:Net")
    assert (error.exit_code, error.message) == (3, "net.py:Net needs arguments: width, depth")
    assert error.hint == "add -a width=… -a depth=…; its signature is Net(width, *, depth, act='relu')"


def test_an_unknown_argument_gets_the_closest_and_the_signature(folder: Path) -> None:
    write("net.py")
    error = failure("net.py:Net", args={"widht": 3})
    assert (error.exit_code, error.message) == (3, "net.py:Net takes no argument 'widht'")
    assert error.hint == "did you mean -a width=…?; its signature is Net(width=4)"


def test_an_unknown_argument_of_an_expression_or_in_a_file_is_mended_where_it_is_written(folder: Path) -> None:
    write("net.py", NET + "\n    class Outer(Net):\n        def __init__(self): Net(widht=3)\n")
    for word in ("net.py:Net(widht=3)", "net.py:Outer"):
        assert failure(word).hint == "did you mean width=…?; its signature is Net(width=4)"


def test_a_misspelt_name_in_an_expression_is_no_part_of_longer_names(folder: Path) -> None:
    write("net.py", NET + "\n    def Nets(net): return net\n")
    assert failure("net.py:Nets(Ne())").hint == "did you mean net.py:Nets(Net()) or net.py:Nets(Nets())?"


def test_an_instance_takes_no_arguments(folder: Path) -> None:
    write("net.py", NET + "\n    model = Net()\n")
    assert "takes no arguments" in failure("net.py:model", args={"width": 3}).message


def test_what_the_constructor_raises_comes_with_the_users_frames_only(folder: Path) -> None:
    write(
        "net.py",
        """
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList(self.block(i) for i in range(3))

            def block(self, i):
                if i == 2:
                    raise ValueError("no third block")
                return nn.Linear(i + 1, 1)
        """,
    )
    error = failure("net.py:Net")
    assert error.message == "net.py:Net could not be built: ValueError: no third block"
    assert "in block" in error.details
    assert 'raise ValueError("no third block")' in error.details
    assert "paramcount" not in error.details.replace(str(folder), "")
    assert "torch/nn" not in error.details
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize(
    ("statement", "said"),
    [("sys.exit()", "sys.exit()"), ("sys.exit(0)", "sys.exit(0)"), ("raise SystemExit('no')", "sys.exit('no')")],
)
def test_an_exit_in_a_users_file_is_an_error_of_that_file(folder: Path, statement: str, said: str) -> None:
    write("net.py", f"import sys\n{statement}\n")
    error = failure("net.py:Net")
    assert error.exit_code == 3
    assert error.message == f"net.py:Net called {said} instead of giving a model"
    assert error.hint is not None
    assert "__main__" in error.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def build(): return {'a': 1}", "net.py:build returned a dict, not a model"),
        ("def build(): return None", "net.py:build returned None, not a model"),
        ("build = 3", "net.py:build is of type int, not a model"),
        ("class build: ...", "net.py:build is a class, but not one of torch.nn.Module"),
        ("import os as build", "net.py:build is of type module, not a model"),
    ],
)
def test_what_is_no_model_is_told_so(folder: Path, text: str, said: str) -> None:
    write("net.py", text + "\n")
    error = failure("net.py:build")
    assert (error.exit_code, error.message) == (3, said)


def test_a_syntax_error_shows_its_line(folder: Path) -> None:
    write("net.py", "x = 1\ndef (:\n")
    error = failure("net.py:Net")
    assert error.message.startswith("net.py:Net could not be built: SyntaxError")
    assert "def (:" in error.details


def test_endless_recursion_is_told_so(folder: Path) -> None:
    write("net.py", "def build(): return build()\n")
    assert failure("net.py:build").hint == "a constructor calls itself without end"


def test_an_exception_that_cannot_describe_itself_is_still_reported(folder: Path) -> None:
    write("net.py", "class Odd(Exception):\n    def __str__(self): raise RuntimeError\ndef build(): raise Odd\n")
    assert failure("net.py:build").message == "net.py:build could not be built: Odd"


def test_weights_are_for_torchvision_names_only(folder: Path) -> None:
    write("net.py")
    assert isinstance(failure("net.py:Net", weights="DEFAULT"), UsageError)


def test_what_a_dict_or_a_list_holds_is_named_as_modules_are(folder: Path) -> None:
    write("gan.py", NET + "\n    nets = {'g': Net(5), 'd': Net}\n    stages = [Net(1), Net(2)]\n")
    assert paramcount.count("gan.py:nets.g").total == 20
    assert paramcount.count("gan.py:nets.d", args={"width": 1}).total == 4
    assert paramcount.count("gan.py:stages.1").total == 8
    error = failure("gan.py:nets")
    assert error.message == "gan.py:nets is of type dict, not a model"
    assert error.hint == "name one: gan.py:nets.g, gan.py:nets.d"
    assert failure("gan.py:nets.discriminator").hint == "there is gan.py:nets.d, gan.py:nets.g"
    assert failure("gan.py:stages.2").exit_code == 2
    write("held.py", "from torch import nn\nnets = {'g': nn.Linear(1, 1)}\n")
    assert failure("held.py").hint == "name one: held.py:nets.g"


LOSSES = """
    class Loss(nn.Module):
        def __init__(self, gamma=2.0):
            super().__init__()

    criterion = nn.CrossEntropyLoss()
"""


def test_a_loss_without_parameters_is_no_model_beside_one_that_has_some(folder: Path) -> None:
    write("net.py", NET + LOSSES)
    assert paramcount.count("net.py").total == 16
    assert paramcount.count("net.py:Loss").total == 0
    write("net.py", NET + LOSSES + "\n    class Wide(Net): ...\n")
    assert failure("net.py").message == "net.py holds 2 models"
    write("net.py", "from torch import nn\n" + dedent(LOSSES))
    assert failure("net.py").message == "net.py holds 2 models"  # neither has any


def test_a_constructor_that_takes_an_object_is_written_in_python_and_the_hint_is_what_then_works(folder: Path) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass
        from torch import nn

        @dataclass
        class Config:
            width: int = 4

        class Net(nn.Module):
            def __init__(self, config: Config):
                super().__init__()
                self.fc = nn.Linear(3, config.width)

        class Untold(nn.Module):
            def __init__(self, cfg): ...
    """
    write("net.py", text)
    hint = failure("net.py:Net").hint
    assert hint is not None
    assert "-a config" not in hint
    assert hint == "no -a can give an object: write it in Python: 'net.py:Net(Config())'"
    assert paramcount.count("net.py:Net(Config())").total == 16
    hint = failure("net.py:Untold").hint
    assert hint is not None
    cure = "add -a cfg=…; its signature is Untold(cfg); where an object is meant, write it in Python: "
    assert hint == f"{cure}'net.py:Untold(cfg=…)'"


def test_a_module_that_imports_as_soon_as_it_is_asked_is_not_asked(folder: Path) -> None:
    write(
        "net.py",
        """
    import sys, types

    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            raise ImportError(f"an optional dependency is missing: {name}")

    class NoModule:
        def __getattribute__(self, name):
            raise ImportError(f"an optional dependency is missing: {name}")

    sys.modules["net_optional"] = optional = Lazy("net_optional")
    sys.modules["net_other"] = other = NoModule()
        """
        + NET,
    )
    try:
        assert paramcount.count("net.py:Net").total == 16
        assert paramcount.count("net.py").total == 16
    finally:
        sys.modules.pop("net_optional", None)  # which stay where they are: they are nobody's code
        sys.modules.pop("net_other", None)


def test_an_argument_that_is_taken_by_its_place_only_is_given_by_its_name(folder: Path) -> None:
    write(
        "net.py",
        """
        from torch import nn

        class Net(nn.Module):
            def __init__(self, width, depth=2, size=3, /, *, bias=True):
                super().__init__()
                self.fc = nn.Linear(width * depth, size, bias=bias)
        """,
    )
    assert "-a width=…" in (failure("net.py:Net").hint or "")
    assert paramcount.count("net.py:Net", args={"width": 4}).total == 8 * 3 + 3
    assert paramcount.count("net.py:Net", args={"size": 5, "width": 4, "bias": False}).total == 8 * 5
    assert "no argument 'widht'" in failure("net.py:Net", args={"widht": 4}).message


def test_what_else_a_file_holds_is_not_looked_through(folder: Path) -> None:
    write(
        "net.py",
        """
        from collections.abc import Mapping
        from itertools import count

        class Endless(Mapping):
            def __getitem__(self, key):
                return key

            def __iter__(self):
                return count()

            def __len__(self):
                return 1

        class Lazy:
            def __getattribute__(self, name):
                raise ImportError(f"an optional dependency is missing: {name}")

        data = Endless()
        lazy = [Lazy()]
        """,
    )
    assert failure("net.py").message == "net.py holds no model"
    assert "Endless, not a model" in failure("net.py:data").message


def test_a_module_without_a_hash_that_its_own_constructor_lists_is_told_with_the_cure(folder: Path) -> None:
    write(
        "net.py",
        """
        from torch import nn

        class Equal(nn.Module):
            def __eq__(self, other):
                return True

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.part = Equal()
                self.apply(print)
        """,
    )
    error = failure("net.py:Net")
    assert "unhashable type: 'Equal'" in error.message
    assert error.hint == "put __hash__ = nn.Module.__hash__ into class Equal"


EXPRESSIONS = """
    from dataclasses import dataclass, field
    from typing import NamedTuple
    from torch import nn

    @dataclass
    class Config:
        width: int = 4
        text: str = ""

    class Net(nn.Module):
        def __init__(self, config, *, scale=1):
            super().__init__()
            self.fc = nn.Linear(3, config.width * scale)

        @classmethod
        def from_name(cls, name: str) -> "Net":
            return cls(Config({"tiny": 1, "s:3": 3}[name]))

    class Pair(NamedTuple):
        first: nn.Module
        second: object

    @dataclass
    class Built:
        model: nn.Module
        steps: int = 3

    ZOO = {"Net-S/2": lambda: Net(Config(2)), "Net-S": lambda: Net(Config(1)), "b": Net}

    def make(width=5):
        return Net(Config(width)), len

    def two():
        return {"a": Net(Config(1)), "b": Net(Config(2))}

    def fails():
        raise ValueError("no such width")
"""


@pytest.mark.parametrize(
    ("expression", "width"),
    [
        ("Net(Config())", 4),
        ("Net(Config(width=2), scale=3)", 6),
        ("Net(Config(text='a:b, c.py:d'))", 4),
        ('Net.from_name("s:3")', 3),
        ('ZOO["Net-S/2"]()', 2),
        ('ZOO["Net-S/2"]', 2),
        ("ZOO.Net-S/2", 2),
        ("ZOO.Net-S", 1),
        ("make()", 5),
        ("make()[0]", 5),
        ("make", 5),
        ("two()['b']", 2),
        ("Built(Net(Config(7)))", 7),
        ("Pair(Net(Config(7)), 3)", 7),
        ("[Net(Config(w)) for w in (1, 2)][-1]", 2),
        ("(lambda w: Net(Config(w)))(8)", 8),
        (" Net( Config( 9 ) ) ", 9),
    ],
)
def test_a_target_is_what_a_person_would_write_in_python(folder: Path, expression: str, width: int) -> None:
    write("net.py", EXPRESSIONS)
    assert paramcount.count(f"net.py:{expression}").total == 4 * width
    report = paramcount.count(f"{folder}/net.py:{expression}")
    assert (report.total, report.target) == (4 * width, f"{folder}/net.py:{expression}")
    if expression[0].isalpha() and "/" not in expression.partition("[")[0]:
        assert paramcount.count(f"net:{expression}").total == 4 * width


def test_a_name_that_a_module_imports_is_among_the_closest(folder: Path) -> None:
    write("net.py", EXPRESSIONS)
    write("package/__init__.py", "from net import Net, Config\nother = 1\n")
    assert failure("package:Nett").hint == "did you mean package:Net?"


def test_arguments_go_to_what_an_expression_gives(folder: Path) -> None:
    write("net.py", EXPRESSIONS)
    assert paramcount.count("net.py:make", args={"width": 2}).total == 8
    assert (
        failure("net.py:make()", args={"width": 2}).message
        == "net.py:make() is a model already, and takes no arguments"
    )


TWO = "name one: 'net.py:two()[\"a\"]', 'net.py:two()[\"b\"]'"


@pytest.mark.parametrize(
    ("target", "kind", "said", "hint"),
    [
        (
            "net.py:two()",
            BuildError,
            "net.py:two() holds 2 models",
            "name one: 'net.py:two()[\"a\"]', 'net.py:two()[\"b\"]'",
        ),
        (
            "net.py:two",
            BuildError,
            "net.py:two() holds 2 models",
            "name one: 'net.py:two()[\"a\"]', 'net.py:two()[\"b\"]'",
        ),
        ("net.py:Nett(Config())", UnknownTarget, "net.py has no 'Nett'", "did you mean net.py:Net(Config())?"),
        ("net.py:Net(Confg())", UnknownTarget, "net.py has no 'Confg'", "did you mean net.py:Net(Config())?"),
        (
            "net.py:Net.from_nam('tiny')",
            UnknownTarget,
            "net.py: type object 'Net' has no attribute 'from_nam'",
            "did you mean net.py:Net.from_name('tiny')?",
        ),
        (
            "net.py:[[Net(Config())]]",
            BuildError,
            "net.py:[[Net(Config())]] holds a model further down",
            "name one: 'net.py:[[Net(Config())]][0][0]'",
        ),
        ("net.py:len([1])", BuildError, "net.py:len([1]) is of type int, not a model", None),
        (
            "net.py:ZOO",
            BuildError,
            "net.py:ZOO is of type dict, not a model",
            "name one: net.py:ZOO.Net-S/2, net.py:ZOO.Net-S, net.py:ZOO.b",
        ),
        (
            "net.py:ZOO.Net-S/3",
            UnknownTarget,
            "net.py has no 'ZOO.Net-S/3'",
            "did you mean net.py:ZOO.Net-S/2 or net.py:ZOO.Net-S?",
        ),
        (
            "net.py:Net(Config()",
            UsageError,
            "net.py: 'Net(Config()' is no Python expression: '(' was never closed, at character 4",
            None,
        ),
        ("net.py:fails()", BuildError, "net.py:fails() could not be built: ValueError: no such width", None),
    ],
)
def test_an_expression_that_gives_no_model_says_what_would(
    folder: Path, target: str, kind: type[ParamcountError], said: str, hint: str | None
) -> None:
    write("net.py", EXPRESSIONS)
    error = failure(target)
    assert (type(error), error.message) == (kind, said)
    if hint is not None:
        assert error.hint == hint
    if "fails" in target:
        assert 'raise ValueError("no such width")' in error.details
    if hint is not None and "name one" in hint:
        for other in hint.removeprefix("name one: ").split(", "):
            assert other.endswith(".b") or paramcount.count(other.strip("'")).total > 0
