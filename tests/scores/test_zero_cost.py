import copy
import math
import weakref

import numpy as np
import pytest
import reference.zero_cost as by_hand
import torch
from torch import nn

from nasproxy.networks import NETWORKS, convnet, nasbench201, seeded
from nasproxy.scores import zero_cost
from nasproxy.scores.fresh_net import FreshNet
from nasproxy.scores.zen import ZEN_REPEATS
from nasproxy.scores.zero_cost import ZERO_COST, measure, measure_group, together

SHAPE = (3, 8, 8)
ELSEWHERE = (
    "meco",
    "meco_opt",
    "swap",
    "swap_regularised",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
    "vkdnw",
)
WITH_DATA = ("grad_norm", "snip", "grasp", "fisher", "fisher_released", "zico")


def two_layers(seed=0):
    return seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 12, bias=False), nn.ReLU(), nn.Linear(12, 3, bias=False)), seed
    )


def made(*layers):
    return seeded(lambda: nn.Sequential(*(layer() for layer in layers)), 0)


def batch(n=8, shape=(1, 2, 3), classes=3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn((n, *shape), generator=stream), torch.randint(0, classes, (n,), generator=stream)


def value(name, net, images, labels, seed=0):
    return measure(name, copy.deepcopy(net), images, labels, seed=seed)


@pytest.mark.parametrize("name", [name for name in ZERO_COST if name not in ("latency", "zen", *ELSEWHERE)])
def test_equals_its_formula_in_loops(name):
    net, (images, labels) = two_layers(), batch()
    w1, w2 = (w.detach().double().numpy() for w in net.parameters())
    expected = getattr(by_hand, name)(w1, w2, images.flatten(1).double().numpy(), labels.numpy())
    assert value(name, net, images, labels) == pytest.approx(expected, rel=2e-4)


def test_by_pencil():
    """One image, one weight of 2 in each of two layers, x = 3, two classes with logits (12, −12)."""
    net = made(nn.Flatten, lambda: nn.Linear(1, 1, bias=False), nn.ReLU, lambda: nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        net[1].weight.fill_(2.0)
        net[3].weight.copy_(torch.tensor([[0.5], [-0.5]]))
    image, label = torch.full((1, 1, 1, 1), 3.0), torch.tensor([1])
    p = 1 / (1 + math.exp(-6))  # logits 3 and −3; the loss pulls the first down and the second up by p
    by_first, by_second = 3 * p, 6 * p  # 0.5 p · 3 + 0.5 p · 3, and 6 p in both rows
    assert value("grad_norm", net, image, label) == pytest.approx(by_first + by_second * math.sqrt(2), rel=1e-5)
    assert value("snip", net, image, label) == pytest.approx(2 * by_first + 2 * 0.5 * by_second, rel=1e-5)
    # Outputs 6 of the first layer, gradient p; logits ±3, gradients ±p.
    assert value("fisher", net, image, label) == pytest.approx(0.5 * (6 * p) ** 2 + 2 * 0.5 * (3 * p) ** 2, rel=1e-5)
    assert value("synflow", net, image, label) == pytest.approx(2 * (2 * 0.5 + 2 * 0.5))
    assert value("l2_norm", net, image, label) == pytest.approx(2 + math.sqrt(0.5))
    assert value("params", net, image, label) == 3
    assert value("flops", net, image, label) == 6


@pytest.mark.parametrize(("name", "weights_per_channel"), [("fisher", (1, 1)), ("fisher_released", (18, 75))])
def test_fisher_sums_positions_before_it_squares(name, weights_per_channel):
    """Of a convolution, 2 × 3 × 3 weights a channel, and a linear layer of 3 × 5 × 5 inputs."""
    net = made(
        lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU, nn.Flatten, lambda: nn.Linear(75, 4, bias=False)
    )
    images, labels = batch(3, (2, 5, 5), classes=4)
    kernel, w2 = (w.detach().double().numpy() for w in net.parameters())
    expected = by_hand.fisher_of_convolution(
        kernel, w2, images.double().numpy(), labels.numpy(), weights_per_channel=weights_per_channel
    )
    assert value(name, net, images, labels) == pytest.approx(expected, rel=1e-5)


def test_released_fisher_counts_the_weights_of_a_group():
    """In a depthwise convolution a channel has nine weights, whatever the number of channels."""
    net = made(lambda: nn.Conv2d(6, 6, 3, groups=6), lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, nn.Identity)
    images, labels = batch(5, (6, 4, 4), classes=6)
    assert value("fisher_released", net, images, labels) == 9 * value("fisher", net, images, labels)


def rescaled(net, factor=4.0):
    """The same function: its first layer times ``factor``, its second divided."""
    other = copy.deepcopy(net)
    layers = [m for m in other.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        layers[0].weight.mul_(factor)
        if layers[0].bias is not None:
            layers[0].bias.mul_(factor)
        layers[1].weight.div_(factor)
    return other


def permuted(net):
    """The same function: the channels between the first two convolutions in another order."""
    other = copy.deepcopy(net)
    first, second = [m for m in other.modules() if isinstance(m, nn.Conv2d)][:2]
    order = torch.randperm(first.out_channels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        second.weight.copy_(second.weight[:, order])
    return other


@pytest.mark.parametrize("name", ["snip", "fisher", "fisher_released", "synflow", "jacob_cov", "naswot"])
def test_layers_of_a_relu_net_may_be_rescaled(name):
    net = seeded(lambda: convnet(SHAPE, 3, width=8, depth=2, norm="none"), 0)
    images, labels = batch(16, SHAPE)
    assert value(name, rescaled(net), images, labels) == pytest.approx(value(name, net, images, labels), rel=1e-3)


@pytest.mark.parametrize("name", [name for name in ZERO_COST if name not in ("latency", "zen", "vkdnw")])
def test_hidden_channels_may_be_permuted(name):
    net = seeded(lambda: convnet(SHAPE, 3, width=8, depth=2, norm="batch"), 0)
    images, labels = batch(16, SHAPE)
    assert value(name, permuted(net), images, labels) == pytest.approx(value(name, net, images, labels), rel=1e-3)


@pytest.mark.parametrize("name", ["params", "flops", "l2_norm", "synflow", "zen"])
def test_sees_no_data(name):
    net = seeded(lambda: convnet(SHAPE, 3, width=8, depth=2, norm="batch"), 0)
    assert value(name, net, *batch(16, SHAPE, seed=1)) == value(name, net, *batch(16, SHAPE, seed=2))


def test_synflow_skips_norms_and_the_sign_of_weights():
    plain = seeded(lambda: convnet(SHAPE, 3, width=8, depth=2, norm="none"), 0)
    images, labels = batch(4, SHAPE)
    expected = value("synflow", plain, images, labels)
    for norm in ("batch", "instance", "layer", "group"):
        net = seeded(lambda norm=norm: convnet(SHAPE, 3, width=8, depth=2, norm=norm), 0)
        layers = (nn.Conv2d, nn.Linear)
        pairs = zip(
            (m for m in net.modules() if isinstance(m, layers)),
            (m for m in plain.modules() if isinstance(m, layers)),
            strict=True,
        )
        for own, other in pairs:
            own.load_state_dict(other.state_dict())
            with torch.no_grad():
                own.weight.neg_()
        assert value("synflow", net, images, labels) == pytest.approx(expected)


def test_grows_with_width_as_its_source_says():
    """Higher is better: for these the wider of two nets ranks higher on average over initialisations."""
    images, labels = batch(32, SHAPE)
    for name in ("params", "flops", "l2_norm", "synflow", "naswot", "zico", "zen", "grad_norm", "snip"):
        narrow, wide = (
            np.mean(
                [
                    value(
                        name,
                        seeded(lambda w=w: convnet(SHAPE, 3, width=w, depth=2, norm="batch"), seed),
                        images,
                        labels,
                    )
                    for seed in range(5)
                ]
            )
            for w in (4, 32)
        )
        assert wide > narrow, name


def test_images_that_are_treated_alike_rank_low():
    """A linear net has the same Jacobian for all images: the worst value; one that tells them apart is near −n."""
    images, labels = batch(16, SHAPE)
    linear = made(nn.Flatten, lambda: nn.Linear(192, 3))
    k = 1e-5
    worst = -(math.log(16 + k) + 1 / (16 + k) + 15 * (math.log(k) + 1 / k))
    assert value("jacob_cov", linear, images, labels) == pytest.approx(worst, rel=1e-3)
    assert value("jacob_cov", seeded(lambda: convnet(SHAPE, 3, width=64, depth=2), 0), images, labels) > -40


def test_zen_is_its_algorithm():
    """Of conv → batch norm → ReLU → pooling → linear, with the draws taken from the same stream."""
    net = made(
        lambda: nn.Conv2d(3, 4, 3, padding=1),
        lambda: nn.BatchNorm2d(4),
        nn.ReLU,
        lambda: nn.AdaptiveAvgPool2d(1),
        nn.Flatten,
        lambda: nn.Linear(4, 3),
    )
    images, labels = batch(4, SHAPE)
    found = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for _ in range(ZEN_REPEATS):
            weight = torch.empty_like(net[0].weight).normal_()
            torch.empty_like(net[5].weight).normal_()
            x = torch.randn(16, *SHAPE)
            noise = torch.randn_like(x)

            def features(inputs, weight=weight):
                maps = torch.conv2d(inputs, weight, padding=1)
                mean = maps.mean((0, 2, 3), keepdim=True)
                var = maps.var((0, 2, 3), keepdim=True, correction=0)
                return torch.relu((maps - mean) / torch.sqrt(var + 1e-5)), var

            (moved, _), (still, var) = features(x + 0.01 * noise), features(x)
            delta = (moved - still).abs().sum((1, 2, 3)).mean()
            found.append((torch.log(delta) + torch.log(torch.sqrt(var.mean()))).item())
        torch.manual_seed(0)
        assert zero_cost.zen(FreshNet(copy.deepcopy(net).train(), images, labels)) == pytest.approx(
            np.mean(found), rel=1e-4
        )


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "group"])
def test_zen_undoes_every_norm(norm):
    """A norm after a linear map divides by σ, the score adds log σ: as without it, up to centring."""
    plain, normed = (
        value(
            "zen",
            made(
                lambda: nn.Conv2d(3, 16, 3, padding=1),
                lambda n=n: convnet(SHAPE, 3, width=16, depth=1, norm=n)[1],
                lambda: nn.AdaptiveAvgPool2d(1),
                nn.Flatten,
                lambda: nn.Linear(16, 3),
            ),
            *batch(4, SHAPE),
        )
        for n in ("none", norm)
    )
    assert normed == pytest.approx(plain, abs=0.1)


@pytest.mark.parametrize("name", list(ZERO_COST))
@pytest.mark.parametrize("family", ["convnet", "resnet18", "mobilenet", "nasbench201", "mlp", "vgg11"])
def test_measures_every_family(name, family):
    options = {"convnet": {"norm": "instance", "activation": "sigmoid"}, "nasbench201": {"cells": 1, "channels": 4}}
    small = {"resnet18": {"width": 4, "norm": "batch"}, "vgg11": {"width": 4}, "mlp": {}}
    shape = (3, 32, 32) if family == "vgg11" else (3, 16, 16)
    net = seeded(lambda: NETWORKS[family](shape, 5, **(options | small).get(family, {})), 0)
    images, labels = batch(8, shape, 5)
    before = torch.random.get_rng_state()
    found = measure(name, copy.deepcopy(net), images, labels, seed=0)
    assert math.isfinite(found)
    assert torch.equal(torch.random.get_rng_state(), before)
    if name != "latency":
        assert measure(name, copy.deepcopy(net), images, labels, seed=0) == found


@pytest.mark.parametrize("family", ["convnet", "nasbench201", "mlp"])
def test_scores_measured_together_are_what_they_are_alone(family):
    options = {"nasbench201": {"cells": 1, "channels": 4}}
    net = seeded(lambda: NETWORKS[family](SHAPE, 5, **options.get(family, {})), 0)
    images, labels = batch(70, SHAPE, 5)  # more than a number of 64 bits has place for
    groups = together(ZERO_COST)
    assert sorted(name for group in groups for name in group) == sorted(ZERO_COST)
    assert sorted(map(len, groups))[-2:] == [3, 8]
    for group in groups:
        if "latency" in group:
            continue
        for order in (group, group[::-1]):
            found = measure_group(order, copy.deepcopy(net), images, labels, seed=3)
            assert found == {name: value(name, net, images, labels, seed=3) for name in group}


def test_scores_that_share_a_net_share_its_passes():
    passes = []
    net = seeded(lambda: convnet(SHAPE, 3, width=8, depth=2), 0)

    def watch(module, inputs, output):
        passes.append("forward")
        output.register_hook(lambda gradient: passes.append("backward"))

    net.register_forward_hook(watch)
    (group,) = together(("naswot", "swap", "grad_norm", "snip", "fisher", "fisher_released", "jacob_cov"))
    measure_group(group, net, *batch(8, SHAPE), seed=0)
    assert passes == ["forward", "backward", "backward"]  # of the loss, and of the outputs


def test_one_score_that_cannot_be_measured_leaves_the_others():
    images, labels = batch(8)
    net = made(nn.Flatten, lambda: nn.Linear(6, 3))
    found = measure_group(("naswot", "grad_norm"), net, images, labels, seed=0)
    assert isinstance(found["naswot"], ValueError)
    assert found["grad_norm"] > 0


@pytest.mark.parametrize("measurable", [True, False])
def test_a_measured_net_leaves_the_memory_at_once(measurable):
    """Hooks of a graph and tracebacks could keep it: a search measures thousands."""
    for group in together(name for name in ZERO_COST if name != "latency"):
        net = seeded(lambda: convnet(SHAPE, 5, width=4), 0) if measurable else made(nn.Flatten, lambda: nn.Linear(1, 5))
        seen = weakref.ref(net)
        found = measure_group(group, net, *batch(8, SHAPE, 5), seed=0)
        del net
        assert seen() is None, group
        assert found


@pytest.mark.parametrize("inplace", [False, True])
def test_a_net_may_overwrite_its_input(inplace):
    net = made(lambda: nn.ReLU(inplace), nn.Flatten, lambda: nn.Linear(6, 3))
    images, labels = batch(8)
    before = images.clone()
    (group,) = together(("naswot", "fisher", "jacob_cov"))
    found = measure_group(group, net, images, labels, seed=0)
    assert torch.equal(images, before)
    assert all(isinstance(one, float) for one in found.values())


def test_dropout_does_not_act():
    images, labels = batch(16, SHAPE)
    with_dropout, without = (seeded(lambda d=d: convnet(SHAPE, 3, width=8, depth=1, dropout=d), 0) for d in (0.5, 0.0))
    for name in (*WITH_DATA, "jacob_cov", "naswot"):
        assert value(name, with_dropout, images, labels) == pytest.approx(value(name, without, images, labels))


def test_a_part_that_the_loss_does_not_see_counts_as_zero():
    """Cells of NAS-Bench-201 whose edges are all "none" have no gradient."""
    net = seeded(
        lambda: nasbench201(
            SHAPE, 3, cells=1, channels=4, **{f"edge_{e}": "none" for e in ("01", "02", "12", "03", "13", "23")}
        ),
        0,
    )
    images, labels = batch(8, SHAPE)
    for name in ("grad_norm", "snip", "grasp", "fisher", "fisher_released", "synflow", "zico"):
        assert math.isfinite(value(name, net, images, labels)), name


def test_says_what_it_cannot_measure():
    images, labels = batch(8)
    with pytest.raises(ValueError, match="activation modules"):
        measure("naswot", made(nn.Flatten, lambda: nn.Linear(6, 3)), images, labels, seed=0)
    with pytest.raises(ValueError, match="linear classifier"):
        measure("zen", made(lambda: nn.Conv2d(1, 3, (2, 3)), nn.Flatten), images, labels, seed=0)


def test_a_net_that_does_not_see_its_images_tells_none_apart():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, images):
            return self.weight.expand(len(images), 3)

    images, labels = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8), torch.arange(4) % 3
    assert measure("jacob_cov", Blind(), images, labels, seed=0) == -math.inf
    zeros = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 0)
    nn.init.zeros_(zeros[1].weight)
    assert measure("jacob_cov", zeros, images, labels, seed=0) == -math.inf
