from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import made_by, toy_dataset

from nasproxy.condense import matching_nets
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.initial import initial_images
from nasproxy.condense.matching import net_loss
from nasproxy.condense.matching_nets import build_net, embed, freeze_batch_norm, train_net, train_net_on_real
from nasproxy.condense.methods.gradient_matching import gradient_matching, matching_stream
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.networks import convnet, num_params, seeded

CPU = torch.device("cpu")


def small(**settings):
    values = {"ipc": 2, "outer_steps": 3, "inner_steps": 3, "net_steps": 2, "width": 4, "depth": 2, "batch_real": 16}
    return CondenseConfig(**(values | settings))


def test_batch_norm_statistics_are_those_of_the_batch_and_stay():
    net = seeded(lambda: convnet((1, 8, 8), 3, width=4, depth=1, norm="batch"), 0)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    freeze_batch_norm(net, images)
    features = net[0](images)
    norm = net[1]
    torch.testing.assert_close(norm.running_mean, features.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, features.var((0, 2, 3)))
    before = norm.running_mean.clone()
    net(images + 1)
    assert torch.equal(norm.running_mean, before)
    assert not any(isinstance(layer, nn.BatchNorm2d) and layer.training for layer in net.modules())


def test_unknown_network_and_impossible_depth_are_named():
    with pytest.raises(NasproxyError, match="'convne'"):
        gradient_matching(toy_dataset(), small(network="convne"), BuildRun(CPU))
    with pytest.raises(NasproxyError, match="4 poolings"):
        gradient_matching(toy_dataset(), small(depth=4), BuildRun(CPU))


def test_nets_drawn_from_a_space_differ_and_repeat():
    config = small(match_space="convnet_small", width=1)
    dataset = toy_dataset()
    nets = [build_net(config, dataset, outer, CPU) for outer in range(6)]
    assert len({num_params(net) for net in nets}) > 2
    again = build_net(config, dataset, 3, CPU)
    assert all(torch.equal(p, q) for p, q in zip(nets[3].parameters(), again.parameters(), strict=True))
    images, _ = made_by(dataset, config, BuildRun(CPU))
    assert torch.isfinite(images).all()


class HeadFirst(nn.Module):
    """Its head is defined first and runs last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.body = nn.Linear(64, 5)

    def forward(self, images):
        return self.head(torch.tanh(self.body(images.flatten(1))))


def four_images():
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_an_embedding_is_what_the_layer_that_runs_last_reads():
    net, images = seeded(HeadFirst, 0), four_images()
    assert torch.equal(embed(net, images), torch.tanh(net.body(images.flatten(1))))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()), "this net runs none: use another net"),
        (lambda: nn.Sequential(nn.Flatten(0, 2), nn.Linear(8, 3)), "gives it 32 rows for 4 images: use another net"),
    ],
)
def test_a_net_without_an_embedding_is_named(build, message):
    with pytest.raises(NasproxyError, match=message):
        embed(seeded(build, 0), four_images())


def test_a_space_without_a_fitting_net_is_named(tmp_path):
    (tmp_path / "deep.yaml").write_text("name: deep\nnetwork: convnet\nparameters:\n  depth: [4, 5]\n")
    with pytest.raises(NasproxyError, match="No net of space 'deep' fits"):
        build_net(small(match_space=str(tmp_path / "deep.yaml")), toy_dataset(), 0, CPU)


def test_with_the_siamese_augmentation_the_net_trains_on_augmented_images_too():
    """As the published code does: one by one, so that two rows with equal images see different ones."""
    dataset, config = toy_dataset(), small(ipc=1, augmentation="dsa", batch_net=3)
    images, labels = initial_images(dataset, config), torch.arange(3)
    trained = []
    for own in (config, replace(config, augmentation="none")):
        net = build_net(config, dataset, 0, CPU)
        train_net(net, images, labels, own, matching_stream(config, 0, 0, CPU), at_once=8)
        trained.append(net[0].weight)
    assert not torch.equal(*trained)
    seen = []
    net = build_net(config, dataset, 0, CPU)
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    train_net(net, images[:1].repeat(3, 1, 1, 1), labels, config, matching_stream(config, 0, 0, CPU), at_once=8)
    assert any(len(batch.flatten(1).unique(dim=0)) == 3 for batch in seen)


def test_bfloat16_trains_float32_weights_nearly_alike():
    dataset, config = toy_dataset(), small(net_steps=20)
    images, labels = initial_images(dataset, config), torch.arange(3).repeat_interleave(2)
    weights = []
    for own in (config, replace(config, precision="bfloat16")):
        net = build_net(own, dataset, 0, CPU)
        seen = []
        net[0].register_forward_hook(lambda _, inputs, output, seen=seen: seen.append(output.dtype))
        train_net(net, images, labels, own, matching_stream(config, 0, 0, CPU), at_once=8)
        weights.append(net[0].weight)
        assert set(seen) == {torch.bfloat16 if own.precision == "bfloat16" else torch.float32}
    start = build_net(config, dataset, 0, CPU)[0].weight
    assert weights[1].dtype == torch.float32
    assert not torch.equal(*weights)
    assert (weights[0] - weights[1]).norm() < 0.05 * (weights[0] - start).norm()


def test_a_net_trained_on_real_images_does_not_see_the_synthetic_ones():
    dataset = toy_dataset()
    config = small(net_data="real", net_steps=5, batch_net=40)
    real = RealBatches(dataset, CPU)
    net, twin = (build_net(config, dataset, 0, CPU) for _ in range(2))
    train_net_on_real(net, real, config, torch.Generator().manual_seed(3), at_once=7, loss=net_loss)
    stream, optimizer = torch.Generator().manual_seed(3), torch.optim.SGD(twin.parameters(), lr=config.lr_net)
    for _ in range(5):
        numbers = torch.randint(len(dataset.train), (40,), generator=stream)
        optimizer.zero_grad()
        images = dataset.normalize(dataset.train.images[numbers])
        nn.functional.cross_entropy(twin(images), dataset.train.labels[numbers]).backward()
        optimizer.step()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_dropout_is_off_while_matching(monkeypatch):
    monkeypatch.setitem(
        matching_nets.NETWORKS, "dropping", lambda shape, n, norm: convnet(shape, n, width=4, depth=1, dropout=0.5)
    )
    net = build_net(small(network="dropping"), toy_dataset(), 0, CPU)
    images = torch.ones(2, 1, 8, 8)
    assert net.training
    assert torch.equal(net(images), net(images))


def test_inplace_activations_of_a_net_are_made_harmless(monkeypatch):
    def family(input_shape, num_classes, norm="none"):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, num_classes))

    monkeypatch.setitem(matching_nets.NETWORKS, "inplace", family)
    images, _ = made_by(toy_dataset(), small(network="inplace"), BuildRun(CPU))
    assert torch.isfinite(images).all()
