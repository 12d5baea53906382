"""A score against the truth: arrays in, estimates with intervals out.

Global numbers, where they come from (the best fifth, bands of size, strata of a parameter, beyond size), how two scores
differ, how reliable score and truth are themselves, and how many candidates a wanted interval takes.

References: [E] Efron, Tibshirani, "An Introduction to the Bootstrap", 1993 · [S] Spearman, "The proof and measurement
of association between two things", 1904 · [B] Bonett, Wright, "Sample size requirements for estimating Pearson, Kendall
and Spearman correlations", Psychometrika 2000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation.bootstrap import NUM_RESAMPLES, Estimate, checked, draws, estimate, holm, p_value, undefined
from nasproxy.correlation.ranks import (
    best_rank_at_k,
    kendall,
    kendall_resampled,
    ndcg,
    partial_spearman,
    pick_truth,
    recall_at_k,
    regret,
    regret_at_k,
    resampled_top,
    spearman,
    weighted_tau,
)

# Kendall's sign matrices take n² numbers; beyond this a slower, lean way is taken.
MAX_MATRIX = 3_000
LARGE_RESAMPLES = 200
TOP_SHARE = 0.2
NUM_BANDS = 3


@dataclass(frozen=True)
class RankAgreement:
    """One score against the truth on the same ``n`` candidates, in expectation over ties.

    ``recall_at_k``: the share of the true top k among the score's top k. ``regret``: the best truth minus that of the
    score's first, ``regret_at_k`` minus the best of its first k, in the truth's unit; ``pick_truth``: its first's own.
    ``best_rank_at_k``: the best true rank among its first k. ``weighted_tau`` and ``ndcg`` weigh the top more.
    """

    n: int
    k: int
    spearman: Estimate
    kendall: Estimate
    weighted_tau: Estimate
    ndcg: Estimate
    recall_at_k: Estimate
    best_rank_at_k: Estimate
    regret: Estimate
    regret_at_k: Estimate
    pick_truth: Estimate


def rank_agreement(
    score: np.ndarray, truth: np.ndarray, *, k: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> RankAgreement:
    """How ``score`` ``(n,)`` ranks candidates whose ``truth`` ``(n,)`` is known; higher is better in both.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    score, truth = checked(score=score, truth=truth)
    n = len(score)
    k = min(k, n)
    why = undefined(n, score=score, truth=truth)
    if why:
        nothing = Estimate(None, None, None, n, why)
        return RankAgreement(n, k, *[nothing] * 9)
    index = draws(n, num_resamples, seed)
    scores, truths = score[index], truth[index]
    if n <= MAX_MATRIX:
        counts = np.zeros((num_resamples, n))
        np.add.at(counts, (np.arange(num_resamples)[:, None], index), 1)
        taus = kendall_resampled(score, truth, counts)
    else:
        taus = np.array([kendall(score[row], truth[row]) for row in index[:LARGE_RESAMPLES]])
    few = index[:LARGE_RESAMPLES]  # one by one; an interval of 200 resamples is a little rough
    weighted = np.array([weighted_tau(score[row], truth[row]) for row in few])
    regrets, best_ranks, gains = resampled_top(scores, truths, k, np.random.default_rng(seed))
    return RankAgreement(
        n=n,
        k=k,
        spearman=estimate(float(spearman(score, truth)), spearman(scores, truths), n),
        kendall=estimate(kendall(score, truth), taus, n),
        weighted_tau=estimate(weighted_tau(score, truth), weighted, n),
        ndcg=estimate(ndcg(score, truth), gains, n),
        recall_at_k=estimate(float(recall_at_k(score, truth, k)), recall_at_k(scores, truths, k), n),
        best_rank_at_k=estimate(best_rank_at_k(score, truth, k), best_ranks, n),
        regret=estimate(float(regret(score, truth)), regret(scores, truths), n),
        regret_at_k=estimate(regret_at_k(score, truth, k), regrets, n),
        pick_truth=estimate(float(pick_truth(score, truth)), pick_truth(scores, truths), n),
    )


