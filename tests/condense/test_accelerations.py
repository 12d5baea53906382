"""Options that need fewer matchings: what they choose and how nets are moved, from the formulas."""

from functools import partial

import pytest
import torch
from torch import nn
from toy import toy_dataset, uneven_dataset

from nasproxy.condense.accelerations import EarlyNets, early_recipe, embeddings, perturb, representative_images
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.networks import convnet, seeded
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")


def net_of(seed=0):
    return seeded(lambda: convnet((1, 8, 8), 3, width=4, depth=1), seed)


def test_embeddings_are_what_the_head_reads():
    net, real = net_of(), RealBatches(toy_dataset(), CPU)
    numbers = torch.arange(20)
    found = embeddings(net, real.take, numbers)
    torch.testing.assert_close(net[-1](found), net(real.take(numbers)))


def test_a_net_without_a_head_is_refused():
    real = RealBatches(toy_dataset(), CPU)
    with pytest.raises(NasproxyError, match="linear layer"):
        embeddings(seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()), 0), real.take, torch.arange(2))


def test_representatives_are_nearest_to_the_centres_of_their_class():
    """Two tight clusters in every class: one image of each is chosen, the one in the middle."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 0)
    dataset = toy_dataset(num_per_class=20)
    images, labels = dataset.train.images, dataset.train.labels
    for label in range(3):
        for place, number in enumerate((labels == label).nonzero()[:, 0].tolist()):
            # Clusters at 50 and 200, with members at −10 … +10 of their middle.
            images[number] = 50 + 150 * (place % 2) + (-10, -5, -1, 0, 1, 5, 10, -8, 8, 2)[place // 2]
    real = RealBatches(dataset, CPU)
    chosen = representative_images(net, real, 2, seed=0)
    assert chosen.shape == (3, 2)
    for label in range(3):
        assert (labels[chosen[label]] == label).all()
        assert sorted(images[chosen[label]][:, 0, 0, 0].tolist()) == [50, 200]


def test_representatives_of_uneven_classes_fill_rows_as_a_draw_does():
    real = RealBatches(uneven_dataset(), CPU)
    chosen = representative_images(net_of(), real, 10, seed=0)
    assert chosen.shape == real.draw(10, torch.Generator()).shape
    valid = chosen.flatten()[real.valid(10)]
    assert valid.tolist()[:5] == real.numbers[0].tolist()  # all of a class of five
    assert len(set(valid.tolist())) == len(valid) == 25
    torch.testing.assert_close(real.labels[valid], torch.tensor([0] * 5 + [1] * 10 + [2] * 10))


def test_the_seed_decides_the_representatives():
    net, real = net_of(), RealBatches(toy_dataset(), CPU)
    first, same, other = (representative_images(net, real, 8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_perturbation_moves_every_filter_by_a_share_of_its_norm():
    before, net = net_of(), net_of()
    perturb(net, 0.3, torch.Generator().manual_seed(0))
    shares = []
    for old, new in zip(before.parameters(), net.parameters(), strict=True):
        if old.ndim < 2:
            assert torch.equal(old, new)
            continue
        share = (new - old).flatten(1).norm(dim=1) / old.flatten(1).norm(dim=1)
        # Two directions, nearly at right angles in many dimensions, with the same two shares for every filter.
        assert 0.01 < share.min() <= share.max() <= 0.6
        shares.append(share)
    assert torch.cat(shares).std() / torch.cat(shares).mean() < 0.2


def test_shares_lie_in_their_range_with_either_sign():
    moved = []
    for seed in range(200):
        net = seeded(lambda: nn.Linear(1, 1, bias=False), 0)  # one filter of one weight: a direction is ±its norm
        nn.init.ones_(net.weight)
        perturb(net, 0.3, torch.Generator().manual_seed(seed))
        moved.append(net.weight.item() - 1)
    assert max(map(abs, moved)) <= 0.6
    assert min(moved) < -0.3 < 0.3 < max(moved)


def test_the_pools_nets_are_trained_and_repeat():
    dataset = toy_dataset()
    config = CondenseConfig(width=4, depth=1, pool=2, pool_epochs=8)
    real = RealBatches(dataset, CPU)
    fresh = partial(build_net, config, dataset, device=CPU)
    early = EarlyNets(2, 8, fresh, real, 0)
    held_out = TrainingImages(dataset.val.images, dataset.val.labels, dataset.normalize)
    assert accuracy_and_loss(early.take(0), held_out, CPU)[1] < accuracy_and_loss(fresh(0), held_out, CPU)[1] - 0.1

    net, again = early.take(1), EarlyNets(2, 8, fresh, real, 0).take(1)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    assert net.training
    with torch.no_grad():
        net[0].weight.zero_()
    assert early.take(1)[0].weight.abs().sum() > 0  # a copy was changed, not the pool
    assert len({id(early._nets[n]) for n in (0, 1)}) == 2
    drawn = {next(iter(early.draw(outer).parameters())).sum().item() for outer in range(12)}
    assert len(drawn) == 2


def test_the_recipe_of_the_pool():
    assert (early_recipe(2).epochs, early_recipe(2).batch_size, early_recipe(2).lr) == (2, 64, 0.01)
