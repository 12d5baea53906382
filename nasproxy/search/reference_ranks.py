"""How the scores of a weighted sum are made comparable: each counts by its rank among reference candidates."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasproxy.search.objective import Objective
from nasproxy.training.results import MeanScore


@dataclass(frozen=True)
class ReferenceRanks:
    """Ranks among reference values: one sorted tuple for each term of an objective."""

    reference: tuple[tuple[float, ...], ...]

    def combine(self, weights: Sequence[float], values: Sequence[float]) -> float:
        """``Σ weight · rank / Σ |weight|``."""
        total = sum(w * reference_rank(v, own) for w, v, own in zip(weights, values, self.reference, strict=True))
        return total / sum(abs(w) for w in weights)


def reference_rank(value: float, reference: Sequence[float]) -> float:
    """The rank of ``value`` among the sorted ``reference``, in [0, 1], increasing in ``value``.

    Member i of n has the rank (i + 1) / (n + 1), equal members the mean of theirs. Between two members the rank is
    interpolated. Beyond the ends it approaches 0 and 1 with the distance, measured in ranges of the reference.
    """
    points = sorted(set(reference))
    n = len(reference)
    ranks: dict[float, list[int]] = {}
    for index, member in enumerate(reference):
        ranks.setdefault(member, []).append(index + 1)
    heights = [sum(ranks[point]) / len(ranks[point]) for point in points]
    span = (points[-1] - points[0]) or 1.0
    place = bisect_left(points, value)
    if place == len(points):
        far = (value - points[-1]) / span
        share = 1.0 if math.isinf(far) else far / (1 + far)  # a range can be so small that the distance overflows
        return (heights[-1] + (n + 1 - heights[-1]) * share) / (n + 1)
    if points[place] == value:
        return heights[place] / (n + 1)
    if place == 0:
        far = (points[0] - value) / span
        return heights[0] / (1 + far) / (n + 1)
    share = (value - points[place - 1]) / (points[place] - points[place - 1])
    return (heights[place - 1] + share * (heights[place] - heights[place - 1])) / (n + 1)


def combined_score(
    objective: Objective, reference_ranks: ReferenceRanks | None, scores: Sequence[MeanScore]
) -> tuple[MeanScore, tuple[float, ...]]:
    """One score from the ``scores`` of a candidate by ``objective.tasks``, and the values of ``objective.against``."""
    seconds = sum(score.seconds for score in scores)
    num_seeds = min(score.num_seeds for score in scores)
    values = [score.value for score in scores if score.value is not None]
    if len(values) < len(scores):
        failed = next(score for score in scores if score.failure is not None)
        return replace(failed, seconds=seconds, num_seeds=num_seeds), ()
    num_terms = len(objective.terms)
    if not objective.is_sum:
        return replace(scores[0], seconds=seconds), tuple(values[1:])
    assert reference_ranks is not None
    value = reference_ranks.combine([weight for weight, _ in objective.terms], values[:num_terms])
    return MeanScore(value, None, seconds, num_seeds=num_seeds), tuple(values[num_terms:])
