"""A score against the truth: arrays in, estimates with intervals out.

Global numbers, where they come from (the best fifth, bands of size, strata of a parameter, beyond size), how two scores
differ.

References: [E] Efron, Tibshirani, "An Introduction to the Bootstrap", 1993 · [W] Wilson, "Probable inference,
the law of succession, and statistical inference", Journal of the American Statistical Association 1927.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.correlation.bootstrap import NUM_RESAMPLES, Estimate, checked, draws, estimate, holm, p_value, undefined
from nasproxy.correlation.ranks import (
    best_rank_at_k,
    kendall,
    kendall_resampled,
    ndcg,
    ndcg_chance,
    ndcg_resampled,
    partial_spearman,
    pick_truth,
    recall_at_k,
    regret,
    regret_at_k,
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
    ``best_rank_at_k``: the best true rank among its first k. ``weighted_tau`` and ``ndcg`` weigh the top more;
    ``ndcg_chance`` is the mean nDCG of random orders of these candidates.

    The interval of the recall is Wilson's for k trials [W]. Regrets, the best rank and the truth of the pick have none:
    they are facts of these n candidates, and no resampling of one sample covers what another sample would give. Both
    are simulated in benchmarks/coverage.py.
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
    ndcg_chance: float | None = None


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
        return RankAgreement(n, k, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing)
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
    gains = ndcg_resampled(scores, truths, np.random.default_rng(seed))

    def fact(value: float) -> Estimate:
        return Estimate(float(value), None, None, n)

    return RankAgreement(
        n=n,
        k=k,
        spearman=estimate(float(spearman(score, truth)), spearman(scores, truths), n),
        kendall=estimate(kendall(score, truth), taus, n),
        weighted_tau=estimate(weighted_tau(score, truth), weighted, n),
        ndcg=estimate(ndcg(score, truth), gains, n),
        recall_at_k=_of_trials(float(recall_at_k(score, truth, k)), k, n),
        best_rank_at_k=fact(best_rank_at_k(score, truth, k)),
        regret=fact(float(regret(score, truth))),
        regret_at_k=fact(regret_at_k(score, truth, k)),
        pick_truth=fact(float(pick_truth(score, truth))),
        ndcg_chance=ndcg_chance(truth),
    )


def _of_trials(share: float, trials: int, n: int) -> Estimate:
    """``share`` of ``trials`` with the 95 % interval of Wilson [W].

    The k places of a recall are not independent, which makes their number vary less: the interval is a little wide.
    """
    z2 = 1.96**2 / trials
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


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
    """A score against another: the paired difference of ρ, and its p-value adjusted for all that were compared.

    ``at_floor``: no resample contradicted the sign, so that ``p`` is the least value that the resamples can show, and
    the true one may be lower.
    """

    score: str
    difference: Estimate
    p: float | None
    at_floor: bool = False


def differences(
    first: np.ndarray,
    others: Mapping[str, np.ndarray],
    truth: np.ndarray,
    *,
    first_sets: np.ndarray | None = None,
    other_sets: Mapping[str, np.ndarray] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """ρ of ``first`` minus that of each of ``others``; p-values by bootstrap, adjusted together (Holm).

    Args:
        first: ``(n,)``, the score that the others are compared with.
        others: scores by name, ``(n,)`` each.
        truth: ``(n,)``.
        first_sets: ``(n, S)``, the score by set of images (or by draw of them), of which ``first`` ranks the mean. The
            resamples then hold the luck of the sets, too: see :func:`_of_resampled_sets`. None: it has one set.
        other_sets: the same of some of ``others``.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    sets = dict(other_sets or {})
    found = {
        name: _difference(first, other, truth, num_resamples, seed, first_sets, sets.get(name))
        for name, other in others.items()
    }
    raw = {name: p_value(resampled) for name, (_, resampled) in found.items() if resampled is not None}
    adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
    floor = 2 / (num_resamples + 1)
    return tuple(
        Difference(name, found[name][0], adjusted.get(name), name in raw and raw[name] <= floor) for name in others
    )


def _difference(
    score_a: np.ndarray,
    score_b: np.ndarray,
    truth: np.ndarray,
    num_resamples: int,
    seed: int,
    sets_a: np.ndarray | None = None,
    sets_b: np.ndarray | None = None,
) -> tuple[Estimate, np.ndarray | None]:
    a, b, truth = checked(score_a=score_a, score_b=score_b, truth=truth)
    n = len(truth)
    why = undefined(n, first_score=a, second_score=b, truth=truth)
    if why:
        return Estimate(None, None, None, n, why), None
    index = draws(n, num_resamples, seed)
    columns = [
        column[index] if own is None else _of_resampled_sets(own, index, seed + 1 + place)
        for place, (column, own) in enumerate(((a, sets_a), (b, sets_b)))
    ]
    resampled = spearman(columns[0], truth[index]) - spearman(columns[1], truth[index])
    return estimate(float(spearman(a, truth) - spearman(b, truth)), resampled, n), resampled


def _of_resampled_sets(values: np.ndarray, index: np.ndarray, seed: int) -> np.ndarray:
    """The mean over sets of every resample of candidates, ``(B, n)``, where sets are resampled as well.

    A mean over S of S sets drawn again varies by (S − 1) / S of what a mean over S new sets varies by. Its deviation
    from the mean over the sets as they are is therefore multiplied by √(S / (S − 1)).

    Args:
        values: ``(n, S)``, with S of at least 2.
        index: ``(B, n)``, the candidates of every resample.
    """
    num = values.shape[1]
    counts = np.random.default_rng(seed).multinomial(num, [1 / num] * num, size=len(index))  # (B, S)
    weights = (1 + math.sqrt(num / (num - 1)) * (counts - 1)) / num
    return np.einsum("bns,bs->bn", values[index], weights)
