"""What the parameters alone know: against slow fits without each pair, on noise, and on a truth they make up."""

import time

import numpy as np
import pytest
from scipy import stats

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import against_rivals, best_parameter, best_rule_of_two, main_effects, rivals_of, spearman
from nasproxy.correlation import rivals as module
from nasproxy.correlation.rivals import PENALTIES, SHRINK


def drawn(n, seed, sizes=(3, 3, 3, 5, 2)):
    rng = np.random.default_rng(seed)
    strata = {f"p{k}": [str(v) for v in rng.integers(size, size=n)] for k, size in enumerate(sizes)}
    return strata, rng


def additive(strata, weights):
    return sum(w * np.array(values, dtype=float) for w, values in zip(weights, strata.values(), strict=True))


def slow_rule(labels, y, left_out):
    """Predictions for ``left_out`` from the means of the others, and the leave-one-out error among these."""

    def mean_of(label, others):
        own = [y[k] for k in others if labels[k] == label]
        every = sum(y[k] for k in others) / len(others)
        return (sum(own) + SHRINK * every) / (len(own) + SHRINK)

    others = [k for k in range(len(y)) if k not in left_out]
    error = sum((y[k] - mean_of(labels[k], [m for m in others if m != k])) ** 2 for k in others)
    return [mean_of(labels[k], others) for k in left_out], error


def slow_ridge(strata, y, left_out, penalty):
    columns = [[float(v == value) for v in values] for values in strata.values() for value in sorted(set(values))]
    x = np.array([[1.0] * len(y), *columns]).T
    others = [k for k in range(len(y)) if k not in left_out]
    free = np.diag([0.0] + [penalty] * (x.shape[1] - 1))
    hat = np.linalg.solve(x[others].T @ x[others] + free, x[others].T)
    residuals = y[others] - x[others] @ hat @ y[others]
    error = (residuals**2).sum() / (1 - np.trace(x[others] @ hat) / len(others)) ** 2
    return x[left_out] @ hat @ y[others], error


def slow_tournament(fits, n):
    """``fits(pair)`` gives ``(predictions of the pair, error)`` of every model; the one with the least error counts."""
    places = np.ones(n)
    for i in range(n):
        for j in range(n):
            if i != j:
                predictions, _ = min(fits([i, j]), key=lambda fit: fit[1])
                gap = predictions[0] - predictions[1]
                places[i] += 1.0 if gap > 1e-8 else 0.5 if gap > -1e-8 else 0.0
    return places


