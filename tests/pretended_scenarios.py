"""What nasproxy does on a pretended GPU, scenario by scenario; a line of JSON for each on standard output.

Each scenario runs with few and with more steps. The difference is what one step costs: operations, gigabytes, and the
waits by their line. What is left at no step is paid once.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from pretended_gpu import GPU, Recorder, pretended

from nasproxy.condense import loop
from nasproxy.condense.class_matching import match, matching_stream, plan_groups
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.matching_nets import build_net, train_net
from nasproxy.condense.methods import CONDENSERS
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import FULL_RECIPE, METHODS, RECIPES, CondenseConfig
from nasproxy.data import Dataset, LabeledImages
from nasproxy.networks import convnet
from nasproxy.scores.zero_cost import MINIBATCH, ZERO_COST, measure_group, together
from nasproxy.training.fit import fit
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages, real_images

SHAPE, CLASSES = (3, 32, 32), 10
SMALL: dict[str, Any] = {"ipc": 4, "width": 16, "depth": 2, "batch_real": 16, "batch_norm_images": 4}
METHOD_SETTINGS: dict[str, dict[str, Any]] = {  # what keeps a step short
    "gradient_matching": {"inner_steps": 2, "net_steps": 2},
    "dsa": {"inner_steps": 2, "net_steps": 2, "augmentation": "dsa"},
    "distribution_matching": {},
    "parameter_matching": {"unroll_steps": 3},
    "dataset_distillation": {"unroll_steps": 2, "unroll_epochs": 2},
    "soft_label": {"unroll_steps": 2, "unroll_epochs": 2},
    "generative_teaching": {"unroll_steps": 20},
    "label_distillation": {},
    "trajectory_matching": {"num_experts": 2, "expert_epochs": 3, "start_epochs": 1, "unroll_steps": 3},
}
VARIANTS: dict[str, dict[str, Any]] = {  # of gradient matching
    "batch norm": {"norm": "batch"},
    "a pool of trained nets": {"pool": 1, "pool_epochs": 1, "perturbation": 0.09},
    "nets trained on real images": {"net_data": "real"},
    "four images in one": {"formation": 2},
    "nets of a space": {"match_space": "convnet_small"},
    "augmented": {"augmentation": "alternate_shift_cutout"},
    "mse": {"distance": "mse"},
}
ACTIVATIONS = {False: 3 << 20, True: 9 << 20}  # bytes an image; storages of fake tensors have no addresses to count


def dataset(n: int = 50_000) -> Dataset:
    """Black images in the shape of CIFAR-10."""

    def split(size: int) -> LabeledImages:
        return LabeledImages(torch.zeros((size, *SHAPE), dtype=torch.uint8), torch.arange(size) % CLASSES)

    return Dataset(
        name="black",
        train=split(n),
        val=split(n // 10),
        test=split(n // 10),
        class_names=tuple("abcdefghij"),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        fingerprint="0" * 64,
        flip=True,
    )


def new_net(**options: object) -> torch.nn.Module:
    with GPU:
        return convnet(SHAPE, CLASSES, **options)


class Scenarios:
    """The scenarios, each ``(steps) -> None``, on one data set."""

    def __init__(self) -> None:
        self.data = dataset()
        self.full = real_images(self.data, self.data.train).on(GPU)
        self.small = TrainingImages(
            torch.zeros((100, *SHAPE), device=GPU), torch.zeros(100, dtype=torch.int64, device=GPU)
        )
        self.config = CondenseConfig(ipc=10).resolved(SHAPE, flip=True)
        self.real = RealBatches(self.data, GPU)
        self.few = dataset(2000)

    def full_training(self, steps: int, **options: object) -> None:
        own = TrainingImages(self.full.images[: 128 * steps], self.full.labels[: 128 * steps], self.full.prepare)
        fit(new_net(**options), own, replace(FULL_RECIPE, epochs=1), seed=0, device=GPU)

    def candidate(self, steps: int, recipe: str) -> None:
        fit(new_net(), self.small, replace(RECIPES[recipe], epochs=steps), seed=0, device=GPU)

    def evaluation(self, steps: int) -> None:
        images = TrainingImages(self.full.images[: 512 * steps], self.full.labels[: 512 * steps], self.full.prepare)
        accuracy_and_loss(new_net(), images, GPU)

    def matching(self, steps: int, **settings: object) -> None:
        config = replace(self.config, **settings)
        net = build_net(config, self.data, 0, GPU)
        groups = plan_groups(net, self.real, config, GPU)
        images = torch.zeros((config.ipc * CLASSES, *SHAPE), device=GPU)
        stream = matching_stream(config, 0, 0, GPU)
        for _ in range(steps):
            match(net, images, groups, self.real, config, stream)

    def net_update(self, steps: int) -> None:
        net = build_net(self.config, self.data, 0, GPU)
        images = torch.zeros((100, *SHAPE), device=GPU)
        labels = torch.zeros(100, dtype=torch.int64, device=GPU)
        config = replace(self.config, net_steps=steps)
        train_net(net, images, labels, config, matching_stream(config, 0, 0, GPU), at_once=100)

    def method(self, steps: int, name: str, **settings: object) -> None:
        wanted = SMALL | METHOD_SETTINGS[name] | settings
        own = {key: value for key, value in wanted.items() if key in METHODS[name].reads}
        config = CondenseConfig(method=name, outer_steps=steps, **own).resolved(SHAPE, flip=True)
        CONDENSERS[name].make(self.few, config, BuildRun(GPU).with_space(config))

    def faults(self, steps: int) -> None:
        """Each step waits three times, and meets tensors of two devices."""
        for _ in range(steps):
            torch.ones(3).to(GPU).sum().item()
            torch.tensor([1.0], device=GPU)
            with suppress(RuntimeError):
                torch.ones(3) + torch.ones(3, device=GPU)
                raise AssertionError("tensors of two devices were added")

    def score(self, steps: int, group: tuple[str, ...]) -> None:
        images = torch.zeros((MINIBATCH, *SHAPE), device=GPU)
        labels = torch.zeros(MINIBATCH, dtype=torch.int64, device=GPU)
        for _ in range(steps):
            found = measure_group(group, new_net(norm="batch"), images, labels, seed=0)
            failed = {name: value for name, value in found.items() if isinstance(value, Exception)}
            assert not failed, failed


def scenarios(own: Scenarios) -> dict[str, tuple[Callable[[int], None], int, int]]:
    """By name: a scenario, and the two numbers of steps that it runs with."""
    found: dict[str, tuple[Callable[[int], None], int, int]] = {
        "full training": (own.full_training, 2, 6),
        "full training, group norm": (partial(own.full_training, norm="group"), 2, 6),
        "evaluation": (own.evaluation, 2, 6),
        "faults": (own.faults, 1, 3),
        "a matching": (own.matching, 1, 3),
        "a matching, one image a class": (partial(own.matching, ipc=1), 1, 3),
        "a matching, augmented": (partial(own.matching, augmentation="flip_shift"), 1, 3),
        "an update of the net": (own.net_update, 2, 6),
    }
    for recipe in ("published", "one_cycle", "dsa"):
        found[f"a candidate, {recipe}"] = (partial(own.candidate, recipe=recipe), 2, 6)
    for name in METHOD_SETTINGS:
        found[f"a step of {name}"] = (partial(own.method, name=name), 1, 3)
    for words, settings in VARIANTS.items():
        found[f"an outer step with {words}"] = (partial(own.method, name="gradient_matching", **settings), 1, 3)
    # A latency is a wait; patterns of activations are counted on the CPU.
    for group in together(name for name in ZERO_COST if name != "latency" and not name.startswith("swap")):
        found[f"score {' '.join(group)}"] = (partial(own.score, group=group), 1, 2)
    return found


def per_step(recorder: Recorder, work: Callable[[int], None], few: int, more: int) -> dict[str, object]:
    counts = []
    for steps in (few, more):
        before = recorder.operations.copy(), recorder.waits.copy(), recorder.bytes
        work(steps)
        counts.append((recorder.operations - before[0], recorder.waits - before[1], recorder.bytes - before[2]))
    (operations, waits, size), (all_operations, all_waits, all_size) = counts
    num = more - few
    return {
        "operations": round(((all_operations - operations).total()) / num, 1),
        "gigabytes": round((all_size - size) / num / 1e9, 3),
        "waits": {line: count / num for line, count in (all_waits - waits).items()},
        "waits once": waits.total() - few * (all_waits - waits).total() / num,
    }


def main() -> None:
    def bytes_of(net: torch.nn.Module, shape: tuple[int, ...], *, second_order: bool = False) -> int:
        return ACTIVATIONS[second_order]

    for module in [one for name, one in sys.modules.items() if name.startswith("nasproxy.")]:
        if hasattr(module, "activation_bytes"):
            module.activation_bytes = bytes_of  # type: ignore[attr-defined]
    LabeledImages.by_class = lambda self, num: [torch.arange(len(self) // num) for _ in range(num)]  # type: ignore[method-assign]
    loop.PROGRESS_SECONDS = math.inf  # on a slow machine the read-backs of the progress would count as waits
    gc.disable()  # with collections torch 2.14 crashes more often under FakeTensorMode
    with pretended() as recorder:
        for name, (work, few, more) in scenarios(Scenarios()).items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            try:
                found = per_step(recorder, work, few, more)
            except Exception as error:  # noqa: BLE001  # the next scenario is worth the try
                found = {"error": f"{type(error).__name__}: {error}"[:300], "where": traceback.format_exc()[-600:]}
            print(json.dumps({"scenario": name, **found}), flush=True)


if __name__ == "__main__":
    main()
