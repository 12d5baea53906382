"""How long a build will take, and how it is best run: by timing a few of its steps.

Threads and compilation change the speed and the last bits, never the algorithm.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import torch

from nasproxy.condense.accelerations import early_recipe, representatives_of
from nasproxy.condense.build import CONDENSERS
from nasproxy.condense.class_matching import match_groups, plan_groups
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.matching import Loss, net_loss
from nasproxy.condense.matching_nets import batch_norms, build_net, compiled_loss, train_net, train_net_on_real
from nasproxy.condense.methods.gradient_matching import gradient_matching, matching_stream, siamese_matching
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import activation_bytes, room
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.distributed import num_peers
from nasproxy.data import Dataset
from nasproxy.data.multi_formation import decode
from nasproxy.training.fit import num_updates

COMPILE_FROM_SECONDS = 900.0  # compiling takes up to a minute and gives back a tenth or more
COMPILED = 0.95  # of the uncompiled time: below, the compiled program is taken
FEWER_THREADS = 0.9  # of the time with twice as many: below, fewer are taken; timings scatter by some percent
COARSER_FROM_SECONDS = 60.0  # a short build has nothing to gain, and its timing scatters
PACE_UNITS, PACE_SECONDS = 20, 3.0  # of a method that is timed at work: whatever comes first
COARSER = 0.8  # of the time in float32: below, bfloat16 is taken; a clear gain, so that the same command decides alike


@dataclass(frozen=True)
class Estimate:
    """``seconds`` that a build will take, and how.

    ``threads`` of the CPU (None on a CUDA device), compiled or not, and the precision of first-order passes.
    """

    seconds: float
    threads: int | None
    compile: bool = False
    precision: str = "float32"


class _Enough(BaseException):
    """Ends a build that was only timed; no error, so that nothing in between takes it for one."""


def pace(dataset: Dataset, config: CondenseConfig, device: torch.device) -> Estimate:
    """How long another method will take, from its first units of work; threads are chosen as for gradient matching."""

    def seconds(threads: int | None) -> float:
        marks: list[tuple[float, int]] = []
        whole = 0

        def progress(done: int, total: int, note: str) -> None:
            nonlocal whole
            whole = total
            marks.append((time.perf_counter(), done))
            if len(marks) > PACE_UNITS or (len(marks) > 2 and marks[-1][0] - marks[0][0] > PACE_SECONDS):
                raise _Enough

        start = time.perf_counter()
        with suppress(_Enough):
            CONDENSERS[config.method](dataset, replace(config, threads=threads), device=device, progress=progress)
        if len(marks) < 2:
            return config.num_sets * (time.perf_counter() - start)
        (first, before), (last, after) = marks[0], marks[-1]  # the first unit warms up
        return config.num_sets * whole * (last - first) / (after - before)

    if device.type != "cpu" or config.threads is not None:
        return Estimate(seconds(config.threads), config.threads)
    return fewest_threads(seconds)


def fewest_threads(seconds: Callable[[int], float], precision: str = "float32") -> Estimate:
    """The threads, halved as long as that is clearly faster; ``seconds`` times a build with so many."""
    threads = torch.get_num_threads()
    best = Estimate(seconds(threads), threads, precision=precision)
    while threads > 1:
        threads //= 2
        fewer = replace(best, seconds=seconds(threads), threads=threads)
        if fewer.seconds > FEWER_THREADS * best.seconds:
            break
        best = fewer
    return best


def estimate(dataset: Dataset, config: CondenseConfig, device: torch.device) -> Estimate:
    """How long :func:`gradient_matching` will take, from timing one group's matching and one epoch of the net.

    Work grows linearly in classes, matchings and net epochs; each part is run once to warm up and once timed. On a CPU
    the threads are chosen by the same timing, unless ``config`` names them: small nets can be slower on many, and on a
    machine that is busy all of them wait for the slowest. Unless ``config`` names a precision, a build of a minute
    or more is also timed in bfloat16, which is taken where it is clearly faster: the images are as good
    (benchmarks/RESULTS.md). One of a quarter of an hour is also timed compiled.

    Several processes time at once, as they will work, and none waits for another: each may decide otherwise, and the
    caller takes the decision of the first.
    """
    if CONDENSERS[config.method] not in (gradient_matching, siamese_matching):
        return pace(dataset, config, device)
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    inner_steps, net_steps = config.loops
    real = RealBatches(dataset, device)
    net = build_net(config, dataset, 0, device)
    for layer in batch_norms(net):
        layer.eval()
    groups = plan_groups(net, real, config, device)[:1]
    images = initial_images(dataset, config).to(device)
    labels = initial_labels(dataset, config).to(device).repeat_interleave(config.formation**2)
    at_once = room(device) // activation_bytes(net, dataset.input_shape)

    def timed(work: Callable[[torch.Generator], object]) -> float:
        for _ in range(2):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            work(matching_stream(config, 0, 0, device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return time.perf_counter() - start

    def train(settings: CondenseConfig, loss: Loss, stream: torch.Generator) -> None:
        if settings.net_data == "real":
            train_net_on_real(net, real, settings, stream, at_once=at_once, loss=loss)
        else:
            seen = decode(images, config.formation)
            train_net(net, seen, labels, settings, stream, at_once=at_once, loss=loss)

    def seconds(threads: int | None, precision: str, loss: Loss = net_loss) -> float:
        own = replace(config, precision=precision)
        one_epoch = replace(own, net_steps=1)
        with float32_as(precision), cpu_threads(threads):
            matching = timed(lambda stream: match_groups(net, images, groups, real, own, stream, loss=loss))
            epoch = timed(partial(train, one_epoch, loss))
        matching *= dataset.num_classes / len(groups[0].counts) / num_peers()
        return config.num_sets * config.outer_steps * (inner_steps * matching + (inner_steps - 1) * net_steps * epoch)

    def extra_seconds(threads: int | None, precision: str) -> float:
        """Of choosing real images by k-means and of training the pool."""
        extra = 0.0
        with float32_as(precision), cpu_threads(threads):
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

    precision = config.precision or "float32"
    if device.type == "cpu" and config.threads is None:
        best = fewest_threads(lambda threads: seconds(threads, precision), precision)
    else:
        best = Estimate(seconds(config.threads, precision), config.threads, precision=precision)
    if config.precision is None and best.seconds >= COARSER_FROM_SECONDS:
        coarse = seconds(best.threads, "bfloat16")
        if coarse < COARSER * best.seconds:
            best = replace(best, seconds=coarse, precision="bfloat16")
    extra = extra_seconds(best.threads, best.precision)
    best = replace(best, seconds=best.seconds + extra)
    if config.compile:
        return replace(best, seconds=seconds(best.threads, best.precision, compiled_loss()) + extra, compile=True)
    if config.compile is False or best.seconds < COMPILE_FROM_SECONDS or config.match_space is not None:
        return best
    if device.type == "cpu" and shutil.which("c++") is None:
        return best
    try:
        compiled = seconds(best.threads, best.precision, compiled_loss()) + extra
    except Exception:  # noqa: BLE001  # a broken compiler fails in many ways, and none of them is a reason not to build the set
        return best
    return replace(best, seconds=compiled, compile=True) if compiled < COMPILED * best.seconds else best
