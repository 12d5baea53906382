"""The checkpoint of one training: a file from which it resumes after an interruption, to the same weights."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasproxy.core.devices import accelerator
from nasproxy.core.files import write_atomically
from nasproxy.training.loss_curve import LossCurve

CHECKPOINT_SECONDS = 60.0  # of training, at least, between two checkpoints


@dataclass
class TrainingState:
    """Everything that the rest of a training depends on.

    ``streams`` are the generators that the training draws from; ``points`` is the curve so far, changed in place, and
    ``loss_curve`` has the training losses so far. The state of torch's global generators, which dropout draws from, is
    saved and restored with them.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    streams: tuple[torch.Generator, ...]
    points: list[tuple[int, float]]
    device: torch.device
    loss_curve: LossCurve | None = None

    def as_content(self) -> dict[str, Any]:
        """What :meth:`restore` needs, as tensors and numbers."""
        module = accelerator(self.device)
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": [stream.get_state() for stream in self.streams],
            "curve": self.points,
            "losses": None if self.loss_curve is None else self.loss_curve.as_content(),
            "dropout": torch.get_rng_state(),
            "dropout_cuda": None if module is None else module.get_rng_state(self.device),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Puts the state back to that of ``content``, global generators included."""
        self.net.load_state_dict(content["net"])
        self.optimizer.load_state_dict(content["optimizer"])
        for stream, state in zip(self.streams, content["streams"], strict=True):
            stream.set_state(state)
        self.points[:] = content["curve"]
        if self.loss_curve is not None:
            self.loss_curve.restore(content.get("losses"))
        torch.set_rng_state(content["dropout"])
        if (module := accelerator(self.device)) is not None and content["dropout_cuda"] is not None:
            module.set_rng_state(content["dropout_cuda"], self.device)


class Checkpoint:
    """Keeps ``state`` in the file ``path`` while a training runs; with None nothing is kept.

    The file must be of this very training: of another one, the state does not fit or the result is wrong.
    """

    def __init__(self, path: Path | None, state: TrainingState) -> None:
        self._path = path
        self._state = state
        self._began = self._kept = time.monotonic()

    def resume(self) -> int:
        """Restores the state from the file, where there is a readable one; returns the next epoch, from 0."""
        content = _read(self._path)
        if content is None:
            return 0
        self._state.restore(content)
        self._began = self._kept = time.monotonic() - content["seconds"]
        return int(content["epoch"])

    def keep(self, epoch: int) -> None:
        """Writes the state before ``epoch``, if ``CHECKPOINT_SECONDS`` have passed since it was last written."""
        now = time.monotonic()
        if self._path is None or now - self._kept <= CHECKPOINT_SECONDS:
            return
        self._kept = now
        buffer = io.BytesIO()
        torch.save({"epoch": epoch, "seconds": now - self._began, **self._state.as_content()}, buffer)
        with suppress(OSError):  # a full disk must not end the training
            write_atomically(self._path, buffer.getvalue())


def seconds_before(path: Path | None) -> float | None:
    """Seconds that the training at ``path`` took until its checkpoint; None when there is no readable one."""
    content = _read(path)
    return None if content is None else float(content["seconds"])


def _read(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except Exception:  # noqa: BLE001  # the unpickler raises any error on a damaged file; the training starts again
        return None