def rank_correlation(
    score: np.ndarray, truth: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
    """Spearman's ρ of a score and the truth, with its 95 % interval by a bootstrap over candidates.

    Args:
        score: ``(n,)``, one value for each candidate; a higher one is better.
        truth: ``(n,)``, the same for the truth.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The value and its interval; or why they are undefined, for example for fewer than four candidates.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.

    Example:
        >>> truth = np.arange(20.0)
        >>> found = rank_correlation(truth**2, truth)
        >>> found.value, found.n
        (1.0, 20)
    """
    score, truth = checked(score=score, truth=truth)
    n = len(score)
    why = undefined(n, score=score, truth=truth)
    if why:
        return Estimate(None, None, None, n, why)
    index = draws(n, num_resamples, seed)
    return estimate(float(spearman(score, truth)), spearman(score[index], truth[index]), n)


# -------------------------------------------------------------------------------------------------- where it comes from


@dataclass(frozen=True)
class Part:
    """ρ on a part of the candidates, or with something taken out: ``kind`` groups parts, ``name`` says which."""

    kind: str
    name: str
    spearman: Estimate


def parts(
    score: np.ndarray,
    truth: np.ndarray,
    *,
    size: np.ndarray,
    strata: Mapping[str, Sequence[str]],
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Part, ...]:
    """Where a score's agreement comes from.

    "top": within the true best fifth. "size": within thirds of parameter count. A parameter's name: within each of its
    values that enough candidates have, and last over all of them ("within", see :func:`within`). "beyond size": with
    log size taken out.

    Args:
        size: parameter count of every candidate, ``(n,)``.
        strata: for each parameter of the space its value by candidate, as text.
    """
    score, truth, size = checked(score=score, truth=truth, size=size)
    n = len(score)
    found: list[Part] = []

    def add(kind: str, name: str, chosen: np.ndarray) -> None:
        some = Estimate(None, None, None, int(chosen.sum()), f"fewer than {MIN_PART} candidates")
        if chosen.sum() >= MIN_PART:
            some = rank_correlation(score[chosen], truth[chosen], num_resamples=num_resamples, seed=seed)
        found.append(Part(kind, name, some))

    if n == 0:
        return ()
    top = np.argsort(-truth, kind="stable")[: max(1, round(TOP_SHARE * n))]
    add("top", f"true best {len(top)}", np.isin(np.arange(n), top))
    edges = np.quantile(size, np.linspace(0, 1, NUM_BANDS + 1))
    for band in range(NUM_BANDS):
        inside = (size >= edges[band]) & ((size < edges[band + 1]) | (band == NUM_BANDS - 1))
        if inside.any():
            add("size", f"{size[inside].min():,.0f} to {size[inside].max():,.0f} parameters", inside)
    found.append(Part("beyond size", "log parameters taken out", _partial(score, truth, size, num_resamples, seed)))
    for name, values in strata.items():
        labels = np.array(list(values))
        distinct = sorted(set(labels))
        if not 1 < len(distinct) <= max(2, n // MIN_STRATUM):
            continue
        for value in distinct:
            if (labels == value).sum() >= MIN_PART:
                add(name, value, labels == value)
        found.append(Part(name, "within, on average", within(score, truth, labels, num_resamples, seed)))
    return tuple(found)


MIN_STRATUM = 5  # candidates that a value of a parameter must have on average to be a stratum
MIN_PART = 10  # of five that happen to be in order, all resamples are: an interval of no width


def _partial(score: np.ndarray, truth: np.ndarray, size: np.ndarray, num_resamples: int, seed: int) -> Estimate:
    n = len(score)
    why = undefined(n, score=score, truth=truth, size=size)
    if why:
        return Estimate(None, None, None, n, why)
    index = draws(n, num_resamples, seed)
    return estimate(
        float(partial_spearman(score, truth, size)), partial_spearman(score[index], truth[index], size[index]), n
    )


def within(
    score: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean of ρ over strata, weighted by their sizes: a score that only tells the strata apart has 0.

    Resamples are drawn within each stratum. Strata where ρ is undefined are left out, and of ``n``.
    """
    values, resampled, sizes = [], [], []
    for number, label in enumerate(sorted(set(labels.tolist()))):
        x, y = score[labels == label], truth[labels == label]
        if undefined(len(x), score=x, truth=y):
            continue
        index = draws(len(x), num_resamples, seed + number)
        values.append(float(spearman(x, y)))
        resampled.append(np.nan_to_num(spearman(x[index], y[index])))
        sizes.append(len(x))
    if not sizes:
        return Estimate(None, None, None, 0, "no value of the parameter has enough candidates")
    return estimate(
        float(np.average(values, weights=sizes)), np.average(resampled, axis=0, weights=sizes), int(np.sum(sizes))
    )


# ---------------------------------------------------------------------------------------------------------- differences


def paired_difference(
    score_a: np.ndarray,
    score_b: np.ndarray,
    truth: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Spearman of ``score_a`` minus that of ``score_b``, both with ``truth`` ``(n,)``; paired bootstrap ([E]).

    Both correlations of a resample are taken on the same candidates, which removes what they share.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    return _difference(score_a, score_b, truth, num_resamples, seed)[0]


@dataclass(frozen=True)
class Difference:
    """A score against another: the paired difference of ρ, and its p-value adjusted for all that were compared."""

    score: str
    difference: Estimate
    p: float | None


def differences(
    first: np.ndarray,
    others: Mapping[str, np.ndarray],
    truth: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """ρ of ``first`` minus that of each of ``others``; p-values by bootstrap, adjusted together (Holm)."""
    found = {name: _difference(first, other, truth, num_resamples, seed) for name, other in others.items()}
    tested = [name for name, (_, resampled) in found.items() if resampled is not None]
    adjusted = dict(zip(tested, holm([p_value(found[name][1]) for name in tested]), strict=True))  # type: ignore[arg-type]
    return tuple(Difference(name, found[name][0], adjusted.get(name)) for name in others)


def _difference(
    score_a: np.ndarray, score_b: np.ndarray, truth: np.ndarray, num_resamples: int, seed: int
) -> tuple[Estimate, np.ndarray | None]:
    a, b, truth = checked(score_a=score_a, score_b=score_b, truth=truth)
    n = len(truth)
    why = undefined(n, first_score=a, second_score=b, truth=truth)
    if why:
        return Estimate(None, None, None, n, why), None
    index = draws(n, num_resamples, seed)
    resampled = spearman(a[index], truth[index]) - spearman(b[index], truth[index])
    return estimate(float(spearman(a, truth) - spearman(b, truth)), resampled, n), resampled


# ---------------------------------------------------------------------------------------------------------- reliability


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

    It bounds what any score can reach against a truth, or any truth with a score, of this reliability.

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


# ------------------------------------------------------------------------------------------------------------- planning


def interval_width(rho: float, n: int) -> float:
    """Width of a 95 % interval of Spearman's ρ from ``n`` candidates, after Fisher's z with the variance of [B]."""
    if n < MIN_PLANNED:
        return 2.0
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    z = math.atanh(max(-0.999, min(0.999, rho)))
    return math.tanh(z + half) - math.tanh(z - half)


MIN_PLANNED = 4


def candidates_for(width: float, rho: float) -> int:
    """The least n whose interval around ``rho`` is at most ``width`` wide.

    Raises:
        NasproxyError: unless 0 < width < 2.
    """
    if not 0 < width < 2:
        raise NasproxyError(f"`0 < width < 2` must hold for an interval of a correlation, but got {width:g}.")
    low, high = MIN_PLANNED, MIN_PLANNED + 1
    while interval_width(rho, high) > width:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if interval_width(rho, middle) > width else (low, middle)
    return high
