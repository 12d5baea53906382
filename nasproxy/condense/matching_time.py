"""How long gradient matching takes, and how it runs fastest: from timing one matching and one epoch of the net.

Threads, precision and compilation change the speed and the last digits, never the algorithm.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from nasproxy.condense.accelerations import early_recipe, representatives_of
from nasproxy.condense.class_matching import Group, match_groups, matching_stream, plan_groups
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.matching import Loss, net_loss
from nasproxy.condense.matching_nets import batch_norms, build_net, compiled_loss, train_net, train_net_on_real
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.timing import Estimate, fewest_threads
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import activation_bytes, room
from nasproxy.core.devices import accelerator, cpu_threads, float32_as
from nasproxy.core.distributed import num_peers
from nasproxy.data import Dataset
from nasproxy.data.multi_formation import decode
from nasproxy.training.fit import num_updates

LONG_SECONDS = 1.0
COMPILE_FROM_SECONDS = 900.0  # compiling takes up to a minute and gives back a tenth or more
COMPILED = 0.95  # of the uncompiled time: below, the compiled program is taken
COARSER_FROM_SECONDS = 60.0  # a short build has nothing to gain, and its timing scatters
COARSER = 0.8  # of the time in float32: below, bfloat16 is taken; a clear gain, so that the same command decides alike


@dataclass(frozen=True)
class _Bench:
    """The parts of a build, ready to be timed: each is run once to warm up and once timed.

    What takes ``LONG_SECONDS`` needs no warming up, so that a plan is made within seconds. Work grows linearly in
    classes, matchings and net epochs, so one group of classes and one epoch are enough.
    """

    dataset: Dataset
    config: CondenseConfig
    real: RealBatches
    net: nn.Module
    groups: tuple[Group, ...]
    images: Tensor
    labels: Tensor
    at_once: int  # images that go through the net together while it is trained

    @classmethod
    def of(cls, dataset: Dataset, config: CondenseConfig, device: torch.device) -> Self:
        real = RealBatches(dataset, device)
        net = build_net(config, dataset, 0, device)
        for layer in batch_norms(net):
            layer.eval()
        images = initial_images(dataset, config).to(device)
        labels = initial_labels(dataset, config).to(device).repeat_interleave(config.formation**2)
        at_once = room(device) // activation_bytes(net, dataset.input_shape)
        return cls(dataset, config, real, net, plan_groups(net, real, config, device)[:1], images, labels, at_once)

    def _timed(self, work: Callable[[torch.Generator], object]) -> float:
        device = self.real.device
        module = accelerator(device)
        for _ in range(2):
            if module is not None:
                module.synchronize(device)
            start = time.perf_counter()
            work(matching_stream(self.config, 0, 0, device))
            if module is not None:
                module.synchronize(device)
            taken = time.perf_counter() - start
            if taken > LONG_SECONDS:
                break
        return taken

    def _train(self, config: CondenseConfig, loss: Loss, stream: torch.Generator) -> None:
        if config.net_data == "real":
            train_net_on_real(self.net, self.real, config, stream, at_once=self.at_once, loss=loss)
        else:
            seen = decode(self.images, config.formation)
            train_net(self.net, seen, self.labels, config, stream, at_once=self.at_once, loss=loss)

    def loops(self, threads: int | None, precision: str, loss: Loss = net_loss) -> float:
        """Seconds of all matchings and of the training of the nets between them."""
        config = replace(self.config, precision=precision)
        inner_steps, net_steps = config.loops
        with float32_as(precision), cpu_threads(threads):
            matching = self._timed(
                lambda stream: match_groups(self.net, self.images, self.groups, self.real, config, stream, loss=loss)
            )
            epoch = self._timed(partial(self._train, replace(config, net_steps=1), loss))
        matching *= self.dataset.num_classes / len(self.groups[0].counts) / num_peers()
        return config.num_sets * config.outer_steps * (inner_steps * matching + (inner_steps - 1) * net_steps * epoch)

    def accelerations(self, threads: int | None, precision: str) -> float:
        """Seconds of choosing real images by k-means and of training the pool of nets."""
        config, seconds = self.config, 0.0
        with float32_as(precision), cpu_threads(threads):
            if config.real_choice == "kmeans":
                one = self._timed(lambda _: representatives_of(self.net, self.real, 0, config.batch_real, config.seed))
                clusterings = config.outer_steps * -(-config.loops[0] // config.choice_interval)
                seconds += clusterings * self.dataset.num_classes * one
            if config.pool:
                recipe = early_recipe(config.pool_epochs)
                one_step = replace(config, net_data="real", net_steps=1, batch_net=recipe.batch_size)
                updates = min(config.pool, config.outer_steps) * num_updates(recipe, len(self.dataset.train))
                seconds += updates * self._timed(partial(self._train, one_step, net_loss))
        return config.num_sets * seconds


def estimate_matching(dataset: Dataset, config: CondenseConfig, device: torch.device) -> Estimate:
    """Seconds of gradient matching with the fastest threads, precision and compilation that ``config`` leaves open.

    A build of a minute or more is also timed in bfloat16, which is taken where it is clearly faster: the images are as
    good (benchmarks/RESULTS.md). A build of a quarter of an hour is also timed compiled.

    Several processes time at the same time, as they will work, and none waits for another. Each may decide differently,
    so the caller takes the decision of the first one.
    """
    bench = _Bench.of(dataset, config, device)
    precision = config.precision or "float32"
    if device.type == "cpu" and config.threads is None:
        best = fewest_threads(lambda threads: bench.loops(threads, precision), precision)
    else:
        best = Estimate(bench.loops(config.threads, precision), config.threads, precision=precision)
    if config.precision is None and best.seconds >= COARSER_FROM_SECONDS:
        coarse = bench.loops(best.threads, "bfloat16")
        if coarse < COARSER * best.seconds:
            best = replace(best, seconds=coarse, precision="bfloat16")
    extra = bench.accelerations(best.threads, best.precision)
    best = replace(best, seconds=best.seconds + extra)
    if config.compile:
        seconds = bench.loops(best.threads, best.precision, compiled_loss()) + extra
        return replace(best, seconds=seconds, compile=True)
    if config.compile is False or best.seconds < COMPILE_FROM_SECONDS or config.match_space is not None:
        return best
    if device.type == "cpu" and shutil.which("c++") is None:
        return best
    try:
        seconds = bench.loops(best.threads, best.precision, compiled_loss()) + extra
    except Exception:  # noqa: BLE001  # a broken compiler fails in many ways, and none of them is a reason not to build
        return best
    return replace(best, seconds=seconds, compile=True) if seconds < COMPILED * best.seconds else best
