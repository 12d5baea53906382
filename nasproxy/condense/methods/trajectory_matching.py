"""Trajectory matching: training on the synthetic set follows, in few steps, the way of nets trained on the real data.

First, experts: nets trained on all real images, whose weights are kept after every epoch. Then every outer step takes
the weights of one of them after t epochs, trains from there on the synthetic set for N steps of a learned size, and
lowers the distance to the expert's weights M epochs later. The gradient goes back through all N steps (unroll.py).

References: [MTT] Cazenavette, Wang, Torralba, Efros, Zhu, "Dataset Distillation by Matching Training Trajectories",
CVPR 2022, algorithm 1, and the implementation published with it, from which the constants are.
"""

from __future__ import annotations

import glob
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.contract import Condensed, Progress, Snapshot
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.loop import learn
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import (
    FunctionalNet,
    State,
    parameter_distance,
    pull_back,
    run_steps,
    sgd_step,
    stride_for,
)
from nasproxy.config import CondenseConfig, Recipe, config_hash
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset
from nasproxy.data.augment import AugmentParams, apply_augmentation, sample_augmentation
from nasproxy.data.multi_formation import decode
from nasproxy.training.fit import Curve, Passes, fit, images_per_pass, num_updates
from nasproxy.training.images import TrainingImages

STEP_SIZE_LR = 1e-5  # of the learned step size; its momentum is that of the images
LEAST_STEP_SIZE = 1e-4
EXPERT_BATCH = 256
GOING_BACK = 4  # training on an image and going back through it costs so many times as training on it


# ------------------------------------------------------------------------------------------------------------- experts


def expert_file(checkpoint: Path, number: int) -> Path:
    """Where a build with this ``checkpoint`` keeps the weights of expert ``number`` (from 0)."""
    return checkpoint.with_name(f"{checkpoint.stem}.expert-{number}{checkpoint.suffix}")


def expert_files(checkpoint: Path) -> list[Path]:
    """The experts that a build with this ``checkpoint`` has left; of no use once its set is saved."""
    return sorted(checkpoint.parent.glob(f"{glob.escape(checkpoint.stem)}.expert-*{checkpoint.suffix}"))


def trained_epochs(config: CondenseConfig) -> int:
    """Epochs of an expert that some outer step can use; later ones change nothing, and are not trained."""
    return min(config.expert_epochs, config.start_epochs + config.target_epochs)


def expert_recipe(config: CondenseConfig) -> Recipe:
    """How an expert is trained: plain SGD, which a synthetic set can follow more easily than momentum ([MTT])."""
    return Recipe(
        lr=config.lr_net,
        epochs=trained_epochs(config),
        batch_size=EXPERT_BATCH,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        augmentation=config.augmentation,
    )


def updates_followed(dataset: Dataset, config: CondenseConfig) -> int:
    """What an expert does in ``target_epochs``; a set that makes many more steps of its size overshoots at first.

    On the 1,295 digits these are 12. Thirty steps of the same size ended further away than they had begun, and drove
    the step size far down: after 150 outer steps, nets trained on an image per class reached 66 %, from ten steps 91 %.
    """
    return config.target_epochs * math.ceil(len(dataset.train) / EXPERT_BATCH)


def flattened(net: nn.Module) -> Tensor:
    """All trainable parameters of ``net`` in one vector ``(P,)`` on the CPU."""
    return torch.cat([parameter.detach().flatten().cpu() for parameter in net.parameters() if parameter.requires_grad])


