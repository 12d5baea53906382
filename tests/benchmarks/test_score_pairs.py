"""Differences of any two scores of a run, and of several pairs together."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from nasproxy.core.errors import NasproxyError
from reports import make_report

PATH = Path(__file__).parents[2] / "benchmarks" / "score_pairs.py"
spec = importlib.util.spec_from_file_location("score_pairs", PATH)
score_pairs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(score_pairs)


def noisy(truth, noise, seed):
    return truth + noise * np.random.default_rng(seed).normal(size=len(truth))


def test_the_lead_of_several_pairs_is_the_mean_of_theirs():
    truth = np.random.default_rng(0).normal(size=60)
    pairs = [(noisy(truth, 0.3, 1), noisy(truth, 3, 2)), (noisy(truth, 0.5, 3), noisy(truth, 2, 4))]
    expected = [spearmanr(a, truth)[0] - spearmanr(b, truth)[0] for a, b in pairs]
    for pair, value in zip(pairs, expected, strict=True):
        assert score_pairs.lead([pair], truth)[0].value == pytest.approx(value)
    both, p = score_pairs.lead(pairs, truth)
    assert both.value == pytest.approx(np.mean(expected))
    assert both.low < both.value < both.high
    assert p < 0.01
    _, same = score_pairs.lead([(pairs[0][0], pairs[0][0])], truth)
    assert same == 1


def test_columns_are_what_the_report_ranks_by():
    report = make_report()
    names = [score.name for score in report.scores][:2]
    by_name, truth = score_pairs.columns(report, names)
    for score in report.scores[:2]:
        assert score.agreement.n == len(truth)
        assert spearmanr(by_name[score.name], truth)[0] == pytest.approx(score.agreement.spearman.value)
    with pytest.raises(NasproxyError, match="proxy"):
        score_pairs.columns(report, ["prox"])


def test_the_interval_over_few_sets_is_wide_and_covers():
    """Ten sets at +0.14 reach from −.54 to +.71; over 2000 draws of ten the interval holds the true ρ as it says."""
    assert score_pairs.few_interval(0.14, 10) == pytest.approx((-0.54, 0.71), abs=0.005)
    with pytest.raises(NasproxyError, match="got 3"):
        score_pairs.few_interval(0.5, 3)
    rng = np.random.default_rng(0)
    for pearson in (0.0, 0.6):
        true = 6 / np.pi * np.arcsin(pearson / 2)  # Spearman's ρ of a bivariate normal
        held = 0
        for _ in range(2000):
            x = rng.normal(size=10)
            low, high = score_pairs.few_interval(
                spearmanr(x, pearson * x + np.sqrt(1 - pearson**2) * rng.normal(size=10))[0], 10
            )
            held += low <= true <= high
        assert 0.92 < held / 2000 < 0.98
