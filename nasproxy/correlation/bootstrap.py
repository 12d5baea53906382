"""Intervals: a statistic of n candidates is taken again on resamples of them, drawn with replacement.

Percentile intervals: the 2.5 % and 97.5 % quantiles of the resamples. Their coverage is simulated in the tests. What
cannot be computed (all values equal, too few candidates) is said in words, never NaN.

References: [E] Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 · [H] Holm, "A simple
sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.core.errors import NasproxyError

CONFIDENCE = 0.95
MIN_CANDIDATES = 4  # with three, every resample is a line or undefined
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A signed statistic on ``n`` candidates, with its interval; ``undefined`` says in words why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    undefined: str | None = None


def draws(n: int, num_resamples: int, seed: int) -> np.ndarray:
    """Indices ``(B, n)`` of bootstrap resamples."""
    return np.random.default_rng(seed).integers(n, size=(num_resamples, n))


def interval(resampled: np.ndarray) -> tuple[float, float] | None:
    """Quantiles of the resamples that are defined; None when more than a tenth is not."""
    good = resampled[np.isfinite(resampled)]
    if len(good) < 0.9 * len(resampled):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(good, [tail, 1 - tail])
    return float(low), float(high)


def checked(**arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays as float vectors.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    result = [np.asarray(array, dtype=float) for array in arrays.values()]
    sizes = {name: array.shape for name, array in zip(arrays, result, strict=True)}
    if any(array.ndim != 1 for array in result) or len({array.size for array in result}) > 1:
        raise NasproxyError(f"Scores and truth must be vectors of one length, but got {sizes}.")
    for name, array in zip(arrays, result, strict=True):
        if not np.isfinite(array).all():
            raise NasproxyError(
                f"`{name}` must be finite, but holds {array[~np.isfinite(array)][0]}: leave failures out."
            )
    return result


def undefined(n: int, **arrays: np.ndarray) -> str | None:
    """Why nothing can be said of these vectors of ``n`` values; None when something can."""
    if n < MIN_CANDIDATES:
        return f"n = {n} is fewer than {MIN_CANDIDATES} candidates"
    for name, array in arrays.items():
        if np.ptp(array) == 0:
            return f"all {n} values of the {name.replace('_', ' ')} are equal"
    return None


def estimate(value: float, resampled: np.ndarray, n: int) -> Estimate:
    """``value`` with the interval of its resamples."""
    if not np.isfinite(value):
        return Estimate(None, None, None, n, "it is undefined for these candidates")
    found = interval(resampled)
    if found is None:
        return Estimate(float(value), None, None, n, "too many resamples are constant for an interval")
    return Estimate(float(value), found[0], found[1], n)


def p_value(resampled: np.ndarray) -> float:
    """Two-sided bootstrap p-value of "the difference is 0": twice the smaller share of resamples on a side of it."""
    good = resampled[np.isfinite(resampled)]
    below, above = (good <= 0).sum() + 1, (good >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(good) + 1)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values of several tests at once, adjusted so that one error among all has the stated chance [H]."""
    order = np.argsort(values)
    adjusted = np.empty(len(order))
    worst = 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - place) * values[index]))
        adjusted[index] = worst
    return [float(value) for value in adjusted]
