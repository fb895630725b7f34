"""What test_sharded.py runs in processes of its own: each shards models as one rank of several, and counts them.

``python -m tests.modules.ranks FOLDER`` leaves a file of JSON for each world size and rank.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    ShardingStrategy,
    fully_shard,
)
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import paramcount

WORLDS = (2, 4)


class Net(nn.Module):
    """Odd sizes that no world divides, a tied weight, a frozen layer, buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 7)
        self.body = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 7))
        self.head = nn.Linear(7, 11)
        self.head.weight = self.embed.weight
        self.body[2].requires_grad_(False)


def net(device: str = "cpu") -> Net:
    with torch.device(device):
        return Net()


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(7, 10), nn.ReLU(), nn.Linear(10, 3))


def unsharded() -> nn.Module:
    return net()


def second_fsdp(device: str = "cpu", **options: Any) -> nn.Module:
    model = net(device)
    for layer in model.body:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    return model


def second_fsdp_in_half() -> nn.Module:
    return second_fsdp(mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))


def second_fsdp_on_meta() -> nn.Module:
    return second_fsdp("meta")


def first_fsdp(**options: Any) -> nn.Module:
    model = net()
    options["device_id"] = torch.device("cpu")
    model.body[0] = FullyShardedDataParallel(model.body[0], **options)
    model.body[2] = FullyShardedDataParallel(model.body[2], **options)
    return FullyShardedDataParallel(model, **options)


def first_fsdp_with_its_own_names() -> nn.Module:
    return first_fsdp(use_orig_params=True)


def first_fsdp_in_half() -> nn.Module:
    return first_fsdp(use_orig_params=True, mixed_precision=MixedPrecision(param_dtype=torch.bfloat16))


def first_fsdp_replicated() -> nn.Module:
    return first_fsdp(sharding_strategy=ShardingStrategy.NO_SHARD)


def tensor_parallel() -> nn.Module:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),), mesh_dim_names=("tp",))
    return parallelize_module(mlp(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def both() -> nn.Module:
    world = distributed.get_world_size()
    mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("dp", "tp"))
    model = parallelize_module(mlp(), mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    return model


def replicated() -> nn.Module:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    model = mlp()
    for layer in (model[0], model[2]):
        whole = layer.get_parameter("weight").detach()
        layer.weight = nn.Parameter(distribute_tensor(whole, mesh, [Replicate()]), requires_grad=False)
    return model


def elsewhere() -> nn.Module:
    """A weight on the first rank alone."""
    model = mlp()
    weight = distribute_tensor(model[0].get_parameter("weight").detach(), DeviceMesh("cpu", [0]), [Shard(0)])
    model[0].weight = nn.Parameter(weight)
    return model


def zero() -> nn.Module:
    """What DeepSpeed's partition_parameters leaves of a model: empty parameters, with what they were noted on them."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    model = net()
    for param in model.parameters():
        each = -(-param.numel() // world)
        padded = torch.zeros(each * world)
        padded[: param.numel()] = param.detach().flatten()
        noted: Any = param
        noted.ds_numel, noted.ds_shape = param.numel(), param.shape
        noted.ds_tensor = padded[each * rank : each * (rank + 1)].clone()
        noted.ds_process_group = distributed.group.WORLD
        param.data = torch.empty(0)
    return model


def four_bit() -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bitsandbytes import nn as bnb

    quantised: Any = bnb
    return nn.Sequential(quantised.Linear4bit(64, 64, quant_storage=torch.float32), nn.Linear(64, 3)).to("cpu")


def four_bit_in_second_fsdp() -> nn.Module:
    model = four_bit()
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    return model


def four_bit_in_first_fsdp() -> nn.Module:
    return FullyShardedDataParallel(four_bit(), use_orig_params=True, device_id=torch.device("cpu"))


FOUR_BIT = (four_bit_in_second_fsdp, four_bit_in_first_fsdp)
CASES: tuple[Callable[[], nn.Module], ...] = (
    unsharded,
    second_fsdp,
    second_fsdp_in_half,
    second_fsdp_on_meta,
    first_fsdp,
    first_fsdp_with_its_own_names,
    first_fsdp_in_half,
    first_fsdp_replicated,
    tensor_parallel,
    both,
    replicated,
    elsewhere,
    zero,
)


def held(model: nn.Module) -> int:
    """Return how many elements this process holds, by PyTorch's own tensors."""
    return sum(getattr(param, "_local_tensor", param).numel() for param in model.parameters())


def work(rank: int, world: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/{world}", rank=rank, world_size=world)
    said = {}
    for case in (*CASES, *FOUR_BIT):
        torch.manual_seed(0)
        model = case()
        # Another rank would never answer: reading must not ask.
        calls = distributed.all_gather, distributed.all_reduce, distributed.broadcast
        distributed.all_gather = distributed.all_reduce = distributed.broadcast = None  # type: ignore[assignment]
        report = paramcount.count(model)
        distributed.all_gather, distributed.all_reduce, distributed.broadcast = calls
        said[case.__name__] = report.to_dict() | {"held": held(model)}
    (folder / f"{world}-{rank}.json").write_text(json.dumps(said))
    distributed.barrier()
    distributed.destroy_process_group()


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    for world in WORLDS:  # forked, so that only one process has to import PyTorch
        children = []
        for rank in range(world):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    work(rank, world, folder)
                    code = 0
                finally:
                    if code:
                        traceback.print_exc()
                    os._exit(code)
            children.append(child)
        if any(os.waitpid(child, 0)[1] for child in children):
            sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
