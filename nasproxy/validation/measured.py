"""What was measured of each candidate, and statistics of its truths."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nasproxy.condense.contract import FIRST_ORDER
from nasproxy.correlation import Estimate, reliability
from nasproxy.spaces import Candidate
from nasproxy.training.results import MeanScore
from nasproxy.training.tasks import TrainingTask

COUNTED = ("params", "flops")  # known from the space's inspection


@dataclass(frozen=True)
class Measured:
    candidate: Candidate
    group: str
    scores: dict[str, MeanScore]  # by score name; "full" is the truth
    by_seed: dict[str, tuple[float, ...]] = field(default_factory=dict)  # its values, where all seeds have one


def one_training(task: TrainingTask, flops: float) -> float:
    """FLOPs of training and measuring one net once, whose forward pass of an image takes ``flops``."""
    seen = task.recipe.epochs * len(task.train.images)
    return float(flops * (FIRST_ORDER * seen + len(task.held_out.images)))


def truths_of(complete: list[Measured]) -> np.ndarray:
    """Full accuracy of every candidate, ``(n,)``."""
    return np.array([one.scores["full"].value for one in complete], dtype=float)


def reliability_of(complete: list[Measured], name: str, seed: int) -> Estimate:
    """How far the mean over seeds of a score, or of the truth, agrees with another such mean."""
    rows = [one.by_seed.get(name, ()) for one in complete]
    num_seeds = min(map(len, rows), default=0)
    if num_seeds < 2:
        return Estimate(None, None, None, len(rows), "it takes at least two seeds")
    return reliability(np.array([row[:num_seeds] for row in rows]), seed=seed)
