"""What is known before training, as columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from nasproxy.core.errors import NasproxyError
from nasproxy.picking.columns import columns_of, normal_scores


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_normal_scores_are_quantiles_of_the_ranks_with_ties(values):
    expected = [norm.ppf((rank - 0.5) / len(values)) for rank in rankdata(values)]
    assert normal_scores(np.array(values)) == pytest.approx(expected, abs=1e-12)


def test_a_missing_score_is_in_the_middle_and_minus_infinity_is_the_lowest():
    scores = normal_scores(np.array([np.nan, -np.inf, 1.0, 2.0]))
    assert scores[0] == 0
    assert np.argsort(scores[1:]).tolist() == [0, 1, 2]


def free(n=50, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=n) for name in ("params", "naswot", "zen")}


def test_the_vote_is_the_mean_of_the_known_scores_and_no_other():
    columns = columns_of(free(), {})
    mean = (normal_scores(free()["params"]) + normal_scores(free()["naswot"])) / 2
    assert columns.vote == pytest.approx((mean - mean.mean()) / mean.std())
    assert len(columns.experts) == 2
    assert columns_of({"zen": free()["zen"]}, {}).vote.tolist() == [0.0] * 50


def test_an_increasing_change_of_a_score_changes_nothing():
    changed = {name: np.exp(3 * values) for name, values in free().items()}
    assert columns_of(changed, {}).features == pytest.approx(columns_of(free(), {}).features)


def test_numbers_are_ordered_and_words_are_categories():
    parameters = {"width": [8, 16, 32, 64] * 3, "norm": ["a", "b", "a", "b"] * 3, "depth": [1, None, 2, None] * 3}
    columns = columns_of({}, parameters)
    assert columns.features.shape == (12, 5)  # width, depth and whether there is one, two norms
    order = np.argsort(columns.features[:4, 0])
    assert order.tolist() == [0, 1, 2, 3]
    assert (columns.features**2).sum(1).mean() == pytest.approx(1)


def test_truth_and_booleans_are_categories_not_numbers():
    assert columns_of({}, {"bias": [True, False, True, False]}).features.shape == (4, 2)


def test_scores_and_parameters_weigh_the_same():
    both = columns_of(free(), {"norm": ["a", "b"] * 25})
    first, second = both.features[:, :3], both.features[:, 3:]
    assert (first**2).sum() == pytest.approx((second**2).sum())


def test_constant_columns_say_nothing():
    columns = columns_of({"params": np.ones(5)}, {"norm": ["a"] * 5})
    assert columns.features.tolist() == [[0.0]] * 5
    assert columns.vote.tolist() == [0.0] * 5


@pytest.mark.parametrize("parameters", [{"norm": ["a"] * 4}, {}])
def test_columns_of_several_lengths_or_none_are_refused(parameters):
    scores = {"params": np.ones(5)} if parameters else {}
    with pytest.raises(NasproxyError, match=r"\[4, 5\]|\[\]"):
        columns_of(scores, parameters)
