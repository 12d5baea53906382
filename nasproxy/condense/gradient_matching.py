"""Dataset condensation by gradient matching: the algorithm of [DC], one line here for one line there.

For K freshly initialised nets, T times: match every class's gradient on the synthetic images with its gradient on a
fresh real batch, take one step on the images, then train the net for ς_θ epochs on the synthetic set.

All random numbers of a matching come from one stream named by (k, t), on the device, so a checkpoint holds no generator
state and a resumed build is bit-identical to an uninterrupted one on the CPU. Nothing is read back from the device but
the distance, for the progress bar, and checkpoints.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, algorithm 1. [DSA] Zhao,
Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021. [IDC] Kim et al., "Dataset
Condensation via Efficient Synthetic-Data Parameterization", ICML 2022. [Acc-DD], [DREAM]: see faster.py.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nasproxy.augment import apply_augmentation, sample_augmentation, sample_siamese
from nasproxy.chunks import activation_bytes, class_chunks, even_parts, room
from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.faster import EarlyNets, early_recipe, perturb, representative_images, representatives_of
from nasproxy.condense.random_images import draw_per_class
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.datasets import Dataset
from nasproxy.devices import cpu_threads, float32_as
from nasproxy.errors import NasproxyError, unknown
from nasproxy.formation import decode, encode
from nasproxy.matching import (
    DISTANCES,
    Loss,
    class_gradients,
    match_classes,
    matched_weights,
    net_loss,
)
from nasproxy.networks import NETWORKS, seeded
from nasproxy.peers import add_up, num_peers, own_rank
from nasproxy.randomness import derive_seed, generator
from nasproxy.spaces import SearchSpace, load_space
from nasproxy.train import num_updates

CHECKPOINT_SECONDS = 120.0
PROGRESS_SECONDS = 0.5  # between read-backs from a CUDA device
NUM_SNAPSHOTS = 10
COMPILE_FROM_SECONDS = 900.0  # compiling takes up to a minute and gives back a tenth or more
COMPILED = 0.95  # of the uncompiled time: below, the compiled program is taken
FEWER_THREADS = 0.9  # of the time with twice as many: below, fewer are taken; timings scatter by some percent

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

NUM_DRAWS = 100  # architectures tried before a match space counts as empty
LEAST_PERTURBATION = 0.01  # as in the published code of [Acc-DD], where the largest is 0.09


# ---------------------------------------------------------------------------------------------------------- the net θ


def build_net(config: CondenseConfig, dataset: Dataset, outer: int, device: torch.device) -> nn.Module:
    """The net of outer step ``outer``, freshly initialised on ``device``: of one family, or drawn from a space.

    Raises:
        NasproxyError: for an unknown family, options that cannot be built, or a space without a net for these data.
    """
    seed = derive_seed(config.seed, "net", outer)
    if config.match_space is not None:
        net = _drawn_net(load_space(config.match_space), dataset, np.random.default_rng(seed), seed, device)
    else:
        if config.network not in NETWORKS:
            raise unknown("network", config.network, NETWORKS)
        options: dict[str, object] = {}
        if config.network in ("convnet", "mlp"):
            options = {"width": config.width, "depth": config.depth}
        if config.network != "mlp":
            options["norm"] = config.norm
        family = partial(NETWORKS[config.network], dataset.input_shape, dataset.num_classes, **options)
        net = seeded(family, seed, device)
    for layer in net.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]  # the gradients at the outputs that it would overwrite are needed
        if isinstance(layer, DROPOUTS):
            layer.p = 0.0  # real and synthetic images must meet the same net
    return net.train()


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
        _step(net, images, real.labels[numbers].to(images.device), config, at_once=at_once, loss=loss)


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
        value = loss(net, part, own, shares)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        total = [a.add_(b) for a, b in zip(total, gradients, strict=True)] if total else list(gradients)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.sub_(gradient, alpha=config.lr_net)


@cache
def compiled_loss() -> Loss:
    """:func:`~nasproxy.matching.net_loss` compiled, one program per architecture and batch size."""
    return torch.compile(net_loss, dynamic=False)


# ------------------------------------------------------------------------------------------------------- one matching


@dataclass(frozen=True)
class Chunk:
    """Real images that go through the net together: ``counts`` of the classes from ``first`` on (in their group)."""

    first: int
    counts: tuple[int, ...]
    labels: Tensor  # (n,)
    shares: Tensor  # (n,)
    places: Tensor  # (n,) in the flattened draw (C · batch)


@dataclass(frozen=True)
class Group:
    """Classes whose synthetic images go through the net together: rows ``rows`` of the set, ``ipc`` each."""

    rows: slice
    classes: slice
    counts: tuple[int, ...]  # of the images that the net sees
    labels: Tensor  # (n,) of these
    chunks: tuple[Chunk, ...]


def plan_groups(net: nn.Module, real: RealBatches, config: CondenseConfig, device: torch.device) -> tuple[Group, ...]:
    """How the classes are spread over passes through ``net``, by the bytes that a pass needs and the device has."""
    shape = tuple(real.images.shape[1:])
    space = room(device)
    per_real = activation_bytes(net, shape)  # type: ignore[arg-type]
    # A class brings the graph of its gradient, and its gradient four times: both sides and the distance's two factors.
    seen = config.ipc * config.formation**2
    per_class = seen * activation_bytes(net, shape, second_order=True)  # type: ignore[arg-type]
    per_class += 4 * sum(weight.nbytes for weight in matched_weights(net))
    num_classes = len(real.sizes)
    width = min(config.batch_real, max(real.sizes))
    groups, start = [], 0
    for size in even_parts(num_classes, min(space // per_class, -(-num_classes // num_peers()))):
        labels = range(start, start + size)
        chunks = []
        counts = [real.count(label, width) for label in labels]
        for pieces in class_chunks(labels, counts, space // per_real):
            chunks.append(
                Chunk(
                    first=pieces[0].label - start,
                    counts=tuple(piece.count for piece in pieces),
                    labels=torch.tensor([piece.label for piece in pieces for _ in range(piece.count)], device=device),
                    shares=torch.tensor(
                        [1 / counts[piece.label - start] for piece in pieces for _ in range(piece.count)], device=device
                    ),
                    places=torch.cat(
                        [torch.arange(piece.start, piece.stop) + piece.label * width for piece in pieces]
                    ).to(real.images.device),
                )
            )
        groups.append(
            Group(
                rows=slice(start * config.ipc, (start + size) * config.ipc),
                classes=slice(start, start + size),
                counts=(seen,) * size,
                labels=torch.arange(start, start + size, device=device).repeat_interleave(seen),
                chunks=tuple(chunks),
            )
        )
        start += size
    return tuple(groups)


View = Callable[[Tensor, Tensor], Tensor]  # what the net sees of images (n, c, h, w) of classes (n,)


def real_gradients(
    net: nn.Module,
    group: Group,
    drawn: Tensor,
    real: RealBatches,
    *,
    view: View,
    precision: AbstractContextManager[object],
    loss: Loss,
) -> list[Tensor]:
    """∇_θ L(B_c, θ) of every class of ``group`` for the real images ``drawn`` ``(C, batch)``, chunk by chunk."""
    places = drawn.flatten()
    sums: list[Tensor] = []
    for chunk in group.chunks:
        images = view(real.take(places[chunk.places]), chunk.labels)
        with precision:
            gradients = class_gradients(net, images, chunk.labels, chunk.shares, chunk.counts, loss=loss)
        if len(chunk.counts) == len(group.counts) and len(group.chunks) == 1:
            return list(gradients)
        if not sums:
            sums = [gradient.new_zeros((len(group.counts), *gradient.shape[1:])) for gradient in gradients]
        for total, gradient in zip(sums, gradients, strict=True):
            total[chunk.first : chunk.first + len(chunk.counts)].add_(gradient)
    return sums


def match(
    net: nn.Module,
    images: Tensor,
    groups: Sequence[Group],
    real: RealBatches,
    config: CondenseConfig,
    stream: torch.Generator,
    *,
    chosen: Tensor | None = None,
    loss: Loss = net_loss,
) -> tuple[Tensor, Tensor]:
    """One matching of all classes: with the real images ``chosen`` ``(C, batch)``, or with fresh random ones.

    With several processes each matches its share of the groups, and all of them get all of the result.

    Returns:
        The distances ``(C,)``, and the image gradient ``(n, c, h, w)``.
    """
    drawn = real.draw(config.batch_real, stream) if chosen is None else chosen
    _, channels, height, width = images.shape
    augmentation = sample_siamese(config.augmentation, len(real.sizes), (channels, height, width), stream)

    def view(batch: Tensor, labels: Tensor) -> Tensor:
        return batch if augmentation is None else apply_augmentation(batch, augmentation.take(labels))

    def view_stored(stored: Tensor, labels: Tensor) -> Tensor:
        return view(decode(stored, config.formation), labels)

    bfloat16 = config.precision == "bfloat16"
    distances = torch.zeros(len(real.sizes), device=images.device)
    gradient = torch.zeros_like(images)
    for group in groups[own_rank() :: num_peers()]:
        precision = torch.autocast(images.device.type, torch.bfloat16) if bfloat16 else nullcontext()
        distances[group.classes], gradient[group.rows] = match_classes(
            net,
            images[group.rows],
            group.labels,
            group.counts,
            real_gradients(net, group, drawn, real, view=view, precision=precision, loss=loss),
            distance=DISTANCES[config.distance],
            layer_weights=layer_weights(net, config),
            view=partial(view_stored, labels=group.labels),
        )
    return add_up(distances), add_up(gradient)


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


# -------------------------------------------------------------------------------------------------------- algorithm 1


def initial_images(dataset: Dataset, config: CondenseConfig) -> Tensor:
    """``(C · ipc, c, h, w)`` float32, sorted by class: standard normal noise, or real images of each class."""
    if config.init == "real":
        real = draw_per_class(dataset.train, dataset.num_classes, config.ipc * config.formation**2, config.seed)
        return encode(dataset.normalize(real.images), config.formation)
    shape = (dataset.num_classes * config.ipc, *dataset.input_shape)
    return torch.randn(shape, generator=generator(config.seed, "noise"))


def matching_stream(config: CondenseConfig, outer: int, inner: int, device: torch.device) -> torch.Generator:
    """Every random number of one matching and of the net training after it, in the order of their use."""
    return generator(config.seed, "matching", outer, inner, device=device)


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
        checkpoint: written every two minutes and at the end, and continued when it exists.
        progress: called with (matchings done, matchings in total, note with the current distance).
        on_snapshot: called with (outer steps done, images ``(n, c, h, w)`` normalised) ten times over the run.

    Returns:
        images ``(C · ipc, c, h, w)`` normalised float32 and labels ``(C · ipc,)`` int64, sorted by class, on the CPU;
        and the seconds of work, those before an interruption included.

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
    labels = torch.arange(dataset.num_classes, device=device).repeat_interleave(config.ipc)
    seen_labels = labels.repeat_interleave(config.formation**2)
    position = Position()
    net_state: dict[str, Tensor] = {}
    chosen: Tensor | None = None
    if checkpoint is not None and checkpoint.exists():
        position, saved = load_checkpoint(checkpoint, key)
        # Copied into memory of their own: where a tensor begins decides how a sum over it is ordered, so its last bits.
        images, velocity = (torch.empty_like(images).copy_(saved.pop(name)) for name in ("images", "velocity"))
        if "chosen" in saved:
            chosen = saved.pop("chosen").to(real.images.device)
        net_state = {name.removeprefix("net."): tensor for name, tensor in saved.items()}
    last_checkpoint = last_progress = time.perf_counter()
    loss = compiled_loss() if config.compile else net_loss
    norm_places = real.valid(config.batch_norm_images)
    snapshot_every = max(1, config.outer_steps // NUM_SNAPSHOTS)
    total_steps = config.outer_steps * inner_steps

    with float32_as(config.precision), cpu_threads(config.threads):
        for outer in range(position.outer, config.outer_steps):
            net = early.draw(outer) if config.pool else fresh(outer)
            if config.perturbation:
                lowest = min(LEAST_PERTURBATION, config.perturbation)
                perturb(net, lowest, config.perturbation, generator(config.seed, "perturbation", outer, device=device))
            if outer == position.outer or config.match_space is not None:
                groups = plan_groups(net, real, config, device)
                at_once = room(device) // activation_bytes(net, dataset.input_shape)
            start_inner = position.inner if outer == position.outer else 0
            if start_inner > 0:
                net.load_state_dict(net_state)
            for inner in range(start_inner, inner_steps):
                stream = matching_stream(config, outer, inner, real.images.device)
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
    return images.cpu(), labels.cpu(), position.seconds + time.perf_counter() - started


def siamese_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    on_snapshot: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor, float]:
    """:func:`gradient_matching` with one augmentation for a class's real and synthetic images ([DSA]).

    Raises:
        NasproxyError: without an augmentation, and as :func:`gradient_matching` does.
    """
    if config.augmentation == "none":
        raise NasproxyError("Method 'dsa' needs an augmentation, but got augmentation='none': use 'dsa'.")
    return gradient_matching(
        dataset, config, device=device, checkpoint=checkpoint, progress=progress, on_snapshot=on_snapshot
    )


@dataclass(frozen=True)
class Estimate:
    """``seconds`` that a build will take, and how: ``threads`` of the CPU (None on a CUDA device), compiled or not."""

    seconds: float
    threads: int | None
    compile: bool = False


def estimate(dataset: Dataset, config: CondenseConfig, device: torch.device) -> Estimate:
    """How long :func:`gradient_matching` will take, from timing one group's matching and one epoch of the net.

    Work grows linearly in classes, matchings and net epochs; each part is run once to warm up and once timed. On a CPU
    the threads are chosen by the same timing, unless ``config`` names them: small nets can be slower on many, and on a
    machine that is busy all of them wait for the slowest. A build that is long enough is also timed compiled.
    """
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    inner_steps, net_steps = config.loops
    real = RealBatches(dataset, device)
    net = build_net(config, dataset, 0, device)
    for layer in batch_norms(net):
        layer.eval()
    groups = plan_groups(net, real, config, device)[:1]
    images = initial_images(dataset, config).to(device)
    labels = torch.arange(dataset.num_classes, device=device).repeat_interleave(config.ipc * config.formation**2)
    at_once = room(device) // activation_bytes(net, dataset.input_shape)
    one_epoch = replace(config, net_steps=1)

    def timed(work: Callable[[torch.Generator], object]) -> float:
        for _ in range(2):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            work(matching_stream(config, 0, 0, real.images.device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return time.perf_counter() - start

    def train(settings: CondenseConfig, loss: Loss, stream: torch.Generator) -> None:
        if settings.net_data == "real":
            train_net_on_real(net, real, settings, stream, at_once=at_once, loss=loss)
        else:
            seen = decode(images, config.formation)
            train_net(net, seen, labels, settings, stream, at_once=at_once, loss=loss)

    def seconds(threads: int | None, loss: Loss = net_loss) -> float:
        with float32_as(config.precision), cpu_threads(threads):
            matching = timed(lambda stream: match(net, images, groups, real, config, stream, loss=loss))
            epoch = timed(partial(train, one_epoch, loss))
        matching *= dataset.num_classes / len(groups[0].counts)
        return config.num_sets * config.outer_steps * (inner_steps * matching + (inner_steps - 1) * net_steps * epoch)

    def extra_seconds(threads: int | None) -> float:
        """Of choosing real images by k-means and of training the pool."""
        extra = 0.0
        with float32_as(config.precision), cpu_threads(threads):
            if config.real_choice == "kmeans":
                one_class = timed(lambda _: representatives_of(net, real, 0, config.batch_real, config.seed))
                extra += (
                    config.outer_steps * -(-inner_steps // config.choice_interval) * dataset.num_classes * one_class
                )
            if config.pool:
                recipe = early_recipe(config.pool_epochs)
                one_step = replace(config, net_data="real", net_steps=1, batch_net=recipe.batch_size)
                updates = min(config.pool, config.outer_steps) * num_updates(recipe, len(dataset.train))
                extra += updates * timed(partial(train, one_step, net_loss))
        return config.num_sets * extra

    def best_threads() -> Estimate:
        threads = torch.get_num_threads()
        best = Estimate(seconds(threads), threads)
        while threads > 1:
            threads //= 2
            fewer = Estimate(seconds(threads), threads)
            if fewer.seconds > FEWER_THREADS * best.seconds:
                break
            best = fewer
        return best

    if config.compile:
        needed = seconds(config.threads, compiled_loss()) + extra_seconds(config.threads)
        return Estimate(needed, config.threads, True)
    if device.type != "cpu" or config.threads is not None:
        plain = Estimate(seconds(config.threads), config.threads)
    else:
        plain = best_threads()
    extra = extra_seconds(plain.threads)
    plain = replace(plain, seconds=plain.seconds + extra)
    if config.compile is False or plain.seconds < COMPILE_FROM_SECONDS or config.match_space is not None:
        return plain
    if device.type == "cpu" and shutil.which("c++") is None:
        return plain
    try:
        compiled = seconds(plain.threads, compiled_loss()) + extra
    except Exception:  # noqa: BLE001  a broken compiler fails in many ways, and none of them is a reason not to build the set
        return plain
    return replace(plain, seconds=compiled, compile=True) if compiled < COMPILED * plain.seconds else plain
