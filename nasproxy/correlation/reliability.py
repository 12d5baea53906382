"""How reliable a score and the truth are themselves: agreement over seeds, and what it bounds.

References: [S] Spearman, "The proof and measurement of association between two things", 1904.
"""

from __future__ import annotations

import math

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation.bootstrap import NUM_RESAMPLES, Estimate, draws, estimate, undefined
from nasproxy.correlation.ranks import spearman


def _between_seeds(values: np.ndarray) -> np.ndarray:
    """Mean ρ over all pairs of seeds, ``(…, n, s)`` to ``(…,)``."""
    seeds = values.shape[-1]
    pairs = [(a, b) for a in range(seeds) for b in range(a)]
    return np.asarray(np.mean([spearman(values[..., a], values[..., b]) for a, b in pairs], axis=0))


def _stepped_up(single: np.ndarray | float, seeds: int) -> np.ndarray:
    """Reliability of a mean over ``seeds`` from that of one seed (Spearman and Brown); below 0 that of one seed."""
    single = np.asarray(single)
    positive = np.maximum(single, 0)
    return np.where(single > 0, seeds * positive / (1 + (seeds - 1) * positive), single)


def reliability(values: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Estimate:
    """How far the mean over seeds agrees with another such mean: ρ between seeds, stepped up to their number.

    The highest ρ that a score can reach against a truth of this reliability is its square root: :func:`attainable`.

    Args:
        values: ``(n, seeds)``, one row per candidate.
    """
    values = np.asarray(values, dtype=float)
    n, seeds = values.shape
    if seeds < 2:
        return Estimate(None, None, None, n, "it takes at least two seeds")
    if not np.isfinite(values).all():
        raise NasproxyError("`values` must be finite: leave failures out.")
    why = undefined(n, **{f"seed_{number}": values[:, number] for number in range(seeds)})
    if why:
        return Estimate(None, None, None, n, why)
    resampled = _stepped_up(_between_seeds(values[draws(n, num_resamples, seed)]), seeds)
    return estimate(float(_stepped_up(_between_seeds(values), seeds)), resampled, n)


def attainable(of_truth: Estimate) -> Estimate:
    """The ρ of a score without noise that knows the truth itself: the square root of the truth's reliability [S].

    The reliability is the correlation of two noisy measurements. A score without noise has one noisy side only, so it
    reaches more: at a reliability of 0.48 it reaches 0.69.

    Args:
        of_truth: from :func:`reliability`.

    Returns:
        The bound with the square roots of the interval's ends, where a negative end counts as 0.
    """
    if of_truth.value is None or of_truth.value <= 0:
        reason = of_truth.undefined or "the truth does not agree with itself over seeds"
        return Estimate(None, None, None, of_truth.n, reason)

    def root(value: float | None) -> float | None:
        return None if value is None else math.sqrt(max(0.0, value))

    return Estimate(root(of_truth.value), root(of_truth.low), root(of_truth.high), of_truth.n)


def corrected(rho: Estimate, of_score: Estimate, of_truth: Estimate) -> Estimate:
    """ρ with the noise of both taken out: ρ / √(reliability of the score · of the truth) [S], at most 1.

    What the score would reach with seeds without end; the interval is that of ρ, scaled, so it leaves out the
    uncertainty of the reliabilities.
    """
    if rho.value is None or of_score.value is None or of_truth.value is None:
        reason = rho.undefined or of_score.undefined or of_truth.undefined
        return Estimate(None, None, None, rho.n, reason)
    product = of_score.value * of_truth.value
    if of_score.value <= 0 or of_truth.value <= 0:
        return Estimate(None, None, None, rho.n, "score or truth do not agree with themselves over seeds")

    def scaled(value: float | None) -> float | None:
        return None if value is None else max(-1.0, min(1.0, value / math.sqrt(product)))

    return Estimate(scaled(rho.value), scaled(rho.low), scaled(rho.high), rho.n, rho.undefined)
