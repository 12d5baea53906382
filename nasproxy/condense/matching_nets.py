"""The net θ of gradient matching: built or drawn, its batch norms frozen, trained between matchings.

References: [DC] Zhao, Mopuri, Bilen, ICLR 2021. [DSA] Zhao, Bilen, ICML 2021. [IDC] Kim et al., "Dataset Condensation
via Efficient Synthetic-Data Parameterization", ICML 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from nasproxy.condense.matching import Loss, net_loss
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig, depth_for_image
from nasproxy.core.chunks import activation_bytes, even_parts, room
from nasproxy.core.devices import compiled_program
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.core.randomness import derive_seed
from nasproxy.data import Dataset
from nasproxy.data.augment import apply_augmentation, sample_augmentation
from nasproxy.networks import NETWORKS, family_options, seeded
from nasproxy.spaces import SearchSpace, load_space
from nasproxy.training.fit import images_per_pass


def embed(net: nn.Module, images: Tensor) -> Tensor:
    """The embeddings of ``images`` ``(n, c, h, w)``: what the linear layer that ``net`` runs last reads.

    Returns:
        ``(n, d)``, differentiable in ``images``.

    Raises:
        NasproxyError: for a net that runs no linear layer, or the last one not once for each image.
    """
    last = images.new_zeros(0)

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal last
        last = inputs[0]

    handles = [layer.register_forward_pre_hook(keep) for layer in net.modules() if isinstance(layer, nn.Linear)]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    if len(last) != len(images):
        what = "runs none" if not last.numel() else f"gives it {len(last)} rows for {len(images)} images"
        raise NasproxyError(
            f"An embedding is what the last linear layer reads of each image, but this net {what}: use another net."
        )
    return last.flatten(1)


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
NUM_DRAWS = 100  # architectures tried before a match space counts as empty


def build_net(
    config: CondenseConfig, dataset: Dataset, outer: int, device: torch.device, space: SearchSpace | None = None
) -> nn.Module:
    """The net of outer step ``outer``, freshly initialised on ``device``: of one family, or drawn from a space.

    Args:
        space: the match space of ``config``, where it has been read; None: its file is read now.

    Raises:
        NasproxyError: for an unknown family, options that cannot be built, or a space without a net for these data.
    """
    seed = derive_seed(config.seed, "net", outer)
    if config.match_space is not None:
        space = load_space(config.match_space) if space is None else space
        net = _drawn_net(space, dataset, np.random.default_rng(seed), seed, device)
    else:
        if config.network not in NETWORKS:
            raise unknown("network", config.network, NETWORKS)
        depth = config.depth or depth_for_image(*dataset.input_shape[1:])
        options = family_options(config.network, width=config.width, depth=depth, norm=config.norm)
        family = partial(NETWORKS[config.network], dataset.input_shape, dataset.num_classes, **options)
        net = seeded(family, seed, device)
    for layer in net.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]  # the gradients at the outputs that it would overwrite are needed
        if isinstance(layer, DROPOUTS):
            layer.p = 0.0  # real and synthetic images must meet the same net
    return net.train()


def judging_part(net: nn.Module, input_shape: tuple[int, int, int], device: torch.device) -> int | None:
    """The number of real images that go through ``net`` in one pass, with frozen batch norms.

    On a CUDA device it is what the memory has room for, on a CPU what trains fastest. None: all of them.
    """
    if device.type == "cpu":
        return images_per_pass(net, input_shape, device)
    return max(1, room(device) // activation_bytes(copy.deepcopy(net).eval(), input_shape))


def _drawn_net(
    space: SearchSpace, dataset: Dataset, rng: np.random.Generator, seed: int, device: torch.device
) -> nn.Module:
    reason = ""
    for _ in range(NUM_DRAWS):
        params = space.sample(rng).params
        try:
            return seeded(partial(space.build, params, dataset.input_shape, dataset.num_classes), seed, device)
        except NasproxyError as error:
            reason = str(error)
    raise NasproxyError(f"No net of space '{space.name}' fits these data in {NUM_DRAWS} draws; the last one: {reason}")


def freeze_batch_norm(net: nn.Module, images: Tensor) -> None:
    """Sets the statistics of every batch norm of ``net`` to those of ``images`` and freezes them.

    [DC] freezes statistics taken from real images, because a handful of synthetic ones has none to speak of. Differs
    from the reference: the statistics are those of this batch, not a running mean that starts at (0, 1), and they stay
    frozen while the net trains on the synthetic set.
    """
    layers = batch_norms(net)
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    with torch.no_grad():
        net(images)
    for layer in layers:
        layer.eval()


def freeze_on_real(net: nn.Module, real: RealBatches, config: CondenseConfig, stream: torch.Generator) -> None:
    """:func:`freeze_batch_norm` on ``batch_norm_images`` real images of each class; without any, draws nothing."""
    if batch_norms(net):
        size = config.batch_norm_images
        freeze_batch_norm(net, real.take(real.draw(size, stream).flatten()[real.valid(size)]))


def batch_norms(net: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The batch norms of ``net``."""
    return [layer for layer in net.modules() if isinstance(layer, BATCH_NORMS)]


