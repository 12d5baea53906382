import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nasproxy.correlation import (
    _draws,
    _kendall_resampled,
    kendall,
    lexicographic_ranks,
    paired_difference,
    rank_agreement,
    recall_at_k,
    regret,
    spearman,
)
from nasproxy.errors import NasproxyError


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
    index = _draws(15, 40, seed=3)
    counts = np.array([np.bincount(row, minlength=15) for row in index], dtype=float)
    expected = [kendall(x[row], y[row]) for row in index]
    np.testing.assert_allclose(_kendall_resampled(x, y, counts), expected, atol=1e-12)


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
        estimate = rank_agreement(x, y, k=1, num_resamples=400, seed=seed).spearman
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_signs_survive():
    x = np.arange(30.0)
    agreement = rank_agreement(-x, x, k=5)
    assert agreement.spearman.value == -1
    assert agreement.kendall.value == -1
    assert agreement.spearman.high <= 0
    assert agreement.recall_at_k == 0
    assert agreement.regret == 29


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
    assert (agreement.k, agreement.recall_at_k, agreement.regret) == (6, 1.0, 0.0)


def test_regret_is_the_mean_over_those_tied_for_first():
    assert regret(np.array([1.0, 1, 0]), np.array([0.5, 0.7, 0.9])) == pytest.approx(0.3)


def test_lexicographic_ranks():
    primary, secondary = np.array([0.5, 0.5, 0.9, 0.5, 0.1]), np.array([-2.0, -1, -9, -2, 0])
    assert lexicographic_ranks(primary, secondary).tolist() == [2.5, 4, 5, 2.5, 1]
    assert lexicographic_ranks(np.array([]), np.array([])).tolist() == []


def test_a_whole_benchmark_takes_seconds():
    x, y = pairs(15_625, 0.7, 0)
    agreement = rank_agreement(np.round(x, 2), np.round(y, 2), k=100, num_resamples=200)
    assert agreement.spearman.low < agreement.spearman.value < agreement.spearman.high
    assert agreement.kendall.low < agreement.kendall.value < agreement.kendall.high
    assert agreement.spearman.high - agreement.spearman.low < 0.05


def test_intervals_are_those_of_the_literature():
    """Near ρ = .8 the interval of n = 50 is about .25 wide, of n = 200 about .12."""
    widths = {}
    for n in (50, 200):
        estimates = [rank_agreement(*pairs(n, 0.81, seed), k=1, num_resamples=400).spearman for seed in range(20)]
        widths[n] = np.mean([e.high - e.low for e in estimates])
    assert widths[50] == pytest.approx(0.25, abs=0.06)
    assert widths[200] == pytest.approx(0.12, abs=0.03)
