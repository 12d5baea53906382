"""A score among the truly best, beside what range restriction alone does."""

import numpy as np
import pytest

from nasproxy.correlation import cutoffs, rank_correlation
from nasproxy.correlation.agreement import MIN_PART


def gaussian(n, rho, seed):
    pearson = 2 * np.sin(np.pi * rho / 6)
    x, noise = np.random.default_rng(seed).normal(size=(2, n))
    return x, pearson * x + np.sqrt(1 - pearson**2) * noise


def test_own_correlation_is_that_of_the_truly_best():
    score, truth = gaussian(60, 0.7, 0)
    found = cutoffs(score, truth, shares=(0.5, 1.0))
    best = np.argsort(-truth)[:30]
    assert (found[0].n, found[1].n) == (30, 60)
    assert found[0].spearman == rank_correlation(score[best], truth[best])
    assert found[1].spearman.value == pytest.approx(rank_correlation(score, truth).value)


def test_restriction_alone_takes_most_of_a_correlation():
    """Of .73 over all, about .43 are left in the best fifth: one large population against the simulation."""
    score, truth = gaussian(200_000, 0.73, 1)
    best = np.argsort(-truth)[:40_000]
    expected = float(rank_correlation(score[best], truth[best], num_resamples=1).value)
    assert expected == pytest.approx(0.43, abs=0.02)
    samples = [cutoffs(*gaussian(200, 0.73, seed), shares=(0.2,), num_resamples=2)[0] for seed in range(30)]
    assert np.mean([one.restricted for one in samples]) == pytest.approx(expected, abs=0.03)
    inside = np.mean([one.low <= one.spearman.value <= one.high for one in samples])
    assert inside > 0.8


def test_over_all_candidates_nothing_is_restricted():
    score, truth = gaussian(80, 0.6, 2)
    (whole,) = cutoffs(score, truth, shares=(1.0,))
    assert whole.restricted == pytest.approx(whole.spearman.value, abs=0.03)


def test_small_parts_and_constant_scores_are_left_out():
    score, truth = gaussian(30, 0.6, 3)
    assert [one.share for one in cutoffs(score, truth, shares=(0.1, 0.2, 0.5))] == [0.5]
    assert MIN_PART > 6
    assert cutoffs(np.ones(30), truth) == ()
    assert cutoffs(score[:3], truth[:3]) == ()


def test_a_negative_correlation_is_restricted_as_well():
    score, truth = gaussian(100, -0.7, 4)
    fifth = cutoffs(score, truth, shares=(0.2,))[0]
    assert -0.6 < fifth.restricted < -0.2
    assert fifth.low < fifth.restricted < fifth.high
