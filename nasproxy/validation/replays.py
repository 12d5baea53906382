"""What other ways of picking would have lost for the same cost, replayed on the sample that was trained fully."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nasproxy.correlation import Estimate
from nasproxy.correlation.bootstrap import draws, interval
from nasproxy.picking.replay import Table, by_halving, by_plan, by_random, by_score
from nasproxy.report.data import RegretPoint, ReplayedWay
from nasproxy.scores.zero_cost import ZERO_COST
from nasproxy.spaces import SpaceInspection
from nasproxy.validation.calibration import UNSTABLE
from nasproxy.validation.measured import COUNTED, ValidatedCandidate, truths_of

COSTS = (2, 4, 8)  # in full trainings
LEAST = 16  # candidates; fewer say too little
SHARE = 2 / 3  # of the sample that a replay takes for the space
REPLAYS = 40
SHORTEST = 0.3  # a short training is at most this share of full training


def replayed_ways(
    complete: Sequence[ValidatedCandidate], columns: Mapping[str, np.ndarray], inspection: SpaceInspection, seed: int
) -> tuple[ReplayedWay, ...]:
    """The regret of several ways of picking against their cost.

    Args:
        complete: the n candidates that all scores could measure.
        columns: what each score ranks them by, ``(n,)`` each.
        inspection: of the space, for its parameters.
        seed: of the replays.

    Returns:
        Nothing for fewer than ``LEAST`` candidates, for equal truths, and for a truth from a table, whose cost is not
        known.
    """
    truth = truths_of(list(complete))
    seconds = float(np.mean([one.scores["full"].seconds for one in complete])) if complete else 0.0
    size = round(SHARE * len(complete))
    if len(complete) < LEAST or np.ptp(truth) == 0 or seconds <= 0:
        return ()
    table = _table(complete, columns, inspection, truth, seconds)
    vote = table.columns().vote
    proxy = _cost(complete, "proxy", seconds)
    ways: dict[str, tuple[str, Callable[[Table, np.ndarray, int, int], float | None]]] = {
        "plan": ("the plan of --compute", lambda some, _, cost, one: by_plan(some, cost, one).regret),
        "proxy": (
            "the proxy set's first",
            lambda some, index, cost, one: by_score(some, columns["proxy"][index], cost, proxy, one),
        ),
        "vote": (
            "the first by size and free scores",
            lambda some, index, cost, one: by_score(some, vote[index], cost, table.cost_scored, one),
        ),
        "random": ("random candidates", lambda some, _, cost, one: by_random(some, cost, one)),
    }
    if table.short is not None:
        ways["halving"] = ("successive halving", _halving)
    found: dict[str, dict[int, list[float]]] = {name: {} for name in ways}
    for number in range(REPLAYS):
        index = np.sort(np.random.default_rng([seed, number]).permutation(len(table))[:size])
        some = table.take(index)
        for cost in (cost for cost in COSTS if 2 * cost <= size):
            for name, (_, way) in ways.items():
                regret = way(some, index, cost, number)
                if regret is not None:
                    found[name].setdefault(cost, []).append(regret)
    return tuple(
        ReplayedWay(name, ways[name][0], tuple(RegretPoint(cost, _mean(own, seed)) for cost, own in by_cost.items()))
        for name, by_cost in found.items()
        if by_cost
    )


def _table(
    complete: Sequence[ValidatedCandidate],
    columns: Mapping[str, np.ndarray],
    inspection: SpaceInspection,
    truth: np.ndarray,
    seconds: float,
) -> Table:
    free = {name: column for name, column in columns.items() if name in ZERO_COST and name not in UNSTABLE}
    parameters: dict[str, list[object]] = {
        one.name: [candidate.candidate.params.get(one.name) for candidate in complete]
        for one in inspection.space.parameters
    }
    scored = sum(_cost(complete, name, seconds) for name in free if name not in COUNTED)
    epochs, short = _short(complete)
    return Table(free, parameters, truth, short, scored, epochs)


def _cost(complete: Sequence[ValidatedCandidate], name: str, seconds: float) -> float:
    """Of a score of a candidate, in full trainings of ``seconds``."""
    return float(np.mean([one.scores[name].seconds for one in complete])) / seconds


def _short(complete: Sequence[ValidatedCandidate]) -> tuple[float | None, np.ndarray | None]:
    """The share of full training after which its accuracy stands for a short training, and these accuracies."""
    curves = [one.scores["full"].curve for one in complete]
    lengths = {curve[-1][0] for curve in curves if curve}
    if len(lengths) != 1 or not all(curves):
        return None, None
    (length,) = lengths
    shared = set.intersection(*({epoch for epoch, _ in curve} for curve in curves))
    epoch = max((one for one in shared if one <= SHORTEST * length), default=None)
    if epoch is None:
        return None, None
    return epoch / length, np.array([dict(curve)[epoch] for curve in curves])


def _halving(some: Table, _: np.ndarray, cost: int, seed: int) -> float | None:
    """Half of the cost in short trainings."""
    return by_halving(some, cost, max(1, cost // 2), seed)


def _mean(values: Sequence[float], seed: int) -> Estimate:
    """The mean and its interval over the replays."""
    own = np.array(values)
    found = interval(own[draws(len(own), 1000, seed)].mean(1))
    low, high = found if found is not None else (None, None)
    return Estimate(float(own.mean()), low, high, len(own))
