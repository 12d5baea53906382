"""Parameter matching against plain autograd through both trainings, in float64."""

import pytest
import torch
from toy import toy_dataset

from nasproxy.condense.contract import BuildRun
from nasproxy.condense.initial import initial_images
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.methods.parameter_matching import balanced, parameter_matching
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import parameter_distance
from nasproxy.config import condense_config
from nasproxy.core.randomness import generator

CPU = torch.device("cpu")
SMALL = {"method": "parameter_matching", "width": 4, "depth": 1, "batch_real": 6, "lr_net": 0.1, "unroll_steps": 3}


def trained(net, start, batches, lr):
    """θ after a step of SGD on each of ``batches`` (images, labels, weight of each image), in one graph."""
    names = [name for name, _ in net.named_parameters()]
    state = list(start)
    for images, labels, shares in batches:
        logits = torch.func.functional_call(net, dict(zip(names, state, strict=True)), (images,))
        losses = torch.logsumexp(logits, 1) - logits[torch.arange(len(labels)), labels]
        gradients = torch.autograd.grad((losses * shares).sum(), state, create_graph=True)
        state = [own - lr * gradient for own, gradient in zip(state, gradients, strict=True)]
    return state


@pytest.mark.parametrize(("counts", "inner"), [((2, 2, 2), 1), ((1, 2, 3), 2)])
def test_two_nets_equal_the_formula_in_float64(counts, inner):
    dataset = toy_dataset()
    config = condense_config(**SMALL, ipc_per_class=counts, init="noise", outer_steps=2, inner_steps=inner, lr_img=10.0)
    made = parameter_matching(dataset, config, BuildRun(CPU))
    images = initial_images(dataset, config).double()
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    mine = torch.tensor([1 / (3 * counts[label]) for label in labels.tolist()]).double()
    real, velocity = RealBatches(dataset, CPU), torch.zeros_like(images)
    for outer in range(2):
        net = build_net(config, dataset, outer, CPU).double()
        stream = generator(0, "parameters", outer)
        start = [parameter.detach().clone().requires_grad_() for parameter in net.parameters()]
        leaf, total = images.clone().requires_grad_(), 0.0
        for _ in range(inner):
            batches = []
            for _ in range(3):
                numbers = real.draw(6, stream).flatten()
                pixels = (dataset.train.images[numbers].double() / 255 - 0.3) / 0.25
                batches.append((pixels, dataset.train.labels[numbers], torch.full((18,), 1 / 18).double()))
            target = [t.detach() for t in trained(net, start, batches, 0.1)]
            ours = trained(net, start, [(leaf, labels, mine)] * 3, 0.1)
            left = sum(((a - b) ** 2).sum() for a, b in zip(ours, target, strict=True))
            way = sum(((a - b) ** 2).sum() for a, b in zip(start, target, strict=True)).detach()
            total = total + left / way / inner
            start = [t.clone().requires_grad_() for t in target]
        velocity = 0.5 * velocity + torch.autograd.grad(total, leaf)[0]
        images = images - 10.0 * velocity
    torch.testing.assert_close(made.images.double(), images, rtol=1e-3, atol=1e-4)


def test_the_distance_is_what_is_left_of_the_way():
    start, target = (torch.zeros(2), torch.ones(1)), (torch.tensor([3.0, 4.0]), torch.ones(1))
    assert parameter_distance(start, target, start) == 1
    assert parameter_distance(target, target, start) == 0
    halfway = tuple((a + b) / 2 for a, b in zip(start, target, strict=True))
    assert parameter_distance(halfway, target, start) == 0.25


def test_every_class_counts_alike():
    shares = balanced(torch.tensor([0, 1, 1, 1]), 2)
    assert shares.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_the_distance_falls_for_one_net():
    seen = []
    config = condense_config(**(SMALL | {"lr_img": 5.0}), ipc=2, init="real", outer_steps=20, net_init="fixed")
    parameter_matching(
        toy_dataset(), config, BuildRun(CPU, progress=lambda *args: seen.append(float(args[2].split()[1])))
    )
    assert sum(seen[-5:]) < 0.7 * sum(seen[:5])


@pytest.mark.parametrize(
    "option", [{"norm": "batch"}, {"augmentation": "dsa"}, {"formation": 2}, {"net_init": "fixed"}, {"network": "mlp"}]
)
def test_options_change_the_images(option):
    plain, other = (
        parameter_matching(
            toy_dataset(), condense_config(**(SMALL | {"outer_steps": 2, "ipc": 1} | own)), BuildRun(CPU)
        )
        for own in ({}, option)
    )
    assert torch.isfinite(other.images).all()
    assert not torch.equal(plain.images, other.images)
