import pytest
import torch
from reference import gradient_matching as reference
from torch import nn

from nasproxy.condense.matching import (
    DISTANCES,
    class_gradients,
    compared_parameters,
    match_classes,
    matched_weights,
    mean_shares,
)
from nasproxy.config import DISTANCE_NAMES
from nasproxy.core.chunks import class_chunks
from nasproxy.core.errors import NasproxyError
from nasproxy.networks import convnet, mlp, seeded

NORMS = ["none", "batch", "layer", "instance", "group"]
UNEVEN = (3, 1, 2)


def small_net(norm="instance", activation="sigmoid"):
    net = seeded(lambda: convnet((2, 4, 4), 3, width=4, depth=1, norm=norm, activation=activation), 3).double()
    if norm == "batch":
        net.eval()  # frozen, as in condensation
    return net


def small_linear_net():
    return seeded(lambda: mlp((2, 4, 4), 3, width=5, depth=1), 0).double()


def random_images(counts, seed, *, shape=(2, 4, 4)):
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(sum(counts), *shape, dtype=torch.float64, generator=stream)
    return images, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def gradients_of(net, images, labels, counts, name="mse"):
    shares = mean_shares(counts, images)
    return class_gradients(net, images, labels, shares, counts, parameters=compared_parameters(net, name))


def random_gradients(seed):
    """Of two classes."""
    stream = torch.Generator().manual_seed(seed)
    shapes = [(2, 4, 2, 3, 3), (2, 5, 4, 3, 3), (2, 3, 20)]
    return [torch.randn(shape, generator=stream, dtype=torch.float64) for shape in shapes]


def test_names_in_the_settings_are_the_distances():
    assert tuple(DISTANCES) == DISTANCE_NAMES


@pytest.mark.parametrize("name", DISTANCE_NAMES)
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 0.0)])
def test_distance_equals_the_loop(name, weights):
    a, b = random_gradients(0), random_gradients(1)
    expected = [
        reference.DISTANCES[name]([tensor[c] for tensor in a], [tensor[c] for tensor in b], weights) for c in range(2)
    ]
    assert DISTANCES[name](a, b, weights).tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", DISTANCE_NAMES)
def test_distance_of_equal_gradients_is_zero(name):
    a = random_gradients(0)
    assert DISTANCES[name](a, a, (1.0,) * 3).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_layerwise_cosine_ignores_the_scale_of_each_node():
    a, b = random_gradients(0), random_gradients(1)
    scaled = [
        tensor * torch.linspace(0.5, 2, tensor.shape[1], dtype=torch.float64).view(1, -1, *[1] * (tensor.ndim - 2))
        for tensor in b
    ]
    ones = (1.0,) * 3
    assert DISTANCES["layerwise_cosine"](a, scaled, ones).tolist() == pytest.approx(
        DISTANCES["layerwise_cosine"](a, b, ones).tolist(), abs=1e-5
    )


def test_a_dead_node_counts_as_distance_one_and_has_a_finite_gradient():
    zero = [torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)]
    other = [torch.ones(1, 2, 3, dtype=torch.float64)]
    value = DISTANCES["layerwise_cosine"](zero, other, (1.0,))
    assert value.tolist() == [2.0]
    (gradient,) = torch.autograd.grad(value.sum(), zero)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("norm", NORMS)
def test_only_conv_and_linear_weights_are_matched(norm):
    net = small_net(norm)
    assert [tuple(w.shape) for w in matched_weights(net)] == [(4, 2, 3, 3), (3, 16)]


