"""The loop of every method that learns by gradient steps on tensors: checkpoints, progress, snapshots, divergence.

All random numbers of step i come from streams named by i, so a checkpoint holds tensors alone, and a resumed build
repeats an uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.contract import Progress, Snapshot
from nasproxy.config import CondenseConfig
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset

CHECKPOINT_SECONDS = 120.0
PROGRESS_SECONDS = 0.5  # between read-backs from a CUDA device
NUM_SNAPSHOTS = 10


def learn(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    leaves: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: Callable[[int], Tensor],
    shown: Callable[[], Tensor],
    note: str,
    device: torch.device,
    carried: dict[str, Tensor] | None = None,
    after: Callable[[int], None] | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> float:
    """``config.outer_steps`` steps of ``optimizer`` on ``leaves``, changed in place; returns the seconds of work.

    Args:
        leaves: what is learned, by name; parameters of ``optimizer``.
        step: sets the gradients of ``leaves`` for step i (they are zero before) and returns what it lowers, a scalar.
        shown: the images ``(n, c, h, w)`` of a snapshot; one is taken ten times over the run.
        note: the name of the scalar, for the progress bar.
        carried: what one step leaves to the next and is not learned, by names other than those of ``leaves``; changed
            in place by ``step`` and ``after``, saved and restored.
        after: called with i once the optimiser has stepped, to put ``leaves`` back where they are valid.
        checkpoint: written every two minutes and at the end, and continued when it exists.

    Raises:
        NasproxyError: for a foreign checkpoint, or a scalar that is not finite.
    """
    started = time.perf_counter()
    key = checkpoint_key(dataset, config)
    position = Position()
    carried = carried or {}
    if checkpoint is not None and checkpoint.exists():
        position, saved = load_checkpoint(checkpoint, key)
        for name, tensor in carried.items():
            tensor.data.copy_(saved[name])
        for name, leaf in leaves.items():
            leaf.data.copy_(saved[name])
            moments = {
                word.removeprefix(f"{name}/"): tensor for word, tensor in saved.items() if word.startswith(f"{name}/")
            }
            if moments:
                optimizer.state[leaf] = {
                    word: tensor if word == "step" else tensor.to(device) for word, tensor in moments.items()
                }
    last_checkpoint = last_progress = time.perf_counter()
    snapshot_every = max(1, config.outer_steps // NUM_SNAPSHOTS)
    with float32_as("float32"), cpu_threads(config.threads):
        for outer in range(position.outer, config.outer_steps):
            optimizer.zero_grad(set_to_none=True)
            value = step(outer)
            optimizer.step()
            if after is not None:
                after(outer)
            now, done = time.perf_counter(), outer + 1
            ends = done == config.outer_steps
            if device.type == "cpu" or now - last_progress >= PROGRESS_SECONDS or ends:
                last_progress = now
                current = value.item()
                if not math.isfinite(current) or not all(bool(leaf.isfinite().all()) for leaf in leaves.values()):
                    raise NasproxyError(
                        f"The {note} became {current:g} at step {done} of {config.outer_steps}, or what is learned is "
                        f"not finite: use a smaller --lr-img (now {config.image_lr:g})."
                    )
                if progress is not None:
                    progress(done, config.outer_steps, f"{note} {current:.3f}")
            if checkpoint is not None and (now - last_checkpoint >= CHECKPOINT_SECONDS or ends):
                last_checkpoint = now
                tensors = leaves | carried
                for name, leaf in leaves.items():
                    moments = optimizer.state.get(leaf, {})
                    tensors |= {f"{name}/{word}": part for word, part in moments.items() if torch.is_tensor(part)}
                seconds = position.seconds + now - started
                save_checkpoint(checkpoint, key, config, Position(done, 0, seconds), tensors)
            if on_snapshot is not None and (done % snapshot_every == 0 or ends):
                on_snapshot(done, shown().detach().clone().cpu())
    return position.seconds + time.perf_counter() - started
