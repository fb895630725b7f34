"""Building tries one way after another, tells the truth about it, and leaves the process as it was."""

from __future__ import annotations

import gc
import importlib
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from paramcount.errors import BuildError
from paramcount.modules import build as building
from paramcount.modules.build import build


def state() -> dict[str, Any]:
    """Return what belongs to the whole process, and a constructor can change."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "random": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "python_random": random.getstate(),
        "numpy_random": str(np.random.get_state()),
        "collector": gc.isenabled(),
        "filters": list(warnings.filters),
        "load_state_dict": nn.Module.load_state_dict,
        "hub": torch.hub.load_state_dict_from_url,
        "hub_code": (torch.hub.load_state_dict_from_url.__code__, dict(vars(torch.hub.load_state_dict_from_url))),
        "threads": torch.get_num_threads(),
        "function_modes": _get_current_function_mode_stack(),  # type: ignore[no-untyped-call]  # PyTorch's own lack
        "dispatch_modes": _get_current_dispatch_mode_stack(),
        "finders": list(sys.meta_path),
        "exec_module": SourceFileLoader.exec_module,
        "streams": (sys.stdout, sys.stderr),
        "meta": torch.zeros(300, 300).is_meta,
    }


def meddle() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("cuda")
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    warnings.simplefilter("ignore")
    nn.Linear(300, 300)


def succeeds() -> nn.Module:
    meddle()
    return nn.Linear(300, 300)


def needs_memory() -> nn.Module:
    meddle()
    return nn.Linear(int(torch.ones(300, 300).sum().item()) // 1000, 3)


def fails() -> nn.Module:
    meddle()
    raise ValueError("width must be even")


def exits() -> nn.Module:
    meddle()
    sys.exit(3)


def is_interrupted() -> nn.Module:
    meddle()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("construct", "error"),
    [
        (succeeds, None),
        (needs_memory, None),
        (fails, ValueError),
        (exits, SystemExit),
        (is_interrupted, KeyboardInterrupt),
    ],
)
def test_the_process_is_left_as_it_was(construct: Callable[[], nn.Module], error: type[BaseException] | None) -> None:
    """Whatever a constructor does to PyTorch's settings, and however it ends, they are as before."""
    before = state()
    if error is None:
        build(construct)
    else:
        with pytest.raises(error):
            build(construct)
    assert state() == before


def test_a_default_device_of_the_caller_stays() -> None:
    """What was set before the build is what is restored."""
    torch.set_default_device("meta")
    try:
        build(succeeds)
        assert torch.get_default_device() == torch.device("meta")
    finally:
        torch.set_default_device(None)


def test_the_constructors_own_error_surfaces() -> None:
    """An error in the user's code is raised as it is, not as something about memory or devices."""
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        build(lambda: nn.Linear(300, 300)(torch.zeros(2, 500)))
    assert "mat1 and mat2 shapes cannot be multiplied (2x500 and 300x300)" in str(raised.value)


@pytest.mark.parametrize("shape", [(3, 300), (300, 4), (2, 300, 300)])
def test_a_copy_that_does_not_fit_fails_as_in_memory(shape: tuple[int, ...]) -> None:
    """That no values are copied does not mean that anything goes."""

    def construct() -> nn.Module:
        layer = nn.Linear(300, 300)
        layer.weight.data.copy_(torch.ones(shape))
        return layer

    with pytest.raises(RuntimeError, match=r"must match|doesn't match the broadcast shape"):
        build(construct)


@pytest.mark.parametrize(
    "write",
    [
        lambda table: table.addmm_(torch.ones(300, 4), torch.ones(5, 300)),
        lambda table: table.index_copy_(0, torch.tensor([1]), torch.ones(1, 7)),
        lambda table: table.scatter_(0, torch.zeros(1, 300).long(), torch.ones(1, 300).long()),
    ],
)
def test_a_write_whose_parts_do_not_fit_fails_in_the_words_of_memory(write: Callable[[Any], torch.Tensor]) -> None:
    """PyTorch has other words for it where there is none."""
    with pytest.raises(RuntimeError) as expected:
        write(torch.zeros(300, 300))
    with pytest.raises(RuntimeError) as raised:
        build(lambda: nn.ParameterList([write(torch.empty(300, 300))]))
    assert str(raised.value) == str(expected.value)


