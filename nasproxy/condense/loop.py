"""What every learning method does after each step: checkpoint, progress, snapshots, and a check for divergence.

All random numbers of a step come from streams that are named by the number of the step. So a checkpoint holds tensors
only, and on a CPU a resumed build repeats an uninterrupted one bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.contract import BuildRun
from nasproxy.config import CondenseConfig
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.distributed import own_rank
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset

CHECKPOINT_SECONDS = 120.0
PROGRESS_SECONDS = 0.5  # between read-backs from a CUDA device
NUM_SNAPSHOTS = 10


class Recorder:
    """Resumes a build and records its steps. With several processes the first one alone records.

    Args:
        note: the name of the number that the method lowers, for the progress bar and for errors.
        total: steps of the whole build.

    Raises:
        NasproxyError: when the checkpoint belongs to other settings or data, or cannot be read.
    """

    def __init__(self, dataset: Dataset, config: CondenseConfig, run: BuildRun, *, note: str, total: int) -> None:
        self._started = time.perf_counter()
        self._config, self._run, self._note, self._total = config, run, note, total
        self._key = checkpoint_key(dataset, config, run.space)
        self._speaks = own_rank() == 0
        self._snapshot_every = max(1, config.outer_steps // NUM_SNAPSHOTS)
        self.position = Position()
        self.saved: dict[str, Tensor] = {}  # the tensors of the checkpoint that is resumed
        if run.checkpoint is not None and run.checkpoint.exists():
            self.position, self.saved = load_checkpoint(run.checkpoint, self._key)
        self._last_checkpoint = self._last_progress = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of work so far, including those before an interruption."""
        return self.position.seconds + time.perf_counter() - self._started

    def step_done(
        self,
        done: int,
        value: Tensor,
        learned: Mapping[str, Tensor],
        reached: tuple[int, int],
        state: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        """Reports ``done`` steps, and writes a checkpoint when it is time for one.

        Args:
            value: the number that the method lowers, a scalar; it is read back from the device as seldom as possible.
            learned: what must stay finite.
            reached: the outer and inner step that a resumed build begins with.
            state: gives the tensors of the checkpoint.

        Raises:
            NasproxyError: when ``value`` or something in ``learned`` is not finite.
        """
        now, ends = time.perf_counter(), done == self._total
        if self._run.device.type == "cpu" or now - self._last_progress >= PROGRESS_SECONDS or ends:
            self._last_progress = now
            current = value.item()
            if not math.isfinite(current) or not all(bool(one.isfinite().all()) for one in learned.values()):
                raise NasproxyError(
                    f"The {self._note} must stay finite, but it became {current:g} at step {done} of {self._total}, or "
                    f"what is learned is not finite: use a smaller --lr-img (now {self._config.image_lr:g})."
                )
            if self._run.progress is not None and self._speaks:
                self._run.progress(done, self._total, f"{self._note} {current:.3f}")
        if self._run.checkpoint is None or not self._speaks:
            return
        if now - self._last_checkpoint >= CHECKPOINT_SECONDS or ends:
            self._last_checkpoint = now
            position = Position(*reached, self.seconds)
            save_checkpoint(self._run.checkpoint, self._key, self._config, position, dict(state()))

    def outer_step_done(self, outer: int, images: Callable[[], Tensor]) -> None:
        """Gives ``images()`` ``(n, c, h, w)`` to the snapshots, ten times over the run; ``outer`` counts from 0."""
        done = outer + 1
        due = done % self._snapshot_every == 0 or done == self._config.outer_steps
        if self._run.on_snapshot is not None and self._speaks and due:
            self._run.on_snapshot(done, images().detach().clone().cpu())


def learn(
    dataset: Dataset,
    config: CondenseConfig,
    run: BuildRun,
    *,
    leaves: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: Callable[[int], Tensor],
    shown: Callable[[], Tensor],
    note: str,
    carried: dict[str, Tensor] | None = None,
    after: Callable[[int], None] | None = None,
) -> float:
    """Takes ``config.outer_steps`` steps of ``optimizer`` on ``leaves``, which are changed in place.

    Args:
        leaves: what is learned, by name; the parameters of ``optimizer``.
        step: sets the gradients of ``leaves`` for step i (they are None before) and returns what it lowers, a scalar.
        shown: the images ``(n, c, h, w)`` of a snapshot.
        note: the name of that scalar, for the progress bar.
        carried: tensors that one step leaves to the next and that are not learned, by names other than those of
            ``leaves``. ``step`` and ``after`` change them in place; they are saved and restored.
        after: is called with i after the step of the optimiser, to put ``leaves`` back where they are valid.

    Returns:
        The seconds of work, including those before an interruption.

    Raises:
        NasproxyError: for a checkpoint of other settings or data, or a scalar that is not finite.
    """
    carried = carried or {}
    recorder = Recorder(dataset, config, run, note=note, total=config.outer_steps)
    if recorder.saved:
        _restore(leaves, carried, optimizer, recorder.saved, run.device)

    def state() -> dict[str, Tensor]:
        tensors = leaves | carried
        for name, leaf in leaves.items():
            moments = optimizer.state.get(leaf, {})
            tensors |= {f"{name}/{word}": part for word, part in moments.items() if torch.is_tensor(part)}
        return tensors

    with float32_as("float32"), cpu_threads(config.threads):
        for outer in range(recorder.position.outer, config.outer_steps):
            optimizer.zero_grad(set_to_none=True)
            value = step(outer)
            optimizer.step()
            if after is not None:
                after(outer)
            recorder.step_done(outer + 1, value, leaves, (outer + 1, 0), state)
            recorder.outer_step_done(outer, shown)
    return recorder.seconds


def learn_images(
    dataset: Dataset, config: CondenseConfig, run: BuildRun, images: Tensor, step: Callable[[int], Tensor]
) -> float:
    """:func:`learn` for ``images`` ``(n, c, h, w)`` alone, by SGD with ``momentum_img``; ``step`` gives a distance."""
    optimizer = torch.optim.SGD([images], lr=config.image_lr, momentum=config.momentum_img)
    return learn(
        dataset,
        config,
        run,
        leaves={"images": images},
        optimizer=optimizer,
        step=step,
        shown=lambda: images,
        note="distance",
    )


def _restore(
    leaves: dict[str, Tensor],
    carried: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    saved: dict[str, Tensor],
    device: torch.device,
) -> None:
    """Puts the tensors of a checkpoint back where they were, in place, and the moments of the optimiser, too."""
    for name, tensor in (leaves | carried).items():
        tensor.data.copy_(saved[name])
    for name, leaf in leaves.items():
        moments = {word.removeprefix(f"{name}/"): part for word, part in saved.items() if word.startswith(f"{name}/")}
        if moments:
            optimizer.state[leaf] = {
                word: part if word == "step" else part.to(device) for word, part in moments.items()
            }
