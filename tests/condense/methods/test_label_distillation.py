"""Labels of real images: both solvers against their formulas, and what comes out."""

import numpy as np
import pytest
import torch
from counting import Counter
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional
from toy import toy_dataset

from nasproxy.condense import loop
from nasproxy.condense.build import build_proxy
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.initial import draw_per_class
from nasproxy.condense.methods import label_distillation as module
from nasproxy.condense.methods.label_distillation import (
    Companion,
    label_distillation,
    look_ahead,
    onto_probabilities,
    patience_of,
    ridge_solution,
    solve_ahead,
)
from nasproxy.condense.unroll import FunctionalNet
from nasproxy.config import Recipe, condense_config
from nasproxy.core.errors import NasproxyError
from nasproxy.networks import NETWORKS, seeded
from nasproxy.training.fit import fit
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")
FAST = {"method": "label_distillation", "ipc": 2, "outer_steps": 6, "width": 4, "depth": 1, "batch_real": 8}


def tiny_net(seed=0):
    """Linear, tanh, linear on 1×2×3 images, 4 classes, in float64."""

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()

    return seeded(build, seed, CPU)


def tiny_data(seed=0):
    """Six labelled images, their soft labels, and a real batch of nine in two parts."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 1, 2, 3, generator=stream, dtype=torch.float64)
    labels = torch.rand(6, 4, generator=stream, dtype=torch.float64).softmax(1).requires_grad_()
    real = torch.randn(9, 1, 2, 3, generator=stream, dtype=torch.float64)
    answers = torch.randint(4, (9,), generator=stream)
    return images, labels, [(real[:5], answers[:5]), (real[5:], answers[5:])]


def whole(parts):
    return torch.cat([images for images, _ in parts]), torch.cat([answers for _, answers in parts])


def finite_differences(function, labels, size=1e-6):
    found = torch.zeros_like(labels)
    for place in np.ndindex(*labels.shape):
        up, down = labels.detach().clone(), labels.detach().clone()
        up[place] += size
        down[place] -= size
        found[place] = (function(up) - function(down)) / (2 * size)
    return found


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_look_ahead_is_the_derivative_of_training(num_steps):
    images, labels, parts = tiny_data()
    batches = [torch.tensor([0, 2, 5]), torch.tensor([1, 2, 3, 4]), torch.tensor([5])][:num_steps]
    model = FunctionalNet(tiny_net())
    loss, errors, gradient = look_ahead(model, model.parameters(), images, labels, batches, 0.3, parts)

    def by_hand(own):
        net = tiny_net()
        weights = [parameter.detach().clone().requires_grad_() for parameter in net.parameters()]

        def logits(some):
            return torch.tanh(some.flatten(1) @ weights[0].T + weights[1]) @ weights[2].T + weights[3]

        for batch in batches:
            value = -(own[batch] * logits(images[batch]).log_softmax(1)).sum() / len(batch)
            weights = [
                w - 0.3 * g
                for w, g in zip(weights, torch.autograd.grad(value, weights, create_graph=True), strict=True)
            ]
        real, answers = whole(parts)
        found = logits(real)
        return functional.cross_entropy(found, answers), (found.argmax(1) != answers).double().mean()

    expected, wrong = by_hand(labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert errors.item() == pytest.approx(wrong.item())
    (naive,) = torch.autograd.grad(expected, labels)
    torch.testing.assert_close(gradient, naive, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(
        gradient, finite_differences(lambda own: by_hand(own)[0].item(), labels), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
@pytest.mark.parametrize("penalty", [0.1, 1.0])
def test_the_ridge_solution_is_that_of_scikit_learn(shape, penalty):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=shape), rng.random((shape[0], 3))
    expected = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(features, labels).coef_.T
    found = ridge_solution(torch.from_numpy(features), torch.from_numpy(labels), penalty).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def ridge_loss(net, head, scale, images, labels, batch, parts):
    """Written from the formula, with numpy's solver."""
    body = net[:3]

    def features(some):
        return np.hstack([body(some).detach().numpy(), np.ones((len(some), 1))])

    inner = features(images[batch])
    own = np.linalg.solve(inner.T @ inner + np.eye(inner.shape[1]), inner.T @ labels[batch].detach().numpy())
    real, answers = whole(parts)
    logits = torch.from_numpy(features(real) @ (scale * (0.99 * head.numpy() + 0.01 * own)))
    return functional.cross_entropy(logits, answers).item()


