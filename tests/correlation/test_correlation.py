import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import (
    attainable,
    candidates_for,
    corrected,
    differences,
    holm,
    interval_width,
    kendall,
    lexicographic_ranks,
    paired_difference,
    parts,
    rank_agreement,
    rank_correlation,
    recall_at_k,
    regret,
    reliability,
    spearman,
    within,
)
from nasproxy.correlation.agreement import _of_resampled_sets, _of_trials
from nasproxy.correlation.bootstrap import Estimate, draws
from nasproxy.correlation.ranks import (
    best_rank_at_k,
    kendall_resampled,
    ndcg,
    ndcg_chance,
    ndcg_resampled,
    partial_spearman,
    pick_truth,
    precision_at_k,
    regret_at_k,
    weighted_tau,
)


def pairs(n, rho, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)


def slow_ranks(values):
    return [sum(u < v for u in values) + (sum(u == v for u in values) + 1) / 2 for v in values]


def slow_pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return cov / (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5


def slow_tau_b(x, y):
    concordant = discordant = ties_x = ties_y = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        concordant += a * b > 0
        discordant += a * b < 0
        ties_x += a == 0
        ties_y += b == 0
    total = len(x) * (len(x) - 1) / 2
    return (concordant - discordant) / ((total - ties_x) * (total - ties_y)) ** 0.5


integers = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=30)


@given(integers)
@settings(deadline=None)
def test_equals_the_slow_loops_and_scipy_with_heavy_ties(values):
    x, y = (np.array(column, dtype=float) for column in zip(*values, strict=True))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(spearman(x, y))
        assert np.isnan(kendall(x, y))
        return
    rho, tau = float(spearman(x, y)), kendall(x, y)
    assert rho == pytest.approx(slow_pearson(slow_ranks(x), slow_ranks(y)), abs=1e-12)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert tau == pytest.approx(slow_tau_b(x, y), abs=1e-12)
    assert float(spearman(-x, y)) == pytest.approx(-rho, abs=1e-12)
    assert float(spearman(np.exp(x), y)) == pytest.approx(rho, abs=1e-12)


def test_rows_are_taken_one_by_one():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (2, 50, 12))
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(spearman(x, y), expected, atol=1e-12)


def test_kendall_of_resamples_equals_kendall_of_each():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, (2, 15)).astype(float)
    index = draws(15, 40, seed=3)
    counts = np.array([np.bincount(row, minlength=15) for row in index], dtype=float)
    expected = [kendall(x[row], y[row]) for row in index]
    np.testing.assert_allclose(kendall_resampled(x, y, counts), expected, atol=1e-12)


def test_interval_agrees_with_scipys_bootstrap():
    x, y = pairs(60, 0.6, 0)
    ours = rank_agreement(x, y, k=5, num_resamples=4000).spearman
    theirs = stats.bootstrap(
        (x, y), lambda a, b, axis: spearman(a, b), paired=True, vectorized=True, n_resamples=4000,
        method="percentile", rng=np.random.default_rng(9),
    ).confidence_interval  # fmt: skip
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_interval_covers_as_often_as_it_says():
    """300 samples of 40 from a bivariate normal: nominal 95 %; 95.0 % was observed. 3 σ of 300 draws are 3.8 %."""
    rho = 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman of a bivariate normal
    covered = 0
    for seed in range(300):
        x, y = pairs(40, rho, seed)
        estimate = rank_correlation(x, y, num_resamples=400, seed=seed)
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_signs_survive():
    x = np.arange(30.0)
    agreement = rank_agreement(-x, x, k=5)
    assert agreement.spearman.value == -1
    assert agreement.kendall.value == -1
    assert agreement.spearman.high <= 0
    assert agreement.recall_at_k.value == 0
    assert agreement.regret.value == 29
    assert agreement.weighted_tau.value == pytest.approx(-1)
    assert agreement.best_rank_at_k.value == 26
    assert agreement.pick_truth.value == 0


