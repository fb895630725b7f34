"""Constructors that no one can follow without memory: they are built in it, and the count is exact."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn


def value_of_a_large_tensor() -> nn.Module:
    table = torch.ones(300, 300)
    return nn.Linear(int(table.sum().item()) // 1000, 3)


def guess_where_the_value_is_missing() -> nn.Module:
    try:
        width = int(torch.ones(300, 300).mean().item()) + 40
    except Exception:  # noqa: BLE001  # the point of it
        width = 1000
    return nn.Linear(width, 3)


def guess_where_an_operation_is_missing() -> nn.Module:
    """``histogram`` has no meta kernel: PyTorch's NotImplementedError is as good as a missing value."""
    try:
        width = torch.histogram(torch.rand(300, 300), 5)[0].numel()
    except Exception:  # noqa: BLE001  # the point of it
        width = 1000
    return nn.Linear(width, 3)


def list_of_a_large_tensor() -> nn.Module:
    return nn.Linear(len(set(torch.zeros(300, 300).flatten().tolist())), 3)


def numpy_of_a_large_tensor() -> nn.Module:
    layer = nn.Linear(300, 300)
    q, _ = np.linalg.qr(layer.weight.detach().numpy())
    layer.weight.data = torch.from_numpy(q)
    return layer


def array_of_a_large_tensor() -> nn.Module:
    return nn.Linear(np.asarray(torch.zeros(300, 300)).shape[0], int(np.array(torch.ones(300, 300)).sum()) // 10_000)


def draw_after_a_large_draw() -> nn.Module:
    """What is drawn here depends on how much was drawn before, also by the layer that was not initialised."""
    torch.manual_seed(0)
    layer = nn.Linear(300, 300)
    return nn.Sequential(layer, nn.Linear(int(torch.randint(1, 1000, (1,)).item()), 3))


def written_then_read() -> nn.Module:
    small = torch.zeros(4)
    small[1] = torch.ones(300, 300).sum()
    return nn.Linear(int(small.sum()) // 1000, 3)


def written_through_a_view_then_copied() -> nn.Module:
    import copy

    small = torch.zeros(4)
    small.view(2, 2)[1].copy_(torch.ones(300, 300).sum())
    return nn.Linear(int(copy.deepcopy(small)[2]) // 1000, 3)


def written_by_out_then_read() -> nn.Module:
    small = torch.zeros(300)
    torch.sum(torch.ones(300, 300), dim=0, out=small)
    return nn.Linear(int(small[0]), 3)


def selection_from_a_large_tensor() -> nn.Module:
    kept = torch.nonzero(torch.ones(300, 300).triu())
    masked = torch.ones(300, 300)[torch.ones(300, 300) > 0]
    return nn.Linear(kept.shape[0] // 1000, torch.unique(masked).numel())


def truth_of_a_large_tensor() -> nn.Module:
    return nn.Linear(4 if torch.equal(torch.ones(300, 300), torch.ones(300, 300)) else 5, 3)


def saved_then_read() -> nn.Module:
    import io

    small = torch.zeros(3)
    small.copy_(torch.ones(300, 300).sum(0)[:3])
    stream = io.BytesIO()
    torch.save(small, stream)
    stream.seek(0)
    return nn.Linear(int(torch.load(stream)[0]), 3)


def cuda_and_a_value(device: str = "cuda") -> nn.Module:
    layer = nn.Linear(300, 300).to(device)
    layer.weight.data = torch.ones(300, 300, device=device)
    return nn.Sequential(layer, nn.Linear(int(layer.weight.sum().item()) // 1000, 3).to(device))


def orthogonal_parametrization() -> nn.Module:
    """PyTorch checks with ``allclose`` whether the weight is orthogonal already."""
    from torch.nn.utils import parametrizations

    return nn.Sequential(
        parametrizations.orthogonal(nn.Linear(40, 40)),
        parametrizations.orthogonal(nn.Linear(300, 300)),
        parametrizations.orthogonal(nn.Linear(300, 30), orthogonal_map="householder"),
    )


def dynamically_quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(300, 300), nn.LSTM(30, 40)), {nn.Linear, nn.LSTM}
        )


def recurrent_and_attention_for_inference() -> nn.Module:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2).eval()
    with torch.no_grad():
        size = encoder(torch.rand(1, 5, 64), src_key_padding_mask=torch.zeros(1, 5, dtype=torch.bool)).shape[1]
    return nn.Sequential(encoder, nn.Linear(size, 4))


def backward_pass() -> nn.Module:
    model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 5))
    model(torch.randn(3, 100)).sum().backward()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.step()
    optimizer.zero_grad()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return model


def scripted_forward() -> nn.Module:
    """TorchScript's interpreter insists on one device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(nn.Sequential(nn.Linear(300, 300), nn.ReLU()))
    return nn.Sequential(model, nn.Linear(model(torch.zeros(2, 300)).shape[1], 2))


def address_read_after_a_swallowed_error() -> nn.Module:
    """The error that follows from the missing value is no error of the constructor."""
    try:
        width = int(torch.ones(300, 300).sum().item()) // 1000
    except RuntimeError as error:
        print(error)
    return nn.Linear(width, 3)


def array_of_a_tensor_that_is_written_to() -> nn.Module:
    small = torch.zeros(9)
    array = small.numpy()
    small.copy_(torch.full((300, 300), 6.0)[0, :9])
    return nn.Linear(int(array[3]) + 1, 3)


def array_of_a_tensor_that_is_drawn() -> nn.Module:
    small = torch.zeros(9)
    array = small.numpy()
    torch.manual_seed(0)
    nn.Linear(300, 300)
    small.normal_()
    return nn.Linear(int(abs(array[3]) * 1000) + 1, 3)


def tensor_of_an_array_that_is_written_to() -> nn.Module:
    array = np.zeros(9)
    torch.from_numpy(array).copy_(torch.full((300, 300), 6.0)[0, :9])
    return nn.Linear(int(array[3]) + 1, 3)


def array_drawn_after_a_large_draw() -> nn.Module:
    array = np.zeros(100_000)
    torch.manual_seed(0)
    nn.Linear(300, 300)
    torch.as_tensor(array).uniform_(7, 99)
    return nn.Linear(int(array[3]), 3)


def bytes_that_are_written_to() -> nn.Module:
    memory = bytearray(4)
    torch.frombuffer(memory, dtype=torch.uint8).copy_(torch.full((300, 300), 6, dtype=torch.uint8)[0, :4])
    return nn.Linear(memory[1] + 1, 3)


def sum_into_an_array() -> nn.Module:
    array = np.zeros(300, dtype=np.float32)
    torch.sum(torch.ones(300, 300), dim=0, out=torch.from_numpy(array))
    return nn.Linear(int(array[0]), 3)


def _in_a_thread(read) -> int:
    widths = []
    thread = threading.Thread(target=lambda: widths.append(int(read())))
    thread.start()
    thread.join()
    return widths[0] if widths else 3


def value_read_in_a_thread() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.constant_(layer.weight, 4.0)
    return nn.Linear(_in_a_thread(layer.weight.max), 3)


def unwritten_value_read_in_a_thread() -> nn.Module:
    small = torch.zeros(100)
    small.copy_(torch.full((300, 300), 4.0)[0, :100])
    return nn.Linear(_in_a_thread(lambda: small[0]) + 1, 3)


def value_read_in_a_pool() -> nn.Module:
    table = torch.full((300, 300), 4.0)
    with ThreadPoolExecutor(2) as pool:
        width = sum(pool.map(lambda row: int(table[row, row]), range(5)))
    return nn.Linear(width, 3)
