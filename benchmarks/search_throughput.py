"""How many candidates of the 720-net grid train per minute on a proxy set of 100 images, here and elsewhere?

Claim: at least twice as many as a plain PyTorch loop on two CPU cores, and as the published evaluation loop.

Every round trains the same few candidates, drawn from the grid, by each of the loops in turns; a candidate trains for
300 epochs on 100 images of 3×32×32 and is measured on 5,000. To take minutes and not hours, ``--scale 20`` does a
twentieth of both, which keeps their shares; rates are given for the whole. Candidates of widths 32 and 64 ("narrow")
and 128 and 256 ("wide") are counted apart.

    python benchmarks/search_throughput.py --reference CHECKOUT --rounds 5

    python benchmarks/search_throughput.py --overhead 10000 --sampler tpe

measures what the study itself costs: as many trials of nasbench201_space, whose answers come at once.

Floor: two operations per multiply-add, three passes per training image and one per measured image.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from nasproxy.config import SAMPLERS, Recipe, SearchConfig
from nasproxy.core.devices import choose_device, hardware
from nasproxy.core.randomness import derive_seed
from nasproxy.networks import seeded
from nasproxy.search.callbacks import FinishedTrial
from nasproxy.search.loop import run_search
from nasproxy.spaces import Candidate, SearchSpace, inspect_space, load_space
from nasproxy.spaces.inspection import NetSize, num_flops
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import Crew, Inline, default_size
from nasproxy.training.images import TrainingImages
from nasproxy.training.jobs import Job, Result
from nasproxy.training.ledger import Ledger
from nasproxy.training.processes import Processes
from nasproxy.training.results import Fit
from nasproxy.training.session import Session
from nasproxy.training.tasks import TrainingTask

SHAPE, NUM_CLASSES = (3, 32, 32), 10
EPOCHS, IMAGES, HELD_OUT = 300, 100, 5_000
GROUPS = {"narrow": (32, 64), "wide": (128, 256)}
RECIPE = Recipe(lr=0.01, epochs=EPOCHS)


def images(n: int, seed: int) -> TrainingImages:
    stream = torch.Generator().manual_seed(seed)
    return TrainingImages(torch.randn((n, *SHAPE), generator=stream), torch.arange(n) % NUM_CLASSES)


def plain_net(width: int, depth: int, activation: str, norm: str, pooling: str) -> nn.Module:
    """The grid's net as one would write it with torch's own layers."""
    layers: list[nn.Module] = []
    channels, size = SHAPE[0], SHAPE[1]
    for _ in range(depth):
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        norms: dict[str, Callable[[], nn.Module]] = {
            "none": nn.Identity,
            "batch": lambda: nn.BatchNorm2d(width),
            "layer": lambda size=size: nn.LayerNorm([width, size, size]),  # type: ignore[misc]
            "instance": lambda: nn.GroupNorm(width, width),
            "group": lambda: nn.GroupNorm(4, width),
        }
        layers.append(norms[norm]())
        layers.append({"sigmoid": nn.Sigmoid(), "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.01)}[activation])
        if pooling != "none":
            layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
            size //= 2
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size * size, NUM_CLASSES))


def plain_loop(candidates: list[Candidate], task: TrainingTask, *, device: torch.device) -> None:
    """A DataLoader, a net, an optimiser: what most people write."""
    from torch.utils.data import DataLoader, TensorDataset

    train = DataLoader(
        TensorDataset(task.train.images, task.train.labels), batch_size=task.recipe.batch_size, shuffle=True
    )
    held_out = DataLoader(TensorDataset(task.held_out.images, task.held_out.labels), batch_size=256)
    for candidate in candidates:
        net = plain_net(**candidate.params).to(device)  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        net.train()
        for _ in range(task.recipe.epochs):
            for batch, labels in train:
                loss = nn.functional.cross_entropy(net(batch.to(device)), labels.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            correct = sum((net(batch.to(device)).argmax(1).cpu() == labels).sum().item() for batch, labels in held_out)
        assert correct >= 0


class Reference:
    """The published evaluation of a synthetic set: ``evaluate_synset`` of a local checkout, unchanged."""

    def __init__(self, checkout: Path, device: torch.device) -> None:
        self.device = device
        sys.path.insert(0, str(checkout))
        self.utils: Any = importlib.import_module("utils")
        self.networks: Any = importlib.import_module("networks")

    def __call__(self, candidates: list[Candidate], task: TrainingTask) -> None:
        held_out = torch.utils.data.DataLoader(
            self.utils.TensorDataset(task.held_out.images, task.held_out.labels), batch_size=256, shuffle=False
        )
        args = SimpleNamespace(
            device=str(self.device),
            lr_net=0.01,
            epoch_eval_train=task.recipe.epochs,
            batch_train=256,
            dsa=False,
            dc_aug_param={"strategy": "none"},
        )
        names = {"none": "none", "batch": "batchnorm", "layer": "layernorm", "instance": "instancenorm"}
        for candidate in candidates:
            p = candidate.params
            net = self.networks.ConvNet(
                channel=SHAPE[0],
                num_classes=NUM_CLASSES,
                net_width=p["width"],
                net_depth=p["depth"],
                net_act=str(p["activation"]).replace("_", ""),
                net_norm=names.get(str(p["norm"]), "groupnorm"),
                net_pooling={"none": "none", "max": "maxpooling", "avg": "avgpooling"}[str(p["pooling"])],
                im_size=SHAPE[1:],
            )
            with contextlib.redirect_stdout(io.StringIO()):
                self.utils.evaluate_synset(0, net, task.train.images, task.train.labels, held_out, args)


class Ours:
    """The search's own machinery: crew, coordinator, ledger on disk."""

    def __init__(self, crew: Crew, space: SearchSpace, folder: Path, precision: str = "float32") -> None:
        self.crew, self.space, self.folder, self.precision = crew, space, folder, precision
        self.number = 0

    def __call__(self, candidates: list[Candidate], task: TrainingTask) -> None:
        self.number += 1
        ledger = Ledger(self.folder / f"{self.number}.sqlite")
        task = replace(task, precision=self.precision, setting=f"{task.setting} {self.precision}")
        jobs = [Job(task, self.space, candidate.id, candidate.params, (0,)) for candidate in candidates]
        rows = Coordinator(self.crew, ledger).finish(jobs)
        ledger.close()
        assert all(own.failure is None for (own,) in rows), rows


