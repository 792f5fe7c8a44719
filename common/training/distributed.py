"""Several processes as one: what torchrun starts, on GPUs (NCCL) or CPUs (gloo). Without torchrun there is one process and nothing here does anything.

    torchrun --nproc-per-node 4 -m lbf.finetune RUN/checkpoint.pt --out RUN2

The batch size of a recipe is the global one; each process takes its share of every batch. A loss that is a mean over the batch is a mean over the
global batch: methods write `global_mean(sum, count)`, and that is all they know of processes.
"""

import atexit
import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.cli.device import pick_device
from common.cli.errors import UserError, group

JOIN = timedelta(minutes=10)  # how long a process waits for the others to start
PATIENCE = timedelta(minutes=60)  # and later for what they do: rank 0 may be scoring, or hashing a large set


def world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files, prints, and shows progress."""
    return rank() == 0


def start(device: torch.device) -> torch.device:
    """Join the group torchrun made, if it made one; returns this process's own device. Ranks other than 0 print nothing on stdout.

    Raises UserError where the others do not come, as for an environment that was left over from another run.
    """
    rank_, count = group()
    if count == 1 or world() > 1:
        return device
    if device.type == "cuda":
        device = pick_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    # torchrun's store outlives a restart: without a prefix a process may read the address of one that is dead, and wait for it.
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        store = next(dist.rendezvous("env://", timeout=JOIN))[0]
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        said = f"no group of {count} processes came together at {where} ({str(error).splitlines()[0]})"
        raise UserError(f"{said}: start with torchrun, or unset WORLD_SIZE") from error
    store.set_timeout(PATIENCE)
    dist.init_process_group(
        backend, store=dist.PrefixStore(attempt, store), rank=rank_, world_size=count, timeout=PATIENCE
    )
    atexit.register(lambda: dist.destroy_process_group() if dist.is_initialized() else None)
    if not is_main():
        sys.stdout = open(os.devnull, "w")
    return device


def share(rows: Tensor) -> Tensor:
    """This process's rows: consecutive, as even as they can be, all ranks' together in order."""
    return rows if world() == 1 else rows.tensor_split(world())[rank()]


def global_sum(value: Tensor) -> Tensor:
    """Sum over all processes; no gradient passes through it."""
    if world() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def all_rows(rows: Tensor) -> Tensor:
    """All processes' rows of a batch, in the order of `share`; no gradient passes through it. For draws over a whole batch: each process
    makes the same ones for all rows, and keeps its share."""
    if world() == 1:
        return rows
    mine = torch.nn.functional.one_hot(torch.tensor(rank(), device=rows.device), world()) * len(rows)
    counts = global_sum(mine).tolist()
    whole = rows.new_zeros((sum(counts), *rows.shape[1:]))
    whole[sum(counts[: rank()]) :][: len(rows)] = rows.detach()
    return global_sum(whole)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.first = sum(all_rows(rows.new_tensor([len(rows)], dtype=torch.int64))[: rank()].tolist())
        context.count = len(rows)
        return all_rows(rows)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return world() * gradient[context.first : context.first + context.count]


def gather_rows(rows: Tensor) -> Tensor:
    """As `all_rows`, and the gradient passes: for a loss of the whole batch, which every process computes alike, such as a contrastive one.

    Each process's gradient reaches its own rows, times the number of processes: the mean over processes, which data-parallel training takes,
    is then the gradient of one process. So nothing has to be sent on the way back, and the loss is not to be scaled.
    """
    return rows if world() == 1 else _Gathered.apply(rows)


def synchronise_batch_norm(device: torch.device, *modules: nn.Module) -> None:
    """Their batch norm takes statistics of the global batch. Raises UserError where torch cannot do that."""
    if world() == 1:
        return
    if device.type != "cuda":
        said = f"sync_bn needs a GPU a process, got device {device.type}"
        raise UserError(f"{said}; torch synchronises batch norm on GPUs only")
    for module in modules:
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # in the place of its parts


def global_mean(total: Tensor, count: Tensor | int) -> Tensor:
    """`total` over the global count (at least 1), such that the mean over processes, which is what data-parallel training takes of losses and
    gradients, is the mean over the global batch. Averaging each process's own mean would weigh elements unequally where counts differ."""
    count = torch.as_tensor(count, device=total.device)
    return total * world() / global_sum(count).clamp_min(1) if world() > 1 else total / count.clamp_min(1)


def over_batch(mean: Tensor, count: int) -> Tensor:
    """The same for a mean over this process's `count` images that is there already."""
    return mean if world() == 1 else global_mean(mean * count, count)


@torch.no_grad()
def average(tensors: Iterable[Tensor], count: int) -> None:
    """Each tensor becomes its mean over all processes, weighted by what each has `count` of."""
    tensors = list(tensors)
    if world() == 1 or not tensors:
        return
    sizes, flat = [t.numel() for t in tensors], torch.cat([t.flatten() for t in tensors])
    total = global_sum(torch.cat([flat * count, flat.new_tensor([count])]))
    for tensor, mean in zip(tensors, (total[:-1] / total[-1]).split(sizes)):
        tensor.copy_(mean.view_as(tensor))


def wait() -> None:
    """Until all processes are here."""
    if world() > 1:
        dist.barrier()


def of_main(value: Any) -> Any:
    """Rank 0's value, in all processes: what one of them sees on a shared disk another may not see yet."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def gather(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every process's arrays joined in the order of ranks, on rank 0; the others get their own back."""
    if world() == 1:
        return arrays
    parts: list | None = [None] * world() if is_main() else None
    dist.gather_object(arrays, parts)
    return arrays if parts is None else {name: np.concatenate([part[name] for part in parts]) for name in arrays}


def device_of(given: Any) -> torch.device:
    """The device that --device asks for, in the group of processes where torchrun made one. `given`: what has it as `device`."""
    device = start(pick_device(given.device))
    torch.backends.cudnn.benchmark = device.type == "cuda"
    return device
