"""Rank statistics of a score against the truth: arrays in, estimates with intervals out. Imports nothing of ours.

Correlations are signed. Intervals are 95 % percentile bootstrap intervals over candidates: n pairs are drawn with
replacement, the statistic is taken again, and the 2.5 % and 97.5 % quantiles of the resamples are reported. What cannot
be computed (all values equal, too few candidates) is said in words, never NaN.

References: [E] Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. [K] Kendall, "The treatment of
ties in ranking problems", Biometrika 1945.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasproxy.errors import NasproxyError

CONFIDENCE = 0.95
MIN_CANDIDATES = 4  # with three, every resample is a line or undefined
# Kendall's sign matrices take n² numbers; beyond this a slower, lean way is taken.
MAX_MATRIX = 3_000
LARGE_RESAMPLES = 200


@dataclass(frozen=True)
class Estimate:
    """A signed statistic on ``n`` candidates, with its interval; ``undefined`` says in words why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    undefined: str | None = None


@dataclass(frozen=True)
class RankAgreement:
    """One score against the truth on the same ``n`` candidates.

    ``recall_at_k``: the share of the true top k among the score's top k, in expectation over ties. ``regret``: the best
    truth minus the truth of the score's first, in the truth's unit, in expectation over ties.
    """

    n: int
    spearman: Estimate
    kendall: Estimate
    k: int
    recall_at_k: float | None
    regret: float | None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks along the last axis."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=-1))


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, np.clip((x * y).sum(-1) / scale, -1, 1), np.nan)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ along the last axis, ties by average ranks; NaN where either is constant."""
    return _pearson(_ranks(np.asarray(x)), _ranks(np.asarray(y)))


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's τ-b [K] of two vectors; NaN where either is constant."""
    from scipy.stats import kendalltau

    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(kendalltau(x, y, variant="b").statistic)


def _kendall_resampled(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """τ-b of every resample; ``counts`` ``(B, n)`` says how often each candidate was drawn.

    Two copies of one candidate are tied, so with sign matrices S and drawing counts w
    τ-b = wᵀ(Sx∘Sy)w / √(wᵀ|Sx|w · wᵀ|Sy|w): a ratio of quadratic forms, without a loop over resamples.
    """
    sx, sy = (np.sign(v[:, None] - v[None, :]) for v in (x, y))

    def form(matrix: np.ndarray) -> np.ndarray:
        return np.einsum("bn,bn->b", counts @ matrix, counts)

    scale = np.sqrt(form(np.abs(sx)) * form(np.abs(sy)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, form(sx * sy) / scale, np.nan)


def _draws(n: int, num_resamples: int, seed: int) -> np.ndarray:
    """Indices ``(B, n)`` of bootstrap resamples."""
    return np.random.default_rng(seed).integers(n, size=(num_resamples, n))


def _interval(resampled: np.ndarray) -> tuple[float, float] | None:
    """Quantiles of the resamples that are defined; None when more than a tenth is not."""
    good = resampled[np.isfinite(resampled)]
    if len(good) < 0.9 * len(resampled):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(good, [tail, 1 - tail])
    return float(low), float(high)


def _checked(**arrays: np.ndarray) -> list[np.ndarray]:
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


def _undefined(n: int, **arrays: np.ndarray) -> str | None:
    if n < MIN_CANDIDATES:
        return f"n = {n} is fewer than {MIN_CANDIDATES} candidates"
    for name, array in arrays.items():
        if np.ptp(array) == 0:
            return f"all {n} values of the {name.replace('_', ' ')} are equal"
    return None


def _estimate(value: float, resampled: np.ndarray, n: int) -> Estimate:
    interval = _interval(resampled)
    if interval is None:
        return Estimate(value, None, None, n, "too many resamples are constant for an interval")
    return Estimate(value, interval[0], interval[1], n)


def rank_agreement(
    score: np.ndarray, truth: np.ndarray, *, k: int, num_resamples: int = 2000, seed: int = 0
) -> RankAgreement:
    """How ``score`` ``(n,)`` ranks candidates whose ``truth`` ``(n,)`` is known; higher is better in both.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    score, truth = _checked(score=score, truth=truth)
    n = len(score)
    k = min(k, n)
    undefined = _undefined(n, score=score, truth=truth)
    if undefined:
        nothing = Estimate(None, None, None, n, undefined)
        rho = tau = nothing
    else:
        index = _draws(n, num_resamples, seed)
        rho = _estimate(float(spearman(score, truth)), spearman(score[index], truth[index]), n)
        if n <= MAX_MATRIX:
            counts = np.zeros((num_resamples, n))
            np.add.at(counts, (np.arange(num_resamples)[:, None], index), 1)
            taus = _kendall_resampled(score, truth, counts)
        else:
            taus = np.array([kendall(score[row], truth[row]) for row in index[:LARGE_RESAMPLES]])
        tau = _estimate(kendall(score, truth), taus, n)
    return RankAgreement(
        n=n,
        spearman=rho,
        kendall=tau,
        k=k,
        recall_at_k=recall_at_k(score, truth, k) if n else None,
        regret=regret(score, truth) if n else None,
    )


def paired_difference(
    score_a: np.ndarray, score_b: np.ndarray, truth: np.ndarray, *, num_resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Spearman of ``score_a`` minus that of ``score_b``, both with ``truth`` ``(n,)``; paired bootstrap ([E]).

    Both correlations of a resample are taken on the same candidates, which removes what they share.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    a, b, truth = _checked(score_a=score_a, score_b=score_b, truth=truth)
    n = len(truth)
    undefined = _undefined(n, first_score=a, second_score=b, truth=truth)
    if undefined:
        return Estimate(None, None, None, n, undefined)
    index = _draws(n, num_resamples, seed)
    resampled = spearman(a[index], truth[index]) - spearman(b[index], truth[index])
    return _estimate(float(spearman(a, truth) - spearman(b, truth)), resampled, n)


def _top_probability(values: np.ndarray, k: int) -> np.ndarray:
    """Chance of each candidate to be in the top k when ties are broken at random."""
    threshold = np.sort(values)[::-1][k - 1]
    above, tied = values > threshold, values == threshold
    return above + tied * ((k - above.sum()) / tied.sum())


def recall_at_k(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """E|top k by score ∩ top k by truth| / k, ties broken at random; 1 ≤ k ≤ n."""
    return float((_top_probability(score, k) * _top_probability(truth, k)).sum() / k)


def regret(score: np.ndarray, truth: np.ndarray) -> float:
    """Best truth minus the truth of the score's first; the mean over those tied for first."""
    return float(truth.max() - truth[score == score.max()].mean())


def lexicographic_ranks(primary: np.ndarray, secondary: np.ndarray) -> np.ndarray:
    """Average ranks ``(n,)`` by ``primary``, ties broken by ``secondary``; higher is better, exact ties share."""
    pairs = np.stack([np.asarray(primary, dtype=float), np.asarray(secondary, dtype=float)], axis=1)
    _, inverse = np.unique(pairs, axis=0, return_inverse=True)  # rows come out sorted by primary, then secondary
    return _ranks(inverse.reshape(-1))
