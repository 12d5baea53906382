import pytest
import torch
from toy import toy_dataset

from nasproxy.condense import build_plan
from nasproxy.condense.build_plan import budget_config, plan_build
from nasproxy.condense.timing import Estimate
from nasproxy.config import BUDGETS
from nasproxy.core.errors import NasproxyError

CPU = torch.device("cpu")
DATA = toy_dataset(shape=(3, 32, 32))


def test_the_persons_values_hold_in_every_budget():
    for name, values in BUDGETS.items():
        config = budget_config(name, {"width": 7, "net_steps": 3, "ipc": 2}, DATA)
        assert (config.width, config.net_steps, config.ipc) == (7, 3, 2)
        assert budget_config(name, {}, DATA).width == values.width


def test_paper_is_the_published_protocol():
    config = budget_config("paper", {}, DATA)
    assert (config.outer_steps, config.loops, config.width, config.batch_real) == (1000, (10, 50), 128, 256)
    assert (config.depth, config.init) == (3, "noise")
    assert build_plan.omissions(config) == ""


def test_no_budget_trains_the_net_more_than_the_paper_does():
    for name in BUDGETS:
        assert budget_config(name, {"ipc": 1}, DATA).loops == (1, 1)


@pytest.mark.parametrize(("speed", "name"), [(1e-9, "paper"), (100.0, "standard"), (300.0, "quick")])
def test_the_largest_budget_that_fits_is_chosen(monkeypatch, speed, name):
    """Seconds as if every net and channel cost ``speed``."""
    monkeypatch.setattr(
        build_plan, "estimate", lambda d, c, device: Estimate(speed * c.outer_steps * c.width / 1000, 1)
    )
    limit = build_plan.time_limit(CPU)
    plan = plan_build(toy_dataset(), {}, budget=None, device=CPU)
    assert plan.budget == name
    assert plan.seconds <= limit
    assert bool(plan.leaves_out) == (name != "paper")
    assert ("would take" in plan.why) == (name != "paper")


def test_a_budget_that_takes_far_too_long_is_not_timed(monkeypatch):
    """Timing one matching of the largest budget can take a minute by itself."""
    timed = []

    def estimate(dataset, config, device):
        timed.append(config.width)
        return Estimate(600.0 if config.width == 32 else 1e6, 1)

    monkeypatch.setattr(build_plan, "estimate", estimate)
    plan = plan_build(DATA, {}, budget=None, device=CPU)
    assert timed == [32]
    assert plan.budget == "quick"
    assert plan.why.startswith("standard would take more than 74 min here, more than the 60 min aimed at")


def test_quick_is_cut_when_even_it_is_too_slow(monkeypatch):
    monkeypatch.setattr(build_plan, "estimate", lambda d, c, device: Estimate(3600.0 * c.outer_steps, 1))
    plan = plan_build(toy_dataset(), {}, budget=None, device=CPU)
    assert plan.config.outer_steps == 1
    assert "cut to 1 nets" in plan.why
    asked = plan_build(toy_dataset(), {"outer_steps": 9}, budget=None, device=CPU)
    assert asked.config.outer_steps == 9
    assert plan_build(toy_dataset(), {}, budget="paper", device=CPU).config.outer_steps == 1000


def test_unknown_budget_is_named():
    with pytest.raises(NasproxyError, match=r"'qick'\. Did you mean 'quick'"):
        plan_build(toy_dataset(), {}, budget="qick", device=CPU)
