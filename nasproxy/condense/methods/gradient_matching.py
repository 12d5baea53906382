"""Dataset condensation by gradient matching: the algorithm of [DC], one line here for one line there.

For K freshly initialised nets, T times: match every class's gradient on the synthetic images with its gradient on a
fresh real batch, take one step on the images, then train the net for ς_θ epochs on the synthetic set.

All random numbers of a matching come from one stream named by (k, t), on the device, so a checkpoint holds no generator
state and a resumed build is bit-identical to an uninterrupted one on the CPU. Nothing is read back from the device but
the distance, for the progress bar, and checkpoints.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, algorithm 1. [DSA] Zhao,
Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasproxy.condense.accelerations import EarlyNets, perturb, representative_images
from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.class_matching import match, plan_groups
from nasproxy.condense.contract import Condensed, Progress, Snapshot
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.matching import net_loss
from nasproxy.condense.matching_nets import (
    batch_norms,
    build_net,
    compiled_loss,
    freeze_batch_norm,
    train_net,
    train_net_on_real,
)
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import activation_bytes, room
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.distributed import own_rank
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset
from nasproxy.data.multi_formation import decode

CHECKPOINT_SECONDS = 120.0
PROGRESS_SECONDS = 0.5  # between read-backs from a CUDA device
NUM_SNAPSHOTS = 10


def matching_stream(config: CondenseConfig, outer: int, inner: int, device: torch.device) -> torch.Generator:
    """Every random number of one matching and of the net training after it, in the order of their use."""
    return generator(config.seed, "matching", outer, inner, device=device)


def gradient_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> Condensed:
    """Learns ``ipc`` images per class whose training gradients resemble those of the real classes ([DC], algorithm 1).

    Args:
        checkpoint: written every two minutes and at the end, and continued when it exists.
        progress: called with (matchings done, matchings in total, note with the current distance).
        on_snapshot: called with (outer steps done, images ``(n, c, h, w)`` normalised) ten times over the run.

    Returns:
        The set, with hard labels.

    Raises:
        NasproxyError: for settings that do not fit the data, a foreign checkpoint, or a distance that is not finite.
    """
    started = time.perf_counter()
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    real = RealBatches(dataset, device)
    inner_steps, _ = config.loops
    key = checkpoint_key(dataset, config)
    fresh = partial(build_net, config, dataset, device=device)
    early = EarlyNets(config.pool, config.pool_epochs, fresh, real, config.seed)

    images = initial_images(dataset, config).to(device)
    velocity = torch.zeros_like(images)
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    position = Position()
    net_state: dict[str, Tensor] = {}
    chosen: Tensor | None = None
    if checkpoint is not None and checkpoint.exists():
        position, saved = load_checkpoint(checkpoint, key)
        # Copied into memory of their own: where a tensor begins decides how a sum over it is ordered, so its last bits.
        images, velocity = (torch.empty_like(images).copy_(saved.pop(name)) for name in ("images", "velocity"))
        if "chosen" in saved:
            chosen = saved.pop("chosen").to(device)
        net_state = {name.removeprefix("net."): tensor for name, tensor in saved.items()}
    last_checkpoint = last_progress = time.perf_counter()
    loss = compiled_loss() if config.compile else net_loss
    norm_places = real.valid(config.batch_norm_images)
    snapshot_every = max(1, config.outer_steps // NUM_SNAPSHOTS)
    total_steps = config.outer_steps * inner_steps

    with float32_as(config.precision or "float32"), cpu_threads(config.threads):
        for outer in range(position.outer, config.outer_steps):
            net = early.draw(outer) if config.pool else fresh(outer)
            if config.perturbation:
                perturb(net, config.perturbation, generator(config.seed, "perturbation", outer, device=device))
            if outer == position.outer or config.match_space is not None:
                groups = plan_groups(net, real, config, device)
                at_once = room(device) // activation_bytes(net, dataset.input_shape)
            start_inner = position.inner if outer == position.outer else 0
            if start_inner > 0:
                net.load_state_dict(net_state)
            for inner in range(start_inner, inner_steps):
                stream = matching_stream(config, outer, inner, device)
                if batch_norms(net):
                    drawn = real.draw(config.batch_norm_images, stream)
                    freeze_batch_norm(net, real.take(drawn.flatten()[norm_places]))
                if config.real_choice == "kmeans" and inner % config.choice_interval == 0:
                    seed = derive_seed(config.seed, "representatives", outer, inner)
                    chosen = representative_images(net, real, config.batch_real, seed)
                distances, gradient = match(net, images, groups, real, config, stream, chosen=chosen, loss=loss)
                velocity.mul_(config.momentum_img).add_(gradient)
                images.sub_(velocity, alpha=config.image_lr)
                if inner < inner_steps - 1:  # after the last matching the net is thrown away
                    if config.net_data == "real":
                        train_net_on_real(net, real, config, stream, at_once=at_once, loss=loss)
                    else:
                        seen = decode(images, config.formation)
                        train_net(net, seen, seen_labels, config, stream, at_once=at_once, loss=loss)

                done = outer * inner_steps + inner + 1
                now = time.perf_counter()
                if device.type == "cpu" or now - last_progress >= PROGRESS_SECONDS or done == total_steps:
                    last_progress = now
                    current = distances.sum().item()
                    if not np.isfinite(current):
                        raise NasproxyError(
                            f"The matching distance became {current} at outer step {outer + 1}, matching {inner + 1}: "
                            f"use a smaller --lr-img (now {config.image_lr:g})."
                        )
                    if progress is not None and own_rank() == 0:
                        progress(done, total_steps, f"distance {current:.3f}")
                if (
                    checkpoint is not None
                    and own_rank() == 0
                    and (now - last_checkpoint >= CHECKPOINT_SECONDS or done == total_steps)
                ):
                    last_checkpoint = now
                    reached = (outer, inner + 1) if inner + 1 < inner_steps else (outer + 1, 0)
                    tensors = {"images": images, "velocity": velocity}
                    if reached[1] > 0:
                        tensors |= {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
                        if chosen is not None:
                            tensors["chosen"] = chosen
                    seconds = position.seconds + now - started
                    save_checkpoint(checkpoint, key, config, Position(*reached, seconds), tensors)
            if (
                on_snapshot is not None
                and own_rank() == 0
                and ((outer + 1) % snapshot_every == 0 or outer + 1 == config.outer_steps)
            ):
                on_snapshot(outer + 1, images.clone().cpu())
    return Condensed(images.cpu(), labels.cpu(), position.seconds + time.perf_counter() - started)


def siamese_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> Condensed:
    """Gradient matching under one augmentation for a class's real and synthetic images ([DSA]).

    The algorithm is :func:`gradient_matching`; the name stands for other settings (``METHOD_SETTINGS``).
    """
    return gradient_matching(
        dataset, config, device=device, checkpoint=checkpoint, progress=progress, on_snapshot=on_snapshot
    )