@pytest.mark.parametrize("counts", [(5,), (2, 2, 2), UNEVEN])
@pytest.mark.parametrize("norm", [*NORMS, "linear"])
def test_class_gradients_equal_the_loop(norm, counts):
    net = small_linear_net() if norm == "linear" else small_net(norm)
    images, labels = random_images(counts, 1)
    ours = gradients_of(net, images, labels, counts)
    for c, own in enumerate(images.split(counts)):
        for mine, expected in zip(ours, reference.gradients(net, own, c), strict=True):
            torch.testing.assert_close(mine[c], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
def test_any_chunking_gives_the_same_gradients(limit):
    net = small_net()
    counts = (4, 1, 3)
    images, labels = random_images(counts, 1)
    whole = gradients_of(net, images, labels, counts)
    starts = (0, 4, 5)
    sums = [torch.zeros_like(gradient) for gradient in whole]
    for chunk in class_chunks(range(3), counts, limit):
        index = torch.cat([torch.arange(starts[p.label] + p.start, starts[p.label] + p.stop) for p in chunk])
        shares = mean_shares(counts, images)[index]
        parts = class_gradients(net, images[index], labels[index], shares, [p.count for p in chunk])
        for total, part in zip(sums, parts, strict=True):
            for row, piece in enumerate(chunk):
                total[piece.label] += part[row]
    for total, expected in zip(sums, whole, strict=True):
        torch.testing.assert_close(total, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": "valid", "groups": 2},
        {"kernel_size": (3, 1), "padding": (1, 0), "bias": False},
    ],
)
def test_every_kind_of_convolution(options):
    def build():
        return nn.Sequential(
            nn.Conv2d(2, 4, **options), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        )

    net = seeded(build, 0).double()
    images, labels = random_images(UNEVEN, 1, shape=(2, 6, 6))
    ours = gradients_of(net, images, labels, UNEVEN)
    for c, own in enumerate(images.split(UNEVEN)):
        for mine, expected in zip(ours, reference.gradients(net, own, c), strict=True):
            torch.testing.assert_close(mine[c], expected, rtol=0, atol=1e-12)


def test_a_layer_that_is_used_twice_adds_up():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 3)

        def forward(self, images):
            return self.head(self.conv(torch.tanh(self.conv(images))).flatten(1))

    net = seeded(Twice, 0).double()
    images, labels = random_images(UNEVEN, 1)
    ours = gradients_of(net, images, labels, UNEVEN)
    for c, own in enumerate(images.split(UNEVEN)):
        for mine, expected in zip(ours, reference.gradients(net, own, c), strict=True):
            torch.testing.assert_close(mine[c], expected, rtol=0, atol=1e-12)


class PartlyUsed(nn.Module):
    """One layer runs and its output is dropped, as in a cell that ``none`` cuts off; another never runs."""

    def __init__(self, more=True):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 3)
        if more:
            self.dropped, self.never = nn.Conv2d(2, 4, 1), nn.Linear(3, 3)

    def forward(self, images):
        features = torch.tanh(self.conv(images))
        if hasattr(self, "dropped"):
            self.dropped(features)
        return self.head(features.flatten(1))


@pytest.mark.parametrize("counts", [UNEVEN, (6,)])
@pytest.mark.parametrize("name", DISTANCE_NAMES)
def test_weights_without_a_gradient_are_left_out(counts, name):
    net, without = seeded(PartlyUsed, 0).double(), seeded(lambda: PartlyUsed(more=False), 0).double()
    without.load_state_dict(net.state_dict(), strict=False)
    found = []
    for one in (net, without):
        real = gradients_of(one, *random_images(counts, 1), counts, name)
        images, labels = random_images(counts, 2)
        weights = (1.0,) * len(real)
        parameters = compared_parameters(one, name)
        found.append(
            match_classes(
                one,
                images,
                labels,
                counts,
                real,
                distance=DISTANCES[name],
                layer_weights=weights,
                parameters=parameters,
            )
        )
    assert len(matched_weights(net)) == 4
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


def test_images_that_no_gradient_depends_on_do_not_move():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, images):
            return self.head(images.new_ones(len(images), 4))

    net = seeded(Blind, 0).double()
    images, labels = random_images(UNEVEN, 1)
    real = gradients_of(net, images, labels, UNEVEN)
    options = {"distance": DISTANCES["layerwise_cosine"], "layer_weights": (1.0,)}
    values, gradient = match_classes(net, images, labels, UNEVEN, real, **options)
    assert gradient.shape == images.shape
    assert not gradient.any()
    assert values.abs().max() < 1e-3  # equal gradients


class Attention(nn.Module):
    """Four tokens of eight numbers, by torch's attention or by the same products in plain words."""

    def __init__(self, plain=False):
        super().__init__()
        self.plain = plain
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, images):
        tokens = images.flatten(1).unflatten(1, (4, 8))
        if not self.plain:
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].flatten(1))
        own = self.attention
        q, k, v = (
            part.unflatten(2, (2, 4)).transpose(1, 2)
            for part in (tokens @ own.in_proj_weight.T + own.in_proj_bias).chunk(3, dim=2)
        )
        mixed = torch.softmax(q @ k.transpose(2, 3) / 2.0, dim=3) @ v
        return self.head(own.out_proj(mixed.transpose(1, 2).flatten(2)).flatten(1))


