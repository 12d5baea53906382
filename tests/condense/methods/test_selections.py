"""Real images that are chosen: each rule against a slow loop from its formula."""

import math
import time
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import make_blobs
from toy import toy_dataset

from nasproxy.condense.build import build_proxy
from nasproxy.condense.methods import selections as module
from nasproxy.condense.methods.selections import forgetting_indices, herd, selected, spread_out
from nasproxy.config import METHODS, condense_config
from nasproxy.core.errors import NasproxyError
from nasproxy.training.fit import fit

CPU = torch.device("cpu")
CHOOSING = tuple(name for name, spec in METHODS.items() if not spec.learns and name != "random")
BRIEF = {"width": 4, "depth": 1, "pool_epochs": 2}


def numbers_of(method, dataset, **settings):
    config = condense_config(**({"method": method, "ipc": 4} | BRIEF | settings))
    return selected(getattr(module, f"{method}_indices"), dataset, config, device=CPU)[0]


def test_herding_takes_what_keeps_the_mean_nearest():
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    mean = [sum(point[d].item() for point in points) / 12 for d in range(3)]
    chosen = []
    for k in range(1, 6):

        def off(i, k=k):
            total = [sum(points[j][d].item() for j in [*chosen, i]) / k for d in range(3)]
            return math.dist(mean, total)

        chosen.append(min((i for i in range(12) if i not in chosen), key=off))
    assert herd(points, 5).tolist() == chosen


def test_herding_follows_the_mean_better_than_chance():
    points = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))

    def off(index):
        return (points[index].mean(0) - points.mean(0)).norm().item()

    drawn = [off(torch.randperm(200, generator=torch.Generator().manual_seed(s))[:10]) for s in range(20)]
    assert off(herd(points, 10)) < min(drawn) / 2


def test_k_centre_takes_the_farthest_from_those_before():
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    mean = points.mean(0).tolist()
    chosen = [min(range(12), key=lambda i: math.dist(points[i].tolist(), mean))]
    while len(chosen) < 5:
        free = [i for i in range(12) if i not in chosen]
        chosen.append(max(free, key=lambda i: min(math.dist(points[i].tolist(), points[j].tolist()) for j in chosen)))
    assert spread_out(points, 5).tolist() == chosen


def test_k_centre_finds_every_blob():
    points, blobs = make_blobs(60, 2, centers=6, cluster_std=0.05, random_state=0)
    assert len(set(blobs[spread_out(torch.from_numpy(points), 6).numpy()])) == 6


