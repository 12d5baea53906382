import itertools

import pytest
import torch
from torch import nn

from nasproxy.core.errors import NasproxyError
from nasproxy.networks import (
    ACTIVATIONS,
    NETWORKS,
    NORMS,
    POOLINGS,
    convnet,
    family_options,
    nasbench201,
    num_params,
    seeded,
)
from nasproxy.spaces import inspect_space, load_space, schema_text

SHAPES = [(1, 8, 8), (3, 32, 32), (4, 20, 12), (1, 28, 28), (3, 33, 47)]
TOO_SMALL = {"lenet": [(1, 8, 8), (4, 20, 12)], "vgg11": [(1, 8, 8), (4, 20, 12)], "resnet18": [(1, 8, 8)]}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", NETWORKS)
def test_families_map_images_to_logits(family, shape):
    if shape in TOO_SMALL.get(family, []):
        with pytest.raises(NasproxyError, match=r"too small for the net|turns 1×1 maps into zeros"):
            seeded(lambda: NETWORKS[family](shape, 7), 0)
        return
    net = seeded(lambda: NETWORKS[family](shape, 7), 0)
    assert net(torch.zeros(2, *shape)).shape == (2, 7)


def layers_of(*sizes, channels=(), kernels=(), norm=True):
    """Parameters of convolutions with biases (and affine norms) and then linear layers of these sizes."""
    convolutions = sum(
        before * after * k * k + after + (2 * after if norm else 0)
        for (before, after), k in zip(itertools.pairwise(channels), kernels, strict=True)
    )
    return convolutions + sum(before * after + after for before, after in itertools.pairwise(sizes))


VGG = (3, 64, 128, 256, 256, 512, 512, 512, 512)


@pytest.mark.parametrize(
    ("family", "norm", "expected"),
    [
        ("mlp", None, layers_of(3072, 128, 128, 10)),
        ("lenet", "none", layers_of(400, 120, 84, 10, channels=(3, 6, 16), kernels=(5, 5), norm=False)),
        (
            "alexnet",
            "none",
            layers_of(192 * 16, 10, channels=(3, 128, 192, 256, 192, 192), kernels=(5, 5, 3, 3, 3), norm=False),
        ),
        (
            "alexnet",
            "batch",
            layers_of(192 * 16, 10, channels=(3, 128, 192, 256, 192, 192), kernels=(5, 5, 3, 3, 3)),
        ),
        ("vgg11", "instance", layers_of(512, 10, channels=VGG, kernels=(3,) * 8)),
        ("resnet18", "instance", 11_173_962),  # as the published network has it for 10 classes of 3×32×32
    ],
)
def test_parameter_counts_of_the_published_families(family, norm, expected):
    options = {} if norm is None else {"norm": norm}
    assert num_params(seeded(lambda: NETWORKS[family]((3, 32, 32), 10, **options), 0)) == expected


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("family", ["lenet", "alexnet", "vgg11", "resnet18"])
def test_every_norm_of_the_families_runs_forward_and_backward(family, norm):
    net = seeded(lambda: NETWORKS[family]((3, 32, 32), 4, width=24, norm=norm, activation="sigmoid"), 0)
    net(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("family", ["lenet", "alexnet", "vgg11", "resnet18"])
@pytest.mark.parametrize(("options", "message"), [({"width": 0}, "width=0"), ({"norm": "bach"}, "'batch'")])
def test_impossible_options_of_the_families_are_named(family, options, message):
    with pytest.raises(NasproxyError, match=message):
        seeded(lambda: NETWORKS[family]((3, 32, 32), 4, **options), 0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_option_of_the_convnet_runs_forward_and_backward(norm, pooling, activation):
    net = seeded(lambda: convnet((3, 8, 8), 4, width=8, depth=2, norm=norm, pooling=pooling, activation=activation), 0)
    net(torch.ones(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_parameter_count_of_the_published_matching_net():
    # 3 → 128 → 128 → 128 channels, biases, affine norms, and a head on 128 × 4 × 4 features.
    convolutions = 3 * 128 * 9 + 128 + 2 * (128 * 128 * 9 + 128)
    assert num_params(seeded(lambda: convnet((3, 32, 32), 10), 0)) == convolutions + 3 * 256 + 128 * 16 * 10 + 10


def test_28_pixels_are_padded_to_32():
    net = seeded(lambda: convnet((1, 28, 28), 10, width=8), 0)
    assert net[-1].in_features == 8 * 4 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 6, "norm": "group"}, "got 6 channels"),
        ({"width": 0}, "width=0"),
        ({"depth": 0}, "depth=0"),
        ({"depth": 4}, "4 poolings of a 8×8"),
        ({"norm": "bach"}, "'bach'. Did you mean 'batch'"),
        ({"activation": "gelu"}, "'gelu'"),
        ({"pooling": "sum"}, "'sum'"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(NasproxyError, match=message.replace("(", r"\(")):
        seeded(lambda: convnet((1, 8, 8), 3, **options), 0)


def test_seed_decides_the_weights():
    a, b, c = (seeded(lambda: convnet((1, 8, 8), 3, width=4, depth=1), seed) for seed in (1, 1, 2))
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)


def test_dropout_only_acts_in_training():
    net = seeded(lambda: convnet((1, 8, 8), 3, width=4, depth=1, dropout=0.5), 0)
    images = torch.ones(2, 1, 8, 8)
    net.eval()
    assert torch.equal(net(images), net(images))


# ----------------------------------------------------------------------------------------------------- NAS-Bench-201

EDGES = ("edge_01", "edge_02", "edge_12", "edge_03", "edge_13", "edge_23")


def cell(*operations, **options):
    """``operations`` in the benchmark's order of edges."""
    return seeded(lambda: nasbench201((3, 32, 32), 10, **dict(zip(EDGES, operations, strict=True)), **options), 0)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        (("nor_conv_3x3",) * 6, 1_531_546),  # as the benchmark states it
        (("avg_pool_3x3",) * 6, 73_306),  # as the benchmark states it: the skeleton alone
        (("none",) * 6, 73_306),
        # A 1×1 convolution and its norm in five cells a stage.
        (
            ("none", "nor_conv_1x1", "none", "none", "none", "none"),
            73_306 + 5 * sum(c * c + 2 * c for c in (16, 32, 64)),
        ),
    ],
)
def test_parameter_counts_are_the_benchmarks(operations, expected):
    assert num_params(cell(*operations)) == expected


