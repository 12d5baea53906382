"""Cross-validation of the calibrated score."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from nasproxy.core.errors import NasproxyError
from nasproxy.picking.columns import Columns
from nasproxy.picking.crossval import cross_validated, predicted


def columns(n, seed):
    rng = np.random.default_rng(seed)
    return Columns(rng.normal(size=n), rng.normal(size=(n, 5)) / 5**0.5)


@pytest.mark.slow
def test_of_a_truth_that_is_noise_the_correlation_is_zero_on_average():
    """Predictions of several fits compared with each other would have −0.3 here."""
    rhos = []
    for seed in range(60):
        truth = np.random.default_rng(1000 + seed).normal(size=16)
        rhos.append(spearmanr(cross_validated(columns(16, seed), truth, num_splits=6, seed=seed), truth)[0])
    assert abs(np.mean(rhos)) < 2.6 * np.std(rhos) / len(rhos) ** 0.5


def test_what_the_columns_know_is_found():
    own = columns(40, 0)
    truth = own.vote + 2 * own.features[:, 0]
    places = cross_validated(own, truth, num_splits=5)
    assert spearmanr(places, truth)[0] > 0.9
    assert places.min() >= 1
    assert places.max() <= 40


def test_the_truth_of_a_part_is_not_seen_by_its_model():
    """Exchanging the truths of two candidates changes what all others are ordered by, never their own order."""
    own = columns(10, 1)
    truth = np.random.default_rng(2).normal(size=10)
    same = cross_validated(own, truth, num_splits=3, seed=3)
    assert same.tolist() == cross_validated(own, truth, num_splits=3, seed=3).tolist()
    tied = Columns(np.zeros(10), np.zeros((10, 1)))
    assert cross_validated(tied, truth, num_splits=3).tolist() == [5.5] * 10


def test_predictions_are_for_all_candidates():
    own = columns(30, 4)
    truth = np.where(np.arange(30) < 20, own.vote, np.nan)
    mean, std = predicted(own, truth)
    assert spearmanr(mean[20:], own.vote[20:])[0] > 0.8
    assert (std[20:] > 0).all()


def test_fewer_than_eight_candidates_are_refused():
    with pytest.raises(NasproxyError, match="at least 8"):
        cross_validated(columns(7, 0), np.arange(7.0))
