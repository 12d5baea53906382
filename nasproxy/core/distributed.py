"""Several processes that share one build, as ``torchrun`` starts them; one process alone is the ordinary case."""

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
    """Joins the processes that ``torchrun`` started, over NCCL or gloo, for the time of the block.

    Does nothing in a process started alone.
    """
    if local_number() is None or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def num_peers() -> int:
    """Processes that share the build."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process, from 0; process 0 alone writes files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def add_up(tensor: Tensor) -> Tensor:
    """``tensor`` summed over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def from_first(value: Any) -> Any:
    """Process 0's ``value`` in every process: what was decided by timing must be one decision."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box)
    return box[0]


def local_number() -> int | None:
    """The number of this process on its machine, which is the number of its GPU; None in a process started alone."""
    return int(os.environ["LOCAL_RANK"]) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
