"""What nine minutes of one GPU can tell: tests, seconds, candidates per minute, sets and their accuracy, full training.

    python3 benchmarks/gpu_day.py --out "$OUT" --data DATA --reference CHECKOUT --seconds 540

Stages run in order of worth, each in a process of its own with its own limit, for an error on the device ends the
process that met it. Every figure is appended to OUT/gpu_day.jsonl as soon as it is there, so that a kill loses nothing;
stages that ended are not run again by a second call with the same --out. ``--tiny`` does a little of everything, on a
CPU, too: first here, then for a minute on the device, so that the nine minutes do not meet a typing error.

DATA holds cifar10/*.parquet (54 MiB); CHECKOUT holds main.py, utils.py and networks.py of the published implementation
(VICO-UoE/DatasetCondensation). A machine with torch, torchvision, numpy, scipy, scikit-learn, pillow, pyarrow,
safetensors, filelock, threadpoolctl and pytest needs one wheel more: ruamel.yaml (0.1 MB). Nothing here imports optuna,
sqlalchemy or pydantic. To prepare a folder of 58 MiB that holds all of it, without adding it to the repository:

    mkdir -p .gpu/data .gpu/whl .gpu/dc; cp -r CIFAR10 .gpu/data/cifar10
    pip download --no-deps -d .gpu/whl ruamel.yaml; cp CHECKOUT/{main,utils,networks}.py .gpu/dc
    python3 -m pip install --no-index --no-deps --target SITE .gpu/whl/*.whl  # there; SITE is on PYTHONPATH
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]
WORK = Path(tempfile.gettempdir()) / "gpu_day"
SHAPE, C = (3, 32, 32), 10
PRECISIONS = ("float32", "tf32", "bfloat16")
Figures = dict[str, Any]


class Stage:
    """One stage at work: its options, its time, and the file that it writes to. ``full``: on a GPU, and not tiny."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        import torch

        self.name, self.options = name, options
        self.file = options.out / "gpu_day.jsonl"
        self.ends = time.monotonic() + options.seconds
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.cuda = self.device.type == "cuda"
        self.full = self.cuda and not options.tiny
        self.width: Figures = {} if self.full else {"width": 8}

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()

    def say(self, what: str, **figures: Any) -> None:
        line = json.dumps({"stage": self.name, "what": what, **figures}, default=str)
        print(line[:600], flush=True)
        append(self.file, line)

    def said(self, stage: str, what: str, figure: str) -> list[Figures]:
        return [row for row in read(self.file) if (row["stage"], row["what"]) == (stage, what) and figure in row]

    def attempt(self, what: str, work: Callable[[], Figures], **figures: Any) -> None:
        """Says ``figures`` and those of ``work``, or what went wrong; does not begin where no time is left."""
        start = time.monotonic()
        if self.left < 1:
            figures["skipped"] = "no time left"
        else:
            try:
                figures |= work()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next figure is worth the try
                figures |= {"failed": f"{type(error).__name__}: {error}"[:500], "where": traceback.format_exc()[-900:]}
        self.say(what, took=round(time.monotonic() - start, 2), **figures)

    def clock(self) -> float:
        import torch

        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def ms(self, work: Callable[[], object], *, seconds: float = 0.3, most: int = 50) -> float:
        """Median milliseconds of repeats, after two to warm up."""
        taken: list[float] = []
        while len(taken) < 5 or (len(taken) < most and sum(taken[2:]) < 1000 * seconds):
            start = self.clock()
            work()
            taken.append(1000 * (self.clock() - start))
        return round(statistics.median(taken[2:]), 4)

    def dataset(self) -> Any:
        """CIFAR-10 as the stage "data" leaves it, else random pixels."""
        import torch

        file = WORK / "dataset.pt"
        while self.options.data and not file.exists() and self.left > 60:
            time.sleep(0.5)  # it is still being decoded
        if file.exists():
            return torch.load(file, weights_only=False)
        return importlib.import_module("condense_speed").random_dataset()


