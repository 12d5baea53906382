"""Soft labels: what they start from, that they are learned, and sets of fewer images than classes."""

from dataclasses import replace

import pytest
import torch
from distilling import accuracy_after
from toy import toy_dataset

from nasproxy.condense.build import build_proxy
from nasproxy.condense.methods.soft_label import CERTAINTY, initial_probabilities, num_soft_batches
from nasproxy.config import CondenseConfig, condense_config
from nasproxy.core.errors import NasproxyError

SMALL = {"outer_steps": 3, "width": 8, "depth": 1, "batch_real": 8, "unroll_steps": 2, "unroll_epochs": 2}


def config_of(**settings):
    return condense_config(**({"method": "soft_label"} | SMALL | settings)).resolved((1, 8, 8), flip=False)


def test_labels_start_almost_certain():
    found = initial_probabilities((2, 1, 1))
    assert found.shape == (4, 3)
    assert torch.allclose(found.sum(1), torch.ones(4))
    assert found.argmax(1).tolist() == [0, 0, 1, 2]
    assert torch.allclose(found.max(1).values, torch.full((4,), CERTAINTY))


@pytest.mark.parametrize(("num_images", "classes"), [(1, 4), (2, 5), (3, 4), (5, 10)])
def test_fewer_images_share_the_classes(num_images, classes):
    counts = CondenseConfig(num_images=num_images).counts(classes)
    found = initial_probabilities(counts)
    assert found.shape == (num_images, classes)
    assert torch.allclose(found.sum(1), torch.ones(num_images))
    for label in range(classes):
        assert found[:, label].argmax() == label % num_images
    for row in range(num_images):
        own = found[row, row::num_images]
        assert torch.allclose(own, own[0].expand_as(own))


@pytest.mark.parametrize(
    ("num_images", "steps", "number"), [(2, 10, 1), (3, 10, 1), (6, 10, 2), (7, 1, 1), (12, 4, 4), (12, 10, 4)]
)
def test_the_number_of_batches_follows_the_images(num_images, steps, number):
    assert num_soft_batches(CondenseConfig(num_images=num_images, unroll_steps=steps), 3) == number


def test_images_that_cannot_be_shared_out_are_refused():
    with pytest.raises(NasproxyError, match=r"num_images=10 cannot be shared by 3 steps .*--unroll-steps: 1, 2\."):
        num_soft_batches(CondenseConfig(num_images=10), 3)


@pytest.mark.parametrize("init", ["noise", "real"])
@pytest.mark.parametrize("num_images", [1, 2, 4])
def test_any_number_of_images(num_images, init, cpu):
    proxy = build_proxy(
        toy_dataset(), config_of(num_images=num_images, init=init, unroll_steps=1, unroll_epochs=3), choice=cpu
    )
    assert proxy.images.shape == (1, num_images, 1, 8, 8)
    assert proxy.labels.shape == (1, num_images, 3)
    assert proxy.labels.dtype == torch.float32
    assert torch.allclose(proxy.labels.sum(2), torch.ones(1, num_images))
    assert proxy.provenance["config"]["num_images"] == num_images
    assert len(proxy.recipe.lrs) == 3


def test_labels_are_learned(cpu):
    proxy = build_proxy(toy_dataset(), config_of(ipc=2), choice=cpu)
    before = initial_probabilities((2, 2, 2))[[0, 2, 4, 1, 3, 5]]
    assert not torch.allclose(proxy.labels[0], before, atol=1e-4)
    assert torch.equal(proxy.labels[0].argmax(1), before.argmax(1))


def test_two_images_teach_three_classes(cpu):
    dataset = toy_dataset()
    config = config_of(num_images=2, unroll_epochs=4, lr_net=0.3, lr_img=0.1, outer_steps=40)
    before, after = (
        accuracy_after(build_proxy(dataset, own, choice=cpu), dataset, config)
        for own in (replace(config, outer_steps=1, lr_img=1e-30), config)
    )
    assert after > before + 0.25, (before, after)
    assert after > 0.55
