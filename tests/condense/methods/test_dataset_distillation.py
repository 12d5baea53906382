"""Dataset distillation: its gradients against slow ones in float64, its order, and that a training repeats it."""

import itertools
from dataclasses import replace

import pytest
import torch
from distilling import CPU, accuracy_after, tiny_problem
from torch.nn import functional
from toy import toy_dataset

from nasproxy.condense.build import build_proxy
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.methods.dataset_distillation import dataset_distillation, inverse_softplus, training_on
from nasproxy.condense.ordered_batches import batch_order, num_batches
from nasproxy.condense.unroll import FunctionalNet, loss_gradient, pull_back, run_steps
from nasproxy.config import CondenseConfig, Recipe, condense_config
from nasproxy.core.errors import NasproxyError
from nasproxy.data.proxy_set import load_proxy, save_proxy
from nasproxy.training.fit import fit, learning_rate
from nasproxy.training.images import TrainingImages

METHODS = ["dataset_distillation", "soft_label"]
SMALL = {"outer_steps": 3, "width": 4, "depth": 1, "batch_real": 8, "unroll_steps": 2, "unroll_epochs": 2}


def config_of(method="dataset_distillation", **settings):
    return condense_config(**({"method": method, "ipc": 2} | SMALL | settings))


def written_out(net, images, labels, raw, real, real_labels):
    """The loss of [DD], algorithm 1, with the net's formula and its gradient written out."""
    w1, b1, w2, b2 = (parameter.detach() for parameter in net.parameters())
    targets = functional.one_hot(labels, 3).double() if labels.ndim == 1 else torch.softmax(labels, 1)
    for t in range(4):
        x, y = images[t % 2 * 3 : t % 2 * 3 + 3], targets[t % 2 * 3 : t % 2 * 3 + 3]
        hidden = torch.tanh(x @ w1.T + b1)
        error = (torch.softmax(hidden @ w2.T + b2, 1) - y) / 3
        inner = error @ w2 * (1 - hidden**2)
        rate = torch.log1p(torch.exp(raw[t]))
        w1, b1 = w1 - rate * inner.T @ x, b1 - rate * inner.sum(0)
        w2, b2 = w2 - rate * error.T @ hidden, b2 - rate * error.sum(0)
    logits = torch.tanh(real @ w1.T + b1) @ w2.T + b2
    return -torch.log_softmax(logits, 1)[torch.arange(8), real_labels].mean()


