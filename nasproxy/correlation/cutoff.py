"""A score's agreement among the truly best, for several cutoffs, beside what the restriction alone would leave.

Within the truly best candidates every score has a lower ρ than over all, because their truths differ less. A score that
agrees with the truth as closely everywhere as it does over all loses as much.

References: [P] Pearson, "On the influence of natural selection on the variability and correlation of organs",
Philosophical Transactions of the Royal Society A 1903.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.correlation.agreement import MIN_PART, rank_correlation
from nasproxy.correlation.bootstrap import NUM_RESAMPLES, Estimate, checked, undefined
from nasproxy.correlation.ranks import spearman

SHARES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
NUM_SIMULATED = 2000


@dataclass(frozen=True)
class Cutoff:
    """A score's ρ among the ``n`` candidates with the highest truth, a ``share`` of all.

    ``restricted``: the mean ρ there of a score that has the same ρ over all and a Gaussian dependence on the truth [P],
    and ``low`` to ``high`` what 95 % of such samples have: what range restriction alone does. None where ρ over all is
    undefined.
    """

    share: float
    n: int
    spearman: Estimate
    restricted: float | None
    low: float | None
    high: float | None


def cutoffs(
    score: np.ndarray,
    truth: np.ndarray,
    *,
    shares: Sequence[float] = SHARES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Cutoff, ...]:
    """ρ of ``score`` ``(n,)`` among the truly best, for each of ``shares`` that leaves enough candidates.

    Args:
        score: ``(n,)``, higher is better.
        truth: ``(n,)``, higher is better.
        shares: of all candidates, in (0, 1].
        num_resamples: of the bootstrap.
        seed: of bootstrap and simulation.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    score, truth = checked(score=score, truth=truth)
    n = len(score)
    if undefined(n, score=score, truth=truth):
        return ()
    best = np.argsort(-truth, kind="stable")
    x, y = _gaussian(float(spearman(score, truth)), n, seed)
    order = np.argsort(-y, axis=1)
    found = []
    for share in shares:
        num = max(1, round(share * n))
        if num < MIN_PART:
            continue
        own = rank_correlation(score[best[:num]], truth[best[:num]], num_resamples=num_resamples, seed=seed)
        chosen = order[:, :num]
        simulated = spearman(np.take_along_axis(x, chosen, 1), np.take_along_axis(y, chosen, 1))
        low, high = np.quantile(simulated, [0.025, 0.975])
        found.append(Cutoff(share, num, own, float(simulated.mean()), float(low), float(high)))
    return tuple(found)


def _gaussian(rho: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples ``(NUM_SIMULATED, n)`` of score and truth whose Spearman correlation is ``rho``.

    Of a bivariate normal distribution it belongs to the Pearson correlation 2 sin(π ρ / 6).
    """
    pearson = 2 * math.sin(math.pi * rho / 6)
    rng = np.random.default_rng(seed)
    truth, noise = rng.normal(size=(2, NUM_SIMULATED, n))
    return pearson * truth + math.sqrt(max(0.0, 1 - pearson**2)) * noise, truth
