"""What only a GPU can show; skipped without one."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from toy import toy_dataset

from nasproxy.condense.class_matching import match, matching_stream, plan_groups
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.initial import initial_images
from nasproxy.condense.matching import DISTANCES, class_gradients, match_classes, mean_shares
from nasproxy.condense.matching_nets import build_net, train_net
from nasproxy.condense.methods.gradient_matching import gradient_matching
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.devices import float32_as
from nasproxy.networks import convnet, mlp, seeded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NORMS = ["none", "batch", "layer", "instance", "group"]


def small(**settings):
    values = {"ipc": 2, "outer_steps": 3, "inner_steps": 3, "net_steps": 2, "width": 4, "depth": 2, "batch_real": 16}
    return CondenseConfig(**(values | settings))


@contextmanager
def waiting_is_an_error():
    """Torch warns that the mode may change; pytest would raise that before it can be taken back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("norm", [*NORMS, "linear"])
@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_distance_and_image_gradient_equal_those_of_the_cpu(norm, name, dtype, bound):
    if norm == "linear":
        net = seeded(lambda: mlp((2, 8, 8), 3, width=8, depth=2), 0)
    else:
        net = seeded(lambda: convnet((2, 8, 8), 3, width=8, depth=2, norm=norm), 0)
    net = net.double().eval()
    stream = torch.Generator().manual_seed(0)
    synthetic = torch.randn(6, 2, 8, 8, dtype=torch.float64, generator=stream)
    real = torch.randn(9, 2, 8, 8, dtype=torch.float64, generator=stream)
    ours, theirs = (2, 1, 3), (4, 3, 2)
    results = []
    for device, kind in ((CPU, torch.float64), (CUDA, dtype)):
        net, a, b = net.to(device, kind), synthetic.to(device, kind), real.to(device, kind)
        labels = [torch.arange(3).repeat_interleave(torch.tensor(counts)).to(device) for counts in (ours, theirs)]
        with float32_as("float32"):  # torch takes TF32 for convolutions by itself, whose error is a thousand times that
            target = class_gradients(net, b, labels[1], mean_shares(theirs, b), theirs)
            layer_weights = (1.0,) * len(target)
            results.append(
                match_classes(net, a, labels[0], ours, target, distance=DISTANCES[name], layer_weights=layer_weights)
            )
    (values, gradient), (values_cuda, gradient_cuda) = results
    assert values_cuda.tolist() == pytest.approx(values.tolist(), rel=bound, abs=bound)
    assert (gradient_cuda.cpu().double() - gradient).norm() < bound * gradient.norm()


@pytest.mark.parametrize("augmentation", ["none", "flip_shift"])
def test_a_matching_waits_for_nothing(augmentation):
    dataset, config = toy_dataset(), small(batch_net=4, augmentation=augmentation)
    real = RealBatches(dataset, CUDA)
    net = build_net(config, dataset, 0, CUDA)
    groups = plan_groups(net, real, config, CUDA)
    images = initial_images(dataset, config).to(CUDA)
    labels = torch.arange(3, device=CUDA).repeat_interleave(config.ipc)

    def step():
        stream = matching_stream(config, 0, 0, CUDA)
        match(net, images, groups, real, config, stream)
        train_net(net, images, labels, config, stream, at_once=2)
        build_net(config, dataset, 1, CUDA)

    step()  # handles of cuBLAS and cuDNN are made at first use
    with waiting_is_an_error():
        step()


def test_a_build_runs_and_leaves_the_generators_alone():
    before = torch.cuda.get_rng_state()
    made = gradient_matching(toy_dataset(), small(norm="batch"), BuildRun(CUDA))
    images, labels, seconds = made.images, made.labels, made.seconds
    assert torch.isfinite(images).all()
    assert (images.device, labels.device) == (CPU, CPU)
    assert seconds > 0
    assert torch.equal(before, torch.cuda.get_rng_state())
