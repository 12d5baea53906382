"""Distribution matching against slow float64 loops from the formula."""

import pytest
import torch
from toy import toy_dataset

from nasproxy.condense.contract import BuildRun
from nasproxy.condense.initial import initial_images
from nasproxy.condense.matching_nets import build_net, embed
from nasproxy.condense.methods import distribution_matching as module
from nasproxy.condense.methods.distribution_matching import class_means, distribution_distance, distribution_matching
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig, Recipe, condense_config
from nasproxy.core.randomness import generator
from nasproxy.networks import convnet
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")
SMALL = {"method": "distribution_matching", "width": 4, "depth": 1, "batch_real": 16, "augmentation": "none"}


def slow_distance(net, real, real_labels, images, labels, num_classes):
    """Σ_c ‖mean ψ(real of c) − mean ψ(synthetic of c)‖², image by image."""
    total = 0.0
    for c in range(num_classes):
        means = []
        for batch, own in ((real, real_labels), (images, labels)):
            rows = [embed(net, image[None])[0] for image, label in zip(batch, own, strict=True) if label == c]
            means.append(sum(rows) / len(rows))
        total = total + sum((a - b) ** 2 for a, b in zip(*means, strict=True))
    return total


@pytest.mark.parametrize("counts", [(2, 2, 2), (1, 3, 2)])
def test_three_steps_equal_the_formula_in_float64(counts):
    dataset = toy_dataset()
    config = condense_config(**SMALL, ipc_per_class=counts, init="noise", outer_steps=3, momentum_img=0.5)
    seen = []
    made = distribution_matching(dataset, config, BuildRun(CPU, progress=lambda *args: seen.append(args)))
    images = initial_images(dataset, config).double()
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    velocity = torch.zeros_like(images)
    real = RealBatches(dataset, CPU)
    for outer in range(3):
        net = build_net(config, dataset, outer, CPU).double()
        numbers = real.draw(16, generator(0, "distribution", outer)).flatten()
        batch = (dataset.train.images[numbers].double() / 255 - 0.3) / 0.25
        leaf = images.clone().requires_grad_()
        distance = slow_distance(net, batch, dataset.train.labels[numbers], leaf, labels, 3)
        velocity = 0.5 * velocity + torch.autograd.grad(distance, leaf)[0]
        images = images - velocity
        assert float(seen[outer][2].removeprefix("distance ")) == pytest.approx(distance.item(), abs=2e-3)
    torch.testing.assert_close(made.images.double(), images, rtol=1e-4, atol=1e-4)
    assert made.labels.tolist() == labels.tolist()


def test_means_and_distance_of_equal_sets_are_equal():
    points = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 8.0]])
    means = class_means(points, torch.tensor([0, 0, 1]), 2)
    assert means.tolist() == [[2.0, 3.0], [5.0, 8.0]]
    assert distribution_distance(means, means) == 0
    assert distribution_distance(means, means + 2) == 16


@pytest.mark.parametrize("option", [{"norm": "batch"}, {"augmentation": "dsa"}, {"formation": 2}, {"network": "mlp"}])
def test_options_change_the_images(option):
    plain, other = (
        distribution_matching(
            toy_dataset(), CondenseConfig(**(SMALL | {"outer_steps": 2, "ipc": 1} | own)), BuildRun(CPU)
        )
        for own in ({}, option)
    )
    assert torch.isfinite(other.images).all()
    assert not torch.equal(plain.images, other.images)


def test_a_batch_that_goes_through_in_parts_is_the_same(monkeypatch):
    config = CondenseConfig(**SMALL, outer_steps=2, ipc=1)
    whole = distribution_matching(toy_dataset(), config, BuildRun(CPU))
    monkeypatch.setattr(module, "images_per_pass", lambda *args: 7)
    parts = distribution_matching(toy_dataset(), config, BuildRun(CPU))
    torch.testing.assert_close(parts.images, whole.images, rtol=1e-4, atol=1e-5)


def test_learned_images_train_better_than_noise():
    dataset = toy_dataset()
    config = condense_config(**(SMALL | {"width": 8}), ipc=1, init="noise", outer_steps=100)
    made = distribution_matching(dataset, config, BuildRun(CPU))
    val = TrainingImages(dataset.val.images, dataset.val.labels, dataset.normalize)

    def accuracy(images):
        recipe = Recipe(lr=0.05, epochs=40, schedule="one_cycle")
        data = TrainingImages(images, made.labels)
        fits = [
            train_candidate(lambda: convnet((1, 8, 8), 3, width=8, depth=1), data, val, recipe, seed=seed, device=CPU)
            for seed in range(3)
        ]
        return sum(f.value for f in fits) / 3

    assert accuracy(made.images) > accuracy(initial_images(dataset, config)) + 0.2
