"""A tiny distillation problem, and what a distilled set teaches a net."""

import torch
from torch import nn

from nasproxy.condense.matching_nets import build_net
from nasproxy.training.fit import fit
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")


def tiny_problem(*, soft=False):
    """An MLP of one hidden layer, a set of two batches of three images, and eight real ones, in float64."""
    stream = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=stream, dtype=torch.float64)

    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(draw(*parameter.shape))
    labels = draw(6, 3).requires_grad_() if soft else torch.tensor([0, 1, 2, 0, 1, 2])
    return net, draw(6, 5).requires_grad_(), labels, draw(4).requires_grad_(), draw(8, 5), torch.arange(8) % 3


# ----------------------------------------------------------------------------------------------------------- learning


def accuracy_after(proxy, dataset, config, number=3):
    values = []
    for outer in range(1000, 1000 + number):
        net = build_net(config, dataset, outer, CPU)
        fit(net, TrainingImages(*proxy.training_images(0)), proxy.recipe, seed=0, device=CPU)
        held_out = TrainingImages(dataset.test.images, dataset.test.labels, dataset.normalize)
        values.append(accuracy_and_loss(net, held_out, CPU)[0])
    return sum(values) / len(values)
