"""The scores of AZ-NAS, SWAP, MeCo and VKDNW against slow loops, and their aggregate."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import nn

from nasproxy.core.randomness import derive_seed
from nasproxy.correlation.ranks import log_rank_sum
from nasproxy.networks import NETWORKS, seeded
from nasproxy.scores import az_nas, fresh_net
from nasproxy.scores.features import block_outputs, draw_weights
from nasproxy.scores.patterns import SWAP_CENTRE, SWAP_WIDTH
from nasproxy.scores.vkdnw import fisher_information
from nasproxy.scores.zero_cost import measure

NAMES = (
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
    "swap",
    "swap_regularised",
    "meco",
    "meco_opt",
    "vkdnw",
)


def small(stride=2):
    """Three blocks and a classifier."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding=1, stride=stride),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        0,
    )


def batch(n=5):
    stream = torch.Generator().manual_seed(0)
    return torch.randn((n, 2, 8, 8), generator=stream), torch.randint(0, 3, (n,), generator=stream)


def value(name, net, images, labels, seed=0):
    return measure(name, copy.deepcopy(net), images, labels, seed=seed)


def features_as_measured(net, images, monkeypatch, name):
    """The features that a score saw, with their graph, and the random signs that it drew."""
    seen, real = {}, fresh_net.features_of_noise
    signs, real_signs = [], torch.randint_like

    def kept(net, images):
        seen["features"] = real(net, images)
        return seen["features"]

    def kept_signs(*args, **kwargs):
        signs.append(real_signs(*args, **kwargs))
        return signs[-1]

    monkeypatch.setattr(fresh_net, "features_of_noise", kept)
    monkeypatch.setattr(torch, "randint_like", kept_signs)
    found = value(name, net, images, torch.zeros(len(images), dtype=torch.int64))
    return found, seen["features"], [2 * one - 1 for one in signs]


def entropy_by_hand(feature):
    rows = [
        [float(feature[n, c].flatten()[p]) for n in range(len(feature)) for p in range(feature[0, 0].size)]
        for c in range(feature.shape[1])
    ]
    means = [sum(row) / len(row) for row in rows]
    covariance = np.array(
        [
            [
                sum((a - means[i]) * (b - means[j]) for a, b in zip(rows[i], rows[j], strict=True)) / len(rows[i])
                for j in range(len(rows))
            ]
            for i in range(len(rows))
        ]
    )
    eigenvalues = np.maximum(np.linalg.eigvalsh(covariance), 0)
    share = eigenvalues / eigenvalues.sum()
    return -sum(p * math.log(p + 1e-8) for p in share)


def test_entropies_are_those_of_the_formula(monkeypatch):
    images, _ = batch()
    found, features, _ = features_as_measured(small(), images, monkeypatch, "az_expressivity")
    by_hand = [entropy_by_hand(feature.detach().double().numpy()) for feature in features]
    assert [tuple(feature.shape[1:]) for feature in features] == [(4, 8, 8), (6, 4, 4), (6, 4, 4)]
    assert found == pytest.approx(sum(by_hand), rel=1e-5)
    found, _, _ = features_as_measured(small(), images, monkeypatch, "az_progressivity")
    assert found == pytest.approx(min(by_hand[1] - by_hand[0], by_hand[2] - by_hand[1]), abs=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_trainability_is_that_of_the_formula(stride, monkeypatch):
    images, _ = batch()
    found, features, signs = features_as_measured(small(stride), images, monkeypatch, "az_trainability")
    parts = []
    for before, after, out in zip(features, features[1:], signs, strict=False):
        (incoming,) = torch.autograd.grad(after, before, out, retain_graph=True)
        n, channels, height, width = after.shape
        factor = before.shape[2] // height
        matrix = np.zeros((before.shape[1] * factor**2, channels))
        for image in range(n):
            for y in range(height):
                for x in range(width):
                    patch = incoming[image, :, factor * y : factor * (y + 1), factor * x : factor * (x + 1)]
                    matrix += np.outer(patch.flatten().double().numpy(), out[image, :, y, x].double().numpy())
        sigma = np.linalg.svd(matrix / (n * height * width))[1].max()
        parts.append(2 - sigma - 1 / (sigma + 1e-6))
    assert found == pytest.approx(np.mean(parts), rel=1e-4)


def test_a_block_that_passes_gradients_unchanged_is_the_worst():
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Conv2d(4, 4, 1)

        def forward(self, images):
            return images

    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 1), Same(), nn.Flatten(), nn.Linear(4 * 64, 3)), 0)
    assert value("az_trainability", net, *batch()) == -math.inf


