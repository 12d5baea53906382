"""Several processes that share one build, as ``torchrun`` starts them. Usually there is one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Joins the processes that ``torchrun`` started for the time of a ``with`` block; alone, it does nothing.

    The processes speak over NCCL on a CUDA ``device``, else over gloo.
    """
    if local_number() is None or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL sends objects by the current device, which would be the first for all
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def num_peers() -> int:
    """How many processes share the build."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process, from 0. Process 0 alone writes files and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def add_up(tensor: Tensor) -> Tensor:
    """Sums ``tensor`` over all processes, in place, and returns it."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def from_first(value: Any) -> Any:
    """The ``value`` of process 0 in every process, where a decision by timing must be the same in all of them."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box)
    return box[0]


def local_number() -> int | None:
    """The number of this process on its machine, which is the number of its GPU; None when it runs alone."""
    return int(os.environ["LOCAL_RANK"]) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