def test_a_cell_sums_what_its_edges_give():
    """By hand: with identities alone, node 3 is four times the input; an average over 3×3 counts no padding."""
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def first_cell(*operations):
        return cell(*operations, cells=1, channels=4)[2]

    torch.testing.assert_close(first_cell(*["skip_connect"] * 6)(maps), 4 * maps)
    assert first_cell(*["none"] * 6)(maps).abs().sum() == 0
    # 0 → 1 by skip, 1 → 3 by the average, nothing else.
    pooled = first_cell("skip_connect", "none", "none", "none", "avg_pool_3x3", "none")(maps)
    torch.testing.assert_close(pooled[:, :, 0, 0], maps[:, :, :2, :2].mean((2, 3)))
    torch.testing.assert_close(pooled[:, :, 3, 3], maps[:, :, 2:5, 2:5].mean((2, 3)))
    # 0 → 2 by skip, 2 → 3 by skip, and 0 → 3 by skip: twice.
    torch.testing.assert_close(
        first_cell("none", "skip_connect", "none", "skip_connect", "none", "skip_connect")(maps), 2 * maps
    )
    net = cell(*["nor_conv_3x3"] * 6, cells=1, channels=4)
    assert net[3](maps).shape == (2, 8, 4, 4)
    assert net(images).shape == (2, 10)


def test_an_unknown_operation_is_named():
    with pytest.raises(NasproxyError, match="'conv_3x3'"):
        cell(*["conv_3x3"] * 6)


def test_a_family_gets_the_settings_it_has():
    settings = {"width": 32, "depth": 2, "norm": "batch"}
    assert family_options("convnet", **settings) == settings
    assert family_options("mlp", **settings) == {"width": 32, "depth": 2}
    assert family_options("resnet18", **settings) == {"norm": "batch"}
    assert family_options("nasbench201", **settings) == {}


# ------------------------------------------------------------------------------------------------------ search families


def test_a_resnet_of_four_stages_is_resnet18():
    """Two basic blocks a stage and width 64: the same layers in the same order, so the same net from the same seed."""
    for norm in ("batch", "group"):
        ours = seeded(lambda norm=norm: NETWORKS["resnet"]((3, 32, 32), 10, width=64, stages=4, norm=norm), 0)
        published = seeded(lambda norm=norm: NETWORKS["resnet18"]((3, 32, 32), 10, norm=norm), 0)
        images = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        assert torch.equal(ours(images), published(images))
    assert num_params(seeded(lambda: NETWORKS["resnet"]((3, 32, 32), 10, width=64, stages=4), 0)) == 11_173_962


