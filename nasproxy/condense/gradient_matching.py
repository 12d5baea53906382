"""Dataset condensation by gradient matching: the algorithm of [DC], one line here for one line there.

For K freshly initialised nets, T times: match every class's gradient on the synthetic images with its gradient on a
fresh real batch, take one step on the images, then train the net for ς_θ epochs on the synthetic set.

Each random stream is named by what it is for and by (k, t), so a checkpoint holds no generator state and a resumed
build is bit-identical to an uninterrupted one on the CPU.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, algorithm 1.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.condense.random_images import draw_per_class
from nasproxy.config import CondenseConfig, config_hash
from nasproxy.datasets import Dataset
from nasproxy.errors import NasproxyError, unknown
from nasproxy.matching import DISTANCES, match_class, matched_weights
from nasproxy.networks import NETWORKS, seeded
from nasproxy.proxyset import write_atomically
from nasproxy.randomness import derive_seed, generator

CHECKPOINT_SECONDS = 120.0
NUM_SNAPSHOTS = 10

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _build_net(config: CondenseConfig, dataset: Dataset, outer: int, device: torch.device) -> nn.Module:
    if config.network not in NETWORKS:
        raise unknown("network", config.network, NETWORKS)
    options: dict[str, object] = {"width": config.width, "depth": config.depth}
    if config.network == "convnet":
        options["norm"] = config.norm
    family = NETWORKS[config.network]
    net = seeded(
        lambda: family(dataset.input_shape, dataset.num_classes, **options), derive_seed(config.seed, "net", outer)
    )
    return net.to(device).train()


class _RealImages:
    """Real batches by class: uint8 where they lie (on the device when they fit), normalised on the device."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        self.indices = dataset.train.by_class(dataset.num_classes)
        self.images = dataset.train.images
        if device.type == "cuda" and self.images.numel() < torch.cuda.mem_get_info(device)[0] // 4:
            self.images = self.images.to(device)

    def batch(self, label: int, size: int, *stream: int | str) -> Tensor:
        """``size`` different images of class ``label``, or all of a smaller class, as float ``(·, c, h, w)``."""
        indices = self.indices[label]
        chosen = indices[torch.randperm(len(indices), generator=generator(*stream, label))[:size]]
        return self.dataset.normalize(self.images[chosen.to(self.images.device)].to(self.device))


