import pytest
import torch
from reference import gradient_matching as reference
from torch import nn

from nasproxy.config import DISTANCE_NAMES
from nasproxy.matching import DISTANCES, match_class, matched_weights, weight_gradients
from nasproxy.networks import convnet, mlp, seeded

NORMS = ["none", "batch", "layer", "instance", "group"]


def small_net(norm="instance", activation="sigmoid"):
    net = seeded(lambda: convnet((2, 4, 4), 3, width=4, depth=1, norm=norm, activation=activation), 3).double()
    if norm == "batch":
        net.eval()  # frozen, as in condensation
    return net


def random_gradients(seed):
    stream = torch.Generator().manual_seed(seed)
    shapes = [(4, 2, 3, 3), (5, 4, 3, 3), (3, 20)]
    return [torch.randn(shape, generator=stream, dtype=torch.float64) for shape in shapes]


def test_names_in_the_settings_are_the_distances():
    assert tuple(DISTANCES) == DISTANCE_NAMES


@pytest.mark.parametrize("name", DISTANCE_NAMES)
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 0.0)])
def test_distance_equals_the_loop(name, weights):
    a, b = random_gradients(0), random_gradients(1)
    assert DISTANCES[name](a, b, weights).item() == pytest.approx(reference.DISTANCES[name](a, b, weights), abs=1e-10)


@pytest.mark.parametrize("name", DISTANCE_NAMES)
def test_distance_of_equal_gradients_is_zero(name):
    a = random_gradients(0)
    assert DISTANCES[name](a, a, (1.0,) * 3).item() == pytest.approx(0, abs=1e-5)


def test_layerwise_cosine_ignores_the_scale_of_each_node():
    a, b = random_gradients(0), random_gradients(1)
    scaled = [
        tensor * torch.linspace(0.5, 2, len(tensor), dtype=torch.float64).view(-1, *[1] * (tensor.ndim - 1))
        for tensor in b
    ]
    ones = (1.0,) * 3
    assert DISTANCES["layerwise_cosine"](a, scaled, ones).item() == pytest.approx(
        DISTANCES["layerwise_cosine"](a, b, ones).item(), abs=1e-5
    )


def test_a_dead_node_counts_as_distance_one_and_has_a_finite_gradient():
    zero = [torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)]
    other = [torch.ones(2, 3, dtype=torch.float64)]
    value = DISTANCES["layerwise_cosine"](zero, other, (1.0,))
    assert value.item() == 2.0
    (gradient,) = torch.autograd.grad(value, zero)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("norm", NORMS)
def test_only_conv_and_linear_weights_are_matched(norm):
    net = small_net(norm)
    assert [tuple(w.shape) for w in matched_weights(net)] == [(4, 2, 3, 3), (3, 16)]


def test_weight_gradients_equal_the_loop():
    net = small_net()
    images = torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = weight_gradients(net, images, torch.full((5,), 2), matched_weights(net))
    for a, b in zip(ours, reference.gradients(net, images, 2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", DISTANCE_NAMES)
def test_image_gradient_equals_finite_differences(norm, name):
    net = small_net(norm)
    stream = torch.Generator().manual_seed(2)
    synthetic = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=stream)
    real = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=stream)
    weights = (1.0, 0.7)
    value, gradient = match_class(net, synthetic, real, 1, distance=DISTANCES[name], layer_weights=weights)
    expected_value, expected = reference.image_gradient(net, synthetic, real, 1, name, weights)
    assert value.item() == pytest.approx(expected_value, abs=1e-10)
    # Central differences with step 1e-5 in float64 are good to about 1e-9 of the values' size.
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("pooling", ["none", "max", "avg"])
def test_second_order_path_passes_gradcheck(pooling):
    net = seeded(
        lambda: convnet((1, 4, 4), 2, width=4, depth=1, norm="group", activation="sigmoid", pooling=pooling), 0
    ).double()
    weights = matched_weights(net)
    target = [torch.ones_like(w) for w in weights]

    def distance(images):
        gradients = weight_gradients(net, images, torch.zeros(2, dtype=torch.int64), weights, create_graph=True)
        return DISTANCES["layerwise_cosine"](gradients, target, (1.0, 1.0))

    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(distance, (images.requires_grad_(),))


def test_linear_nets_are_matched_too():
    net = seeded(lambda: mlp((1, 4, 4), 3, width=5, depth=1), 0).double()
    assert len(matched_weights(net)) == 2
    images = torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value, gradient = match_class(
        net, images[:2], images[2:], 0, distance=DISTANCES["layerwise_cosine"], layer_weights=(1.0, 1.0)
    )
    assert 0 < value.item() < 2 * 8
    assert gradient.shape == (2, 1, 4, 4)


def test_matching_leaves_the_net_as_it_was():
    net = small_net()
    before = [p.clone() for p in net.parameters()]
    images = torch.randn(4, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    match_class(net, images[:1], images[1:], 0, distance=DISTANCES["mse"], layer_weights=(1.0, 1.0))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert isinstance(net, nn.Module)