def train_net(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: CondenseConfig,
    stream: torch.Generator,
    *,
    at_once: int,
    loss: Loss = net_loss,
) -> None:
    """ς_θ epochs of plain SGD on the synthetic set, in batches of ``batch_net``, shuffled when there are several.

    Augmented as [DSA] does, when there is an augmentation: every image for itself. ``at_once`` images go through the
    net together; the gradient is that of the whole batch.
    """
    n = len(images)
    for _ in range(config.loops[1]):
        if n <= config.batch_net:
            batches: Sequence[Tensor] = (torch.arange(n, device=images.device),)
        else:
            batches = torch.randperm(n, generator=stream, device=images.device).split(config.batch_net)
        for batch in batches:
            augmented = _augmented(images[batch], config, stream)
            _step(net, augmented, labels[batch], config, at_once=at_once, loss=loss)


def train_net_on_real(
    net: nn.Module, real: RealBatches, config: CondenseConfig, stream: torch.Generator, *, at_once: int, loss: Loss
) -> None:
    """ς_θ steps of plain SGD, each on ``batch_net`` random real images ([IDC]; there with momentum)."""
    for _ in range(config.loops[1]):
        numbers = real.draw_any(config.batch_net, stream)
        images = _augmented(real.take(numbers), config, stream)
        _step(net, images, real.labels[numbers], config, at_once=at_once, loss=loss)


def _augmented(images: Tensor, config: CondenseConfig, stream: torch.Generator) -> Tensor:
    return apply_augmentation(images, sample_augmentation(config.augmentation, images.shape, stream))


def _step(net: nn.Module, images: Tensor, labels: Tensor, config: CondenseConfig, *, at_once: int, loss: Loss) -> None:
    """One step of SGD on the mean loss of ``images``, of which ``at_once`` go through the net together."""
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    n = len(images)
    size = even_parts(n, at_once)
    total: list[Tensor] = []
    for part, own in zip(images.split(size), labels.split(size), strict=True):
        shares = torch.full((len(part),), 1 / n, device=images.device)
        with first_order(config, images.device):
            value = loss(net, part, own, shares)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        total = [a.add_(b) for a, b in zip(total, gradients, strict=True)] if total else list(gradients)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.sub_(gradient, alpha=config.lr_net)


def first_order(config: CondenseConfig, device: torch.device) -> AbstractContextManager[object]:
    """For what is differentiated once, the real images' gradients and θ's own: bfloat16 when ``config`` says so.

    Weights, updates, gradients and everything that reaches the synthetic images' own gradient stay float32.
    """
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()


@cache
def compiled_loss() -> Loss:
    """:func:`~nasproxy.condense.matching.net_loss` compiled, one program per architecture and batch size."""
    return compiled_program(net_loss)