def freeze_batch_norm(net: nn.Module, images: Tensor) -> None:
    """Sets the statistics of every batch norm of ``net`` to those of ``images`` and freezes them.

    [DC] freezes statistics taken from real images, because a handful of synthetic ones has none to speak of. Differs
    from the reference: the statistics are those of this batch, not a running mean that starts at (0, 1), and they stay
    frozen while the net trains on the synthetic set.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, BATCH_NORMS)]
    if not layers:
        return
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    with torch.no_grad():
        net(images)
    for layer in layers:
        layer.eval()


def train_net(net: nn.Module, images: Tensor, labels: Tensor, config: CondenseConfig, *stream: int | str) -> None:
    """ς_θ epochs of plain SGD on the synthetic set, in batches of ``batch_net``, shuffled when there are several."""
    parameters = list(net.parameters())
    n = len(images)
    for epoch in range(config.loops[1]):
        if n <= config.batch_net:
            batches: tuple[Tensor, ...] = (torch.arange(n, device=images.device),)
        else:
            order = torch.randperm(n, generator=generator(*stream, epoch)).to(images.device)
            batches = order.split(config.batch_net)
        for index in batches:
            gradients = torch.autograd.grad(functional.cross_entropy(net(images[index]), labels[index]), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.sub_(gradient, alpha=config.lr_net)


def initial_images(dataset: Dataset, config: CondenseConfig) -> Tensor:
    """``(C · ipc, c, h, w)`` float32, sorted by class: standard normal noise, or real images of each class."""
    if config.init == "real":
        real = draw_per_class(dataset.train, dataset.num_classes, config.ipc, config.seed)
        return dataset.normalize(real.images)
    shape = (dataset.num_classes * config.ipc, *dataset.input_shape)
    return torch.randn(shape, generator=generator(config.seed, "noise"))


def layer_weights(net: nn.Module, config: CondenseConfig) -> tuple[float, ...]:
    """One weight per matched layer; ones unless the settings name them."""
    num_layers = len(matched_weights(net))
    if config.layer_weights is None:
        return (1.0,) * num_layers
    if len(config.layer_weights) != num_layers or min(config.layer_weights) < 0:
        raise NasproxyError(
            f"`layer_weights` needs {num_layers} numbers ≥ 0, one per convolution and linear layer of the net, "
            f"but got {list(config.layer_weights)}."
        )
    return config.layer_weights


def checkpoint_key(dataset: Dataset, config: CondenseConfig) -> str:
    """What must be equal for a checkpoint to be continued: every setting and the data."""
    return config_hash(config.as_json(), dataset.fingerprint)


def _save_checkpoint(
    path: Path, key: str, config: CondenseConfig, position: tuple[int, int], seconds: float, tensors: dict[str, Tensor]
) -> None:
    from safetensors.torch import save

    header = {
        "key": key,
        "config": config.as_json(),
        "outer": position[0],
        "inner": position[1],
        "seconds": seconds,
    }
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"nasproxy-checkpoint": json.dumps(header)},
    )
    write_atomically(path, data)


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["nasproxy-checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise NasproxyError(f"The checkpoint '{path}' cannot be read ({error}): delete it to start again.") from None
    return header, tensors


def checkpoint_config(path: Path) -> CondenseConfig:
    """The settings with which the interrupted build at ``path`` was started.

    Raises:
        NasproxyError: when the checkpoint cannot be read.
    """
    values = _read_checkpoint(path)[0]["config"]
    if values["layer_weights"] is not None:
        values["layer_weights"] = tuple(values["layer_weights"])
    return CondenseConfig(**values)


def gradient_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    on_snapshot: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor, float]:
    """Learns ``ipc`` images per class whose training gradients resemble those of the real classes ([DC], algorithm 1).

    Args:
        checkpoint: written every two minutes and continued when it exists; deleted at the end.
        progress: called with (matchings done, matchings in total, note with the current distance).
        on_snapshot: called with (outer steps done, images ``(n, c, h, w)`` normalised) ten times over the run.

    Returns:
        images ``(C · ipc, c, h, w)`` normalised float32 and labels ``(C · ipc,)`` int64, sorted by class, on the CPU;
        and the seconds of work, those before an interruption included.

    Raises:
        NasproxyError: for settings that do not fit the data, a foreign checkpoint, or a distance that is not finite.
    """
    started = time.perf_counter()
    config = config.for_image(dataset.input_shape)
    real = _RealImages(dataset, device)
    for label, indices in enumerate(real.indices):
        if len(indices) == 0:
            raise NasproxyError(f"Every class needs training images, but '{dataset.class_names[label]}' has none.")
    distance = DISTANCES[config.distance]
    inner_steps, _ = config.loops
    num_classes, ipc = dataset.num_classes, config.ipc
    key = checkpoint_key(dataset, config)

    images = initial_images(dataset, config).to(device)
    velocity = torch.zeros_like(images)
    labels = torch.arange(num_classes, device=device).repeat_interleave(ipc)
    first_outer = first_inner = 0
    net_state: dict[str, Tensor] = {}
    seconds_before = 0.0
    if checkpoint is not None and checkpoint.exists():
        header, saved = _read_checkpoint(checkpoint)
        if header["key"] != key:
            raise NasproxyError(
                f"The checkpoint '{checkpoint}' belongs to other settings or data: delete it to start again, "
                "or choose another --out."
            )
        first_outer, first_inner, seconds_before = header["outer"], header["inner"], header["seconds"]
        images, velocity = saved.pop("images").to(device), saved.pop("velocity").to(device)
        net_state = {name.removeprefix("net."): tensor for name, tensor in saved.items()}
    last_checkpoint = time.perf_counter()
    snapshot_every = max(1, config.outer_steps // NUM_SNAPSHOTS)

    for outer in range(first_outer, config.outer_steps):
        net = _build_net(config, dataset, outer, device)
        weights_of_layers = layer_weights(net, config)
        start_inner = 0
        if outer == first_outer and first_inner > 0:
            net.load_state_dict(net_state)
            start_inner = first_inner
        for inner in range(start_inner, inner_steps):
            if any(isinstance(layer, BATCH_NORMS) for layer in net.modules()):
                stream = (config.seed, "batch-norm", outer, inner)
                batches = [real.batch(c, config.batch_norm_images, *stream) for c in range(num_classes)]
                freeze_batch_norm(net, torch.cat(batches))
            gradient = torch.empty_like(images)
            total = torch.zeros((), device=device)
            for label in range(num_classes):
                own = slice(label * ipc, (label + 1) * ipc)
                value, gradient[own] = match_class(
                    net,
                    images[own],
                    real.batch(label, config.batch_real, config.seed, "real", outer, inner),
                    label,
                    distance=distance,
                    layer_weights=weights_of_layers,
                )
                total += value
            velocity = config.momentum_img * velocity + gradient
            images = images - config.image_lr * velocity
            if inner < inner_steps - 1:  # after the last matching the net is thrown away
                train_net(net, images, labels, config, config.seed, "net-order", outer, inner)

            done = outer * inner_steps + inner + 1
            if progress is not None or done == config.outer_steps * inner_steps:
                current = total.item()
                if not torch.isfinite(total):
                    raise NasproxyError(
                        f"The matching distance became {current} at outer step {outer + 1}, matching {inner + 1}: "
                        f"use a smaller --lr-img (now {config.image_lr:g})."
                    )
                if progress is not None:
                    progress(done, config.outer_steps * inner_steps, f"distance {current:.3f}")
            if checkpoint is not None and time.perf_counter() - last_checkpoint >= CHECKPOINT_SECONDS:
                position = (outer, inner + 1) if inner + 1 < inner_steps else (outer + 1, 0)
                tensors = {"images": images, "velocity": velocity}
                if position[1] > 0:
                    tensors |= {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
                _save_checkpoint(
                    checkpoint, key, config, position, seconds_before + time.perf_counter() - started, tensors
                )
                last_checkpoint = time.perf_counter()
        if on_snapshot is not None and ((outer + 1) % snapshot_every == 0 or outer + 1 == config.outer_steps):
            on_snapshot(outer + 1, images.cpu())
    seconds = seconds_before + time.perf_counter() - started
    return images.cpu(), labels.cpu(), seconds


def estimate_seconds(dataset: Dataset, config: CondenseConfig, device: torch.device) -> float:
    """Seconds that :func:`gradient_matching` will take, from timing one class's matching and one epoch of the net.

    Work grows linearly in classes, matchings and net epochs; each part is run once to warm up and once timed.
    """
    config = config.for_image(dataset.input_shape)
    inner_steps, net_steps = config.loops
    real = _RealImages(dataset, device)
    net = _build_net(config, dataset, 0, device)
    images = initial_images(dataset, config).to(device)
    labels = torch.arange(dataset.num_classes, device=device).repeat_interleave(config.ipc)

    def timed(work: Callable[[], object]) -> float:
        for _ in range(2):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return time.perf_counter() - start

    match = timed(
        lambda: match_class(
            net,
            images[: config.ipc],
            real.batch(0, config.batch_real, config.seed, "estimate"),
            0,
            distance=DISTANCES[config.distance],
            layer_weights=layer_weights(net, config),
        )
    )
    epoch = timed(lambda: train_net(net, images, labels, replace(config, net_steps=1), config.seed, "estimate"))
    per_outer = inner_steps * dataset.num_classes * match + (inner_steps - 1) * net_steps * epoch
    return config.outer_steps * per_outer