def test_a_progress_bar_needs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that tqdm starts looks at no tensor."""
    bars = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr(bars, "monitor", None)
    model, notes = build(lambda: nn.Sequential(*[nn.Linear(300, 300) for _ in bars(range(2))]))
    assert bars.monitor.is_alive()
    bars.monitor.exit()
    assert notes == ()
    assert all(parameter.numel() < 1000 or parameter.is_meta for parameter in model.parameters())


def test_an_import_error_is_raised_at_once() -> None:
    """What memory cannot mend is not tried again."""
    tries = []

    def construct() -> nn.Module:
        tries.append(1)
        importlib.import_module("no_such_module")
        return nn.Linear(1, 1)

    with pytest.raises(ModuleNotFoundError):
        build(construct)
    assert tries == [1]


def test_an_error_after_a_missing_value_leads_to_memory() -> None:
    """A NameError that only follows from our error, which the constructor caught, is not the user's."""

    def construct() -> nn.Module:
        try:
            width = int(torch.ones(300, 300).mean().item())
        except Exception:  # noqa: BLE001  # the point of it
            del width  # the point of it, too
        return nn.Linear(width, 3)

    model, notes = build(construct)
    assert sum(parameter.numel() for parameter in model.parameters()) == 6
    assert [note.code for note in notes] == ["real-memory"]


def test_more_memory_than_there_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a value of a large tensor is needed, and the model does not fit, the message says both."""
    monkeypatch.setattr(building, "_available_memory", lambda: 10**6)

    def construct() -> nn.Module:
        for _ in range(50):
            torch.zeros(1000, 1000)  # gone by the time that the value is read: it takes no memory then
        kept = nn.Linear(500, 1000)
        return nn.Linear(int(kept.weight.sum().item()), 3)

    message = "a value is read from a tensor that has none.*it takes at least 2\\.00 MB, of which 1\\.00 MB are free"
    with pytest.raises(BuildError, match=message):
        build(construct)


def test_memory_is_what_the_operating_system_says_is_available() -> None:
    """Between something and all there is; None where nobody knows."""
    available = building._available_memory()
    assert available is None or 0 <= available < 2**50


def test_device_meta_never_takes_memory() -> None:
    """``meta`` fails rather than allocate."""
    with pytest.raises(RuntimeError, match="a value is read from a tensor that has none"):
        build(needs_memory, device="meta")
    with pytest.raises(BuildError, match="cannot be built without memory: a value is read"):
        build(guesses, device="meta")


def guesses() -> nn.Module:
    try:
        return nn.Linear(int(torch.ones(300, 300).sum()), 3)
    except RuntimeError:
        return nn.Linear(1, 3)


def test_device_cpu_takes_memory_at_once_and_without_a_note() -> None:
    """It is what was asked for."""
    model, notes = build(lambda: nn.Linear(300, 300), device="cpu")
    assert notes == ()
    assert not model.weight.is_meta


def test_nothing_is_printed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """A retry is silent up to where it says something else."""

    def construct() -> nn.Module:
        print("building", 300)
        print("a warning", file=sys.stderr)
        try:
            total = int(torch.ones(300, 300).sum().item())
        except RuntimeError:
            total = -1
        print("the sum is", total)
        return nn.Linear(3, 3)

    build(construct)
    assert capsys.readouterr() == ("building 300\nthe sum is -1\n90000\n", "a warning\n")


def test_a_stream_that_is_kept_prints_all(capsys: pytest.CaptureFixture[str]) -> None:
    """A log handler made in a constructor goes on with the stream that it found there."""
    kept = []

    def construct() -> nn.Module:
        kept.append(sys.stdout)
        print("once")
        return needs_memory()

    build(construct)
    print("once", file=kept[0])
    assert capsys.readouterr().out == "once\nonce\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that counts as one of installed packages."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("installed_by_somebody", "made_by_the_user"):
        sys.modules.pop(name, None)


def test_an_installed_module_imported_meanwhile_is_unharmed(installed: Path) -> None:
    """Its tensors outlive the build: they are real, whatever their size."""
    text = "import torch\ntable = torch.ones(300, 300)\ntable[0] = 2\ndrawn = torch.randn(300, 300)\n"
    (installed / "installed_by_somebody.py").write_text(text)

    def construct() -> nn.Module:
        module = importlib.import_module("installed_by_somebody")
        assert int(module.table.sum().item()) == 90300
        return nn.Linear(300, 300)

    model, notes = build(construct)
    assert notes == ()
    assert model.weight.is_meta
    module = sys.modules["installed_by_somebody"]
    assert not module.table.is_meta
    assert not module.drawn.is_meta
    assert int(module.table.sum().item()) == 90300


def test_the_users_own_module_is_built_without_memory(tmp_path: Path, installed: Path) -> None:
    """Only what is installed is let alone: a user's module may hold a model of any size."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "made_by_the_user.py").write_text("import torch\nmodel = torch.nn.Embedding(4_000_000, 1000)\n")
    sys.path.insert(0, str(folder))
    try:
        model, notes = build(lambda: importlib.import_module("made_by_the_user").model)
    finally:
        sys.path.remove(str(folder))
    assert notes == ()
    assert model.weight.numel() == 4_000_000_000