class Tried(dict[str, NetSize]):
    """Every candidate fits: trying one costs its net's size and not the study's."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> NetSize:
        return NetSize(1, 1)


class Instant:
    """A crew that answers at once, for the cost of all the rest."""

    size = 1
    keep = None

    def __init__(self) -> None:
        self.job: Job | None = None

    @property
    def free(self) -> int:
        return int(self.job is None)

    def submit(self, job: Job) -> None:
        self.job = job

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
        job, self.job = self.job, None
        assert job is not None
        accuracy = derive_seed(job.candidate) / 2**63
        return [job.result(0, {job.task.score: Fit(accuracy, 1.0, 0.0)}, finished=True)]


def random_task(train: TrainingImages, held_out: TrainingImages, recipe: Recipe) -> TrainingTask:
    return TrainingTask(
        score="proxy",
        label="random images",
        train=train,
        held_out=held_out,
        recipe=recipe,
        num_classes=NUM_CLASSES,
        setting="benchmark",
    )


def overhead(trials: int, sampler: str) -> None:
    """Milliseconds per trial of everything but training, and the memory it takes, by the thousand."""
    space = load_space("nasbench201_space")
    inspection = inspect_space(space, SHAPE, NUM_CLASSES, sample=1)
    object.__setattr__(inspection, "_results", Tried())
    task = random_task(images(1, 0), images(1, 0), RECIPE)
    rows: list[dict[str, float]] = []
    started = time.perf_counter()

    class Clock:
        last, shown = started, 0

        def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
            if done >= self.shown + 1000:
                now = time.perf_counter()
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                rows.append({"trials": done, "ms": 1000 * (now - self.last) / (done - self.shown), "mb": peak})
                print(f"{done:6,} trials: {rows[-1]['ms']:6.1f} ms per trial, {peak:6.0f} MB", flush=True)
                self.last, self.shown = now, done

        def close(self) -> None:
            pass

    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(Path(name) / "evaluations.sqlite")
        session = Session(Path(name), ledger, Instant(), choose_device("cpu"))
        run_search(inspection, task, SearchConfig(trials=trials, sampler=sampler), session, callback=Clock())
        ledger.close()
    seconds = time.perf_counter() - started
    print(f"{trials:,} trials by {sampler} in {seconds:.0f} s")
    print(
        json.dumps({"hardware": hardware(choose_device("cpu")), "sampler": sampler, "seconds": seconds, "rows": rows})
    )


def flops(space: SearchSpace, candidate: Candidate, task: TrainingTask) -> float:
    with torch.device("meta"):
        net = seeded(lambda: space.build(candidate.params, SHAPE, NUM_CLASSES), 0)
    passes = 3 * task.recipe.epochs * len(task.train.images) + len(task.held_out.images)
    return float(num_flops(net, SHAPE)) * passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="checkout of the published code")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-round", type=int, default=4, help="candidates of each group in a round")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="default: as many as a search takes")
    parser.add_argument("--overhead", type=int, metavar="TRIALS", help="the study's own cost instead")
    parser.add_argument("--sampler", default="tpe", choices=SAMPLERS)
    args = parser.parse_args()
    if args.overhead:
        overhead(args.overhead, args.sampler)
        return

    space = load_space("convnet_space")
    recipe = Recipe(lr=RECIPE.lr, epochs=max(1, EPOCHS // args.scale))
    task = random_task(images(IMAGES, 0), images(HELD_OUT // args.scale, 1), recipe)
    rng = np.random.default_rng(0)
    grid = list(space.enumerate())
    drawn = {
        group: [c for c in (grid[i] for i in rng.permutation(len(grid))) if c.params["width"] in widths]
        for group, widths in GROUPS.items()
        if group in args.groups
    }
    choice = choose_device(args.device)
    workers = args.workers or default_size(choice.device)
    print(f"{hardware(choice)}; {args.rounds} rounds of {args.per_round} candidates; 1/{args.scale} of the work\n")
    seconds: dict[tuple[str, str], list[float]] = {}
    work: dict[str, list[float]] = {group: [] for group in drawn}
    with tempfile.TemporaryDirectory() as name, Processes(workers, choice.device) as crew:
        loops: dict[str, Callable[[list[Candidate], TrainingTask], None]] = {
            f"nasproxy, {workers} workers": Ours(crew, space, Path(name) / "crew"),
            f"nasproxy, {workers} workers, bfloat16": Ours(crew, space, Path(name) / "lower", "bfloat16"),
            "nasproxy, one process": Ours(Inline(choice.device), space, Path(name) / "inline"),
            "plain PyTorch": partial(plain_loop, device=choice.device),
        }
        if args.reference is not None:
            loops["published"] = Reference(args.reference, choice.device)
        smallest = min(grid, key=lambda c: flops(space, c, task))
        for loop in loops.values():  # starts the workers, loads what is loaded once
            loop([smallest] * 2 if not isinstance(loop, Ours) else [smallest, grid[1]], task)
        for number in range(args.rounds):
            for group, candidates in drawn.items():
                own = candidates[number * args.per_round : (number + 1) * args.per_round]
                work[group].append(sum(flops(space, c, task) for c in own))
                for label, loop in loops.items():
                    started = time.perf_counter()
                    loop(own, task)
                    seconds.setdefault((group, label), []).append(time.perf_counter() - started)
                print(
                    f"round {number + 1}, {group}: "
                    + ", ".join(f"{label} {seconds[group, label][-1]:.1f} s" for label in loops),
                    flush=True,
                )
    first = next(iter(loops))
    print(f"\n{'':40}{'candidates/min':>15}{'GFLOP/s':>9}   {'times slower than ' + first} (least, greatest)")
    result: dict[str, Any] = {}
    for group in drawn:
        for label in loops:
            own = seconds[group, label]
            rate = 60 * args.per_round * len(own) / (sum(own) * args.scale)
            speed = sum(work[group]) / sum(own) / 1e9
            ratios = [b / a for a, b in zip(seconds[group, first], own, strict=True)]
            print(
                f"{group + ', ' + label:40}{rate:15.2f}{speed:9.0f}   {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}, {max(ratios):.2f})"
            )
            result[f"{group}, {label}"] = {"per_minute": rate, "gflops": speed, "ratios": ratios}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print()
    print(json.dumps({"hardware": hardware(choice), "commit": commit, "rounds": args.rounds, "results": result}))


if __name__ == "__main__":
    main()