@pytest.mark.parametrize("choose", [herd, spread_out])
def test_equal_points_are_taken_once_each(choose):
    assert sorted(choose(torch.ones(5, 2), 5).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", CHOOSING)
@pytest.mark.parametrize("counts", [None, (1, 40, 3)])
def test_every_image_is_another_one_of_its_class(method, counts):
    dataset = toy_dataset()
    index = numbers_of(method, dataset, ipc_per_class=counts)
    assert len(set(index.tolist())) == len(index)
    assert torch.bincount(dataset.train.labels[index]).tolist() == list(counts or (4, 4, 4))
    assert dataset.train.labels[index].tolist() == sorted(dataset.train.labels[index].tolist())


@pytest.mark.parametrize("method", CHOOSING)
def test_more_images_than_a_class_has_are_refused(method):
    with pytest.raises(NasproxyError, match="class 1 has 40 training images and ipc=41"):
        numbers_of(method, toy_dataset(), ipc_per_class=(1, 41, 1))


def test_equal_settings_share_one_net_and_each_counts_its_training(monkeypatch):
    monkeypatch.setattr(module, "_kept", {})
    trained = []

    def slow_fit(*args, **settings):
        trained.append(settings["seed"])
        time.sleep(0.2)
        return fit(*args, **settings)

    monkeypatch.setattr(module, "fit", slow_fit)
    dataset = toy_dataset()
    for method, changes in (("herding", {}), ("entropy", {}), ("kmeans", {"ipc": 2})):
        config = condense_config(**({"method": method, "ipc": 4} | BRIEF | changes))
        _, seconds = selected(getattr(module, f"{method}_indices"), dataset, config, device=CPU)
        assert seconds > 0.2
    assert len(trained) == 1
    for number, changes in enumerate(({"seed": 1}, {"width": 5}, {"pool_epochs": 1}), start=2):
        numbers_of("k_center", dataset, **changes)
        assert len(trained) == number
    sizes = [numbers_of("forgetting", dataset, ipc=ipc).tolist() for ipc in (3, 1)]
    assert len(trained) == number + 1  # its counts do for every size
    assert sizes[1] == sizes[0][::3]
    for seed in range(10, 10 + module.NUM_KEPT):
        numbers_of("k_center", dataset, seed=seed)
    assert len(module._kept) == module.NUM_KEPT


@pytest.mark.parametrize("method", ["herding", "k_center", "kmeans"])
def test_pixels_need_no_net(method, monkeypatch):
    monkeypatch.setattr(module, "fit", None)
    dataset = toy_dataset()
    seen = []
    config = condense_config(method=method, ipc=4, features="pixels", **BRIEF)
    selected(
        getattr(module, f"{method}_indices"),
        dataset,
        config,
        device=CPU,
        progress=lambda done, total, note: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_pixels_of_herding_are_the_pixels():
    dataset = toy_dataset()
    own = (dataset.train.labels == 1).nonzero()[:, 0]
    pixels = torch.nn.functional.normalize(dataset.normalize(dataset.train.images[own]).flatten(1))
    assert numbers_of("herding", dataset, features="pixels")[4:8].tolist() == own[herd(pixels, 4)].tolist()


def test_forgotten_images_are_counted_from_epoch_to_epoch(monkeypatch):
    """Rights and wrongs after three epochs are given; who was never right counts most, then who fell back."""
    dataset = toy_dataset()
    labels = dataset.train.labels
    # By class: 0 always right; 1 right, wrong, right; 2 right, wrong, wrong; 3 never right; 4 wrong, right, wrong.
    rights = {0: (1, 1, 1), 1: (1, 0, 1), 2: (1, 0, 0), 3: (0, 0, 0), 4: (0, 1, 0)}
    epoch = iter(range(3))

    def answer(net, real, numbers):
        now = next(epoch)
        logits = torch.zeros(len(labels), 3)
        for i, label in enumerate(labels.tolist()):
            place = (labels[:i] == label).sum().item()
            right = rights.get(place, (1, 1, 1))[now]
            logits[i, label if right else (label + 1) % 3] = 1
        return logits

    monkeypatch.setattr(module, "_kept", {})
    monkeypatch.setattr(module, "predictions", answer)
    index = numbers_of("forgetting", dataset, pool_epochs=3)
    for label in range(3):
        own = (labels == label).nonzero()[:, 0].tolist()
        chosen = index[4 * label : 4 * label + 4].tolist()
        assert chosen[0] == own[3]
        assert sorted(chosen[1:]) == [own[1], own[2], own[4]]


def test_forgetting_draws_among_ties():
    dataset = toy_dataset()
    config = condense_config(method="forgetting", ipc=4, **BRIEF)
    picks = [
        selected(forgetting_indices, dataset, replace(config, seed=seed), device=CPU)[0].tolist() for seed in (0, 1)
    ]
    assert picks[0] != picks[1]


def test_entropy_takes_the_least_certain(monkeypatch):
    dataset = toy_dataset()
    labels = dataset.train.labels
    certainty = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) * 5

    def answer(net, real, numbers):
        return torch.stack([certainty[numbers], torch.zeros(len(numbers)), torch.zeros(len(numbers))], dim=1)

    monkeypatch.setattr(module, "predictions", answer)
    index = numbers_of("entropy", dataset)
    for label in range(3):
        own = (labels == label).nonzero()[:, 0]
        expected = own[certainty[own].argsort()[:4]].tolist()  # logits (x, 0, 0): flatter, the smaller x > 0
        assert index[4 * label : 4 * label + 4].tolist() == expected


@pytest.mark.parametrize("method", CHOOSING)
def test_chosen_images_are_real_ones_unchanged(method, cpu):
    dataset = toy_dataset()
    proxy = build_proxy(dataset, condense_config(method=method, ipc=4, **BRIEF), choice=cpu)
    real = dataset.normalize(dataset.train.images)
    for image, label in zip(proxy.images[0], proxy.labels[0], strict=True):
        same = (real == image).flatten(1).all(1).nonzero()[:, 0]
        assert dataset.train.labels[same].tolist() == [label.item()]