@pytest.mark.parametrize(
    ("score", "truth", "why"),
    [
        ([], [], "n = 0 is fewer"),
        ([1.0, 2, 3], [1.0, 2, 3], "n = 3 is fewer"),
        ([2.0] * 12, range(12), "all 12 values of the score are equal"),
        (range(12), [0.1] * 12, "all 12 values of the truth are equal"),
    ],
)
def test_undefined_is_said_in_words(score, truth, why):
    agreement = rank_agreement(np.array(list(score), dtype=float), np.array(list(truth), dtype=float), k=3)
    for estimate in (agreement.spearman, agreement.kendall):
        assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
        assert why in estimate.undefined


def test_an_interval_that_cannot_be_had_is_said():
    score = np.array([0.0] * 19 + [1.0])
    estimate = rank_agreement(score, np.arange(20.0), k=3).spearman
    assert estimate.value == pytest.approx(stats.spearmanr(score, np.arange(20.0)).statistic)
    assert estimate.low is None
    assert "constant" in estimate.undefined


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_failures_must_be_left_out(bad):
    with pytest.raises(NasproxyError, match=f"`score` must be finite, but holds {bad}"):
        rank_agreement(np.array([1.0, bad, 2.0]), np.arange(3.0), k=1)
    with pytest.raises(NasproxyError, match="one length"):
        rank_agreement(np.arange(4.0), np.arange(3.0), k=1)


def test_paired_difference():
    truth = np.arange(80.0)
    rng = np.random.default_rng(0)
    good, bad = truth + rng.normal(0, 5, 80), truth + rng.normal(0, 60, 80)
    estimate = paired_difference(good, bad, truth)
    expected = stats.spearmanr(good, truth).statistic - stats.spearmanr(bad, truth).statistic
    assert estimate.value == pytest.approx(expected)
    assert 0 < estimate.low < estimate.value < estimate.high
    swapped = paired_difference(bad, good, truth)
    assert swapped.low == pytest.approx(-estimate.high)
    same = paired_difference(good, good, truth)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert paired_difference(good, np.ones(80), truth).undefined == "all 80 values of the second score are equal"


def test_recall_is_the_mean_over_all_ways_to_break_ties():
    score, truth = np.array([3, 2, 2, 2, 1.0]), np.array([5, 4, 4, 1, 1.0])
    for k in range(1, 6):
        values = []
        for a in itertools.permutations(range(5)):
            by_score = sorted(range(5), key=lambda i: (-score[i], a[i]))[:k]
            for b in itertools.permutations(range(5)):
                by_truth = sorted(range(5), key=lambda i: (-truth[i], b[i]))[:k]
                values.append(len(set(by_score) & set(by_truth)) / k)
        assert recall_at_k(score, truth, k) == pytest.approx(np.mean(values))


def test_k_is_never_more_than_n():
    agreement = rank_agreement(np.arange(6.0), np.arange(6.0), k=50)
    assert (agreement.k, agreement.recall_at_k.value, agreement.regret.value) == (6, 1.0, 0.0)


def test_regret_is_the_mean_over_those_tied_for_first():
    assert regret(np.array([1.0, 1, 0]), np.array([0.5, 0.7, 0.9])) == pytest.approx(0.3)


def test_lexicographic_ranks():
    primary, secondary = np.array([0.5, 0.5, 0.9, 0.5, 0.1]), np.array([-2.0, -1, -9, -2, 0])
    assert lexicographic_ranks(primary, secondary).tolist() == [2.5, 4, 5, 2.5, 1]
    assert lexicographic_ranks(np.array([]), np.array([])).tolist() == []


@pytest.mark.slow
def test_a_whole_benchmark_takes_seconds():
    x, y = pairs(15_625, 0.7, 0)
    agreement = rank_agreement(np.round(x, 2), np.round(y, 2), k=100, num_resamples=200)
    assert agreement.spearman.low < agreement.spearman.value < agreement.spearman.high
    assert agreement.kendall.low < agreement.kendall.value < agreement.kendall.high
    assert agreement.spearman.high - agreement.spearman.low < 0.05


