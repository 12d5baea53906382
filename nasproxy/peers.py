"""Several processes that share one build, as ``torchrun`` starts them; one process alone is the ordinary case."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


def join(device: torch.device) -> None:
    """Joins the processes that ``torchrun`` started, over NCCL or gloo; does nothing in a process started alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave() -> None:
    """Leaves them again."""
    if dist.is_initialized():
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
