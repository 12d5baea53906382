"""Gradients pulled back step by step, against autograd through the whole unrolled training, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasproxy.condense.unroll import (
    CPU_STATE_BYTES,
    FunctionalNet,
    loss_gradient,
    pull_back,
    run_steps,
    sgd_step,
    step_gradient,
    stride_for,
    stride_within,
)

NUM_STEPS = 7
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def tiny(seed=0):
    """A net with curvature, images, labels and held-out images in float64."""
    stream = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream, dtype=torch.float64))
    images = torch.randn((6, 5), generator=stream, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    raw = torch.randn(NUM_STEPS, generator=stream, dtype=torch.float64, requires_grad=True)
    return FunctionalNet(net), images, labels, raw, torch.randn((8, 5), generator=stream, dtype=torch.float64)


@pytest.fixture(autouse=True)
def no_global_draws():
    with torch.random.fork_rng(devices=[]):
        yield


def plain_steps(model, images, labels, raw):
    def step(t, state):
        batch = slice(t % 2 * 3, t % 2 * 3 + 3)
        loss = functional.cross_entropy(model(state, images[batch]), labels[batch])
        return sgd_step(loss, state, functional.softplus(raw[t]))

    return step


def momentum_steps(model, images, labels, raw):
    """States of parameters and velocities; the momentum is learned, too: a sigmoid of the last raw number."""

    def step(t, state):
        half = len(state) // 2
        loss = functional.cross_entropy(model(state[:half], images), labels)
        gradients = torch.autograd.grad(loss, state[:half], create_graph=True)
        after = [raw[-1].sigmoid() * v + gradient for v, gradient in zip(state[half:], gradients, strict=True)]
        return (*(p - functional.softplus(raw[t]) * v for p, v in zip(state[:half], after, strict=True)), *after)

    return step


def outer_loss(model, state, held_out):
    return model(state[: len(model.names)], held_out).square().sum()


def by_autograd(step, start, leaves, outer):
    """All steps in one graph."""
    first = tuple(part.detach().requires_grad_() for part in start)
    state = first
    for t in range(NUM_STEPS):
        state = step(t, state)
    pulled = torch.autograd.grad(outer(state), [*leaves, *first])
    return state, pulled[: len(leaves)], pulled[len(leaves) :]


@pytest.mark.parametrize("stride", [1, 2, 3, NUM_STEPS])
@pytest.mark.parametrize("kind", [plain_steps, momentum_steps])
def test_pulled_back_equals_autograd(kind, stride):
    model, images, labels, raw, held_out = tiny()
    step = kind(model, images, labels, raw)
    start = model.parameters()
    if kind is momentum_steps:
        start += tuple(torch.zeros_like(part) for part in start)
    state, of_leaves, of_start = by_autograd(step, start, [images, raw], lambda s: outer_loss(model, s, held_out))

    trajectory = run_steps(step, start, NUM_STEPS, stride=stride)
    last = tuple(part.requires_grad_() for part in trajectory.last)
    adjoint = torch.autograd.grad(outer_loss(model, last, held_out), last, allow_unused=True, materialize_grads=True)
    gradients, adjoint = pull_back(step, trajectory, adjoint, [images, raw])
    torch.testing.assert_close(trajectory.last, tuple(part.detach() for part in state), **CLOSE)
    torch.testing.assert_close(tuple(gradients), of_leaves, **CLOSE)
    torch.testing.assert_close(tuple(adjoint), of_start, **CLOSE)
    assert raw.grad is None
    assert images.grad is None


def test_a_training_that_is_only_run_builds_no_graph_of_its_gradients():
    model, images, labels, raw, _ = tiny()
    graphs = []

    def step(t, state):
        gradients = step_gradient(functional.cross_entropy(model(state, images), labels), state)
        graphs.append(any(gradient.requires_grad for gradient in gradients))
        return tuple(own - functional.softplus(raw[t]) * part for own, part in zip(state, gradients, strict=True))

    trajectory = run_steps(step, model.parameters(), 3)
    assert graphs == [False] * 3
    pull_back(step, trajectory, trajectory.last, [images, raw])
    assert graphs == [False] * 3 + [True] * 3
    step(0, tuple(part.requires_grad_() for part in model.parameters()))
    assert graphs[-1] is True


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("last", [1, 2, 4, NUM_STEPS, NUM_STEPS + 5])
def test_truncation_holds_earlier_states_fixed(last, stride):
    model, images, labels, raw, held_out = tiny()
    step = plain_steps(model, images, labels, raw)
    start = model.parameters()
    state = start
    for t in range(NUM_STEPS):
        if t <= max(0, NUM_STEPS - last):
            state = tuple(part.detach().requires_grad_() for part in state)
        of_step = step(t, state)
        state = of_step if t >= NUM_STEPS - last else tuple(part.detach() for part in of_step)
    expected = torch.autograd.grad(outer_loss(model, state, held_out), [images, raw])

    trajectory = run_steps(step, start, NUM_STEPS, stride=stride)
    end = tuple(part.requires_grad_() for part in trajectory.last)
    adjoint = torch.autograd.grad(outer_loss(model, end, held_out), end)
    gradients, _ = pull_back(step, trajectory, adjoint, [images, raw], last=last)
    torch.testing.assert_close(tuple(gradients), expected, **CLOSE)
    assert (gradients[1] != 0).sum() == min(last, NUM_STEPS)


def test_states_are_kept_sparsely_and_without_graphs():
    model, images, labels, raw, _ = tiny()
    step = plain_steps(model, images, labels, raw)
    for stride, kept in ((1, 7), (2, 4), (3, 3), (7, 1), (9, 1)):
        trajectory = run_steps(step, model.parameters(), NUM_STEPS, stride=stride)
        assert len(trajectory.kept) == kept
        assert not any(part.requires_grad for state in (*trajectory.kept, trajectory.last) for part in state)


@pytest.mark.parametrize("num_steps", [1, 2, 10, 30, 100, 128])
def test_strides_keep_within_the_space_where_that_is_possible(num_steps):
    for space in range(1, 140, 3):
        stride = stride_within(num_steps, 1, space)
        assert 1 <= stride <= max(1, num_steps**0.5)
        needed = -(-num_steps // stride) + stride
        assert needed <= space or stride == max(1, int(num_steps**0.5))
        assert stride == 1 or -(-num_steps // (stride - 1)) + stride - 1 > space, "a smaller one would do"


def test_states_of_a_cpu_are_few_enough():
    start = (torch.empty((1, 2**26), device="meta"),)  # 256 MB
    stride = stride_for(100, start, torch.device("cpu"))
    assert stride == 10
    assert stride_for(3, start, torch.device("cpu")) == 1
    small = (torch.empty(1000),)
    assert 100 * small[0].nbytes < CPU_STATE_BYTES
    assert stride_for(100, small, torch.device("cpu")) == 1


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_loss_in_parts_is_that_of_the_whole(size):
    model, _, _, _, held_out = tiny()
    labels = torch.arange(8) % 3
    start = tuple(part.requires_grad_() for part in model.parameters())
    loss = functional.cross_entropy(model(start, held_out), labels)
    expected = torch.autograd.grad(loss, start)
    parts = zip(held_out.split(size), labels.split(size), strict=True)
    found, gradients = loss_gradient(model, start, parts, 8)
    torch.testing.assert_close(found, loss.detach(), **CLOSE)
    torch.testing.assert_close(tuple(gradients), expected, **CLOSE)
