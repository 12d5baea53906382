"""The table of scores: what it takes to add one."""

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.core.errors import NasproxyError
from nasproxy.networks import NETWORKS
from nasproxy.scores import registry, zero_cost
from nasproxy.scores.registry import SCORES, Score, make_task, score_names
from nasproxy.training.images import NO_IMAGES, TrainingImages
from nasproxy.training.tasks import Attempt, training_task

CPU = torch.device("cpu")


def build():
    return NETWORKS["convnet"]((1, 8, 8), 3, width=4, depth=1)


def test_adding_a_score_without_training_is_a_function_and_a_line(monkeypatch):
    def depth(fresh):
        return float(sum(isinstance(module, torch.nn.Conv2d) for module in fresh.net.modules()))

    monkeypatch.setitem(zero_cost.ZERO_COST, "depth", zero_cost.ZeroCost(depth, "Depth", "convolutions; free"))
    monkeypatch.setitem(SCORES, "depth", registry._zero_cost("depth"))  # as the table does for all of ZERO_COST
    task = make_task("depth", toy_proxy(), toy_dataset())
    assert task.run(Attempt(build, task.train, NO_IMAGES, 0, CPU, lambda: None)).value == 1.0
    assert not task.alone
    assert make_task("latency", toy_proxy(), toy_dataset()).alone


def test_adding_a_trained_score_is_a_function_and_a_line(monkeypatch):
    def first_images_task(proxy, dataset, making):
        return training_task(
            dataset,
            score="first_images",
            label="The first images",
            train=TrainingImages(dataset.train.images[:9], dataset.train.labels[:9], dataset.normalize),
            images=f"first 9 of {dataset.fingerprint}",
            recipe=making.recipe or proxy.recipe,
        )

    monkeypatch.setitem(SCORES, "first_images", Score("after training on the first images", first_images_task))
    assert score_names("first_images, params") == ("first_images", "params")
    task = make_task("first_images", toy_proxy(), toy_dataset())
    fit = task.run(Attempt(build, task.train, task.held_out, 0, CPU, lambda: None))
    assert 0 <= fit.value <= 1
    assert fit.loss > 0


def test_an_unknown_score_is_named_with_its_neighbour():
    with pytest.raises(NasproxyError, match=r"'synflo'.*'synflow'"):
        make_task("synflo", toy_proxy(), toy_dataset())
