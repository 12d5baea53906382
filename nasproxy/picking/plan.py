"""The plan of a search for a stated compute: how many candidates are scored, trained shortly and trained fully."""

from __future__ import annotations

from dataclasses import dataclass

from nasproxy.core.errors import NasproxyError

SCORING_SHARE = 0.1  # of the compute, at most, for scores that train nothing
FEW_SCORED = 8  # candidates for each full training, at least, even if their scores take up to
FEW_SHARE = 0.3  # of the compute
SHORT_SHARE = 0.35  # of the compute, about, for short trainings
MOST_SCORED = 5000  # candidates: more of them change the best by little, and their model takes longer than it gains
LEAST_SHORT = 8  # short trainings; fewer teach a model nothing
ROUNDS = 4  # full trainings are chosen in about so many rounds of equal size, at least


@dataclass(frozen=True)
class PickPlan:
    """How a compute is spent; costs are in full trainings.

    Args:
        compute: what may be spent.
        scored: candidates whose free scores are computed.
        short: short trainings.
        full: full trainings.
        cost_scored: of one candidate's free scores; 0 where there is no use for them.
        cost_short: of one short training.
    """

    compute: float
    scored: int
    short: int
    full: int
    cost_scored: float
    cost_short: float

    @property
    def parts(self) -> dict[str, float]:
        """The cost of each part."""
        return {
            "scored": self.scored * self.cost_scored,
            "short": self.short * self.cost_short,
            "full": float(self.full),
        }

    @property
    def cost(self) -> float:
        """The cost of all parts."""
        return sum(self.parts.values())

    @property
    def round_size(self) -> int:
        """Full trainings that are chosen at once. It follows from the plan, not from the workers."""
        return max(1, self.full // ROUNDS)


def plan_pick(compute: float, size: int | None, cost_scored: float, cost_short: float | None) -> PickPlan:
    """The plan for ``compute`` full trainings.

    Args:
        compute: what may be spent, in full trainings; at least 1, and the scores of a few candidates.
        size: candidates of the space; None where they are countless.
        cost_scored: of a candidate's free scores, in full trainings.
        cost_short: of a short training, in full trainings; None where there are none.

    Raises:
        NasproxyError: for less compute than one full training.
    """
    if not compute >= 1:
        raise NasproxyError(f"`compute >= 1` must hold, because one full training is the least, but got {compute:g}.")
    most = MOST_SCORED if size is None else min(size, MOST_SCORED)
    scored = most
    if cost_scored > 0:
        few = min(FEW_SCORED * compute, FEW_SHARE * compute / cost_scored)
        scored = max(int(min(most, max(SCORING_SHARE * compute / cost_scored, few))), min(most, int(compute)))
    if size is not None and size <= int(compute):  # all of them can be trained
        return PickPlan(compute, size, 0, size, 0.0, cost_short or 0.0)
    left = compute - scored * cost_scored
    if left < 1:  # the scores of few candidates cost as much as a training: a uniform draw of them is left
        scored, left = min(most, int(compute)), compute
        cost_scored = 0.0
    short = 0
    if cost_short is not None and cost_short < 1:
        full = max(1, int(left - SHORT_SHARE * compute + 1e-9))
        short = min(scored, int((left - full) / cost_short + 1e-9))
        if short < LEAST_SHORT:
            short = 0
    full = min(scored, int(left - short * (cost_short or 0.0) + 1e-9))
    return PickPlan(compute, scored, short, full, cost_scored, cost_short or 0.0)