@pytest.mark.parametrize("counts", [UNEVEN, (6,)])
@pytest.mark.parametrize("name", ["layerwise_cosine", "mse_all"])
def test_attention_is_matched_as_its_products_are(counts, name):
    """Its fused kernels have no second derivative, and its output projection is used without being called."""
    found = []
    for plain in (False, True):
        net = seeded(lambda plain=plain: Attention(plain), 0).double()
        real = gradients_of(net, *random_images(counts, 1), counts, name)
        images, labels = random_images(counts, 2)
        weights, parameters = (1.0,) * len(real), compared_parameters(net, name)
        options = {"distance": DISTANCES[name], "layer_weights": weights, "parameters": parameters}
        found.append((*real, *match_classes(net, images, labels, counts, real, **options)))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-8, atol=1e-10)
    assert found[0][-1].abs().max() > 1e-4


def test_linear_layers_on_sequences():
    def build():
        return nn.Sequential(nn.Flatten(2), nn.Linear(16, 4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))

    net = seeded(build, 0).double()
    images, labels = random_images(UNEVEN, 1)
    ours = gradients_of(net, images, labels, UNEVEN)
    for c, own in enumerate(images.split(UNEVEN)):
        for mine, expected in zip(ours, reference.gradients(net, own, c), strict=True):
            torch.testing.assert_close(mine[c], expected, rtol=0, atol=1e-12)


def test_an_output_changed_in_place_is_refused_where_it_matters():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)), 0).double()
    images, labels = random_images(UNEVEN, 1)
    gradients_of(net, images, labels, UNEVEN)
    net[1] = nn.ReLU(inplace=True)
    with pytest.raises(RuntimeError, match="in place"):
        gradients_of(net, images, labels, UNEVEN)


def test_circular_padding_is_refused_not_miscounted():
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(32, 3)),
        0,
    ).double()
    images, labels = random_images(UNEVEN, 1)
    with pytest.raises(NasproxyError, match="padded with zeros, but got padding_mode='circular'"):
        gradients_of(net, images, labels, UNEVEN)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch says that it copies
def test_padding_that_differs_by_side_is_refused():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 2, 2, padding="same"), nn.Flatten(), nn.Linear(32, 3)), 0).double()
    images, labels = random_images(UNEVEN, 1)
    with pytest.raises(NasproxyError, match=r"but got padding='same' with kernel \(2, 2\)"):
        gradients_of(net, images, labels, UNEVEN)


