"""How the scores of a weighted sum are made comparable: each counts by its rank among reference candidates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasproxy.search.objective import Objective
from nasproxy.training.results import MeanScore


@dataclass(frozen=True)
class Standings:
    """Ranks among reference values, one sorted tuple per term of an objective."""

    reference: tuple[tuple[float, ...], ...]

    def combine(self, weights: Sequence[float], values: Sequence[float]) -> float:
        """``Σ weight · standing / Σ |weight|``."""
        total = sum(w * standing(v, own) for w, v, own in zip(weights, values, self.reference, strict=True))
        return total / sum(abs(w) for w in weights)


def standing(value: float, reference: Sequence[float]) -> float:
    """The rank of ``value`` among the sorted ``reference``, in (0, 1), strictly increasing in ``value``.

    Member i of n stands at (i + 1) / (n + 1), the mean of these for equal ones; in between it is interpolated, and
    beyond the ends it approaches 0 and 1 with the distance in spans of the reference.
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
        return (heights[-1] + (n + 1 - heights[-1]) * far / (1 + far)) / (n + 1)
    if points[place] == value:
        return heights[place] / (n + 1)
    if place == 0:
        far = (points[0] - value) / span
        return heights[0] / (1 + far) / (n + 1)
    share = (value - points[place - 1]) / (points[place] - points[place - 1])
    return (heights[place - 1] + share * (heights[place] - heights[place - 1])) / (n + 1)


def combined(
    objective: Objective, standings: Standings | None, scores: Sequence[MeanScore]
) -> tuple[MeanScore, tuple[float, ...]]:
    """One score of a candidate's ``scores`` by ``objective.tasks``, and the values it is held against."""
    seconds = sum(score.seconds for score in scores)
    num_seeds = min(score.num_seeds for score in scores)
    values = [score.value for score in scores if score.value is not None]
    if len(values) < len(scores):
        failed = next(score for score in scores if score.failure is not None)
        return replace(failed, seconds=seconds, num_seeds=num_seeds), ()
    num_terms = len(objective.terms)
    if not objective.is_sum:
        return replace(scores[0], seconds=seconds), tuple(values[1:])
    assert standings is not None
    value = standings.combine([weight for weight, _ in objective.terms], values[:num_terms])
    return MeanScore(value, None, seconds, num_seeds=num_seeds), tuple(values[num_terms:])
