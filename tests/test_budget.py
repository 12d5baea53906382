from dataclasses import replace

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy import budget
from nasproxy.budget import budget_config, duration, plan_build, plan_search
from nasproxy.condense.estimate import Estimate
from nasproxy.config import BUDGETS
from nasproxy.errors import NasproxyError
from nasproxy.scores import proxy_task
from nasproxy.spaces import inspect_space, load_space

CPU = torch.device("cpu")
DATA = toy_dataset(shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h"), (200_000, "2.3 days")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_the_persons_values_hold_in_every_budget():
    for name, values in BUDGETS.items():
        config = budget_config(name, {"width": 7, "net_steps": 3, "ipc": 2}, DATA)
        assert (config.width, config.net_steps, config.ipc) == (7, 3, 2)
        assert budget_config(name, {}, DATA).width == values.width


def test_paper_is_the_published_protocol():
    config = budget_config("paper", {}, DATA)
    assert (config.outer_steps, config.loops, config.width, config.batch_real) == (1000, (10, 50), 128, 256)
    assert (config.depth, config.init) == (3, "noise")
    assert budget.omissions(config) == ""


def test_no_budget_trains_the_net_more_than_the_paper_does():
    for name in BUDGETS:
        assert budget_config(name, {"ipc": 1}, DATA).loops == (1, 1)


@pytest.mark.parametrize(("speed", "name"), [(1e-9, "paper"), (100.0, "standard"), (300.0, "quick")])
def test_the_largest_budget_that_fits_is_chosen(monkeypatch, speed, name):
    """Seconds as if every net and channel cost ``speed``."""
    monkeypatch.setattr(budget, "estimate", lambda d, c, device: Estimate(speed * c.outer_steps * c.width / 1000, 1))
    limit = budget.time_limit(CPU)
    plan = plan_build(toy_dataset(), {}, budget=None, device=CPU)
    assert plan.budget == name
    assert plan.seconds <= limit
    assert bool(plan.leaves_out) == (name != "paper")
    assert ("would take" in plan.why) == (name != "paper")


def test_quick_is_cut_when_even_it_is_too_slow(monkeypatch):
    monkeypatch.setattr(budget, "estimate", lambda d, c, device: Estimate(3600.0 * c.outer_steps, 1))
    plan = plan_build(toy_dataset(), {}, budget=None, device=CPU)
    assert plan.config.outer_steps == 1
    assert "cut to 1 nets" in plan.why
    asked = plan_build(toy_dataset(), {"outer_steps": 9}, budget=None, device=CPU)
    assert asked.config.outer_steps == 9
    assert plan_build(toy_dataset(), {}, budget="paper", device=CPU).config.outer_steps == 1000


def test_unknown_budget_is_named():
    with pytest.raises(NasproxyError, match=r"'qick'\. Did you mean 'quick'"):
        plan_build(toy_dataset(), {}, budget="qick", device=CPU)


@pytest.fixture
def parts():
    dataset = toy_dataset()
    space = load_space("convnet_small")
    inspection = inspect_space(space, dataset.input_shape, dataset.num_classes)
    proxy = toy_proxy(dataset)
    task = proxy_task(proxy, dataset)
    return space, inspection, dataset, task


def plan(parts, limit, monkeypatch, *, search=None, validate=None, name=None, validation=True):
    monkeypatch.setattr(budget, "time_limit", lambda device: limit)
    monkeypatch.setattr(budget, "_seconds_per_image", lambda *a: 1e-3)
    return plan_search(
        *parts, search or {}, validate or {}, budget=name, validation=validation, truth=False, device=CPU
    )


def test_search_budgets(parts, monkeypatch):
    generous = plan(parts, 1e9, monkeypatch)
    assert generous.budget == "paper"
    assert generous.search.trials == 360  # no more than can be built
    tight = plan(parts, 1.0, monkeypatch)
    assert tight.budget == "quick"
    assert (tight.search.trials, tight.search.epochs) == (10, 30)
    assert (tight.validate.sample, tight.validate.images) == (10, 1000)
    assert "cut to fit" in tight.why
    assert "10 of 360 candidates" in tight.leaves_out
    full = plan(parts, 1e9, monkeypatch, name="quick")
    partly = plan(parts, 0.6 * full.seconds, monkeypatch)
    assert partly.budget == "quick"
    assert 0.4 * full.seconds < partly.seconds <= 0.6 * full.seconds
    kept = plan(parts, 1.0, monkeypatch, search={"trials": 25, "epochs": 70}, validate={"sample": 3, "images": 4000})
    assert (kept.search.trials, kept.search.epochs) == (25, 70)
    assert (kept.validate.sample, kept.validate.images) == (3, 4000)
    asked = plan(parts, 1.0, monkeypatch, name="standard")
    assert (asked.budget, asked.search.trials) == ("standard", 100)
    assert (
        plan(parts, 1.0, monkeypatch, validation=False, name="quick").seconds
        < plan(parts, 1.0, monkeypatch, name="quick").seconds
    )


@pytest.mark.parametrize(
    "own", [{"shuffle": False, "schedule": "constant"}, {"schedule": "learned", "lrs": (0.1, 0.2)}]
)
def test_what_was_learned_for_its_epochs_keeps_them(parts, monkeypatch, own):
    space, inspection, dataset, _ = parts
    proxy = toy_proxy(dataset)
    task = proxy_task(replace(proxy, recipe=replace(proxy.recipe, **own)), dataset)
    assert plan((space, inspection, dataset, task), 1e9, monkeypatch, name="quick").search.epochs is None
    assert plan(parts, 1e9, monkeypatch, name="quick").search.epochs == 100


def test_timings_are_of_the_right_order(parts):
    """What five timed candidates predict for a training, against that training: within a factor of five."""
    import time

    from nasproxy.networks import seeded
    from nasproxy.train import fit

    space, inspection, dataset, task = parts
    predicted = budget._seconds_per_image(space, inspection, dataset, 6, CPU, "float32")
    elapsed = []
    for candidate in inspection.valid[::40]:
        net = seeded(lambda c=candidate: space.build(c.params, dataset.input_shape, 3), 0)
        start = time.perf_counter()
        fit(net, task.train, task.recipe, seed=0, device=CPU)
        elapsed.append((time.perf_counter() - start) / (task.recipe.epochs * 6))
    mean = sum(elapsed) / len(elapsed)
    assert predicted / 5 < mean < predicted * 5
