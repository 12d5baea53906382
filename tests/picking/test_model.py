"""The calibrated model, against slow formulas and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor

from nasproxy.core.errors import NasproxyError
from nasproxy.picking import model
from nasproxy.picking.model import fitted, log_likelihood, without_outliers


def drawn(n, seed=0, slope=1.0, noise=0.3):
    """Votes, features and accuracies, of which the first feature tells something that the vote does not."""
    rng = np.random.default_rng(seed)
    vote, features = rng.normal(size=n), rng.normal(size=(n, 6)) / 6**0.5
    return vote, features, 0.7 + 0.05 * (slope * vote + 2 * features[:, 0] + noise * rng.normal(size=n))


def test_the_likelihood_is_that_of_a_normal_distribution():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    covariance, residuals = root @ root.T + np.eye(5), rng.normal(size=(5, 3))
    expected = [multivariate_normal(cov=covariance).logpdf(column) for column in residuals.T]
    assert log_likelihood(covariance, residuals) == pytest.approx(expected)


def test_predictions_are_those_of_the_formula():
    """Rasmussen and Williams, equations 2.25 and 2.26, with loops for the kernel."""
    vote, features, y = drawn(12)
    found = fitted(vote, features, y)
    kernel = found.process.kernel_
    straight, smooth, noise = kernel.k1.k1, kernel.k1.k2, found.noise
    a, sigma, b = straight.k1.constant_value, straight.k2.sigma_0, smooth.k1.constant_value
    inputs = np.column_stack([features, vote])

    def k(x, z):
        return a * (sigma**2 + x @ z) + b * np.exp(-((x - z) ** 2).sum() / 2)

    gram = np.array([[k(x, z) + noise * (i == j) for j, z in enumerate(inputs)] for i, x in enumerate(inputs)])
    residual = (without_outliers(y) - found.centre) / found.scale - found.slope * vote
    new_vote, new_features, _ = drawn(4, seed=1)
    mean, std = found.predict(new_vote, new_features)
    for place in range(4):
        x = np.append(new_features[place], new_vote[place])
        cross = np.array([k(x, z) for z in inputs])
        expected = cross @ np.linalg.solve(gram, residual) + found.slope * new_vote[place]
        variance = k(x, x) - cross @ np.linalg.solve(gram, cross)
        assert mean[place] == pytest.approx(found.centre + found.scale * expected, rel=1e-6)
        assert std[place] == pytest.approx(found.scale * variance**0.5, rel=1e-5)
    covariance = found.covariance(new_vote, new_features)
    assert np.diag(covariance) ** 0.5 == pytest.approx(std, rel=1e-5)


def test_the_chosen_variances_are_the_likeliest_of_the_grid_by_scikit_learn():
    vote, features, y = drawn(20)
    found = fitted(vote, features, y)
    inputs, best, seen = np.column_stack([features, vote]), -np.inf, without_outliers(y)
    for scale in model.SCALES:
        residual = (seen - seen.mean()) / (scale * seen.std()) - model.SLOPE * vote
        process = GaussianProcessRegressor(found.process.kernel, optimizer=None, alpha=0.0).fit(inputs, residual)
        best = max(best, process.log_marginal_likelihood_value_ - 20 * np.log(scale))
    own = found.process.log_marginal_likelihood_value_ - 20 * np.log(found.scale / seen.std())
    assert own == pytest.approx(best)


def test_more_truths_rank_better_than_the_vote_and_few_do_no_harm():
    vote, features, y = drawn(400)
    of_vote = spearmanr(vote[100:], y[100:])[0]
    rho = {}
    for n in (3, 12, 100):
        mean, _ = fitted(vote[:n], features[:n], y[:n]).predict(vote[100:], features[100:])
        rho[n] = spearmanr(mean, y[100:])[0]
    assert rho[3] > of_vote - 0.05
    assert rho[100] > max(rho[12], of_vote + 0.1)


def test_truths_turn_a_vote_that_is_wrong():
    vote, features, y = drawn(300, slope=-1.0)
    found = fitted(vote[:40], features[:40], y[:40])
    assert found.learned_slope() < 0
    assert spearmanr(found.predict(vote[40:], features[40:])[0], y[40:])[0] > 0.7


def test_the_unit_of_accuracies_does_not_matter():
    vote, features, y = drawn(30)
    mean, std = fitted(vote[:20], features[:20], y[:20]).predict(vote, features)
    percent, wide = fitted(vote[:20], features[:20], 100 * y[:20]).predict(vote, features)
    assert percent == pytest.approx(100 * mean)
    assert wide == pytest.approx(100 * std)


def test_the_uncertainty_holds_what_it_claims():
    inside = []
    for seed in range(20):
        vote, features, y = drawn(120, seed=seed, noise=0.0)
        mean, std = fitted(vote[:20], features[:20], y[:20]).predict(vote[20:], features[20:])
        inside.append((np.abs(y[20:] - mean) < 1.96 * std).mean())
    assert np.mean(inside) > 0.9


def test_a_net_at_chance_does_not_set_the_scale():
    y = np.array([0.1, 0.80, 0.81, 0.82, 0.83, 0.84])
    assert without_outliers(y).min() > 0.7
    assert without_outliers(y)[1:] == pytest.approx(y[1:])
    assert without_outliers(y[:4]) == pytest.approx(y[:4])  # too few to say


def test_equal_accuracies_are_no_error():
    vote, features, _ = drawn(6)
    mean, std = fitted(vote, features, np.full(6, 0.5)).predict(vote, features)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()


@pytest.mark.parametrize("y", [[0.5], [0.5, np.nan]])
def test_too_few_or_missing_truths_are_refused(y):
    vote, features, _ = drawn(len(y))
    with pytest.raises(NasproxyError, match="at least 2 finite"):
        fitted(vote, features, np.array(y))
