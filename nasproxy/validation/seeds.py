"""What the seeds of one candidate say: trainings that stayed at chance, and medians beside means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

from nasproxy.correlation import Estimate, rank_correlation
from nasproxy.data import LabeledImages
from nasproxy.report.data import StuckSeed
from nasproxy.validation.measured import ValidatedCandidate

MIN_FOR_MEDIAN = 3  # seeds; of two the median is the mean
STANDARD_ERRORS = 3.0  # above chance that still count as chance
LEARNED = 0.1  # of the way from chance to an accuracy of 1: a seed beyond it has learned something


def chance_accuracy(held_out: LabeledImages) -> tuple[float, float]:
    """The accuracy of a net that always names the most frequent class, and its standard error."""
    n = len(held_out)
    share = float(held_out.labels.bincount().max()) / n
    return share, math.sqrt(share * (1 - share) / n)


def stuck_seeds(
    candidates: Iterable[ValidatedCandidate], trained: Sequence[str], held_out: LabeledImages
) -> tuple[StuckSeed, ...]:
    """Candidates of which one seed stayed at chance and another did not, by full training or by a score.

    Args:
        trained: the names of the scores that are accuracies; "full" is full training.
        held_out: the images on which accuracies are measured.
    """
    chance, error = chance_accuracy(held_out)
    found: dict[tuple[str, str], StuckSeed] = {}
    for one in candidates:
        for name in trained:
            accuracies = one.by_seed.get(name, ())
            stuck = any(value <= chance + STANDARD_ERRORS * error for value in accuracies)
            learned = any(value > chance + LEARNED * (1 - chance) for value in accuracies)
            if stuck and learned:
                found[one.candidate.id, name] = StuckSeed(one.candidate.id, one.candidate.params, name, accuracies)
    return tuple(found.values())


def medians_of(complete: Sequence[ValidatedCandidate]) -> np.ndarray | None:
    """The median full accuracy over seeds, ``(n,)``; None where a candidate has fewer than three seeds."""
    rows = [one.by_seed.get("full", ()) for one in complete]
    if not rows or min(map(len, rows)) < MIN_FOR_MEDIAN:
        return None
    return np.array([median(row) for row in rows])


def with_medians(column: np.ndarray, complete: Sequence[ValidatedCandidate], seed: int) -> Estimate | None:
    """ρ of a score with the median over the seeds of full training; None for fewer than three seeds."""
    medians = medians_of(complete)
    return None if medians is None else rank_correlation(column, medians, seed=seed)