def train_expert(
    dataset: Dataset,
    config: CondenseConfig,
    real: RealBatches,
    number: int,
    on_update: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Weights of expert ``number`` at the start and after each epoch: ``(epochs + 1, P)`` on the CPU.

    Raises:
        NasproxyError: when its training diverges.
    """
    net = build_net(config, dataset, number, real.device)
    rows = [flattened(net)]

    def keep(net: nn.Module) -> float:
        rows.append(flattened(net))
        return math.nan

    recipe = expert_recipe(config)
    fit(
        net,
        TrainingImages(real.images, real.labels, real.normalize),
        recipe,
        seed=derive_seed(config.seed, "expert", number),
        device=real.device,
        passes=Passes(images_per_pass(net, dataset.input_shape, real.device)),
        curve=Curve(keep, frozenset(range(1, recipe.epochs + 1))),
        on_update=on_update,
    )
    weights = torch.stack(rows)
    if not weights.isfinite().all():
        raise NasproxyError(
            f"Expert {number + 1} of {config.num_experts} diverged on the real data: use a smaller --lr-net "
            f"(now {config.lr_net:g})."
        )
    return weights


@dataclass
class Experts:
    """The experts' weights, in files beside ``checkpoint``, or in memory when there is none.

    An expert depends on the data, the net, the seed and its training alone, not on how the set is learned: ``key``.
    """

    checkpoint: Path | None
    key: str
    shape: tuple[int, int]  # epochs + 1, parameters
    _kept: dict[int, Tensor] = field(default_factory=dict)

    def has(self, number: int) -> bool:
        """Whether expert ``number`` is there; one that cannot be read is not, which costs its training.

        Raises:
            NasproxyError: when there is one of other settings or data.
        """
        if self.checkpoint is None:
            return number in self._kept
        from safetensors import SafetensorError, safe_open

        path = expert_file(self.checkpoint, number)
        try:
            with safe_open(str(path), framework="pt") as file:
                key = json.loads((file.metadata() or {})["nasproxy-expert"])["key"]
                shape = tuple(file.get_slice("weights").get_shape())
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError):
            return False
        if key != self.key:
            raise NasproxyError(
                f"The expert '{path}' belongs to other settings or data: delete it to train it again, "
                "or choose another --out."
            )
        return shape == self.shape

    def keep(self, number: int, weights: Tensor) -> None:
        """Keeps the ``weights`` ``(epochs + 1, P)`` of expert ``number``.

        Raises:
            NasproxyError: when there is no room for them.
        """
        if self.checkpoint is None:
            self._kept[number] = weights
            return
        from safetensors.torch import save

        path = expert_file(self.checkpoint, number)
        try:
            write_atomically(
                path, save({"weights": weights}, metadata={"nasproxy-expert": json.dumps({"key": self.key})})
            )
        except OSError as error:
            raise NasproxyError(
                f"Every expert takes {weights.nbytes / 1e6:.0f} MB, but '{path}' cannot be written ({error}): "
                "make room and repeat the command, which goes on, or use fewer --num-experts."
            ) from None

    def after(self, number: int, epochs: int) -> Tensor:
        """The weights ``(P,)`` of expert ``number`` after so many epochs, on the CPU.

        Raises:
            NasproxyError: when its file has gone.
        """
        if self.checkpoint is None:
            return self._kept[number][epochs]
        from safetensors import SafetensorError, safe_open

        path = expert_file(self.checkpoint, number)
        try:
            with safe_open(str(path), framework="pt") as file:
                row: Tensor = file.get_slice("weights")[epochs]
        except (SafetensorError, OSError) as error:
            raise NasproxyError(
                f"The expert '{path}' cannot be read any more ({error}): repeat the command, which trains it again."
            ) from None
        return row


def expert_key(dataset: Dataset, config: CondenseConfig) -> str:
    """What must be equal for an expert to be used again."""
    values = config.as_json()
    own = ("network", "width", "depth", "norm", "seed", "lr_net", "augmentation", "threads")
    return config_hash({name: values[name] for name in own}, trained_epochs(config), dataset.fingerprint)


# ------------------------------------------------------------------------------------------------------ following them


@dataclass(frozen=True)
class Way:
    """N steps on the synthetic set: the numbers of the images of each step, and their augmentation."""

    batches: tuple[Tensor, ...]
    augmentations: tuple[AugmentParams | None, ...]

    @classmethod
    def draw(cls, config: CondenseConfig, num_images: int, shape: tuple[int, ...], stream: torch.Generator) -> Way:
        """Batches of ``batch_net`` in epochs over ``num_images`` images ``(c, h, w)``, augmented one by one."""
        batches: list[Tensor] = []
        while len(batches) < config.unroll_steps:
            order = torch.randperm(num_images, generator=stream, device=stream.device)
            batches.extend(order.split(config.batch_net))
        batches = batches[: config.unroll_steps]
        return cls(
            tuple(batches),
            tuple(sample_augmentation(config.augmentation, (len(batch), *shape), stream) for batch in batches),
        )


def follow(
    model: FunctionalNet,
    start: State,
    target: State,
    way: Way,
    images: Tensor,
    labels: Tensor,
    step_size: Tensor,
    *,
    formation: int = 1,
    stride: int = 1,
) -> tuple[Tensor, list[Tensor]]:
    """How far training on the set from ``start`` ends from ``target`` ([MTT], eq. 2), and the gradient of that.

    Args:
        images: as stored, ``(n, c, h, w)``; a net sees ``formation``² from each, of which ``labels`` are.

    Returns:
        The distance as a share of that from ``start``, and its gradient by ``images`` and by ``step_size``.
    """

    def step(t: int, state: State) -> State:
        batch = way.batches[t]
        seen = apply_augmentation(decode(images, formation)[batch], way.augmentations[t])
        return sgd_step(functional.cross_entropy(model(state, seen), labels[batch]), state, step_size)

    trajectory = run_steps(step, start, len(way.batches), stride=stride)
    last = tuple(part.requires_grad_() for part in trajectory.last)
    distance = parameter_distance(last, target, start)
    gradients, _ = pull_back(step, trajectory, torch.autograd.grad(distance, last), [images, step_size])
    return distance.detach(), gradients


def expert_units(dataset: Dataset, config: CondenseConfig, num_images: int) -> int:
    """All the experts' training, in outer steps of as much work; ``num_images`` are what a net sees of the set."""
    updates = num_updates(expert_recipe(config), len(dataset.train))
    work = config.num_experts * updates * min(EXPERT_BATCH, len(dataset.train))
    own = GOING_BACK * config.unroll_steps * min(config.batch_net, num_images)
    return max(1, round(work / own))


def trajectory_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> Condensed:
    """Learns images, and a step size, on which nets go the way of nets trained on the real data ([MTT], algorithm 1).

    ``num_experts`` nets are trained first, at ``lr_net``, where the step size begins, too. An outer step starts from
    weights after at most ``start_epochs`` epochs and makes ``unroll_steps`` steps on batches of ``batch_net`` images
    towards the weights ``target_epochs`` later; it costs no real images any more. The step size that is learned is the
    learning rate of the set's recipe. Experts are kept in :func:`expert_files`, so that an interrupted build does not
    train them again. A batch norm takes the statistics of its batch, as in [MTT]. Takes and returns what every
    condenser does, see :func:`nasproxy.condense.build.build_proxy`.

    Differs from the reference: images are not whitened; a start after ``start_epochs`` epochs is drawn, too, as in the
    paper; every outer step draws its expert from all of them; the step size stays at 1e-4 or above, since nobody can
    train with one that turned negative; and epochs of experts that no outer step can use are not trained.

    Raises:
        NasproxyError: for settings that do not fit the data or each other, foreign files, or what is not finite.
    """
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    if config.start_epochs + config.target_epochs > config.expert_epochs:
        raise NasproxyError(
            "`start_epochs + target_epochs <= expert_epochs` must hold, for that is how far experts are followed, but "
            f"got {config.start_epochs} + {config.target_epochs} > {config.expert_epochs}: use a larger "
            "--expert-epochs or a smaller --start-epochs."
        )
    real = RealBatches(dataset, device)
    images = initial_images(dataset, config).to(device).requires_grad_()
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    step_size = torch.full((1,), config.lr_net, device=device, requires_grad=True)
    leaves = {"images": images, "step_size": step_size}
    model = FunctionalNet(build_net(config, dataset, 0, device))
    like = model.parameters()
    sizes = [part.numel() for part in like]
    units = expert_units(dataset, config, len(seen_labels))
    total = units + config.outer_steps

    # The checkpoint is there from the beginning: it holds the settings with which an interrupted build goes on.
    key = checkpoint_key(dataset, config)
    position = Position()
    if checkpoint is not None and checkpoint.exists():
        position, _ = load_checkpoint(checkpoint, key)
    elif checkpoint is not None:
        save_checkpoint(checkpoint, key, config, position, leaves)

    experts = Experts(checkpoint, expert_key(dataset, config), (trained_epochs(config) + 1, sum(sizes)))
    missing = [number for number in range(config.num_experts) if not experts.has(number)]
    started = time.perf_counter()
    reported = 0
    with float32_as("float32"), cpu_threads(config.threads):
        for ready, number in enumerate(missing, start=config.num_experts - len(missing)):

            def report(done: int, updates: int, ready: int = ready) -> None:
                nonlocal reported
                own = int(units * (ready + done / updates) / config.num_experts)
                if progress is not None and own > reported:
                    reported = own
                    progress(own, total, f"expert {ready + 1} of {config.num_experts}")

            experts.keep(number, train_expert(dataset, config, real, number, report))
            if checkpoint is not None and position.outer == 0:
                spent = position.seconds + time.perf_counter() - started
                save_checkpoint(checkpoint, key, config, Position(0, 0, spent), leaves)
    seconds = time.perf_counter() - started if checkpoint is None or position.outer else 0.0  # else they are in there

    def weights_of(number: int, epochs: int) -> State:
        parts = experts.after(number, epochs).split(sizes)
        return tuple(part.view_as(own).clone().to(device) for part, own in zip(parts, like, strict=True))

    stride = stride_for(config.unroll_steps, like, device)

    def step(outer: int) -> Tensor:
        choice = generator(config.seed, "expert and epoch", outer)
        number = int(torch.randint(config.num_experts, (), generator=choice))
        epoch = int(torch.randint(config.start_epochs + 1, (), generator=choice))
        stream = generator(config.seed, "trajectory", outer, device=device)
        distance, (images.grad, step_size.grad) = follow(
            model,
            weights_of(number, epoch),
            weights_of(number, epoch + config.target_epochs),
            Way.draw(config, len(seen_labels), dataset.input_shape, stream),
            images,
            seen_labels,
            step_size,
            formation=config.formation,
            stride=stride,
        )
        return distance

    def after(_: int) -> None:
        with torch.no_grad():
            step_size.clamp_(min=LEAST_STEP_SIZE)

    seconds += learn(
        dataset,
        config,
        leaves=leaves,
        optimizer=torch.optim.SGD(
            [{"params": [images], "lr": config.image_lr}, {"params": [step_size], "lr": STEP_SIZE_LR}],
            lr=config.image_lr,
            momentum=config.momentum_img,
        ),
        step=step,
        shown=lambda: images,
        note="distance",
        device=device,
        after=after,
        checkpoint=checkpoint,
        progress=None if progress is None else lambda done, _, note: progress(units + done, total, note),
        on_snapshot=on_snapshot,
    )
    return Condensed(images.detach().cpu(), labels.cpu(), seconds, {"lr": step_size.item()})
