"""Libraries that refuse each other make a test skip with their reason, and nothing else does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.refusals import refusal

LIBRARIES = {
    "wants_newer": "raise ValueError('The version of PyYAML you are using is not compatible, use a version >= 99')",
    "pins": "raise ImportError('pyyaml==1.0 is required for a normal functioning of this module')",
    "misses_a_name": "from yaml import no_such_name",
    "misses_a_module": "import yaml.no_such_module",
    "is_broken": "raise ValueError('a bug of its own')",
    "speaks_of_a_format": "raise ValueError('version 3 of the format is unknown')",
}
REFUSE = {"wants_newer", "pins", "misses_a_name", "misses_a_module"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, source in LIBRARIES.items():
        (tmp_path / f"{name}.py").write_text(f"def use():\n    {source}\n")
    yield tmp_path
    for name in LIBRARIES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_a_library_that_refuses_another_gives_a_reason(library: str, installed: Path) -> None:
    with pytest.raises((ValueError, ImportError)) as raised:
        import_module(library).use()
    reason = refusal(raised.value, (installed,))
    assert reason == (f"{library}: {raised.value}" if library in REFUSE else None)


def test_what_our_own_code_raises_is_a_failure(installed: Path) -> None:
    with pytest.raises(ValueError, match="PyYAML"):
        exec(LIBRARIES["wants_newer"])  # as a test or paramcount itself would
    error = ValueError("the version of PyYAML")
    assert refusal(error, (installed,)) is None