def test_a_bottleneck_is_torchvisions():
    from torchvision.models.resnet import Bottleneck

    def made():
        shortcut = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 1, stride=2, bias=False), torch.nn.BatchNorm2d(32))
        return Bottleneck(16, 8, stride=2, downsample=shortcut)

    theirs = seeded(made, 0)
    options = {"width": 4, "blocks": 1, "stages": 2, "block": "bottleneck", "expansion": 4}
    net = seeded(lambda: NETWORKS["resnet"]((3, 8, 8), 10, **options), 0)
    ours = net[4]  # the second stage's
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn((2, 16, 8, 8), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(images), theirs(images), atol=1e-6)


@pytest.mark.parametrize(("before", "after", "stride", "expansion"), [(8, 8, 1, 3), (8, 16, 2, 6), (8, 8, 1, 1)])
def test_an_inverted_residual_is_torchvisions(before, after, stride, expansion):
    from torchvision.models.mobilenetv2 import InvertedResidual as Theirs

    from nasproxy.networks.mobilenet import InvertedResidual

    theirs = seeded(lambda: Theirs(before, after, stride, expansion), 0)
    ours = seeded(lambda: InvertedResidual(before, after, 3, expansion, stride, squeeze=False), 1)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn((2, before, 9, 9), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(images), theirs(images), atol=1e-6)


def test_squeeze_and_excitation_is_torchvisions():
    from torchvision.ops import SqueezeExcitation

    from nasproxy.networks.mobilenet import _SqueezeExcitation

    theirs = seeded(lambda: SqueezeExcitation(12, 3), 0)
    ours = seeded(lambda: _SqueezeExcitation(12), 1)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn((2, 12, 5, 5), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(images), theirs(images), atol=1e-6)


def test_a_mobilenet_has_as_many_blocks_as_its_depths():
    net = seeded(lambda: NETWORKS["mobilenet"]((3, 32, 32), 10, depth_1=1, depth_2=2, depth_3=3), 0)
    blocks = [module for module in net if type(module).__name__ == "InvertedResidual"]
    assert len(blocks) == 6
    assert net[:-3](torch.zeros(1, 3, 32, 32)).shape == (1, 64, 8, 8)


def test_torchvision_models_keep_their_options_and_take_any_images():
    net = seeded(lambda: NETWORKS["torchvision"]((1, 8, 8), 7, model="mobilenet_v2", width_mult=0.5, side=32), 0)
    assert net.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    with pytest.raises(NasproxyError, match="resnet18"):
        NETWORKS["torchvision"]((3, 32, 32), 10, model="resnet81")
    with pytest.raises(NasproxyError, match="does not take these options"):
        NETWORKS["torchvision"]((3, 32, 32), 10, model="squeezenet1_1", width_mult=0.5)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("resnet", {"block": "basik"}, "basic"),
        ("resnet", {"stem": "conv7"}, "conv3"),
        ("resnet", {"blocks": 0}, "`blocks >= 1`"),
        ("mobilenet", {"kernel_2": 4}, "must be odd"),
        ("mobilenet", {"depth_3": 0}, "`depth >= 1`"),
    ],
)
def test_options_that_cannot_be_are_named(family, options, message):
    with pytest.raises(NasproxyError, match=message):
        NETWORKS[family]((3, 32, 32), 10, **options)


def test_maps_of_one_pixel_under_instance_norm_are_refused():
    with pytest.raises(NasproxyError, match="turns 1×1 maps into zeros"):
        seeded(lambda: NETWORKS["resnet"]((1, 8, 8), 10, norm="instance", stages=4), 0)


def test_adding_a_network_is_a_function_and_a_line(tmp_path, monkeypatch):
    def linear(input_shape, num_classes, *, hidden=4):
        """One hidden layer."""
        c, h, w = input_shape
        return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, hidden), nn.Linear(hidden, num_classes))

    monkeypatch.setitem(NETWORKS, "linear", linear)
    (tmp_path / "s.yaml").write_text("name: s\nnetwork: linear\nparameters:\n  hidden: [2, 8]\n")
    inspection = inspect_space(load_space(tmp_path / "s.yaml"), (1, 4, 4), 3)
    assert [candidate.params for candidate in inspection.valid] == [{"hidden": 2}, {"hidden": 8}]
    assert '"linear"' in schema_text()