@pytest.mark.slow
def test_intervals_are_those_of_the_literature():
    """Near ρ = .8 the interval of n = 50 is about .25 wide, of n = 200 about .12."""
    widths = {}
    for n in (50, 200):
        estimates = [rank_agreement(*pairs(n, 0.81, seed), k=1, num_resamples=400).spearman for seed in range(20)]
        widths[n] = np.mean([e.high - e.low for e in estimates])
    assert widths[50] == pytest.approx(0.25, abs=0.06)
    assert widths[200] == pytest.approx(0.12, abs=0.03)


tied = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=6)


@given(tied, st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_what_a_top_k_holds_is_the_mean_over_all_ways_to_break_ties(values, k):
    score, truth = (np.array(column, dtype=float) for column in zip(*values, strict=True))
    n = len(score)
    k = min(k, n)
    best, rank, gain = [], [], []
    for order in itertools.permutations(range(n)):
        top = sorted(range(n), key=lambda i: (-score[i], order[i]))
        chosen = top[:k]
        best.append(max(truth[i] for i in chosen))
        rank.append(min(1 + sum(truth > truth[i]) for i in chosen))
        gain.append(sum((truth[i] - truth.min()) / np.log2(place + 2) for place, i in enumerate(top)))
    assert regret_at_k(score, truth, k) == pytest.approx(truth.max() - np.mean(best))
    assert best_rank_at_k(score, truth, k) == pytest.approx(np.mean(rank))
    if np.ptp(truth) > 0:
        ideal = sum((t - truth.min()) / np.log2(place + 2) for place, t in enumerate(sorted(truth, reverse=True)))
        assert ndcg(score, truth) == pytest.approx(np.mean(gain) / ideal)
    assert regret_at_k(score, truth, 1) == pytest.approx(float(regret(score, truth)))


@given(integers)
@settings(deadline=None)
def test_ndcg_and_weighted_tau_equal_the_authorities(values):
    from sklearn.metrics import ndcg_score

    x, y = (np.array(column, dtype=float) for column in zip(*values, strict=True))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(weighted_tau(x, y))
        assert np.isnan(ndcg(x, y)) == (np.ptp(y) == 0)
        return
    assert ndcg(x, y) == pytest.approx(ndcg_score([y - y.min()], [x]))
    assert weighted_tau(x, y) == pytest.approx(stats.weightedtau(x, y).statistic)
    assert float(pick_truth(x, y)) == pytest.approx(y[x == x.max()].mean())


def test_precision_counts_the_relevant_and_recall_what_was_found():
    score, truth = np.arange(20.0), np.arange(20.0)
    assert precision_at_k(score, truth, 5, 10) == 1.0
    assert recall_at_k(score, truth, 5, 10) == 0.5
    assert precision_at_k(-score, truth, 5, 10) == 0.0


def test_ndcg_of_resamples_agrees_with_that_of_each():
    """Without ties in a row, exactly; with ties (every resample has some) on average."""
    x, y = pairs(12, 0.5, 0)
    rng = np.random.default_rng(0)
    order = np.array([rng.permutation(12) for _ in range(20)])
    assert np.allclose(ndcg_resampled(x[order], y[order], rng), ndcg(x, y))
    tied = np.round(x)
    many = np.broadcast_to(tied, (4000, 12)), np.broadcast_to(y, (4000, 12))
    assert ndcg_resampled(*many, rng).mean() == pytest.approx(ndcg(tied, y), abs=0.01)


def test_ndcg_of_a_random_order_is_far_from_a_half():
    """The mean over all orders of five, one by one; and of 64 accuracies it is above 0.8."""
    truth = np.array([0.1, 0.5, 0.55, 0.6, 0.62])
    orders = [ndcg(np.array(order, dtype=float), truth) for order in itertools.permutations(range(5))]
    assert ndcg_chance(truth) == pytest.approx(np.mean(orders))
    rng = np.random.default_rng(0)
    accuracies = 0.6 - 0.1 * rng.exponential(size=64)
    assert ndcg_chance(accuracies) > 0.8
    simulated = np.mean([ndcg(rng.normal(size=64), accuracies) for _ in range(2000)])
    assert ndcg_chance(accuracies) == pytest.approx(simulated, abs=0.01)
    assert rank_agreement(rng.normal(size=64), accuracies, k=5).ndcg_chance == ndcg_chance(accuracies)
    assert np.isnan(ndcg_chance(np.ones(4)))


@pytest.mark.parametrize("n", [20, 64])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.73, 0.9, 0.95])
def test_the_interval_of_recall_covers(n, rho):
    """The mean recall of samples of n lies in the interval of a sample in 95 % of samples, or more."""
    pearson = 2 * np.sin(np.pi * rho / 6)
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(size=(2, 20_000, n))
    score = pearson * truth + np.sqrt(1 - pearson**2) * noise
    values = recall_at_k(score, truth, 5)
    expected = values.mean()
    ends = {value: _of_trials(value, 5, n) for value in np.unique(values)}
    covered = np.mean([ends[value].low <= expected <= ends[value].high for value in values])
    assert covered > 0.95


