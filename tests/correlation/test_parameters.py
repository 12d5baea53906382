"""What parameters say of a ranking, against loops written from the formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from nasproxy.correlation import biases, effects, grouped, rank_residuals


def epsilon_squared(values, labels):
    ranked = rankdata(values)
    groups = {label: [r for r, own in zip(ranked, labels, strict=True) if own == label] for label in set(labels)}
    total = sum((r - ranked.mean()) ** 2 for r in ranked)
    within = sum(sum((r - np.mean(own)) ** 2 for r in own) for own in groups.values())
    degrees = len(ranked) - len(groups)
    return (total - within - (len(groups) - 1) * within / degrees) / total


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc")), min_size=8, max_size=30))
def test_effects_equal_the_loop(rows):
    values, labels = np.array([float(v) for v, _ in rows]), [label for _, label in rows]
    (found,) = effects(values, {"p": labels}, num_resamples=20)
    if np.ptp(values) == 0:
        assert "equal" in found.share.undefined
    elif len(set(labels)) == 1:
        assert found.share.undefined == "all candidates have the same value"
    else:
        assert found.share.value == pytest.approx(epsilon_squared(values, labels), abs=1e-12)


def test_effects_by_hand():
    """A parameter that decides everything, one that says nothing, one with too many values."""
    values = np.arange(40.0)
    strata = {
        "half": ["low"] * 20 + ["high"] * 20,
        "parity": ["odd" if i % 2 else "even" for i in range(40)],
        "each": [str(i) for i in range(40)],
    }
    half, parity, each = effects(values, strata)
    # Ranks 1 to 40: SS total 5330, within 2 × 665; ε² = (4000 − 1330 / 38) / 5330.
    assert half.share.value == pytest.approx((4000 - 1330 / 38) / 5330)
    assert half.share.low < half.share.value < half.share.high
    assert abs(parity.share.value) < 0.05
    assert each.share.undefined == "40 values are too many for 40 candidates"


def test_an_effect_of_nothing_is_zero_on_average():
    """With eight values η² would be 7 / 39 = 0.18; ε² is not biased."""
    rng = np.random.default_rng(0)
    labels = [str(i % 8) for i in range(40)]
    shares = [effects(rng.normal(size=40), {"p": labels}, num_resamples=2)[0].share.value for _ in range(400)]
    assert abs(np.mean(shares)) < 4 * np.std(shares) / 20


def test_residuals_and_biases_by_hand():
    truth = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    score = np.array([8.0, 2, 3, 4, 5, 6, 7, 1])  # the worst and the best change places
    assert rank_residuals(score, truth).tolist() == [1, 0, 0, 0, 0, 0, 0, -1]
    labels = ["16", "16", "16", "16", "8", "8", "8", "8"]
    found = biases(score, truth, {"width": labels, "one": ["x"] * 8})
    assert [(b.parameter, b.value) for b in found] == [("width", "8"), ("width", "16")]
    assert [b.mean.value for b in found] == [-0.25, 0.25]
    assert [b.mean.n for b in found] == [4, 4]
    rare = biases(score, truth, {"width": ["16"] * 6 + ["8"] * 2})
    assert rare[0].mean.undefined == "fewer than 4 candidates"
    assert biases(np.ones(8), truth, {"width": labels}) == ()


def test_residuals_of_the_same_ranking_are_zero_and_of_the_reverse_add_up():
    truth = np.random.default_rng(0).normal(size=20)
    assert not rank_residuals(3 * truth + 1, truth).any()
    reverse = rank_residuals(-truth, truth)
    assert reverse.sum() == pytest.approx(0)
    assert (reverse.min(), reverse.max()) == (-1, 1)


def test_numbers_with_many_values_are_put_into_bands():
    assert grouped([8, 16, 8, None]) == ["8", "16", "8", "–"]
    assert grouped(["relu", True, 1.5, None]) == ["relu", "True", "1.5", "–"]
    values = [float(i) / 10 for i in range(12)]
    labels = grouped([*values, None])
    assert labels[-1] == "–"
    assert set(labels[:-1]) == {"0 to 0.3", "0.4 to 0.7", "0.8 to 1.1"}
    assert [labels[:-1].count(name) for name in ("0 to 0.3", "0.4 to 0.7", "0.8 to 1.1")] == [4, 4, 4]
    heavy = grouped([0.0] * 50 + [float(i) for i in range(1, 9)])
    assert len(set(heavy)) >= 2
