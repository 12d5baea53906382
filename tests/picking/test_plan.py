"""How a compute is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.core.errors import NasproxyError
from nasproxy.picking.plan import FEW_SHARE, plan_pick


@given(
    st.floats(1, 200),
    st.none() | st.integers(1, 20_000),
    st.floats(0, 0.5),
    st.none() | st.floats(0.001, 1.5),
)
def test_a_plan_never_costs_more_than_the_compute(compute, size, cost_scored, cost_short):
    plan = plan_pick(compute, size, cost_scored, cost_short)
    assert plan.cost <= compute + 1e-6
    assert 1 <= plan.full <= plan.scored
    assert 0 <= plan.short <= plan.scored
    assert plan.parts["scored"] <= FEW_SHARE * compute + cost_scored * compute + 1e-6
    if size is not None:
        assert plan.scored <= size
    assert 1 <= plan.round_size <= plan.full


def test_of_the_usual_costs_a_third_goes_into_short_trainings():
    plan = plan_pick(8, 15_625, 2e-4, 0.06)
    assert plan.scored == 4000
    assert 0.3 < plan.parts["short"] / 8 < 0.45
    assert plan.full == 4


def test_a_space_that_can_be_trained_whole_is():
    plan = plan_pick(10, 6, 0.001, 0.1)
    assert (plan.short, plan.full) == (0, 6)


def test_too_few_short_trainings_are_not_bought():
    assert plan_pick(2, 1000, 1e-4, 0.3).short == 0
    assert plan_pick(2, 1000, 1e-4, None).full == 1


def test_less_than_one_training_is_refused():
    with pytest.raises(NasproxyError, match=r"compute >= 1.*0\.5"):
        plan_pick(0.5, 10, 0.0, None)