def test_the_interval_of_recall_is_wilsons():
    from scipy.stats import binomtest

    score, truth = np.arange(20.0), np.roll(np.arange(20.0), 2)
    found = rank_agreement(score, truth, k=5).recall_at_k
    expected = binomtest(round(5 * found.value), 5).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_facts_of_a_sample_have_no_interval():
    found = rank_agreement(*pairs(30, 0.5, 0), k=5)
    for fact in (found.regret, found.regret_at_k, found.best_rank_at_k, found.pick_truth):
        assert fact.value is not None
        assert fact.low is fact.high is fact.undefined is None


def test_a_score_without_noise_reaches_the_root_of_the_reliability():
    """Not the reliability itself: signal and noise of equal variance agree at .48, and the signal with each at .69."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(6000, 1))
    truth = signal + rng.normal(size=(6000, 2))
    of_truth = reliability(truth, num_resamples=50)
    reached = float(spearman(signal[:, 0], truth.mean(1)))
    assert reached > of_truth.value + 0.1
    assert attainable(of_truth).value == pytest.approx(reached, abs=0.02)
    assert attainable(Estimate(0.48, 0.25, 0.64, 9)) == Estimate(0.48**0.5, 0.5, 0.8, 9)
    assert attainable(Estimate(0.3, -0.1, 0.6, 9)).low == 0
    assert "agree with itself" in attainable(Estimate(-0.2, -0.4, 0.1, 9)).undefined
    assert attainable(Estimate(None, None, None, 9, "one seed")).undefined == "one seed"


def test_partial_correlation_is_that_of_the_residuals_of_ranks():
    rng = np.random.default_rng(0)
    z = rng.normal(size=60)
    x, y = z + rng.normal(size=60), 2 * z + rng.normal(size=60)
    rx, ry, rz = (stats.rankdata(v) for v in (x, y, z))
    residuals = [r - np.polyval(np.polyfit(rz, r, 1), rz) for r in (rx, ry)]
    assert float(partial_spearman(x, y, z)) == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert np.isnan(partial_spearman(z, y, z))  # nothing is left of a score that is the size


def test_parts_show_where_a_score_s_knowledge_comes_from():
    """A score that only tells two values of a parameter apart ranks globally, and not within them."""
    rng = np.random.default_rng(0)
    kind = np.repeat(["relu", "sigmoid"], 60)
    truth = np.where(kind == "relu", 0.6, 0.2) + rng.normal(0, 0.05, 120)
    score = np.where(kind == "relu", 1.0, 0.0) + rng.normal(0, 0.05, 120)
    size = rng.integers(1_000, 100_000, 120).astype(float)
    found = {(part.kind, part.name): part.spearman for part in parts(
        score, truth, size=size, strata={"activation": list(kind), "name": [str(k) for k in range(120)]}
    )}  # fmt: skip
    assert rank_correlation(score, truth).low > 0.5
    inside = found["activation", "within, on average"]
    assert inside.low < 0 < inside.high
    assert inside.n == 120
    assert abs(found["activation", "relu"].value) < 0.3
    assert found["activation", "relu"].n == 60
    assert found["top", "true best 24"].n == 24
    assert sum(part.n for (kind, _), part in found.items() if kind == "size") == 120
    assert found["beyond size", "log parameters taken out"].low > 0.5
    assert not any(kind == "name" for kind, _ in found)  # a parameter with as many values as candidates
    assert parts(score[:0], truth[:0], size=size[:0], strata={}) == ()


def test_within_averages_over_strata_by_their_size():
    x, y = pairs(30, 0.8, 0)
    labels = np.array(["a"] * 10 + ["b"] * 18 + ["c"] * 2)
    expected = [float(spearman(x[labels == label], y[labels == label])) for label in "ab"]
    found = within(x, y, labels)
    assert found.value == pytest.approx(np.average(expected, weights=[10, 18]))
    assert found.n == 28  # two candidates say nothing
    assert within(x[:3], y[:3], labels[:3]).undefined == "no value of the parameter has enough candidates"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_several_differences_are_tested_together():
    truth = np.arange(80.0)
    rng = np.random.default_rng(0)
    good, same = truth + rng.normal(0, 20, 80), truth + rng.normal(0, 20, 80)
    others = {"bad": truth + rng.normal(0, 90, 80), "same": same, "constant": np.ones(80)}
    found = {one.score: one for one in differences(good, others, truth)}
    assert found["bad"].p < 0.01
    assert found["bad"].difference == paired_difference(good, others["bad"], truth)
    assert found["same"].p > 0.01
    assert found["constant"].p is None
    assert found["bad"].at_floor  # no resample contradicts it
    assert found["bad"].p == pytest.approx(2 * 2 / 2001)  # two tests
    assert not found["same"].at_floor
    assert not found["constant"].at_floor


def test_the_luck_of_the_sets_widens_the_interval():
    """Scores of three sets each. The interval of their difference covers ρ of sets that were never drawn.

    Every score knows the truth equally well, but for what its set adds to each candidate. In the population the
    difference is 0; ignoring the sets, the interval covers it too rarely.
    """
    covered = {"ignored": 0, "resampled": 0}
    num = 150
    for seed in range(num):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=40)
        a, b = (truth[:, None] * rng.normal(1, 0.9, size=3) + rng.normal(0, 0.3, size=(40, 3)) for _ in range(2))
        for name, sets in (("ignored", {}), ("resampled", {"first_sets": a, "other_sets": {"b": b}})):
            (found,) = differences(a.mean(1), {"b": b.mean(1)}, truth, num_resamples=300, seed=seed, **sets)
            covered[name] += found.difference.low <= 0 <= found.difference.high
    assert covered["ignored"] / num < 0.8
    assert covered["resampled"] / num > 0.9


def test_resampled_sets_vary_as_new_sets_do():
    """The variance of the mean over three resampled sets is that of the mean over three new ones."""
    rng = np.random.default_rng(0)
    new, own = [], []
    for seed in range(300):
        values = rng.normal(size=(4, 3))
        new.append(values.mean(1))
        own.append(_of_resampled_sets(values, np.tile(np.arange(4), (500, 1)), seed).var(0))
    assert np.mean(own) == pytest.approx(np.var(new), rel=0.1)


def test_p_values_are_uniform_when_there_is_no_difference():
    """Of 200 comparisons of equally good scores about a twentieth is "significant"."""
    low = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=40)
        a, b = (truth + rng.normal(size=40) for _ in range(2))
        (found,) = differences(a, {"b": b}, truth, num_resamples=400, seed=seed)
        low += found.p < 0.05
    assert 2 <= low <= 22


def test_reliability_of_a_mean_over_seeds():
    """Signal and noise of equal variance: between seeds ρ of about .48, so two seeds have about .65."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=4000)
    two = np.stack([signal + rng.normal(size=4000) for _ in range(2)], axis=1)
    single = float(spearman(two[:, 0], two[:, 1]))
    found = reliability(two, num_resamples=50)
    assert found.value == pytest.approx(2 * single / (1 + single))
    four = np.stack([signal + rng.normal(size=4000) for _ in range(8)], axis=1)
    independent = float(spearman(four[:, :4].mean(1), four[:, 4:].mean(1)))
    assert reliability(four[:, :4], num_resamples=50).value == pytest.approx(independent, abs=0.03)
    assert reliability(two[:, :1]).undefined == "it takes at least two seeds"
    with pytest.raises(NasproxyError, match="finite"):
        reliability(np.array([[1.0, np.nan]] * 6))


