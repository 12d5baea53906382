"""What a condenser gives, and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Progress = Callable[[int, int, str], None]  # units of work done, in all, a note; units take about equally long
Snapshot = Callable[[int, Tensor], None]  # outer steps done, images (n, c, h, w) normalised


@dataclass(frozen=True)
class Condensed:
    """One set, on the CPU: ``images`` ``(n, c, h, w)`` normalised float32; ``labels`` ``(n,)`` int64 or ``(n, C)``.

    Hard labels are sorted by class, unless ``recipe`` keeps an order. ``seconds`` of work, those before an interruption
    included. ``recipe`` holds the fields of the recipe that the method itself determines: learned step sizes, an order
    that matters.
    """

    images: Tensor
    labels: Tensor
    seconds: float
    recipe: dict[str, Any] = field(default_factory=dict)