def append(file: Path, line: str) -> None:
    with file.open("a") as opened:
        opened.write(line + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def read(file: Path) -> list[Figures]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# --------------------------------------------------------------------------------------------------------- the stages


def data(stage: Stage) -> None:
    """Decodes CIFAR-10 once, beside the first stages."""
    import torch

    from nasproxy.data import load_dataset

    def decode() -> Figures:
        dataset = load_dataset("cifar10", data_dir=stage.options.data, offline=True)
        torch.save(dataset, WORK / "dataset.partial")
        (WORK / "dataset.partial").rename(WORK / "dataset.pt")
        return {"train": len(dataset.train), "val": len(dataset.val), "test": len(dataset.test)}

    stage.attempt("cifar10", decode)


def machine(stage: Stage) -> None:
    """The ceilings: a product, a copy, and the default net's own layers, forward and backward."""
    import torch
    from torch.nn import functional

    from nasproxy.core.devices import choose_device, float32_as, hardware, versions

    smi = "nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv,noheader"
    shown = subprocess.run(smi.split(), capture_output=True, text=True, check=False).stdout if stage.cuda else ""
    stage.say("machine", hardware=hardware(choose_device("auto")), versions=versions(), smi=shown.strip())
    new = partial(torch.randn, device=stage.device)
    size, copied = (8192, 2**30) if stage.full else (256, 2**20)
    a, b = new(size, size, dtype=torch.bfloat16), torch.zeros(copied, device=stage.device, dtype=torch.uint8)
    stage.attempt("product in bfloat16", lambda: {"tflops": 2 * size**3 / 1e9 / stage.ms(lambda: a @ a)})
    stage.attempt("copy", lambda: {"gb_per_s": 2 * copied / 1e6 / stage.ms(b.clone)})

    def convolution(n: int, inputs: int, side: int, kind: str, dtype: torch.dtype, layout: Any) -> Figures:
        x = new(n, inputs, side, side, dtype=dtype).to(memory_format=layout).requires_grad_()
        w = new(128, inputs, 3, 3, dtype=dtype).to(memory_format=layout).requires_grad_()
        wanted = [w] if inputs == 3 else [x, w]
        with float32_as(kind):
            up = torch.randn_like(functional.conv2d(x, w, padding=1))
            taken = stage.ms(lambda: torch.autograd.grad(functional.conv2d(x, w, padding=1), wanted, up), seconds=0.05)
        flops = (1 + len(wanted)) * 2 * n * inputs * 9 * 128 * side**2
        return {"ms": taken, "tflops": round(flops / 1e9 / taken, 1)}

    def block(n: int, dtype: torch.dtype, layout: Any) -> Figures:
        x = new(n, 128, 32, 32, dtype=dtype).to(memory_format=layout).requires_grad_()
        w = torch.ones(128, device=stage.device, dtype=dtype)

        def work() -> object:
            y = functional.avg_pool2d(functional.relu(functional.group_norm(x, 128, w, w)), 2)
            return torch.autograd.grad(y, x, torch.ones_like(y))

        return {"ms": stage.ms(work, seconds=0.05), "map_mb": x.nbytes / 1e6}

    plain, last = torch.contiguous_format, torch.channels_last
    kinds = [("float32", torch.float32, plain), ("tf32", torch.float32, plain), ("tf32", torch.float32, last)]
    kinds += [("bfloat16", torch.bfloat16, plain), ("bfloat16", torch.bfloat16, last)]
    for n in (100, 2560) if stage.full else (2,):
        for kind, dtype, layout in kinds:
            own = {"n": n, "kind": kind, "layout": str(layout)}
            for inputs, side in ((3, 32), (128, 16), (128, 8)):
                work = partial(convolution, n, inputs, side, kind, dtype, layout)
                stage.attempt("convolution", work, inputs=inputs, side=side, **own)
            stage.attempt("instance norm, ReLU, pool", partial(block, n, dtype, layout), **own)


def tests(stage: Stage) -> None:
    """tests/test_cuda.py as it is; where that fails, once more without TF32 and with warnings let through."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_cuda.py"]
    command += ["-o", "addopts="]  # pytest-xdist may not be there
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        "as it is": ([], {}),
        "TF32 off, warnings let through": (["-o", "filterwarnings=default"], {"NVIDIA_TF32_OVERRIDE": "0"}),
    }
    for what, (more, environment) in ways.items():
        options = {"cwd": ROOT, "env": os.environ | environment, "timeout": stage.left}
        ran = subprocess.run(command + more, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
        lines = ran.stdout.splitlines()
        failed = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
        stage.say(what, code=ran.returncode, summary=lines[-1:], failures=failed)
        if ran.returncode == 0:
            break


def methods(stage: Stage) -> None:
    """Every method, free score and precision once, on toy data: does it run there, and where does it wait?"""
    import torch
    from toy import toy_dataset  # type: ignore[import-not-found]  # of tests

    from nasproxy.condense.contract import BuildRun
    from nasproxy.condense.methods import CONDENSERS
    from nasproxy.config import METHODS, Recipe
    from nasproxy.config.condensing import condense_config
    from nasproxy.core.devices import float32_as
    from nasproxy.networks import convnet, seeded
    from nasproxy.scores.zero_cost import ZERO_COST, measure
    from nasproxy.training.candidate import train_candidate
    from nasproxy.training.images import TrainingImages

    dataset = toy_dataset(shape=(3, 16, 16))
    small = {"width": 8, "depth": 2, "batch_real": 16, "outer_steps": 3, "inner_steps": 2, "net_steps": 2}
    small |= {"num_experts": 1, "expert_epochs": 3, "start_epochs": 1, "unroll_steps": 4, "pool_epochs": 1}

    def waits(work: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if stage.cuda:
                torch.cuda.set_sync_debug_mode("warn")
            try:
                result = work()
            finally:
                if stage.cuda:
                    torch.cuda.set_sync_debug_mode("default")
        found = [w for w in caught if "called a synchronizing" in str(w.message)]
        return result, dict(Counter(f"{Path(w.filename).name}:{w.lineno}" for w in found).most_common(12))

    def build(name: str, norm: str) -> Figures:
        own = {key: value for key, value in (small | {"norm": norm}).items() if key in METHODS[name].reads}
        config = condense_config(method=name, ipc=4, **own).resolved((3, 16, 16), flip=dataset.flip)
        run = BuildRun(stage.device)
        made, lines = waits(lambda: CONDENSERS[name].make(dataset, config, run))
        return {"finite": bool(torch.isfinite(made.images).all()), "waits": lines}

    images, labels = dataset.normalize(dataset.train.images[:64]), dataset.train.labels[:64]

    def value(score: str, device: Any) -> float:
        net = seeded(partial(convnet, (3, 16, 16), 3, width=16, depth=2, norm="batch"), 0).to(device)
        return measure(score, net, images.to(device), labels.to(device), seed=0)

    def scored(name: str) -> Figures:
        here, lines = waits(lambda: value(name, stage.device))
        with float32_as("float32"):
            exact = value(name, stage.device)
        return {"cpu": value(name, "cpu"), "device": here, "device_float32": exact, "waits": lines}

    train = TrainingImages(dataset.train.images, dataset.train.labels, dataset.normalize).on(stage.device)

    def trained(precision: str, augmentation: str) -> Figures:
        net = partial(convnet, (3, 16, 16), 3, width=16, depth=2, dropout=0.1)
        recipe = Recipe(lr=0.05, epochs=3, batch_size=32, schedule="one_cycle", augmentation=augmentation)
        own: Figures = {"seed": 0, "device": stage.device, "precision": precision}
        fit, lines = waits(lambda: train_candidate(net, train, train, recipe, **own))
        return {"accuracy": fit.value, "failure": fit.failure, "joules": fit.joules, "waits": lines}

    for name in CONDENSERS:
        for norm in ("instance", "batch"):
            stage.attempt("method", partial(build, name, norm), name=name, norm=norm)
    for name in ZERO_COST:
        stage.attempt("score", partial(scored, name), name=name)
    for precision in PRECISIONS:
        for augmentation in ("none", "flip_shift", "alternate_shift_cutout", "dsa"):
            work = partial(trained, precision, augmentation)
            stage.attempt("training", work, precision=precision, augmentation=augmentation)


def outer(stage: Stage) -> None:
    """Seconds of an outer step, ours in every precision and, where a checkout is given, the published code's."""
    import torch
    from condense_speed import floor_flops, random_dataset, run_ours, run_reference

    from nasproxy.config import CondenseConfig
    from nasproxy.core.devices import float32_as

    dataset = random_dataset()
    small: Figures = {} if stage.full else {"width": 8, "batch_real": 8}

    def ours(config: CondenseConfig, steps: int) -> Figures:
        """The difference of a build of ``1 + steps`` outer steps and one of a single one: what begins it costs more."""
        if stage.cuda:
            torch.cuda.reset_peak_memory_stats()
        once = [run_ours(dataset, config, stage.device) for _ in range(2)][1:]
        more = [run_ours(dataset, replace(config, outer_steps=1 + steps), stage.device) for _ in range(2)]
        peak = torch.cuda.max_memory_allocated() / 2**20 if stage.cuda else None
        seconds = [(own - min(once)) / steps for own in more]
        return {"seconds": seconds, "loops": config.loops, "tflop": floor_flops(config) / 1e12, "peak_mib": peak}

    def published(config: CondenseConfig, steps: int) -> Figures:
        marks: list[float] = []
        with float32_as("tf32"):  # about what torch does by itself
            run_reference(stage.options.reference, dataset, config, 2 + steps, lambda: marks.append(stage.clock()))
        return {"seconds": [b - a for a, b in pairwise(marks[1:])], "loops": config.loops}

    # At ipc 50 a fifth of its 50 matchings.
    for ipc, inner, steps in ((10, None, 3), (1, None, 20), (50, 10, 1)) if stage.full else ((1, None, 2),):
        config = CondenseConfig(ipc=ipc, outer_steps=1, inner_steps=inner, **small)
        for precision in PRECISIONS:
            work = partial(ours, replace(config, precision=precision), steps)
            stage.attempt("ours", work, ipc=ipc, precision=precision)
        if stage.options.reference and stage.cuda:
            stage.attempt("published", partial(published, config, min(steps, 3)), ipc=ipc)
    if stage.full and stage.left > 40:
        compiled = CondenseConfig(ipc=10, outer_steps=1, precision="bfloat16", compile=True)
        stage.attempt("ours, compiled", partial(ours, compiled, 3), ipc=10, precision="bfloat16")


def profile(stage: Stage) -> None:
    """A matching and an update of the net: milliseconds, kernels, the dearest of them, and what a CUDA graph gives."""
    import torch
    from condense_speed import random_dataset

    from nasproxy.condense.class_matching import match_groups, matching_stream, plan_groups
    from nasproxy.condense.initial import initial_images, initial_labels
    from nasproxy.condense.matching_nets import build_net, train_net
    from nasproxy.condense.real_batches import RealBatches
    from nasproxy.config import CondenseConfig
    from nasproxy.core.devices import float32_as

    def parts(config: CondenseConfig) -> dict[str, Callable[[], object]]:
        dataset, device = random_dataset(), stage.device
        config = config.resolved(SHAPE, flip=True)
        real, net = RealBatches(dataset, device), build_net(config, dataset, 0, device)
        groups = plan_groups(net, real, config, device)
        images, labels = (made(dataset, config).to(device) for made in (initial_images, initial_labels))
        stream = matching_stream(config, 0, 0, device)
        chosen, once = real.draw(config.batch_real, stream), replace(config, net_steps=1)
        return {
            "build_net": lambda: build_net(config, dataset, 1, device),
            "update": lambda: train_net(net, images, labels, once, stream, at_once=10**6),
            "matching": lambda: match_groups(net, images, groups, real, config, stream, chosen=chosen),
        }

    def kernels(work: Callable[[], object], times: int = 5) -> Figures:
        from torch.profiler import ProfilerActivity
        from torch.profiler import profile as watch

        with watch(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
            for _ in range(times):
                work()
            stage.clock()
        rows = [e for e in watched.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
        rows.sort(key=lambda e: -e.self_device_time_total)
        dearest = [[e.key[:90], e.count / times, e.self_device_time_total / 1000 / times] for e in rows[:14]]
        busy = sum(e.self_device_time_total for e in rows) / 1000 / times
        return {"kernels": sum(e.count for e in rows) / times, "busy_ms": busy, "dearest": dearest}

    def captured(work: Callable[[], object]) -> Figures:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return {"ms": stage.ms(graph.replay)}

    def timed(work: Callable[[], object]) -> Figures:
        return {"ms": stage.ms(work)}

    small: Figures = {} if stage.full else {"width": 8, "batch_real": 8}
    for ipc in (10, 50, 1) if stage.full else (1,):
        for precision in PRECISIONS:
            with float32_as(precision):
                for name, work in parts(CondenseConfig(ipc=ipc, precision=precision, **small)).items():
                    own = {"ipc": ipc, "precision": precision}
                    stage.attempt(f"{name}, eager", partial(timed, work), **own)
                    if stage.cuda and name != "build_net":
                        stage.attempt(f"{name}, captured", partial(captured, work), **own)
                        if ipc == 10:
                            stage.attempt(f"{name}, kernels", partial(kernels, work), **own)


def by_size() -> tuple[Any, list[Any]]:
    """The 720-net grid for CIFAR-10's shape, and its candidates by FLOPs."""
    from nasproxy.spaces import inspect_space, load_space

    inspection = inspect_space(load_space("convnet_space"), SHAPE, C)
    return inspection, sorted(inspection.valid, key=lambda candidate: inspection.counts(candidate).flops)


def work_off(crew: Any, jobs: list[Any], *, ends: Callable[[], bool], told: Callable[[Any], None]) -> None:
    """Tells every evaluation of ``jobs`` by ``crew``; begins none after ``ends``."""
    waiting, at_work = list(jobs), 0
    while at_work or (waiting and not ends()):
        while waiting and crew.free and not ends():
            crew.submit(waiting.pop(0))
            at_work += 1
        for result in crew.results(1.0, lambda: None):
            for row in result.evaluations:
                told(row)
            at_work -= result.finished


def grid(stage: Stage) -> None:
    """Seconds of 720 candidates on 100 images for 300 epochs, from an even sample: by one process, and by several."""
    import torch

    from nasproxy.config import RECIPES
    from nasproxy.training.crew import Inline
    from nasproxy.training.images import TrainingImages
    from nasproxy.training.jobs import Job
    from nasproxy.training.processes import Processes
    from nasproxy.training.results import Evaluation
    from nasproxy.training.tasks import TrainingTask

    inspection, ordered = by_size()
    number, scale = (24, 3) if stage.full else (2, 150)  # of 300 epochs and 5,000 images to measure, one in so many
    chosen = [ordered[int((k + 0.5) * len(ordered) / number)] for k in range(number)] if stage.full else ordered[:2]
    stream = torch.Generator().manual_seed(0)
    train, held_out = (
        TrainingImages(torch.randn((n, *SHAPE), generator=stream), torch.arange(n) % C) for n in (100, 5000 // scale)
    )

    def jobs(precision: str, recipe: str, epochs: int) -> list[Any]:
        own = replace(RECIPES[recipe], epochs=epochs)
        setting = f"{precision} {recipe} {epochs}"
        task = TrainingTask(
            score="proxy",
            label="random",
            train=train,
            held_out=held_out,
            recipe=own,
            num_classes=C,
            setting=setting,
            precision=precision,
        )
        return [Job(task, inspection.space, one.id, one.params, (0,)) for one in chosen]

    def measured(crew: Any, precision: str, recipe: str) -> Figures:
        rows: list[Evaluation] = []
        work_off(crew, jobs(precision, recipe, 1), ends=lambda: False, told=lambda row: None)  # warms up
        start = time.monotonic()
        work_off(crew, jobs(precision, recipe, 300 // scale), ends=lambda: False, told=rows.append)
        taken = scale * (time.monotonic() - start)
        failures = [row.failure for row in rows if row.failure]
        each = [[row.params, round(row.seconds, 3)] for row in rows] if crew.size == 1 else []
        whole = taken * len(ordered) / number
        return {
            "scale": scale,
            "per_minute": 60 * number / taken,
            "grid_seconds": whole,
            "failures": failures,
            "each": each,
        }

    def by_several(size: int, precision: str, recipe: str) -> Figures:
        with Processes(size, stage.device, threads=1) as crew:
            return measured(crew, precision, recipe)

    plan = [(1, "bfloat16", "published"), (8, "bfloat16", "published"), (1, "float32", "published")]
    plan += [(16, "bfloat16", "published"), (1, "bfloat16", "one_cycle"), (4, "bfloat16", "published")]
    for size, precision, recipe in plan if stage.full else ((1, "float32", "published"), (2, "float32", "published")):
        one = partial(measured, Inline(stage.device), precision, recipe)
        work = one if size == 1 else partial(by_several, size, precision, recipe)
        stage.attempt("candidates", work, processes=size, precision=precision, recipe=recipe)


def epoch(stage: Stage) -> None:
    """Seconds of an epoch of full-data training of the default ConvNet, and of measuring it."""
    from nasproxy.config import FULL_RECIPE
    from nasproxy.networks import convnet, seeded
    from nasproxy.training.fit import Passes, fit
    from nasproxy.training.held_out import accuracy_and_loss
    from nasproxy.training.images import real_images

    dataset = stage.dataset()
    train, test = (real_images(dataset, own).on(stage.device) for own in (dataset.train, dataset.test))

    def trained(norm: str, precision: str, batch: int) -> Figures:
        net = seeded(partial(convnet, SHAPE, C, norm=norm, **stage.width), 0).to(stage.device)
        recipe = replace(FULL_RECIPE, epochs=1, batch_size=batch)
        marks = [stage.clock()]
        for _ in range(3 if stage.full else 1):
            fit(net, train, recipe, seed=0, device=stage.device, passes=Passes(precision=precision))
            marks.append(stage.clock())
        accuracy = accuracy_and_loss(net, test, stage.device, precision=precision)[0]
        seconds = [round((b - a) * 50_000 / len(train.images), 4) for a, b in pairwise(marks)]
        return {"epoch_seconds": seconds, "evaluate_seconds": stage.clock() - marks[-1], "accuracy": accuracy}

    for norm in ("instance", "batch") if stage.full else ("instance",):
        for precision in PRECISIONS if stage.full else ("float32",):
            for batch in (128, 512) if stage.full else (128,):
                own: Figures = {"norm": norm, "precision": precision, "batch": batch}
                stage.attempt("full data", partial(trained, **own), **own)


class _Enough(BaseException):
    """Time is up; no error, so that nothing in between takes it for one."""


def sets(stage: Stage) -> None:
    """Sets by the published loops, as far as time allows, and what nets learn from them."""
    import torch

    from nasproxy.condense import loop
    from nasproxy.condense.checkpoint import checkpoint_key, load_checkpoint
    from nasproxy.condense.contract import BuildRun
    from nasproxy.condense.initial import draw_per_class
    from nasproxy.condense.methods import CONDENSERS
    from nasproxy.config import RECIPES
    from nasproxy.config.condensing import condense_config
    from nasproxy.networks import convnet
    from nasproxy.training.candidate import train_candidate
    from nasproxy.training.images import TrainingImages, real_images

    dataset = stage.dataset()
    test = real_images(dataset, dataset.test).on(stage.device)
    timed = [row for row in stage.said("outer", "ours", "seconds") if row["ipc"] == 10]
    fastest = min(timed, key=lambda row: min(row["seconds"]))["precision"] if timed else "float32"
    loop.CHECKPOINT_SECONDS = 4.0  # the checkpoint is how a set is had that is not ready in time

    def accuracies(images: Any, labels: Any, recipes: tuple[str, ...]) -> Figures:
        train = TrainingImages(images.to(stage.device), labels.to(stage.device))
        found: Figures = {}
        for name in recipes:
            recipe = RECIPES[name] if stage.full else replace(RECIPES[name], epochs=2)
            net, numbers = partial(convnet, SHAPE, C, **stage.width), range(5 if stage.full else 1)
            fits = [train_candidate(net, train, test, recipe, seed=k, device=stage.device) for k in numbers]
            found |= {name: [fit.value for fit in fits], f"{name}_seconds": [fit.seconds for fit in fits]}
        return found

    def build(method: str, ipc: int, seconds: float, recipes: tuple[str, ...]) -> Figures:
        own: Figures = {"precision": fastest} if method == "gradient_matching" else {}
        own |= {} if stage.full else {"width": 8, "batch_real": 8, "outer_steps": 2}
        config = condense_config(method=method, ipc=ipc, **own).resolved(SHAPE, flip=dataset.flip)
        key = checkpoint_key(dataset, config)
        path = WORK / f"{method}-{ipc}-{key[:16]}.safetensors"
        start = time.monotonic()

        def progress(*_: object) -> None:
            if time.monotonic() - start > seconds:
                raise _Enough

        with suppress(_Enough):
            CONDENSERS[method].make(dataset, config, BuildRun(stage.device, checkpoint=path, progress=progress))
        took = time.monotonic() - start
        position, saved = load_checkpoint(path, key)
        labels = torch.arange(C).repeat_interleave(ipc)
        torch.save({"images": saved["images"], "labels": labels}, stage.options.out / f"{method}-{ipc}.pt")
        done = {"seconds": took, "outer_steps": position.outer, "of": config.outer_steps, "precision": config.precision}
        return done | accuracies(saved["images"], labels, recipes)

    def random(ipc: int, recipes: tuple[str, ...]) -> Figures:
        drawn = draw_per_class(dataset.train, [ipc] * C, 0)
        return accuracies(dataset.normalize(drawn.images), drawn.labels, recipes)

    plan = [("gradient_matching", 1, 0.2), ("gradient_matching", 10, 0.65), ("distribution_matching", 10, 0.6)]
    for method, ipc, share in plan if stage.full else plan[:1]:
        recipes = ("dsa",) if method == "distribution_matching" else ("published", "one_cycle")
        work = partial(build, method, ipc, share * (stage.left - 12), recipes)
        stage.attempt("set", work, method=method, ipc=ipc)
        stage.attempt("random images", partial(random, ipc, recipes), ipc=ipc)


def truth(stage: Stage) -> None:
    """Full training of a uniform sample of the 720, as many as time allows, beside the sets made before."""
    import torch
    from scipy import stats

    from nasproxy.condense.initial import draw_per_class
    from nasproxy.config import RECIPES, ValidateConfig
    from nasproxy.core.devices import training_precision
    from nasproxy.scores.full_training import full_task
    from nasproxy.spaces.inspection import uniform_sample
    from nasproxy.training.crew import Inline
    from nasproxy.training.images import TrainingImages, real_images
    from nasproxy.training.jobs import Job
    from nasproxy.training.processes import Processes
    from nasproxy.training.tasks import TrainingTask

    dataset, (inspection, ordered) = stage.dataset(), by_size()
    precision = training_precision(stage.device) if stage.full else "float32"
    drawn = draw_per_class(dataset.train, [10] * C, 0)
    small = {"random": TrainingImages(dataset.normalize(drawn.images), drawn.labels)}
    for path in sorted(stage.options.out.glob("*-10.pt")):
        small[path.stem] = TrainingImages(*torch.load(path).values())
    recipe = replace(RECIPES["one_cycle"], epochs=300 if stage.full else 1)
    long = ValidateConfig(epochs=10, precision=precision) if stage.full else ValidateConfig(epochs=1, images=128)
    tasks = [full_task(dataset, long)]
    held_out = real_images(dataset, dataset.val)
    for name, own in small.items():
        more: Figures = {"train": own, "held_out": held_out, "recipe": recipe, "precision": precision}
        tasks.append(TrainingTask(score=name, label=name, num_classes=C, setting=name, **more))
    sample = uniform_sample(inspection, len(ordered), 0) if stage.full else ordered[:2]
    jobs = [Job(task, inspection.space, one.id, one.params, (0,)) for one in sample for task in tasks]
    values: dict[str, dict[str, float]] = {}

    def told(row: Any) -> None:
        stage.say("training", **vars(row))
        if row.value is not None:
            values.setdefault(row.candidate, {})[row.score] = row.value

    def ends() -> bool:  # what is at work then can still end
        return stage.left < 25

    best = [row for row in stage.said("grid", "candidates", "per_minute") if row["precision"] == "bfloat16"]
    size = max(best, key=lambda row: row["per_minute"])["processes"] if best else 1
    if size == 1:
        work_off(Inline(stage.device), jobs, ends=ends, told=told)
    else:
        with Processes(size, stage.device, threads=1) as crew:
            work_off(crew, jobs, ends=ends, told=told)
    for name in small:
        pairs = [(own["full"], own[name]) for own in values.values() if "full" in own and name in own]
        if len(pairs) > 2:
            rho = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
            stage.say("spearman", score=name, n=len(pairs), rho=rho)


# Each with the most seconds that it may take, by worth; what the others leave the last one has.
STAGES: dict[str, tuple[Callable[[Stage], None], float]] = {
    "machine": (machine, 25),
    "tests": (tests, 75),
    "methods": (methods, 45),
    "outer": (outer, 85),
    "profile": (profile, 40),
    "grid": (grid, 75),
    "epoch": (epoch, 30),
    "sets": (sets, 150),
    "truth": (truth, 540),
}
TINY_SECONDS = 90.0  # of a stage; none needs so many
GRACE = 8.0  # for a process to end by itself


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder that holds cifar10/*.parquet; without it, random pixels")
    parser.add_argument("--reference", type=Path, help="checkout of the published implementation")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--tiny", action="store_true", help="a little of everything, to find mistakes")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # this process is that stage
    options = parser.parse_args()
    options.out = options.out.resolve()
    for folder in (WORK, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("NASPROXY_CACHE_DIR", str(WORK / "decoded"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if options.only:
        stage = Stage(options.only, options)
        (data if options.only == "data" else STAGES[options.only][0])(stage)
        stage.say("ended")
        return

    file, began = options.out / "gpu_day.jsonl", time.monotonic()

    def start(name: str, seconds: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-u", __file__, *sys.argv[1:], "--only", name, "--seconds", str(seconds)]
        return subprocess.Popen(command)

    ended = {row["stage"] for row in read(file) if row["what"] == "ended"}
    decoding = start("data", 120) if options.data and not (WORK / "dataset.pt").exists() else None
    for name in options.stages.split(","):
        left = options.seconds - (time.monotonic() - began) - GRACE
        seconds = min(TINY_SECONDS if options.tiny else STAGES[name][1], left)
        if name in ended or seconds < 8:
            continue
        process = start(name, seconds)
        try:
            code = process.wait(seconds + GRACE)
            how = "" if code == 0 else f"ended with {code}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            how = "killed at its limit"
        if how:
            append(file, json.dumps({"stage": name, "what": how}))
        print(f"-- {name}: {how or 'ended'}, {time.monotonic() - began:.0f} s in all", flush=True)
    if decoding is not None and decoding.poll() is None:
        decoding.kill()
    rows = read(file)
    failed = [[row["stage"], row["what"], row["failed"]] for row in rows if "failed" in row]
    print(json.dumps({"lines": len(rows), "failed": failed[:20]}))


if __name__ == "__main__":
    main()
