"""Rank statistics along the last axis: of a score, or of many resamples of it at once. Signed; higher is better.

What a top k contains is taken in expectation over ties, broken at random. NaN where a statistic is undefined: whoever
shows it says so in words (bootstrap.py).

References: [K] Kendall, "The treatment of ties in ranking problems", Biometrika 1945 · [V] Vigna, "A weighted
correlation index for rankings with ties", WWW 2015 · [J] Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR
techniques", TOIS 2002.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks, from 1."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=-1))


def log_rank_sum(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """``Σ log(rank / n)`` over several scores of n candidates, ``(n,)``; the rank of the best is n, ties share theirs.

    The aggregate of Lee, Ham, "AZ-NAS", CVPR 2024: a low rank by one score weighs more than a high one by another.
    """
    return np.sum([np.log(ranks(np.asarray(values)) / len(values)) for values in columns.values()], axis=0)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation; NaN where either is constant."""
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, np.clip((x * y).sum(-1) / scale, -1, 1), np.nan)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ along the last axis; ties have their average rank.

    Args:
        x: ``(…, n)``, one value for each candidate.
        y: ``(…, n)``, one value for each candidate.

    Returns:
        ``(…)`` in [−1, 1]; NaN where either is constant.

    Example:
        >>> float(spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])))
        0.5
    """
    return pearson(ranks(np.asarray(x)), ranks(np.asarray(y)))


def partial_spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
    """ρ of ``x`` and ``y`` with what ``given`` says linearly about their ranks taken out; NaN where that is all."""
    xy, xz, yz = spearman(x, y), spearman(x, given), spearman(y, given)
    scale = np.sqrt(np.maximum(0, (1 - xz**2) * (1 - yz**2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 1e-9, np.clip((xy - xz * yz) / scale, -1, 1), np.nan)


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's τ-b [K]: concordant minus discordant pairs, as a share that accounts for ties.

    Args:
        x: ``(n,)``, one value for each candidate.
        y: ``(n,)``, one value for each candidate.

    Returns:
        A number in [−1, 1]; NaN where either is constant.

    Example:
        >>> round(kendall(np.array([1, 2, 3, 3]), np.array([1, 3, 2, 4])), 3)
        0.548
    """
    from scipy.stats import kendalltau

    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(kendalltau(x, y, variant="b").statistic)


