import pytest
import torch

from nasproxy.errors import NasproxyError
from nasproxy.networks import ACTIVATIONS, NETWORKS, NORMS, POOLINGS, convnet, num_params, seeded


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 20, 12), (1, 28, 28)])
@pytest.mark.parametrize("family", NETWORKS)
def test_families_map_images_to_logits(family, shape):
    net = seeded(lambda: NETWORKS[family](shape, 7), 0)
    assert net(torch.zeros(2, *shape)).shape == (2, 7)


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
        ({"width": 6, "norm": "group"}, "width=6"),
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