def test_all_three_equal_slow_fits_without_each_pair():
    strata, rng = drawn(14, 3, (3, 2, 4))
    truth = additive(strata, (1, 0.2, 0.5)) + rng.normal(0, 0.3, 14)
    y = stats.rankdata(truth)
    found = {rival.name: rival for rival in rivals_of(strata, truth)}
    columns = list(strata.values())
    twos = [list(zip(columns[a], columns[b], strict=True)) for a, b in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(
        found["best_parameter"].predictions,
        slow_tournament(lambda pair: [slow_rule(labels, y, pair) for labels in columns], 14),
    )
    np.testing.assert_allclose(
        found["best_rule_of_two"].predictions,
        slow_tournament(lambda pair: [slow_rule(labels, y, pair) for labels in twos], 14),
    )
    np.testing.assert_allclose(
        found["main_effects"].predictions,
        slow_tournament(lambda pair: [slow_ridge(strata, y, pair, penalty) for penalty in PENALTIES], 14),
    )


def left_one_out(labels, y):
    """The predictions of a group mean without the candidate itself, which the module does not use."""
    labels = np.array(labels)
    answer = []
    for k in range(len(y)):
        others = np.arange(len(y)) != k
        same = others & (labels == labels[k])
        answer.append(y[same].mean() if same.any() else y[others].mean())
    return np.array(answer)


def test_parameters_that_know_nothing_have_a_correlation_near_0():
    """100 draws of noise, n = 40: means of +.01, −.04 and −.07; leaving out one at a time, −.35 for one parameter."""
    found, naive = [], []
    for seed in range(100):
        strata, rng = drawn(40, seed)
        truth = rng.normal(size=40)
        found.append([float(spearman(np.array(rival.predictions), truth)) for rival in rivals_of(strata, truth)])
        naive.append(float(spearman(left_one_out(strata["p0"], truth), truth)))
    assert np.abs(np.mean(found, axis=0)).max() < 0.1
    assert np.mean(naive) < -0.2


def test_a_truth_made_of_the_parameters_is_known():
    strata, _ = drawn(64, 0)
    truth = additive(strata, (1, 0.5, 0.3, 0.2, 0.7))
    regression, one, two = rivals_of(strata, truth)
    assert float(spearman(np.array(regression.predictions), truth)) > 0.98
    assert regression.parameters[0] == "p0"
    assert set(regression.parameters) == set(strata)
    assert one.parameters == ("p0",)
    assert two.parameters[0] == "p0"
    only = additive(strata, (1, 0, 0, 0, 0))
    assert float(spearman(np.array(best_parameter(strata, only).predictions), only)) > 0.98


def test_a_rule_of_two_sees_what_main_effects_cannot():
    strata, rng = drawn(80, 1, (2, 2, 3))
    crossed = np.array([float(a != b) for a, b in zip(strata["p0"], strata["p1"], strict=True)])
    truth = crossed + rng.normal(0, 0.1, 80)
    two = best_rule_of_two(strata, truth)
    assert two.parameters == ("p0", "p1")
    assert float(spearman(np.array(two.predictions), truth)) > 0.8
    assert float(spearman(np.array(main_effects(strata, truth).predictions), truth)) < 0.4


def test_why_there_is_no_rival_is_said():
    strata, rng = drawn(20, 0)
    truth = rng.normal(size=20)
    few = {name: values[:7] for name, values in strata.items()}
    for rival in rivals_of(few, truth[:7]):
        assert (rival.predictions, rival.parameters) == ((), ())
        assert rival.undefined == "n = 7 is fewer than 8 candidates"
    assert main_effects({"p": ["a"] * 20}, truth).undefined == "no parameter varies"
    assert best_rule_of_two({"p": strata["p0"]}, truth).undefined == "fewer than two parameters vary"
    assert best_parameter(strata, np.ones(20)).undefined == "all 20 values of the truth are equal"
    with pytest.raises(NasproxyError, match="a value for each of 20 truths, but 'p0' has 7"):
        main_effects({"p0": strata["p0"][:7]}, truth)


def test_a_score_beats_them_when_the_interval_of_the_difference_is_above_0():
    strata, rng = drawn(64, 2)
    truth = additive(strata, (1, 0, 0, 0, 0)) + rng.normal(0, 1.5, 64)
    scores = {"good": truth + rng.normal(0, 0.3, 64), "noise": rng.normal(size=64)}
    found = against_rivals(scores, rivals_of(strata, truth), truth)
    assert [one.rival for one in found] == ["main_effects"] * 2 + ["best_parameter"] * 2 + ["best_rule_of_two"] * 2
    for one in found:
        assert one.beats == (one.score == "good")
        assert one.difference.n == one.rho.n == 64
    none = against_rivals(scores, [main_effects({}, truth)], truth)
    assert [one.beats for one in none] == [None, None]
    assert none[0].difference.undefined == "no parameter varies"


def test_many_candidates_meet_some_of_the_others(monkeypatch):
    strata, _ = drawn(120, 0)
    truth = additive(strata, (1, 0.5, 0.3, 0.2, 0.7))
    every = np.array(main_effects(strata, truth).predictions)
    monkeypatch.setattr(module, "MAX_PAIRS", 3000)
    monkeypatch.setattr(module, "CHUNK", 700)
    pairs = np.concatenate([np.stack(chunk) for chunk in module._pairs(120)], axis=1)
    assert pairs.shape == (2, 3000)
    assert len({frozenset(pair) for pair in pairs.T.tolist()}) == 3000
    assert set(np.bincount(pairs.reshape(-1))) == {50}
    assert float(spearman(np.array(main_effects(strata, truth).predictions), every)) > 0.97


def test_it_is_fast():
    """Two hundred candidates with eight parameters: 0.1 s on one core; the bound is loose for busy machines."""
    strata, rng = drawn(200, 0, (3, 4, 5, 3, 2, 6, 4, 3))
    truth = rng.normal(size=200)
    start = time.perf_counter()
    rivals_of(strata, truth)
    assert time.perf_counter() - start < 1.0
