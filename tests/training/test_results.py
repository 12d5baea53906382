from dataclasses import replace

import pytest
import torch
from toy import evaluation, toy_dataset, toy_sets, toy_task

from nasproxy.scores.proxy import proxy_task
from nasproxy.training.results import FailureKind, Fit, failed_fit, mean_score


def test_setting_changes_with_images_recipe_and_held_out():
    a, b = toy_task(), toy_task(epochs=3)
    assert a.setting == toy_task().setting
    assert a.setting != b.setting


def test_every_seed_trains_on_another_set_by_its_recipe():
    dataset = toy_dataset()
    proxy = toy_sets(dataset, lrs=(0.1, 0.2, 0.3))
    task = proxy_task(proxy, dataset, replace(proxy.recipe, epochs=7))
    for seed, number in enumerate((0, 1, 2, 0)):
        own = task.of_seed(seed)
        assert torch.equal(own.train.images, proxy.images[number])
        assert (own.recipe.lr, own.recipe.epochs, own.sets) == (proxy.recipes[number].lr, 7, ())
    assert [task.num_sets(seeds) for seeds in (1, 2, 5)] == [1, 2, 3]
    assert task.train is task.of_seed(0).train
    assert proxy_task(toy_sets(dataset), dataset).of_seed(1).recipe == toy_sets(dataset).recipe
    one = toy_task()
    assert one.of_seed(1) is one
    assert one.num_sets(4) == 1


def test_mean_over_seeds():
    score = mean_score([evaluation(0, 0.4), evaluation(1, 0.6), evaluation(2, 0.8)])
    assert score.value == pytest.approx(0.6)
    assert score.std == pytest.approx(0.2)
    assert score.seconds == pytest.approx(4.5)
    assert mean_score([evaluation()]).std is None


def test_one_failed_seed_fails_the_candidate_with_its_reason():
    score = mean_score([evaluation(0, 0.4), evaluation(1, None, "diverged: nan")])
    assert score.value is None
    assert score.failure == "diverged: nan"
    assert score.failure_kind is FailureKind.DIVERGED
    assert mean_score([]).failure is not None
    assert mean_score([]).failure_kind is FailureKind.NOT_MEASURED


def test_a_failure_has_a_text_and_a_kind():
    fit = failed_fit(FailureKind.OUT_OF_MEMORY, "out of memory: no room", 2.5)
    assert (fit.value, fit.loss, fit.seconds) == (None, None, 2.5)
    assert (fit.failure, fit.failure_kind) == ("out of memory: no room", FailureKind.OUT_OF_MEMORY)
    with pytest.raises(ValueError, match="'diverged' and None: use failed_fit"):
        Fit(None, None, 0.0, "diverged")
