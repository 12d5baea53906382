"""Distances between the gradients of all parameters, biases and norms included, as in the released code of [DC]."""

import pytest
import torch

from nasproxy.condense.matching import (
    DISTANCES,
    class_gradients,
    compared_parameters,
    match_classes,
    matched_weights,
    mean_shares,
)
from nasproxy.networks import convnet, seeded

COUNTS = (3, 1, 2)


def net_and_images(seed=0):
    net = seeded(lambda: convnet((2, 4, 4), 3, width=4, depth=1, activation="sigmoid"), 3).double()
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(sum(COUNTS), 2, 4, 4, dtype=torch.float64, generator=stream)
    return net, images, torch.arange(3).repeat_interleave(torch.tensor(COUNTS))


def one_by_one(net, images, label):
    """The mean over images of the gradient of every parameter, image by image, as one list of numbers' tensors."""
    total = [torch.zeros_like(parameter) for parameter in net.parameters()]
    for image in images:
        logits = net(image[None])[0]
        loss = -(logits[label] - torch.logsumexp(logits, 0))
        gradients = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        total = [own + gradient / len(images) for own, gradient in zip(total, gradients, strict=True)]
    return torch.cat([tensor.flatten() for tensor in total])


def slow_distance(name, a, b):
    if name == "mse_all":
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    dot, aa, bb = (sum(x * y for x, y in zip(p, q, strict=True)) for p, q in ((a, b), (a, a), (b, b)))
    return 1 - dot / (aa.sqrt() * bb.sqrt() + 1e-6)


@pytest.mark.parametrize("name", ["flat_cosine_all", "mse_all"])
def test_distance_and_image_gradient_equal_the_loops(name):
    net, images, labels = net_and_images(0)
    _, other, _ = net_and_images(1)
    parameters = compared_parameters(net, name)
    assert len(parameters) == len(list(net.parameters())) > len(matched_weights(net))
    real = class_gradients(net, other, labels, mean_shares(COUNTS, other), COUNTS, parameters=parameters)
    values, gradient = match_classes(
        net,
        images,
        labels,
        COUNTS,
        real,
        distance=DISTANCES[name],
        layer_weights=(1.0,) * len(parameters),
        parameters=parameters,
    )
    start = 0
    for label, count in enumerate(COUNTS):
        own = images[start : start + count].clone().requires_grad_()
        target = one_by_one(net, other[start : start + count], label).detach()
        expected = slow_distance(name, one_by_one(net, own, label), target)
        assert values[label].item() == pytest.approx(expected.item(), rel=1e-9)
        (slow,) = torch.autograd.grad(expected, [own])
        assert torch.allclose(gradient[start : start + count], slow, rtol=1e-6, atol=1e-10)
        start += count


def test_biases_and_norms_make_a_difference():
    net, images, labels = net_and_images(0)
    shares = mean_shares(COUNTS, images)
    weights = class_gradients(net, images, labels, shares, COUNTS)
    everything = class_gradients(net, images, labels, shares, COUNTS, parameters=list(net.parameters()))
    squares = [sum((own.flatten(1) ** 2).sum(1) for own in gradients) for gradients in (weights, everything)]
    assert (squares[1] > squares[0]).all()
    assert compared_parameters(net, "mse") is None
