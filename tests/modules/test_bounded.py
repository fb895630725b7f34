"""A constructor that loops is run as it is, within bounds: fast, and never with another outcome because of these."""

import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from paramcount.modules.bounded import can_bound
from paramcount.modules.build import _available_memory, build

pytestmark = pytest.mark.skipif(not can_bound(_available_memory()), reason="needs Linux, and no debugger")


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_DATA), torch.get_num_threads(), threading.Thread.start
    yield
    assert (resource.getrlimit(resource.RLIMIT_DATA), torch.get_num_threads(), threading.Thread.start) == before
    assert sys.gettrace() is None


def looping() -> torch.Tensor:
    weight = torch.zeros(1500)
    for place in range(1500):
        weight[place] = 2 * place
    return weight


def model(*tensors: torch.Tensor) -> nn.ParameterList:
    return nn.ParameterList(tensors)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def modes() -> int:
    return torch._C._len_torch_function_stack()  # for want of a public one


def test_no_mode_hears_of_a_loop_once_it_is_one() -> None:
    heard = []

    def construct() -> nn.Module:
        weight = looping()
        heard.append(modes())
        return model(weight)

    made, notes = build(construct)
    assert (notes, heard) == ((), [0])
    assert torch.equal(next(made.parameters()), looping())


def test_without_memory_means_without_also_for_a_loop() -> None:
    heard = []

    def construct() -> nn.Module:
        weight = looping()
        heard.append(modes())
        return model(weight, torch.empty(100_000))

    made, _ = build(construct, device="meta")
    assert heard == [1]
    assert list(made.parameters())[1].is_meta


def layer_beyond_all_memory() -> nn.Module:
    return nn.ModuleList([model(looping()), nn.Linear(10**7, 10**7, bias=False)])


def product_beyond_all_memory() -> nn.Module:
    side = torch.ones(60_000)
    return model(looping(), side[:, None] * side[None, :])


def many_that_are_too_much() -> nn.Module:
    return nn.ModuleList([model(looping()), *[model(torch.empty(40_000)) for _ in range(1_000)]])


def refusal_that_is_caught() -> nn.Module:
    weight = looping()
    try:
        large = torch.empty(200_000_000)
    except RuntimeError:
        large = torch.empty(7)
    return model(weight, large)


def refusal_that_is_caught_with_all_else() -> nn.Module:
    weight = looping()
    try:
        large = torch.zeros(300_000_000)
    except:  # noqa: E722  # the point of it
        large = torch.empty(7)
    return model(weight, large)


def missing_device_that_is_caught() -> nn.Module:
    weight = looping()
    try:
        small = torch.zeros(6, device="cuda")
    except Exception:  # noqa: BLE001  # the point of it
        small = torch.zeros(7)
    return model(weight, small)


def move_to_a_missing_device_that_is_caught() -> nn.Module:
    weight = looping()
    try:
        layer = nn.Linear(2, 2).cuda()
    except Exception:  # noqa: BLE001  # the point of it
        layer = nn.Linear(3, 3)
    return nn.ModuleList([model(weight), layer])


def program_that_it_runs() -> nn.Module:
    weight = looping()
    told = subprocess.run(["echo", "5"], capture_output=True, check=False).stdout
    return model(weight, torch.zeros(int(told)))


def threads_that_it_sets() -> nn.Module:
    weight = looping()
    torch.set_num_threads(torch.get_num_threads())
    return model(weight, torch.zeros(8))


def trace_of_its_own() -> nn.Module:
    weight, trace = looping(), sys.gettrace()
    sys.settrace(None)
    try:
        large = torch.empty(300_000_000)
    except RuntimeError:
        large = torch.empty(7)
    sys.settrace(trace)
    return model(weight, large)


@pytest.mark.parametrize(
    ("construct", "expected"),
    [
        (layer_beyond_all_memory, 1_500 + 10**14),
        (product_beyond_all_memory, 1_500 + 60_000**2),
        (many_that_are_too_much, 1_500 + 1_000 * 40_000),
        (refusal_that_is_caught, 1_500 + 200_000_000),
        (refusal_that_is_caught_with_all_else, 1_500 + 300_000_000),
        (missing_device_that_is_caught, 1_500 + 6),
        (move_to_a_missing_device_that_is_caught, 1_500 + 6),
        (program_that_it_runs, 1_500 + 5),
        (threads_that_it_sets, 1_500 + 8),
        (trace_of_its_own, 1_500 + 300_000_000),
    ],
)
def test_what_the_bounds_could_have_changed_is_built_as_if_there_were_none(
    construct: Callable[[], nn.Module], expected: int
) -> None:
    made, notes = build(construct)
    assert (count(made), notes) == (expected, ())


def test_what_a_loop_prints_is_printed_once_however_often_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    def construct() -> nn.Module:
        print("begins")
        weight = looping()
        print("has looped")
        return model(weight, torch.empty(200_000_000))

    made, _ = build(construct)
    assert count(made) == 200_001_500
    assert capsys.readouterr().out == "begins\nhas looped\n"


def test_a_loop_that_fails_raises_its_own_error() -> None:
    def construct() -> nn.Module:
        looping()
        message = "no such layer"
        raise KeyError(message)

    with pytest.raises(KeyError, match="no such layer"):
        build(construct)


def test_an_interrupt_ends_a_loop() -> None:
    tries = []

    def construct() -> nn.Module:
        tries.append(1)
        looping()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(construct)
    assert len(tries) == 2


def test_beside_another_thread_nothing_is_limited() -> None:
    """It might need the memory."""
    limits = []

    def construct() -> nn.Module:
        weight = looping()
        limits.append(resource.getrlimit(resource.RLIMIT_DATA))
        return model(weight)

    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        build(construct)
    finally:
        done.set()
        thread.join()
    assert set(limits) == {resource.getrlimit(resource.RLIMIT_DATA)}


def test_a_thousand_layers_are_no_loop() -> None:
    tries = []

    def construct() -> nn.Module:
        tries.append(1)
        return nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(500)])

    made, notes = build(construct)
    assert (notes, len(tries)) == ((), 1)
    assert count(made) == 500 * (4 * 4 * 9 + 4 + 8)