def test_the_ridge_gradient_is_the_derivative_of_the_solution():
    images, labels, parts = tiny_data()
    batch = torch.tensor([4, 0, 1, 5])
    head = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    companion = Companion(tiny_net, 5, head.clone())
    companion.scale.data.fill_(1.7)
    loss, _, gradient, after, logits = solve_ahead(companion, images[batch], labels, batch, parts)

    def by_hand(own):
        return ridge_loss(tiny_net(), head, np.float32(1.7), images, own, batch, parts)

    assert loss.item() == pytest.approx(by_hand(labels), rel=1e-9)
    torch.testing.assert_close(gradient, finite_differences(by_hand, labels), rtol=1e-5, atol=1e-9)
    assert (gradient[[2, 3]] == 0).all()  # not in the batch
    inner = functional.pad(tiny_net()[:3](images[batch]), (0, 1), value=1.0)
    torch.testing.assert_close(after, 0.99 * head + 0.01 * ridge_solution(inner, labels[batch]).detach())
    # What the net learns from goes through the solution, too.
    value = functional.cross_entropy(logits, labels[batch].detach())
    found = torch.autograd.grad(value, [*companion.parameters[:2], companion.scale])
    solution = ridge_solution(inner, labels[batch].detach())
    scale = companion.scale.detach().clone().requires_grad_()
    net = tiny_net()
    inner = functional.pad(net[:3](images[batch]), (0, 1), value=1.0)
    solution = ridge_solution(inner, labels[batch].detach())
    expected = functional.cross_entropy(inner @ (scale * (0.99 * head + 0.01 * solution)), labels[batch].detach())
    for ours, theirs in zip(found, torch.autograd.grad(expected, [*list(net.parameters())[:2], scale]), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_labels_are_put_back_among_the_probabilities():
    rows = torch.tensor([[0.2, 0.3, 0.5], [-1.0, 0.5, 2.0], [-1.0, -0.1, 0.0]])
    third = 1 / 3
    expected = torch.tensor([[0.2, 0.3, 0.5], [0.0, third, 2 * third], [third, third, third]])
    torch.testing.assert_close(onto_probabilities(rows), expected)


def restarts_of_the_reference(errors, gap):
    """At which steps the published loop takes a new net."""
    window, count, since, lowest, found = [], 0, 0, float("inf"), []
    for step, error in enumerate(errors):
        count += 1
        if len(window) < gap:
            window.append(error)
            if count == gap:
                lowest, since = sum(window), 0
        else:
            window = [*window[1:], error]
            if sum(window) < lowest:
                lowest, since = sum(window), 0
            elif since < gap:
                since += 1
            else:
                window, count, since, lowest = [], 0, 0, float("inf")
                found.append(step)
    return found


def test_a_net_that_no_longer_gets_better_makes_way():
    rng = np.random.default_rng(0)
    errors = np.round(rng.random(400) + 1 / (1 + np.arange(400) % 90), 2).tolist()
    built = []

    def build(number):
        built.append(number)
        return tiny_net(number)

    companion = Companion(build, 6, torch.zeros(6, 4))
    found = []
    for step, error in enumerate(errors):
        companion.step([torch.ones_like(parameter) for parameter in companion.parameters])
        companion.head.fill_(1.0)
        before = len(built)
        companion.saw(error)
        if len(built) > before:
            found.append(step)
            for own, fresh in zip(companion.net.parameters(), tiny_net(built[-1]).parameters(), strict=True):
                assert torch.equal(own, fresh)
            assert (companion.head == 0).all()
            assert all((own == 0).all() for name, own in companion.tensors.items() if "exp_avg" in name)
    assert len(found) > 10
    assert found == restarts_of_the_reference(errors, 6)
    assert built == list(range(len(found) + 1))


def test_patience_follows_the_size():
    assert [patience_of(n, c) for n, c in ((10, 10), (100, 10), (101, 10), (1000, 100))] == [50, 50, 200, 100]


@pytest.mark.parametrize("solver", ["second_order", "ridge"])
def test_images_are_real_and_labels_probabilities(solver, cpu):
    dataset = toy_dataset()
    proxy = build_proxy(dataset, condense_config(**FAST, solver=solver, lr_img=0.1), choice=cpu)
    drawn = draw_per_class(dataset.train, (2, 2, 2), 0)
    assert torch.equal(proxy.images[0], dataset.normalize(drawn.images))
    assert proxy.labels.shape == (1, 6, 3)
    assert proxy.labels.dtype == torch.float32
    assert (proxy.labels >= 0).all()
    torch.testing.assert_close(proxy.labels.sum(2), torch.ones(1, 6))
    assert proxy.labels.std() > 0.01


class Killed(BaseException):
    pass


@pytest.mark.parametrize("options", [{}, {"unroll_steps": 3, "norm": "batch"}, {"solver": "ridge"}])
@pytest.mark.parametrize("stop_after", [1, 9])
def test_interrupted_and_resumed_is_bit_identical(tmp_path, monkeypatch, options, stop_after):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(module, "patience_of", lambda n, c: 1)
    config = condense_config(**(FAST | {"outer_steps": 14, "batch_net": 4} | options))
    numbers = []
    build = module.build_net
    monkeypatch.setattr(
        module, "build_net", lambda c, d, number, device: numbers.append(number) or build(c, d, number, device)
    )
    whole = label_distillation(toy_dataset(), config, BuildRun(CPU))
    assert max(numbers) >= 1  # nets were taken anew

    def stop(done, total, note):
        if done == stop_after + 1:
            raise Killed

    path = tmp_path / "c.checkpoint"
    with pytest.raises(Killed):
        label_distillation(toy_dataset(), config, BuildRun(CPU, checkpoint=path, progress=stop))
    seen = []
    resumed = label_distillation(
        toy_dataset(), config, BuildRun(CPU, checkpoint=path, progress=lambda done, total, note: seen.append(done))
    )
    assert seen[0] == stop_after + 1
    assert torch.equal(resumed.labels, whole.labels)


def test_a_fixed_net_is_always_the_same(monkeypatch):
    monkeypatch.setattr(module, "patience_of", lambda n, c: 1)
    numbers = []
    build = module.build_net
    monkeypatch.setattr(
        module, "build_net", lambda c, d, number, device: numbers.append(number) or build(c, d, number, device)
    )
    label_distillation(toy_dataset(), condense_config(**(FAST | {"outer_steps": 12}), net_init="fixed"), BuildRun(CPU))
    assert len(numbers) > 3
    assert set(numbers) == {0}


def test_impossible_settings_are_named(cpu):
    with pytest.raises(NasproxyError, match="40 training images and ipc=41"):
        build_proxy(toy_dataset(), condense_config(**(FAST | {"ipc": 41})), choice=cpu)
    with pytest.raises(NasproxyError, match=r"solver.*'ridg'.*Did you mean 'ridge'"):
        condense_config(**FAST, solver="ridg")
    with pytest.raises(NasproxyError, match="The loss must stay finite, but it became nan at step 1"):
        build_proxy(toy_dataset(), condense_config(**FAST, lr_net=1e38), choice=cpu)


@pytest.mark.parametrize("solver", ["second_order", "ridge"])
def test_labels_that_were_never_shown_are_found(solver, cpu):
    """They begin uniform. Learned, their classes are named, and nets trained on them are good."""
    dataset = toy_dataset()
    settings = {"outer_steps": 80, "lr_img": 0.03, "width": 8, "batch_real": 16, "ipc": 4, "solver": solver}
    proxy = build_proxy(dataset, condense_config(**(FAST | settings)), choice=cpu)
    assert torch.equal(proxy.labels[0].argmax(1), torch.arange(3).repeat_interleave(4))

    def accuracy(labels, seed):
        net = seeded(lambda: NETWORKS["convnet"](dataset.input_shape, 3, width=8, depth=1), seed, CPU)
        fit(net, TrainingImages(proxy.images[0], labels), Recipe(lr=0.05, epochs=40), seed=seed, device=CPU)
        held_out = TrainingImages(dataset.normalize(dataset.test.images), dataset.test.labels)
        return accuracy_and_loss(net, held_out, CPU)[0]

    learned = np.mean([accuracy(proxy.labels[0], seed) for seed in range(2)])
    uniform = np.mean([accuracy(torch.full((12, 3), 1 / 3), seed) for seed in range(2)])
    assert learned > 0.8
    assert learned > uniform + 0.3


@pytest.mark.parametrize("options", [{}, {"unroll_steps": 3}, {"solver": "ridge"}])
def test_the_count_of_flops_is_that_of_torch(options, cpu):
    dataset, config = toy_dataset(), condense_config(**(FAST | {"width": 16, "depth": 2, "outer_steps": 3} | options))
    with Counter() as counter:
        build_proxy(dataset, config, choice=cpu)
    assert condensing_flops(dataset, config) == pytest.approx(counter.flops, rel=0.2)
