"""What is installed is told from what is a user's, without running any code to find out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from paramcount.cache import installed
from paramcount.cache.installed import PROGRAM, stranger

SITE = installed.sites()[0]


def module(name: str, **attributes: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


STRANGERS = {
    "a file of a user's": module("net", __file__="/home/me/net.py"),
    "an editable install": module("shelf", __file__="/home/me/shelf/src/shelf/__init__.py"),
    "site-packages of another Python": module("shelf", __file__="/elsewhere/site-packages/shelf.py"),
    "a zip on the path": module("shelf", __file__="/home/me/shelf.zip/shelf.py"),
    "a folder without an __init__.py": module("shelf", __path__=["/home/me/shelf"]),
    "a folder that is partly installed": module("shelf", __path__=[f"{SITE}shelf", "/home/me/shelf"]),
}
INSTALLED = {
    "one of Python's": os,
    "one that is built in": sys,
    "an installed one": module("shelf", __file__=f"{SITE}shelf.py"),
    "an installed folder": module("shelf", __path__=[f"{SITE}shelf"]),
    "one of ours": module("paramcount.cli", __file__=f"{PROGRAM}{os.sep}cli.py"),
    "one that an installed one made": module("shelf.made"),
    "one with a name for a file": module("torch.ops", __file__="_ops.py"),
    "no module at all": object(),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_module_that_is_not_installed_is_named(kind: str) -> None:
    assert stranger({"os": os, "shelf": STRANGERS[kind]}) == "shelf"


@pytest.mark.parametrize("kind", INSTALLED)
def test_an_installed_module_is_none(kind: str) -> None:
    assert stranger({"shelf": INSTALLED[kind]}) is None


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
@pytest.mark.parametrize("file", ["/home/me/{}.py", f"{SITE}{{}}.py"])
def test_what_runs_in_every_process_is_a_user_s_also_where_packages_are(name: str, file: str) -> None:
    assert stranger({name: module(name, __file__=file.format(name))}) == name


def test_a_distribution_s_own_customization_is_python_s() -> None:
    own = module("sitecustomize", __file__=str(Path(os.__file__).with_name("sitecustomize.py")))
    assert stranger({"sitecustomize": own}) is None


@pytest.mark.parametrize(
    ("file", "is_one"),
    [
        ("/anywhere/bin/paramcount", False),
        (r"/anywhere/Scripts/paramcount.exe", False),
        (f"{PROGRAM}/__main__.py", False),
        (f"{SITE}coverage/__main__.py", False),
        ("/home/me/script.py", True),
        (None, True),  # python -c
    ],
)
def test_the_script_that_starts_the_program_is_no_code_of_a_user_s(file: str | None, is_one: bool) -> None:
    main = module("__main__", __file__=file)
    assert stranger({"__main__": main, "__mp_main__": main}) == ("__main__" if is_one else None)
