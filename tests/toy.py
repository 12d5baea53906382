"""Toy data and sets for the tests: learnable in a second, small enough for a float64 loop."""

from dataclasses import replace

import pytest
import torch

from nasproxy.condense.methods.gradient_matching import gradient_matching
from nasproxy.config import Recipe, config_hash
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import ProxySet
from nasproxy.scores.proxy import proxy_task
from nasproxy.training.results import Evaluation, FailureKind

TINY_SPACE = """
name: tiny
network: convnet
parameters:
  width: [4, 8]
  depth: [1, 2]
  activation: [relu, sigmoid]
  norm: [none, batch]
"""


def toy_split(num_per_class, seed, *, num_classes=3, shape=(1, 8, 8)):
    """Class c: a bright horizontal bar at row 2c + 1 under noise."""
    stream = torch.Generator().manual_seed(seed)
    n = num_classes * num_per_class
    labels = torch.arange(n) % num_classes
    images = torch.randint(0, 120, (n, *shape), generator=stream)
    for i, label in enumerate(labels.tolist()):
        images[i, :, 2 * label + 1, :] += 120
    return LabeledImages(images.to(torch.uint8), labels)


def slow_but(names, *quick):
    """Parameters of a test that is slow for all of ``names`` but those that are ``quick``."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in sorted(names)]


def toy_dataset(*, num_per_class=40, num_classes=3, shape=(1, 8, 8)):
    options = {"num_classes": num_classes, "shape": shape}
    channels = shape[0]
    return Dataset(
        name="toy",
        train=toy_split(num_per_class, 0, **options),
        val=toy_split(20, 1, **options),
        test=toy_split(20, 2, **options),
        class_names=tuple(f"bar {c}" for c in range(num_classes)),
        mean=(0.3,) * channels,
        std=(0.25,) * channels,
        fingerprint=config_hash(num_per_class, options),
        flip=False,
    )


def toy_proxy(dataset=None, *, ipc=2, epochs=5, seed=0):
    dataset = dataset or toy_dataset()
    n = dataset.num_classes * ipc
    labels = torch.arange(dataset.num_classes).repeat_interleave(ipc)
    index = torch.cat([(dataset.train.labels == c).nonzero()[:ipc, 0] for c in range(dataset.num_classes)])
    return ProxySet(
        images=dataset.normalize(dataset.train.images[index]).reshape(1, n, *dataset.input_shape),
        labels=labels[None],
        recipe=Recipe(lr=0.05, epochs=epochs, schedule="one_cycle", nesterov=True),
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        provenance={
            "dataset": {"name": "toy", "fingerprint": dataset.fingerprint, "input_shape": [1, 8, 8], "num_train": 120},
            "config": {"method": "random", "ipc": ipc, "recipe": "one_cycle", "seed": seed},
        },
        record={"seconds": 0.1, "hardware": "test", "versions": {}, "source": {"spec": "toy"}},
    )


def toy_sets(dataset=None, *, num_sets=3, lrs=None, **options):
    """Several sets in one, which differ; ``lrs``: each with a recipe of its own."""
    one = toy_proxy(dataset, **options)
    images = torch.cat([one.images * (1 + 0.5 * number) for number in range(num_sets)])
    recipes = () if lrs is None else tuple(replace(one.recipe, lr=lr) for lr in lrs)
    return replace(
        one,
        images=images,
        labels=one.labels.repeat(num_sets, 1),
        recipes=recipes,
        recipe=recipes[0] if recipes else one.recipe,
    )


def made_by(*args, **options):
    """Images and labels of :func:`gradient_matching`."""
    made = gradient_matching(*args, **options)
    return made.images, made.labels


def evaluation(seed=0, accuracy=0.5, failure=None):
    loss = None if failure else 1.0
    kind = FailureKind.DIVERGED if failure else None
    key = {"candidate": "abc", "params": {"width": 8}, "score": "proxy", "setting": "s", "seed": seed}
    return Evaluation(accuracy, loss, 1.5, failure, kind, **key)


def toy_task(epochs=2):
    dataset = toy_dataset()
    return proxy_task(toy_proxy(dataset, epochs=epochs), dataset)


def uneven_dataset(counts=(5, 40, 17)):
    dataset = toy_dataset()
    index = torch.cat([(dataset.train.labels == c).nonzero()[:n, 0] for c, n in enumerate(counts)])
    index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(1))]
    return replace(dataset, train=LabeledImages(dataset.train.images[index], dataset.train.labels[index]))
