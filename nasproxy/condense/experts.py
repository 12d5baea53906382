"""Experts of trajectory matching: nets trained on the real data, whose weights are kept after every epoch.

References: [MTT] Cazenavette, Wang, Torralba, Efros, Zhu, "Dataset Distillation by Matching Training Trajectories",
CVPR 2022, and the implementation published with it, from which the constants are.
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

from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig, Recipe, config_hash
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.randomness import derive_seed
from nasproxy.data import Dataset
from nasproxy.training.fit import Curve, Passes, fit, images_per_pass
from nasproxy.training.images import TrainingImages

EXPERT_BATCH = 256


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
                "free some space and repeat the command, which resumes, or use fewer --num-experts."
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


def train_experts(
    dataset: Dataset,
    config: CondenseConfig,
    run: BuildRun,
    real: RealBatches,
    *,
    num_weights: int,
    first: dict[str, Tensor],
    report: Callable[[float, str], None],
) -> tuple[Experts, float]:
    """Trains the experts that are missing. An interrupted build does not train the others again.

    Args:
        num_weights: P, the trainable parameters of the net.
        first: what is learned, before its first step. It goes into the checkpoint, which is there from the beginning:
            it holds the settings with which an interrupted build is resumed.
        report: is called with the share of all experts that is done, and a note.

    Returns:
        The experts, and the seconds that took them, where no checkpoint holds these.

    Raises:
        NasproxyError: for files of other settings or data, for a training that diverges, or without room.
    """
    checkpoint, key, position = run.checkpoint, checkpoint_key(dataset, config, run.space), Position()
    if checkpoint is not None and checkpoint.exists():
        position, _ = load_checkpoint(checkpoint, key)
    elif checkpoint is not None:
        save_checkpoint(checkpoint, key, config, position, first)
    experts = Experts(checkpoint, expert_key(dataset, config), (trained_epochs(config) + 1, num_weights))
    missing = [number for number in range(config.num_experts) if not experts.has(number)]
    started = time.perf_counter()
    with float32_as("float32"), cpu_threads(config.threads):
        for ready, number in enumerate(missing, start=config.num_experts - len(missing)):

            def on_update(done: int, updates: int, ready: int = ready) -> None:
                share = (ready + done / updates) / config.num_experts
                report(share, f"expert {ready + 1} of {config.num_experts}")

            experts.keep(number, train_expert(dataset, config, real, number, on_update))
            if checkpoint is not None and position.outer == 0:
                spent = position.seconds + time.perf_counter() - started
                save_checkpoint(checkpoint, key, config, Position(0, 0, spent), first)
    in_checkpoint = checkpoint is not None and position.outer == 0
    return experts, 0.0 if in_checkpoint else time.perf_counter() - started