def test_seeded_draws_are_pytorchs_own() -> None:
    """A width that is drawn is the width that PyTorch draws, with and without large layers before it."""

    def construct(*, large: bool) -> nn.Module:
        torch.manual_seed(7)
        if large:
            nn.Linear(300, 300)
        return nn.Linear(int(torch.randint(1, 10**6, (1,)).item()), 3)

    for large, codes in ((False, []), (True, ["real-memory"])):
        model, notes = build(lambda large=large: construct(large=large))  # type: ignore[misc]  # a default binds it
        random_state = torch.get_rng_state()
        assert model.weight.shape == construct(large=large).weight.shape
        torch.set_rng_state(random_state)
        assert [note.code for note in notes] == codes


def loops(rows: int = 3000) -> nn.Module:
    """Normalise one element after the other, as quaternion layers do."""
    torch.manual_seed(7)
    weight = torch.FloatTensor(rows).uniform_(-1, 1)
    for row in range(rows):
        weight[row] /= torch.sqrt(weight[row] ** 2) + 0.0001
    model = nn.Linear(2, 2)
    model.register_parameter("extra", nn.Parameter(weight))
    return model


def test_a_constructor_that_loops_over_elements_has_them_in_memory() -> None:
    """It is run anew as soon as that shows, and gives what PyTorch gives; what is large beside it has no memory."""
    tries = []

    def construct() -> nn.ModuleDict:
        tries.append(1)
        large = nn.Linear(4096, 4096)
        return nn.ModuleDict({"looping": loops(), "large": large})

    model, notes = build(construct)
    assert (notes, len(tries)) == ((), 2)
    assert model["large"].get_parameter("weight").is_meta
    state = torch.get_rng_state()
    assert torch.equal(model.get_parameter("looping.extra"), loops().get_parameter("extra"))
    torch.set_rng_state(state)


def test_a_constructor_that_catches_everything_is_run_anew_all_the_same() -> None:
    """What it makes of the first try is nobody's model."""

    def construct() -> nn.Module:
        try:
            return loops()
        except BaseException:  # noqa: BLE001  # the point of it
            return nn.Linear(1, 1)

    model, notes = build(construct)
    assert notes == ()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3006


def test_what_a_loop_makes_and_drops_is_not_kept_alive() -> None:
    """Ten times the memory that all of a looping constructor's tensors may have at once goes by."""

    def construct() -> nn.Module:
        made = loops()
        for _ in range(40):
            torch.zeros(2_000_000).mul_(2)
        made.register_buffer("last", torch.full((2_000_000,), 5.0))
        return made

    model, notes = build(construct)
    assert notes == ()
    assert model.get_buffer("last")[-1] == 5


@pytest.mark.parametrize("draws", [1, 5])
def test_what_a_seeded_generator_draws_is_pytorchs_own(draws: int) -> None:
    """Also a million values, whose mean is a constant of the model; nothing is built twice for it."""
    tries = []

    def construct() -> nn.Module:
        tries.append(1)
        total = 0.0
        for seed in range(draws):
            generator = torch.Generator().manual_seed(seed)
            values = torch.randn(1_000_000, generator=generator, dtype=torch.float64).to(torch.float32)
            total += torch.tanh(values).pow(2).mean().item()
        return nn.Linear(int(total * 1e6), 1)

    model, notes = build(construct)
    assert (notes, len(tries)) == ((), 1)
    assert model.weight.shape == construct().weight.shape


def test_the_first_draws_of_a_seeded_constructor_are_pytorchs_own() -> None:
    def construct() -> nn.Module:
        torch.manual_seed(11)
        return nn.Linear(int(torch.rand(1_000_000).mean().item() * 1e6), 1)

    model, notes = build(construct)
    state = torch.get_rng_state()
    assert notes == ()
    assert model.weight.shape == construct().weight.shape
    torch.set_rng_state(state)
