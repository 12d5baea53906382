"""The contract of every condensation method: what it is called with, what it gives, and what it says of its cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasproxy.condense.timing import Estimate
from nasproxy.config import CondenseConfig
from nasproxy.data import Dataset
from nasproxy.spaces import SearchSpace, load_space

Progress = Callable[[int, int, str], None]  # units of work done, in all, a note; units take about equally long
Snapshot = Callable[[int, Tensor], None]  # outer steps done, images (n, c, h, w) normalised

# What an image costs in forward passes: forward and backward; and where the gradient is differentiated once more.
FIRST_ORDER, SECOND_ORDER = 3, 9


@dataclass(frozen=True)
class BuildRun:
    """Where one set is built, and what is called meanwhile.

    Args:
        device: the build runs there.
        checkpoint: the file that is written every two minutes and at the end; an existing one is resumed.
        progress: is called with units done, units in total and a note.
        on_snapshot: is called ten times over the build with the outer steps done and the images ``(n, c, h, w)``.
        space: the match space, as it was read at the start; see :meth:`with_space`.
    """

    device: torch.device
    checkpoint: Path | None = None
    progress: Progress | None = None
    on_snapshot: Snapshot | None = None
    space: SearchSpace | None = None

    def with_space(self, config: CondenseConfig) -> BuildRun:
        """This run with the match space of ``config``, which is read once: later edits of its file change nothing.

        Raises:
            NasproxyError: when the match space cannot be read.
        """
        if config.match_space is None or self.space is not None:
            return self
        return replace(self, space=load_space(config.match_space))


@dataclass(frozen=True)
class Condensed:
    """One set, on the CPU.

    Args:
        images: ``(n, c, h, w)``, normalised float32.
        labels: ``(n,)`` int64 classes, or ``(n, C)`` probabilities; sorted by class, unless ``recipe`` keeps an order.
        seconds: of work, including the work before an interruption.
        recipe: the fields of the recipe that the method itself determines, such as learned step sizes or an order.
    """

    images: Tensor
    labels: Tensor
    seconds: float
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unrolled:
    """The training that a method differentiates through; its memory follows from this.

    Args:
        steps: of training.
        images: that each step sees.
        copies: of the weights that make one state.
        others: how often the weights are kept besides, for gradients or the end of a second training.
        learned: numbers that are learned, besides the set.
        strided: whether only every k-th state may be kept.
        real: images of a real batch; None: ``batch_real`` of each class.
        split: whether real images can go through the net in parts.
    """

    steps: int
    images: int
    copies: int = 1
    others: int = 1
    learned: int = 0
    strided: bool = True
    real: int | None = None
    split: bool = True


@dataclass(frozen=True)
class Condenser:
    """A condensation method: how it makes a set, and what that costs. Its settings are a
    :class:`~nasproxy.config.MethodSpec` of the same name.

    Args:
        make: makes one set. It reads the training split only, draws from ``config.seed`` only, and leaves the global
            generators as they were. Its settings are resolved (:meth:`~nasproxy.config.CondenseConfig.resolved`).
        passes: forward passes of one image through the net that a build costs (``FIRST_ORDER``, ``SECOND_ORDER``).
        other_flops: FLOPs of a build besides those passes.
        unrolled: the training that is differentiated through, for methods that do so.
        estimate: the seconds of a build; None: from the first units of work.
        fitted: settings that follow from the data where nobody gave them.
    """

    make: Callable[[Dataset, CondenseConfig, BuildRun], Condensed]
    passes: Callable[[Dataset, CondenseConfig], float]
    other_flops: Callable[[Dataset, CondenseConfig], float] | None = None
    unrolled: Callable[[Dataset, CondenseConfig], Unrolled] | None = None
    estimate: Callable[[Dataset, CondenseConfig, torch.device], Estimate] | None = None
    fitted: Callable[[Dataset, CondenseConfig], dict[str, Any]] | None = None