def test_seeds_that_disagree_have_no_reliability():
    """Spearman and Brown's formula has a pole at −1: seeds that rank in reverse are as they are."""
    values = np.random.default_rng(0).normal(size=(12, 1))
    found = reliability(np.hstack([values, -values]))
    assert found.value == -1
    assert -1 <= found.low <= found.high <= 1


def test_correction_recovers_what_noise_took():
    """A score and a truth that both measure the same thing with noise: corrected, about 1."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=3000)
    score, truth = (signal[:, None] + rng.normal(size=(3000, 3)) for _ in range(2))
    rho = rank_correlation(score.mean(1), truth.mean(1), num_resamples=100)
    found = corrected(rho, reliability(score, num_resamples=20), reliability(truth, num_resamples=20))
    assert rho.value < 0.8
    assert found.value == pytest.approx(1.0, abs=0.03)
    none = Estimate(None, None, None, 5, "it takes at least two seeds")
    assert corrected(rho, none, none).undefined == "it takes at least two seeds"
    negative = Estimate(-0.1, -0.2, 0.1, 5)
    assert "do not agree with themselves" in corrected(rho, negative, negative).undefined


@pytest.mark.slow
def test_the_planned_width_is_that_of_the_bootstrap():
    for n, rho in ((50, 0.6), (150, 0.3)):
        widths = []
        for seed in range(20):
            found = rank_agreement(*pairs(n, rho, seed), k=1, num_resamples=300).spearman
            widths.append(found.high - found.low)
        assert interval_width(6 / np.pi * np.arcsin(rho / 2), n) == pytest.approx(np.mean(widths), rel=0.15)


def test_as_many_candidates_as_a_width_takes():
    for rho in (-0.4, 0.0, 0.8):
        n = candidates_for(0.25, rho)
        assert interval_width(rho, n) <= 0.25 < interval_width(rho, n - 1)
    assert candidates_for(0.25, 0.8) < candidates_for(0.25, 0.0)
    assert candidates_for(1.99, 0.99) >= 4
    with pytest.raises(NasproxyError, match="0 < width < 2"):
        candidates_for(0, 0.5)


@pytest.mark.slow
def test_the_interval_of_kendalls_tau_covers_as_well():
    """Against the value in a population of 4,000 candidates, of whom 60 are drawn 200 times."""
    score, truth = pairs(4000, 0.7, 1)
    covered = 0
    expected = 2 / np.pi * np.arcsin(0.7)
    for seed in range(200):
        chosen = np.random.default_rng(seed).choice(4000, 60, replace=False)
        found = rank_agreement(score[chosen], truth[chosen], k=6, num_resamples=400, seed=seed).kendall
        covered += found.low <= expected <= found.high
    assert covered / 200 >= 0.88