@pytest.mark.parametrize("soft", [False, True])
def test_loss_and_gradients_are_those_of_the_formula(soft):
    net, images, labels, raw, real, real_labels = tiny_problem(soft=soft)
    leaves = [images, raw, *([labels] if soft else [])]
    loss = written_out(net, images, labels, raw, real, real_labels)
    expected = torch.autograd.grad(loss, leaves)

    model = FunctionalNet(net)
    step = training_on(model, images, labels, raw, 2)
    trajectory = run_steps(step, model.parameters(), 4, stride=2)
    found, adjoint = loss_gradient(model, trajectory.last, [(real, real_labels)], 8)
    gradients, _ = pull_back(step, trajectory, adjoint, leaves)
    torch.testing.assert_close(found, loss.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(gradients), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("soft", [False, True])
def test_gradients_are_finite_differences(soft):
    net, images, labels, raw, real, real_labels = tiny_problem(soft=soft)
    leaves = [images, raw, *([labels] if soft else [])]
    model = FunctionalNet(net)
    step = training_on(model, images, labels, raw, 2)

    def loss():
        return loss_gradient(model, run_steps(step, model.parameters(), 4).last, [(real, real_labels)], 8)

    trajectory = run_steps(step, model.parameters(), 4)
    gradients, _ = pull_back(step, trajectory, loss()[1], leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        for place in itertools.islice(itertools.product(*map(range, leaf.shape)), 0, None, 5):
            sides = []
            for move in (1e-6, -1e-6):
                with torch.no_grad():
                    leaf[place] += move
                    sides.append(loss()[0].item())
                    leaf[place] -= move
            assert gradient[place].item() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("value", [1e-4, 0.02, 0.5, 3.0, 50.0])
def test_softplus_is_undone(value):
    raw = torch.tensor(inverse_softplus(value), dtype=torch.float64)
    assert functional.softplus(raw).item() == pytest.approx(value, rel=1e-7)


# ---------------------------------------------------------------------------------------------------------- the order


def test_every_batch_has_equally_many_images_of_each_class():
    labels = torch.tensor([0] * 4 + [1] * 2 + [2] * 6)
    order = batch_order((4, 2, 6), 2)
    assert sorted(order.tolist()) == list(range(12))
    assert labels[order].tolist() == [0, 0, 1, 2, 2, 2] * 2
    assert order.tolist()[:3] == [0, 2, 4]  # t, t + 2, … of each class


@pytest.mark.parametrize(
    ("ipc", "steps", "number"), [(1, 10, 1), (7, 10, 7), (10, 10, 10), (20, 10, 10), (15, 5, 5), (6, 1, 1)]
)
def test_the_number_of_batches_follows_the_images(ipc, steps, number):
    assert num_batches(CondenseConfig(ipc=ipc, unroll_steps=steps), 3) == number


def test_images_that_cannot_be_shared_out_are_refused():
    with pytest.raises(NasproxyError, match=r"but 15 of them .* 10 steps .*--unroll-steps: 1, 3, 5, 15\."):
        num_batches(CondenseConfig(ipc=15), 3)
    with pytest.raises(NasproxyError, match=r"--unroll-steps: 1, 2\."):
        num_batches(CondenseConfig(ipc_per_class=(4, 4, 6), unroll_steps=4), 3)


@pytest.mark.parametrize("method", METHODS)
def test_every_set_keeps_the_step_sizes_that_it_learned(method, cpu, tmp_path):
    proxy = build_proxy(toy_dataset(), config_of(method, num_sets=2), choice=cpu)
    single = build_proxy(toy_dataset(), config_of(method), choice=cpu)
    assert proxy.recipe == proxy.recipe_of(0) == single.recipe
    assert proxy.recipe_of(0).lrs != proxy.recipe_of(1).lrs
    again = load_proxy(save_proxy(proxy, tmp_path / "two.safetensors"))
    assert again.recipes == proxy.recipes
    assert again.content_id == proxy.content_id


@pytest.mark.parametrize("method", METHODS)
def test_snapshots_are_sorted_by_class(method, cpu):
    pictures = []
    config = config_of(method, lr_img=1e-30, outer_steps=1)
    proxy = build_proxy(toy_dataset(), config, choice=cpu, on_snapshot=lambda _, images: pictures.append(images))
    order = batch_order((2, 2, 2), 2)
    assert torch.equal(pictures[-1][order], proxy.images[0])


# --------------------------------------------------------------------------------------------------------- the recipe


@pytest.mark.parametrize("method", METHODS)
def test_training_on_the_set_repeats_what_was_learned(method, cpu, tmp_path):
    """A round trip through the file included: ``fit`` ends at the weights of the unrolled training."""
    config = config_of(method, ipc=4, recipe="one_cycle").resolved((1, 8, 8), flip=False)
    dataset = toy_dataset()
    made = dataset_distillation(dataset, config, BuildRun(CPU)) if method == METHODS[0] else None
    proxy = load_proxy(save_proxy(build_proxy(dataset, config, choice=cpu), tmp_path / "set.safetensors"))
    recipe = proxy.recipe
    assert (recipe.schedule, recipe.shuffle, recipe.augmentation, recipe.momentum) == ("learned", False, "none", 0.0)
    assert len(recipe.lrs) == 4
    assert len(set(recipe.lrs)) == 4
    assert isinstance(hash(recipe), int)
    if made is not None:
        assert recipe.lrs == made.recipe["lrs"]
    images, labels = proxy.training_images(0)
    net = build_net(config, dataset, 5, CPU)
    model = FunctionalNet(net)
    raw = torch.tensor([inverse_softplus(lr) for lr in recipe.lrs])
    step = training_on(model, images, labels if labels.ndim == 1 else labels.log(), raw, 2)
    expected = run_steps(step, model.parameters(), 4).last
    fit(net, TrainingImages(images, labels), recipe, seed=3, device=CPU)
    torch.testing.assert_close(model.parameters(), expected, rtol=1e-5, atol=1e-6)


def test_the_schedule_repeats_when_there_are_more_updates():
    recipe = Recipe(lr=0.2, epochs=1, schedule="learned", lrs=(0.1, 0.2, 0.3))
    assert [learning_rate(replace(recipe, epochs=2), step, 5) for step in range(5)] == [0.1, 0.2, 0.3, 0.1, 0.2]


def test_learning_rates_of_a_recipe_are_checked():
    for options in ({"schedule": "learned"}, {"lrs": (0.1,)}):
        with pytest.raises(NasproxyError, match=r"got [01] of them"):
            Recipe(lr=0.1, epochs=1, **options)
    with pytest.raises(NasproxyError, match=r"lrs\[1\]=-0.1"):
        Recipe(lr=0.1, epochs=1, schedule="learned", lrs=(0.1, -0.1))


def test_recipes_without_learned_rates_keep_their_digests():
    plain = Recipe(lr=0.1, epochs=1)
    assert "lrs" not in plain.as_json()
    for recipe in (plain, Recipe(lr=0.1, epochs=1, schedule="learned", lrs=(0.1, 0.3))):
        assert Recipe.from_json(recipe.as_json() | {"of tomorrow": 1}) == recipe


@pytest.mark.parametrize("method", METHODS)
def test_what_was_learned_trains_better_than_what_it_started_from(method, cpu):
    dataset = toy_dataset()
    config = config_of(method, lr_net=0.2, lr_img=0.1, outer_steps=30, width=8).resolved((1, 8, 8), flip=False)
    before, after = (
        accuracy_after(build_proxy(dataset, own, choice=cpu), dataset, config)
        for own in (replace(config, outer_steps=1, lr_img=1e-30), config)
    )
    assert after > before + 0.3, (before, after)
    assert after > 0.8


def test_a_fixed_start_is_always_the_same(cpu):
    one, other = (
        build_proxy(toy_dataset(), config_of(net_init=word), choice=cpu).images for word in ("fixed", "random")
    )
    assert not torch.equal(one, other)