def test_a_net_of_one_block_makes_no_progress():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)), 0)
    assert value("az_progressivity", net, *batch()) == -math.inf
    assert value("az_trainability", net, *batch()) == -math.inf
    assert value("az_expressivity", net, *batch()) > 0


def test_constant_features_have_no_entropy():
    assert az_nas._entropy(torch.ones(3, 4, 2, 2)) == 0.0


def test_blocks_are_found_in_nets_of_any_shape():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleList([nn.Conv2d(2, 3, 1), nn.Conv2d(3, 5, 1)])
            self.head = nn.Linear(5, 3)

        def forward(self, images):
            for layer in self.body:
                images = layer(images).relu()
            return self.head(images.mean((2, 3)))

    images, _ = batch()
    assert [one.shape[1] for one in block_outputs(seeded(Own, 0), images)] == [3, 5]
    wrapped = seeded(lambda: nn.Sequential(Own()), 0)
    assert [one.shape[1] for one in block_outputs(wrapped, images)] == [3, 5]


@pytest.mark.parametrize("family", sorted(NETWORKS))
@pytest.mark.parametrize("name", NAMES)
def test_every_family_has_a_number_or_minus_infinity(name, family):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"torchvision": {"model": "mobilenet_v2"}}.get(family, {})
        net = seeded(lambda: NETWORKS[family]((3, 32, 32), 10, **options), 0)
        images = torch.randn((4, 3, 32, 32))
    found = measure(name, net, images, torch.arange(4), seed=0)
    assert math.isfinite(found) or found == -math.inf


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_stage_has_as_many_features_as_blocks(depth):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))

        def forward(self, images):
            return images + self.body(images)

    def net():
        stage = nn.Sequential(*(Block() for _ in range(depth)))
        return nn.Sequential(nn.Conv2d(2, 4, 1), stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    assert len(block_outputs(seeded(net, 0), batch()[0])) == 1 + depth


@pytest.mark.parametrize("operation", ["skip_connect", "avg_pool_3x3", "nor_conv_3x3"])
def test_a_cell_is_a_block_whatever_is_in_it(operation):
    edges = {f"edge_{a}{b}": operation for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))}
    net = seeded(lambda: NETWORKS["nasbench201"]((3, 32, 32), 10, cells=2, channels=4, **edges), 0)
    images = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert len(block_outputs(net, images)) == 1 + 3 * 2 + 2  # the stem, cells, and reductions between stages


def test_a_child_that_returns_no_tensor_is_passed_over():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(4, 4, 1)

        def forward(self, images):
            return self.layer(images), None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.pair, self.head = nn.Conv2d(2, 4, 1), Pair(), nn.Linear(4, 3)

        def forward(self, images):
            return self.head(self.pair(self.stem(images))[0].mean((2, 3)))

    assert [one.shape[1] for one in block_outputs(seeded(Net, 0), batch()[0])] == [4]


