from dataclasses import replace

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.config import ValidateConfig
from nasproxy.scores.proxy import proxy_task
from nasproxy.search import search_plan
from nasproxy.search.search_plan import PlannedSearch, plan_search, truth_planned
from nasproxy.spaces import inspect_space, load_space

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts():
    dataset = toy_dataset()
    space = load_space("convnet_small")
    inspection = inspect_space(space, dataset.input_shape, dataset.num_classes)
    proxy = toy_proxy(dataset)
    task = proxy_task(proxy, dataset)
    return inspection, dataset, task


def plan(parts, limit, monkeypatch, *, search=None, validate=None, name=None, validation=True):
    monkeypatch.setattr(search_plan, "time_limit", lambda device: limit)
    monkeypatch.setattr(search_plan, "seconds_per_image", lambda *a: 1e-3)
    planned = PlannedSearch(*parts, CPU, validation=validation)
    return plan_search(planned, search or {}, validate or {}, budget=name)


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
    inspection, dataset, _ = parts
    proxy = toy_proxy(dataset)
    task = proxy_task(replace(proxy, recipe=replace(proxy.recipe, **own)), dataset)
    assert plan((inspection, dataset, task), 1e9, monkeypatch, name="quick").search.epochs is None
    assert plan(parts, 1e9, monkeypatch, name="quick").search.epochs == 100


def test_timings_are_of_the_right_order(parts):
    """What five timed candidates predict for a training, against that training: within a factor of five."""
    import time

    from nasproxy.networks import seeded
    from nasproxy.training.fit import fit

    inspection, dataset, task = parts
    predicted = search_plan.seconds_per_image(inspection, task.train, task.recipe, CPU, "float32")
    elapsed = []
    for candidate in inspection.valid[::40]:
        net = seeded(lambda c=candidate: inspection.space.build(c.params, dataset.input_shape, 3), 0)
        start = time.perf_counter()
        fit(net, task.train, task.recipe, seed=0, device=CPU)
        elapsed.append((time.perf_counter() - start) / (task.recipe.epochs * 6))
    mean = sum(elapsed) / len(elapsed)
    assert predicted / 5 < mean < predicted * 5


def test_full_training_is_lengthened_while_it_fits(parts, monkeypatch):
    inspection, dataset, task = parts
    large = replace(dataset, train=replace(dataset.train, images=dataset.train.images.repeat(300, 1, 1, 1)))
    large = replace(large, train=replace(large.train, labels=dataset.train.labels.repeat(300)))
    parts = inspection, large, task
    quick = plan(parts, 1e9, monkeypatch, name="quick")
    assert (quick.validate.epochs, quick.validate.images) == (4, 5_000)  # a budget that was asked for stays
    found = [plan(parts, times * quick.seconds, monkeypatch) for times in (1.01, 1.5, 2, 3, 5)]
    lengths = [(one.validate.epochs, one.validate.images or len(large.train)) for one in found]
    assert lengths == sorted(lengths)
    assert lengths[0] == (4, 5_000)
    assert lengths[-1] > (4, 5_000)
    assert all(one.seconds <= times * quick.seconds for one, times in zip(found, (1.01, 1.5, 2, 3, 5), strict=True))
    given = plan(parts, 5 * quick.seconds, monkeypatch, validate={"epochs": 2})
    assert given.validate.epochs == 2
    checked = plan(parts, 5 * quick.seconds, monkeypatch, validate={"long_epochs": 9})
    assert checked.validate.epochs < 9


def test_the_check_of_full_training_is_part_of_the_plan(parts, monkeypatch):
    without, few, many = (
        plan(parts, 1e9, monkeypatch, name="quick", validate={"long_sample": num}).seconds for num in (0, 4, 8)
    )
    assert many - few == pytest.approx(few - without)
    dataset = parts[1]
    evaluation = len(dataset.val) * 1e-3 / 3
    assert few - without == pytest.approx(4 * (16 * len(dataset.train) * 1e-3 + evaluation))
    assert plan(parts, 1.0, monkeypatch).validate.long_sample == 5  # the least to which it is cut
    paper = plan(parts, 1e9, monkeypatch)
    assert paper.validate.num_checked(len(dataset.train)) == 0


def test_the_planned_truth_is_said_in_words():
    config = ValidateConfig(sample=20, top=5, epochs=4, images=5_000)
    words = truth_planned(config, 45_000)
    assert words.startswith("20 + 5 candidates, 4 epochs on 5,000 images; 8 of them 16 epochs")
    assert "candidates, 1 epoch on 5,000 images" in truth_planned(replace(config, epochs=1), 45_000)
    assert "nothing shows" in truth_planned(replace(config, long_sample=0), 45_000)
    assert truth_planned(replace(config, epochs=200, images=None), 45_000).endswith("200 epochs on 45,000 images")
