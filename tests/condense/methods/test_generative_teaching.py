"""Generative teaching: its gradients against slow ones in float64, its generator, and that a training repeats it."""

from dataclasses import replace

import pytest
import torch
from distilling import accuracy_after, tiny_problem
from toy import toy_dataset

from nasproxy.condense.build import build_proxy
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.methods.generative_teaching import (
    INTERVAL,
    Generator,
    curriculum,
    generator_flops,
    momentum_training,
    taught,
)
from nasproxy.condense.unroll import FunctionalNet, loss_gradient, run_steps
from nasproxy.config import CondenseConfig, condense_config
from nasproxy.networks import seeded
from nasproxy.training.fit import fit
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")
SMALL = {"outer_steps": 2, "width": 4, "depth": 1, "batch_real": 8, "unroll_steps": 5}


def config_of(**settings):
    values = {"method": "generative_teaching", "ipc": 2} | SMALL | settings
    return condense_config(**values).resolved((1, 8, 8), flip=False)


@pytest.mark.parametrize("num_steps", [3, INTERVAL, 2 * INTERVAL + 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_those_of_all_steps_in_one_graph(num_steps, stride):
    """Of the sum of losses after every 16 steps and at the end; SGD with momentum written out."""
    net, images, labels, _, real, real_labels = tiny_problem()
    log_lr = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    logit = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    model = FunctionalNet(net)
    leaves = [images, log_lr, logit]

    parameters = [part.requires_grad_() for part in model.parameters()]
    velocities = [torch.zeros_like(part) for part in parameters]
    losses = []
    for t in range(num_steps):
        batch = slice(t % 2 * 3, t % 2 * 3 + 3)
        loss = torch.nn.functional.cross_entropy(model(parameters, images[batch]), labels[batch])
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        velocities = [logit.sigmoid() * v + g for v, g in zip(velocities, gradients, strict=True)]
        parameters = [p - log_lr.exp() * v for p, v in zip(parameters, velocities, strict=True)]
        if (t + 1) % INTERVAL == 0 or t + 1 == num_steps:
            losses.append(torch.nn.functional.cross_entropy(model(parameters, real), real_labels))
    expected = torch.autograd.grad(torch.stack(losses).sum(), leaves)

    start = model.parameters()
    state = (*start, *(torch.zeros_like(part) for part in start))
    step = momentum_training(model, images, labels, log_lr, logit, 2)

    def judged(now):
        return loss_gradient(model, now[: len(start)], [(real, real_labels)], 8)

    mean, found = taught(step, state, num_steps, judged, leaves, stride=stride)
    assert len(losses) == -(-num_steps // INTERVAL)
    torch.testing.assert_close(mean, torch.stack(losses).mean().detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(found), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (1, 28, 28), (2, 5, 2)])
def test_images_of_any_shape(shape):
    maker = seeded(lambda: Generator(3, shape), 0)
    stream = torch.Generator().manual_seed(0)
    images = maker(torch.randn((6, 131), generator=stream))
    assert images.shape == (6, *shape)
    assert images.abs().max() <= 2
    assert images.std(0).mean() > 0.05  # different inputs, different images
    assert not list(maker.buffers())


def test_flops_of_the_generator_are_those_of_torch():
    from torch.utils.flop_counter import FlopCounterMode

    for shape in ((1, 8, 8), (3, 10, 14)):
        maker = seeded(lambda shape=shape: Generator(3, shape), 0)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            maker(torch.zeros(4, 131))
        assert counter.get_total_flops() == 4 * generator_flops(3, shape)


@pytest.mark.parametrize(
    ("ipc", "steps", "expected"),
    [
        (1, 128, (1, 128)),
        (10, 128, (10, 12)),
        (50, 128, (50, 2)),
        (128, 128, (128, 1)),
        (1280, 128, (128, 1)),
        (7, 3, (1, 3)),
    ],
)
def test_the_curriculum_follows_the_images(ipc, steps, expected):
    assert curriculum(CondenseConfig(ipc=ipc, unroll_steps=steps), 10) == expected


def test_training_on_the_set_repeats_what_was_learned(cpu):
    config = config_of(ipc=2, recipe="one_cycle", lr_img=0.02)
    dataset = toy_dataset()
    proxy = build_proxy(dataset, config, choice=cpu)
    recipe = proxy.recipe
    assert (recipe.schedule, recipe.shuffle, recipe.nesterov, recipe.weight_decay) == ("constant", False, False, 0.0)
    assert (recipe.epochs, recipe.batch_size) == (2, 3)
    assert 0 < recipe.momentum < 1
    assert recipe.momentum != 0.5
    assert recipe.lr != 0.02
    images, labels = proxy.training_images(0)
    net = build_net(config, dataset, 5, CPU)
    model = FunctionalNet(net)
    start = model.parameters()
    log_lr, logit = torch.tensor(recipe.lr).log(), torch.logit(torch.tensor(recipe.momentum))
    step = momentum_training(model, images, labels, log_lr, logit, 2)
    expected = run_steps(step, (*start, *(torch.zeros_like(part) for part in start)), 4).last[: len(start)]
    fit(net, TrainingImages(images, labels), recipe, seed=3, device=CPU)
    torch.testing.assert_close(model.parameters(), expected, rtol=1e-5, atol=1e-6)


def test_snapshots_are_images_sorted_by_class(cpu):
    pictures = []
    proxy = build_proxy(toy_dataset(), config_of(), choice=cpu, on_snapshot=lambda _, images: pictures.append(images))
    assert len(pictures) == 2
    assert torch.equal(pictures[-1][[0, 2, 4, 1, 3, 5]], proxy.images[0])
    assert proxy.labels.tolist() == [[0, 1, 2, 0, 1, 2]]


def test_every_set_keeps_the_recipe_that_it_learned(cpu):
    proxy = build_proxy(toy_dataset(), config_of(num_sets=2), choice=cpu)
    assert proxy.recipe_of(0) == proxy.recipe
    assert proxy.recipe_of(0) != proxy.recipe_of(1)


def test_nets_may_come_from_a_space(cpu, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("name: tiny\nnetwork: convnet\nparameters:\n  width: [4, 8]\n  depth: [1, 2]\n")
    proxy = build_proxy(toy_dataset(), config_of(match_space=str(space)), choice=cpu)
    assert proxy.provenance["config"]["match_space"] == "tiny"
    assert torch.isfinite(proxy.images).all()


def test_what_was_learned_trains_better_than_what_it_started_from(cpu):
    dataset = toy_dataset()
    config = config_of(outer_steps=8, width=8, unroll_steps=10, lr_net=0.05, lr_img=0.01, seed=1)
    before, after = (
        accuracy_after(build_proxy(dataset, own, choice=cpu), dataset, config)
        for own in (replace(config, outer_steps=1, lr_img=1e-30), config)
    )
    assert after > before + 0.3, (before, after)
    assert after > 0.8