@pytest.mark.parametrize("n", [62, 64, 130])
def test_swap_is_exact_for_many_images(n):
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 2)), 0)
    images = torch.randn((n, 4, 1, 1), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        patterns = (net[1](images.flatten(1)) > 0).T.tolist()
    assert value("swap", net, images, torch.zeros(n, dtype=torch.int64)) == len({tuple(row) for row in patterns})


def test_swap_counts_patterns():
    """Two neurons that are positive for the same images have one pattern."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)), 0)
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]).reshape(3, 2, 1, 1)
    assert value("swap", net, images, torch.arange(3)) == 3
    expected = 3 * math.exp(-((18 / 1000 - SWAP_CENTRE) ** 2) / SWAP_WIDTH)
    assert value("swap_regularised", net, images, torch.arange(3)) == pytest.approx(expected)


def test_swap_equals_the_distinct_rows_of_the_pattern_matrix():
    net, (images, labels) = small(), batch()
    patterns = []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda m, inputs: patterns.append((inputs[0].flatten(1) > 0).T.numpy()))
    with torch.no_grad():
        net.train()(images)
    rows = {tuple(row) for pattern in patterns for row in pattern.tolist()}
    assert value("swap", small(), images, labels) == len(rows)


def test_meco_is_the_least_eigenvalue_of_each_modules_correlation():
    net, (images, labels) = small(), batch()
    seen = []
    for module in [one for one in net.modules() if not list(one.children())]:
        module.register_forward_hook(lambda m, inputs, output: seen.append(output.detach().clone()))
    found = measure("meco", net, images, labels, seed=0)
    expected = 0.0
    for output in seen:
        if output.dim() == 4 and output[0, 0].numel() > 1:
            rows = output[0].flatten(1).double().numpy()
            with np.errstate(invalid="ignore", divide="ignore"):
                correlation = np.nan_to_num(np.corrcoef(rows))
            np.fill_diagonal(correlation, 1.0)
            expected += np.linalg.eigvalsh(correlation)[0]
    assert found == pytest.approx(expected, abs=1e-6)


def wide():
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 24, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3)), 0
    )


def test_meco_of_eight_channels_is_scaled_to_all():
    """Of at most eight channels it is MeCo itself; of 24 it is three times the least eigenvalue of some eight."""
    images, labels = batch()
    assert value("meco_opt", small(), images, labels) == value("meco", small(), images, labels)
    seen = []
    net = wide()
    net[0].register_forward_hook(lambda m, inputs, output: seen.append(output.detach().clone()))
    found = measure("meco_opt", net, images, labels, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "zero-cost"))
        torch.randn_like(images[:1])
        chosen = torch.randperm(24)[:8]
    rows = seen[0][0].flatten(1).double().numpy()[chosen.numpy()]
    assert found == pytest.approx(3 * np.linalg.eigvalsh(np.corrcoef(rows))[0], abs=1e-9)


def test_fisher_information_is_that_of_its_definition():
    """J by central differences, F as the covariance of the gradients of log-probabilities under p."""
    net = small().double().eval()
    images = batch()[0].double()
    parameters = list(net.parameters())

    def outputs(j, step):
        with torch.no_grad():
            parameters[j].view(-1)[0] += step
            found = net(images)
            parameters[j].view(-1)[0] -= step
        return found

    jacobian = torch.stack(
        [(outputs(j, 1e-6) - outputs(j, -1e-6)) / 2e-6 for j in range(len(parameters))], dim=2
    ).numpy()  # images × classes × weights
    p = 0.95 * net(images).softmax(1).detach().numpy() + 0.05 / 3
    expected = np.zeros((len(parameters), len(parameters)))
    for image in range(len(images)):
        mean = p[image] @ jacobian[image]
        for c in range(3):
            gap = jacobian[image, c] - mean
            expected += p[image, c] * np.outer(gap, gap) / len(images)
    assert fisher_information(net, images).numpy() == pytest.approx(expected, abs=1e-7)


def test_vkdnw_is_the_entropy_of_the_deciles_of_its_eigenvalues():
    images, labels = batch()
    net = small()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "zero-cost"))
        draw_weights(net)
        noise = torch.randn_like(images)
    eigenvalues = np.linalg.eigvalsh(fisher_information(net.eval(), noise).numpy()).clip(min=0)
    deciles = np.quantile(eigenvalues, np.linspace(0.1, 0.9, 9))
    shares = deciles[deciles > 0] / deciles.sum()
    assert value("vkdnw", small(), images, labels) == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-6)
    blind = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 1)), 0)  # one class: p is always 1
    assert value("vkdnw", blind, images, torch.zeros_like(labels)) == -math.inf


@pytest.mark.parametrize("name", ["swap", "swap_regularised"])
def test_a_net_without_activations_is_refused(name):
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), 0)
    with pytest.raises(ValueError, match="has none"):
        value(name, net, *batch())


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name):
    assert value(name, small(), *batch()) == value(name, small(), *batch())


def test_the_aggregate_sums_the_logarithms_of_ranks():
    columns = {"a": np.array([3.0, 1.0, 1.0]), "b": np.array([-np.inf, 5.0, 7.0])}
    expected = sum(np.log(rankdata(one) / 3) for one in columns.values())
    assert log_rank_sum(columns) == pytest.approx(expected)