def kendall_resampled(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
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


def weighted_tau(x: np.ndarray, y: np.ndarray) -> float:
    """Vigna's τ of two vectors with hyperbolic weights [V]: exchanges near the top count more. NaN where constant."""
    from scipy.stats import weightedtau

    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(weightedtau(x, y).statistic)


def _order(score: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices from best to worst, ties in random order."""
    return np.lexsort((rng.random(score.shape), -score), axis=-1)


def _top_probability(values: np.ndarray, k: int) -> np.ndarray:
    """Chance of each candidate to be in the top k when ties are broken at random."""
    threshold = np.sort(values, axis=-1)[..., ::-1][..., k - 1 : k]
    above, tied = values > threshold, values == threshold
    left = k - above.sum(-1, keepdims=True)
    return np.asarray(above + tied * (left / tied.sum(-1, keepdims=True)))


def recall_at_k(score: np.ndarray, truth: np.ndarray, k: int, relevant: int | None = None) -> np.ndarray:
    """E|top k by score ∩ top ``relevant`` by truth| / ``relevant``, which is k unless it is given; 1 ≤ k ≤ n."""
    relevant = relevant or k
    both = _top_probability(np.asarray(score), k) * _top_probability(np.asarray(truth), relevant)
    return np.asarray(both.sum(-1) / relevant)


def precision_at_k(score: np.ndarray, truth: np.ndarray, k: int, relevant: int) -> np.ndarray:
    """E|top k by score ∩ top ``relevant`` by truth| / k."""
    return recall_at_k(score, truth, k, relevant) * relevant / k


def pick_truth(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The truth of the score's first; the mean over those tied for first."""
    first = score == score.max(-1, keepdims=True)
    return np.asarray((truth * first).sum(-1) / first.sum(-1))


def regret(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Best truth minus the truth of the score's first; the mean over those tied for first."""
    return np.asarray(truth.max(-1) - pick_truth(score, truth))


def _expected_best(score: np.ndarray, gain: np.ndarray, k: int) -> float:
    """E max of ``gain`` over the top k by ``score``, exactly: of those tied at the border a random part is in."""
    threshold = np.sort(score)[::-1][k - 1]
    sure = gain[score > threshold]
    floor = float(sure.max()) if len(sure) else -np.inf
    tied = np.sort(gain[score == threshold])[::-1]
    m, t = k - len(sure), len(tied)
    total = comb(t, m)
    return float(sum(max(floor, float(g)) * (comb(t - 1 - j, m - 1) / total) for j, g in enumerate(tied[: t - m + 1])))


def regret_at_k(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """What is lost by training only the score's first k candidates and keeping the best of them.

    Args:
        score, truth: ``(n,)``.
        k: candidates that are trained, 1 to n.

    Returns:
        The best truth minus the expected best one among the first k, in units of the truth; ties are broken at random.

    Example:
        >>> round(regret_at_k(np.array([3, 2, 1]), np.array([0.5, 0.9, 0.7]), k=1), 3)
        0.4
    """
    return float(truth.max()) - _expected_best(score, truth, k)


def best_rank_at_k(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """The best true rank (1 is best, equal truths share the better) among the score's top k."""
    return -_expected_best(score, -true_ranks(truth), k)


def true_ranks(truth: np.ndarray) -> np.ndarray:
    """1 plus the number of candidates that are strictly better."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-truth, method="min", axis=-1), dtype=float)


def ndcg(score: np.ndarray, truth: np.ndarray) -> float:
    """Normalised discounted cumulative gain [J] of two vectors: Σ gain / log₂(1 + place), over its largest value.

    The gain is the truth's distance from the worst, linear, so that a shift of all accuracies changes nothing; tied
    scores share the mean of their discounts. A random order has :func:`ndcg_chance`, which is far above 0 and depends
    on the truths. NaN where the truth is constant.
    """
    gain = np.asarray(truth, dtype=float) - np.min(truth)
    if gain.max() == 0:
        return float("nan")
    discount = 1 / np.log2(np.arange(2, len(gain) + 2))
    order = np.argsort(-score, kind="stable")
    _, start, inverse = np.unique(-score[order], return_index=True, return_inverse=True)
    sums = np.add.reduceat(discount, start)
    sizes = np.diff([*start, len(gain)])
    shared = (sums / sizes)[inverse]
    return float((gain[order] * shared).sum() / (np.sort(gain)[::-1] * discount).sum())


def ndcg_chance(truth: np.ndarray) -> float:
    """The mean of :func:`ndcg` over all orders of ``truth`` ``(n,)``: mean gain · Σ discount / the largest value."""
    gain = np.asarray(truth, dtype=float) - np.min(truth)
    if gain.max() == 0:
        return float("nan")
    discount = 1 / np.log2(np.arange(2, len(gain) + 2))
    return float(gain.mean() * discount.sum() / (np.sort(gain)[::-1] * discount).sum())


def ndcg_resampled(score: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """nDCG of many resamples ``(B, n)`` at once, ties broken at random."""
    sorted_truth = np.take_along_axis(truth, _order(score, rng), axis=-1)
    gain = sorted_truth - truth.min(-1, keepdims=True)
    discount = 1 / np.log2(np.arange(2, truth.shape[-1] + 2))
    ideal = -np.sort(-gain, axis=-1) @ discount
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(ideal > 0, gain @ discount / ideal, np.nan))


def lexicographic_ranks(primary: np.ndarray, secondary: np.ndarray) -> np.ndarray:
    """Average ranks ``(n,)`` by ``primary``, ties broken by ``secondary``; higher is better, exact ties share."""
    pairs = np.stack([np.asarray(primary, dtype=float), np.asarray(secondary, dtype=float)], axis=1)
    _, inverse = np.unique(pairs, axis=0, return_inverse=True)  # rows come out sorted by primary, then secondary
    return ranks(inverse.reshape(-1))
