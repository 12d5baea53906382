import json
from dataclasses import replace

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.condense.build import build_proxy, recipe_named
from nasproxy.config import SearchConfig, condense_config
from nasproxy.core.errors import NasproxyError
from nasproxy.scores.baselines import Making, early_stop_task, kmeans_subset_task, random_subset_task, rival_recipe
from nasproxy.scores.proxy import proxy_task
from nasproxy.scores.registry import SCORES, make_task
from nasproxy.scores.spending import Spending, spending_of
from nasproxy.spaces import inspect_space, load_space
from nasproxy.training.fit import num_updates

SPACE = "name: tiny\nnetwork: convnet\nparameters:\n  width: [2, 4]\n  depth: [1]\n"


def test_a_rival_takes_over_no_learned_steps_and_no_learned_order():
    dataset = toy_dataset()
    own = toy_proxy().recipe
    assert rival_recipe(own, dataset) is own
    plain = recipe_named("one_cycle", dataset)
    assert rival_recipe(replace(own, schedule="learned", lrs=(0.1,)), dataset) == plain
    # Sorted by class and unshuffled, batches of random images would be of one class each.
    assert rival_recipe(replace(own, schedule="constant", shuffle=False), dataset) == plain


def numbers_of(images, dataset):
    """Which training images these are."""
    real = dataset.normalize(dataset.train.images)
    return [int((real == image).flatten(1).all(1).nonzero()[0, 0]) for image in images]


def test_what_a_rival_may_spend():
    """Making costs half of what training does: the rival trains 1.5 times as long, less what its own making costs."""
    spending = Spending(making=50.0, training=100.0)
    assert spending.times() == 1.5
    assert spending.times(own=20.0) == 1.3
    assert spending.times(own=60.0) == 1.0
    assert Spending(0.0, 100.0).times() == 1.0
    assert Spending(5.0, 0.0).times() == 1.0


def test_who_can_train_fully_at_that_cost_needs_no_rival():
    spending = Spending(making=150.0, training=100.0)  # 2.5 times
    assert spending.buys_full_training(proxy_images=100, full_images=250)
    assert not spending.buys_full_training(proxy_images=100, full_images=251)


def test_random_draws_differ_and_the_first_is_the_single_one():
    dataset, proxy = toy_dataset(), toy_proxy()
    draws = [random_subset_task(proxy, dataset, Making(draw=draw)) for draw in range(3)]
    assert len({task.setting for task in draws}) == 3
    assert draws[0].setting == random_subset_task(proxy, dataset).setting
    chosen = [tuple(numbers_of(task.train.images, dataset)) for task in draws]
    assert len(set(chosen)) == 3
    assert all(task.train.labels.tolist() == [0, 0, 1, 1, 2, 2] for task in draws)


def test_at_equal_total_cost_there_are_more_images_and_more_updates():
    dataset, proxy = toy_dataset(), toy_proxy(epochs=5)
    making = Making(spending=Spending(150.0, 100.0))  # 2.5 times
    equal, total = (random_subset_task(proxy, dataset, making, total=total) for total in (False, True))
    assert (len(equal.train.images), len(total.train.images)) == (6, 15)
    assert (equal.score, total.score) == ("random_subset", "random_total")
    assert "equal total cost" in total.label
    short, long = (early_stop_task(proxy, dataset, making, total=total) for total in (False, True))
    updates = [num_updates(task.recipe, len(task.train.images)) for task in (short, long)]
    assert updates == [5, 12]  # 2.5 × 5, to the even one
    assert short.recipe.batch_size == long.recipe.batch_size == 6
    boundless = Making(spending=Spending(1e9, 1.0))
    assert len(random_subset_task(proxy, dataset, boundless, total=True).train.images) == len(dataset.train)


def test_k_means_is_repeatable_kept_and_of_distinct_images(tmp_path, monkeypatch):
    dataset, proxy = toy_dataset(), toy_proxy(ipc=3)
    first, again = (kmeans_subset_task(proxy, dataset, Making(folder=tmp_path / folder)) for folder in ("a", "b"))
    assert first.setting == again.setting
    chosen = numbers_of(first.train.images, dataset)
    assert len(set(chosen)) == 9
    assert dataset.train.labels[chosen].tolist() == first.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    (kept,) = (tmp_path / "a").iterdir()
    assert json.loads(kept.read_text())["index"] == chosen
    monkeypatch.setattr("nasproxy.scores.baselines.kmeans_indices", lambda *a, **k: pytest.fail("computed again"))
    third = kmeans_subset_task(proxy, dataset, Making(folder=tmp_path / "a"))
    assert third.setting == first.setting
    assert third.made_in == json.loads(kept.read_text())["seconds"] > 0
    other = replace(dataset, fingerprint="e" * 64)
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        kmeans_subset_task(proxy, other, Making(folder=tmp_path / "a"))


def test_what_a_search_spends_is_counted_from_its_settings(tmp_path, cpu):
    path = tmp_path / "tiny.yaml"
    path.write_text(SPACE)
    dataset = toy_dataset()
    space = load_space(path)
    inspection = inspect_space(space, dataset.input_shape, dataset.num_classes)
    config = condense_config(ipc=2, outer_steps=2, inner_steps=2, net_steps=2, width=4, depth=1, batch_real=8)
    proxy = build_proxy(dataset, config, choice=cpu)
    task = proxy_task(proxy, dataset)
    sizes = [inspection.counts(candidate).flops for candidate in inspection.valid]
    spending = spending_of(proxy, dataset, task, inspection, SearchConfig(trials=10, seeds=2))
    assert spending.training == pytest.approx(10 * 2 * 3 * task.recipe.epochs * 6 * sum(sizes) / 2)
    wide = max(sizes)  # the net of width 4 that was matched
    # Two nets, two matchings each: 24 real images by 3 passes and 6 synthetic by 9; between them 2 × 6 images by 3.
    assert spending.making == pytest.approx(2 * (2 * (24 * 3 + 6 * 9) + 2 * 6 * 3) * wide)
    several = replace(proxy, images=proxy.images.repeat(3, 1, 1, 1, 1), labels=proxy.labels.repeat(3, 1))
    for seeds, used in ((1, 1), (2, 2), (4, 3)):  # those that it trains on
        own = spending_of(several, dataset, proxy_task(several, dataset), inspection, SearchConfig(seeds=seeds))
        assert own.making == used * spending.making
    assert spending_of(toy_proxy(), dataset, task, inspection, SearchConfig()).making == 0
    strange = replace(proxy, provenance=proxy.provenance | {"config": {"method": "gradient_matching", "unknown": 1}})
    assert spending_of(strange, dataset, task, inspection, SearchConfig()) is None


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.total])
def test_equal_total_cost_needs_a_search(name):
    with pytest.raises(NasproxyError, match=rf"'{name}' costs as much as a whole search.*--scores"):
        make_task(name, toy_proxy(), toy_dataset())
    task = make_task(name, toy_proxy(), toy_dataset(), making=Making(spending=Spending(1.0, 1.0)))
    assert task.score == name
    assert torch.isfinite(task.train.batch(slice(None), torch.device("cpu"))[0]).all()