@pytest.mark.parametrize("norm", [*NORMS, "linear"])
@pytest.mark.parametrize("name", DISTANCE_NAMES)
def test_image_gradient_equals_finite_differences(norm, name):
    net = small_linear_net() if norm == "linear" else small_net(norm)
    synthetic, labels = random_images((2, 1), 2)
    real, real_labels = random_images((3, 2), 3)
    parameters = compared_parameters(net, name)
    weights = (1.0, 0.7) if parameters is None else (1.0,) * len(parameters)
    target = gradients_of(net, real, real_labels, (3, 2), name)
    options = {"distance": DISTANCES[name], "layer_weights": weights, "parameters": parameters}
    values, gradient = match_classes(net, synthetic, labels, (2, 1), target, **options)
    for c in range(2):
        value, expected = reference.image_gradient(
            net, synthetic.split((2, 1))[c], real.split((3, 2))[c], c, name, weights
        )
        assert values[c].item() == pytest.approx(value, abs=1e-10)
        # Central differences with step 1e-5 in float64 are good to about 1e-9 of the values' size.
        torch.testing.assert_close(gradient.split((2, 1))[c], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("norm", [*NORMS, "linear"])
@pytest.mark.parametrize("name", DISTANCE_NAMES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_one_pass_equals_autograd_class_by_class_in_float64(norm, name, dtype, bound):
    """The published way: one class at a time, autograd throughout, in float64."""
    net = small_linear_net() if norm == "linear" else small_net(norm)
    synthetic, labels = random_images((2, 1, 3), 2)
    real, real_labels = random_images((4, 3, 2), 3)
    expected_values, expected = [], []
    for c in range(3):
        leaf = synthetic.split((2, 1, 3))[c].clone().requires_grad_()
        weights = compared_parameters(net, name) or matched_weights(net)
        loss = nn.functional.cross_entropy(net(real.split((4, 3, 2))[c]), torch.full(((4, 3, 2)[c],), c))
        target = [gradient[None] for gradient in torch.autograd.grad(loss, weights)]
        loss = nn.functional.cross_entropy(net(leaf), torch.full(((2, 1, 3)[c],), c))
        mine = [gradient[None] for gradient in torch.autograd.grad(loss, weights, create_graph=True)]
        value = DISTANCES[name](mine, target, (1.0,) * len(mine))
        expected_values.append(value.item())
        expected.append(torch.autograd.grad(value.sum(), leaf)[0])
    net = net.to(dtype)
    target = gradients_of(net, real.to(dtype), real_labels, (4, 3, 2), name)
    options = {"layer_weights": (1.0,) * len(target), "parameters": compared_parameters(net, name)}
    values, gradient = match_classes(
        net, synthetic.to(dtype), labels, (2, 1, 3), target, distance=DISTANCES[name], **options
    )
    assert values.tolist() == pytest.approx(expected_values, rel=bound, abs=bound)
    difference = (gradient.double() - torch.cat(expected)).norm() / torch.cat(expected).norm()
    assert difference < bound


@pytest.mark.parametrize("name", ["flat_cosine", "mse"])
def test_all_parameters_are_biases_and_norms_too(name):
    """The released code of [DC] joins the gradients of every parameter; here the loop over all of them in float64."""
    net, (synthetic, labels), (real, real_labels) = (
        small_net("group"),
        random_images((2, 1), 2),
        random_images((3, 2), 3),
    )
    values = {}
    for own in (name, f"{name}_all"):
        parameters = compared_parameters(net, own)
        target = gradients_of(net, real, real_labels, (3, 2), own)
        options = {"distance": DISTANCES[own], "layer_weights": (1.0,) * len(target), "parameters": parameters}
        values[own], _ = match_classes(net, synthetic, labels, (2, 1), target, **options)
    assert len(target) == 6  # weight and bias of a convolution, of its norm and of the linear layer
    for c in range(2):
        every = [list(net.parameters()), matched_weights(net)]
        losses = [
            nn.functional.cross_entropy(net(images), torch.full((len(images),), c))
            for images in (synthetic.split((2, 1))[c], real.split((3, 2))[c])
        ]
        for parameters, own in zip(every, (f"{name}_all", name), strict=True):
            a, b = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses)
            expected = reference.DISTANCES[own](a, b, (1.0,) * len(parameters))
            assert values[own][c].item() == pytest.approx(expected, abs=1e-10)
    assert (values[name] - values[f"{name}_all"]).abs().min() > 1e-3 * values[name].max()


@pytest.mark.parametrize("pooling", ["none", "max", "avg"])
def test_second_order_path_passes_gradcheck(pooling):
    net = seeded(
        lambda: convnet((1, 4, 4), 2, width=4, depth=1, norm="group", activation="sigmoid", pooling=pooling), 0
    ).double()
    target = [torch.ones(2, *w.shape, dtype=torch.float64) for w in matched_weights(net)]
    labels, counts = torch.tensor([0, 0, 1]), (2, 1)

    def distance(images):
        shares = mean_shares(counts, images)
        gradients = class_gradients(net, images, labels, shares, counts, create_graph=True)
        return DISTANCES["layerwise_cosine"](gradients, target, (1.0, 1.0))

    images, _ = random_images(counts, 0, shape=(1, 4, 4))
    assert torch.autograd.gradcheck(distance, (images.requires_grad_(),))


def test_the_view_is_differentiated_through():
    net = small_net()
    synthetic, labels = random_images((2, 1), 2)
    target = gradients_of(net, *random_images((3, 2), 3), (3, 2))
    options = {"distance": DISTANCES["layerwise_cosine"], "layer_weights": (1.0, 1.0)}
    plain, gradient = match_classes(net, synthetic.flip(3) * 2, labels, (2, 1), target, **options)
    seen, through = match_classes(net, synthetic, labels, (2, 1), target, view=lambda x: x.flip(3) * 2, **options)
    torch.testing.assert_close(seen, plain)
    torch.testing.assert_close(through, 2 * gradient.flip(3))


def test_matching_leaves_the_net_as_it_was():
    net = small_net()
    before = [p.clone() for p in net.parameters()]
    images, labels = random_images((2, 2), 0)
    target = gradients_of(net, images, labels, (2, 2))
    match_classes(net, images, labels, (2, 2), target, distance=DISTANCES["mse"], layer_weights=(1.0, 1.0))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
