"""``nasproxy search --compute`` and ``--hours``: the best architecture for a stated compute."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from nasproxy.cli.commands.options import DataOptions, Source
from nasproxy.cli.commands.output import device_named, load_data, say, say_space, source_of
from nasproxy.cli.commands.session import from_here, session_of
from nasproxy.config import ComputeConfig, config_hash
from nasproxy.core.devices import DeviceChoice, hardware, training_precision, versions
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.progress import progress_bar
from nasproxy.core.wording import epochs_text, rough_duration
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import load_proxy, newest_proxy
from nasproxy.report.picked import PART_NAMES, Part, PickReport, PickRow, pick_lines, write_pick
from nasproxy.search.callbacks import JsonLines, SearchCallback, all_callbacks, make_tracker, tracker_names
from nasproxy.search.compute import Picked, Progress, search_by_compute
from nasproxy.search.compute_plan import ComputePlan
from nasproxy.search.run_folder import LEDGER_FILE, PICK_FILE, REPORT_FILE, fork
from nasproxy.spaces import SpaceInspection, inspect_space, load_space
from nasproxy.spaces.export import candidate_source
from nasproxy.training.crew import default_size

NUM_PROMISING = 10  # candidates that were not trained fully, on the page


@dataclass(frozen=True)
class ComputeOptions:
    """What ``nasproxy search --compute`` was asked for.

    Attributes:
        space: a YAML file, or the name of a shipped space.
        settings: the settings of :class:`~nasproxy.config.ComputeConfig` that were given.
        data: the data and the device; without a data set that of the newest proxy file in ``proxy_folder``.
        proxy_folder: the folder of proxy files.
        run_folder: the folder of run folders.
        out: the run folder; None stands for one in ``run_folder`` that is named after what was asked for.
        forked: whether the search begins in a copy of the run, whose trainings it reuses.
        workers: processes that train; None stands for as many as fit the device.
        storage: the URL of a database in place of files.
        track: names of trackers, separated by commas.
    """

    space: str
    settings: dict[str, Any]
    data: DataOptions
    proxy_folder: Path
    run_folder: Path
    out: Path | None = None
    forked: bool = False
    workers: int | None = None
    storage: str | None = None
    track: str = ""


def search_compute(options: ComputeOptions, lines: JsonLines | None = None) -> Path:
    """``nasproxy search --compute``: spends the compute, writes the page and the pick as a Python file.

    Args:
        options: what was asked for.
        lines: where events are written as JSON, besides what is said to the person.

    Returns:
        The run folder.
    """
    ComputeConfig(**options.settings)  # says what is wrong before anything is loaded
    trackers = tracker_names(options.track)
    space = load_space(options.space)
    choice = device_named(options.data.device)
    dataset = load_data(_source(options), offline=options.data.offline)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, dataset.input_shape, dataset.num_classes, progress=progress)
    say_space(space, inspection)
    # Hosts that share a database may have different devices, and their full accuracies must not differ.
    precision = training_precision(choice.device) if options.storage is None else ComputeConfig.precision
    config = ComputeConfig(**({"precision": precision} | options.settings))
    run = _run_folder(options, inspection, dataset, config)
    say("run", str(run))
    workers = options.workers or default_size(choice.device)
    with session_of(run, options.storage, workers, choice) as session, _bars() as progress:
        callbacks: list[SearchCallback] = [] if lines is None else [lines]
        callbacks += [make_tracker(name, run, vars(config)) for name in trackers]
        with all_callbacks(callbacks) as callback:
            found = search_by_compute(
                inspection,
                dataset,
                config,
                session,
                callback=callback,
                tell=lambda plan, kept: _say_plan(plan, workers, kept=kept),
                progress=progress,
            )
    report = report_of(found, inspection, dataset, config, choice, [_command(options, found.plan, config)])
    page = write_pick(report, run, REPORT_FILE)
    for line in pick_lines(report):
        say("", line)
    if found.pick is not None:
        text = candidate_source(
            space,
            found.candidates[found.pick],
            dataset.input_shape,
            dataset.num_classes,
            mean=dataset.mean,
            std=dataset.std,
        )
        write_atomically(run / PICK_FILE, text.encode())
        say("file", f"{run / PICK_FILE} (`python {run / PICK_FILE}` prints the network)")
    say("report", str(page))
    if lines is not None:
        lines.say("report", run=str(run), **_numbers(report))
    return run


def _source(options: ComputeOptions) -> Source:
    """The data set that was named, or that of the newest proxy file.

    Raises:
        NasproxyError: when there is neither.
    """
    data = options.data
    if data.dataset is not None:
        return Source(data.dataset, data_dir=data.data_dir)
    try:
        return source_of(load_proxy(newest_proxy(options.proxy_folder)), data)
    except NasproxyError:
        raise NasproxyError(
            "A search for a stated compute needs a data set, but none is named and there is no proxy file that records "
            "one: give --dataset, such as --dataset cifar10."
        ) from None


def _run_folder(options: ComputeOptions, inspection: SpaceInspection, dataset: Dataset, config: ComputeConfig) -> Path:
    """The run folder. Its name follows from what was asked for, so the same command resumes it."""
    digest = config_hash(inspection.space.hash, dataset.fingerprint, options.settings)
    run = options.out or options.run_folder / f"{inspection.space.name}-{dataset.name}-compute-{digest[:8]}"
    if options.forked:
        if not (run / LEDGER_FILE).exists():
            raise NasproxyError(f"--fork continues in a copy of a run, but '{run}' is none: leave --fork out.")
        run = fork(run)
    return run


@contextmanager
def _bars() -> Iterator[Progress]:
    """Shows each part's progress in a bar of its own, one after the other."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        shown: dict[str, Any] = {}

        def progress(part: str, done: int, total: int) -> None:
            if part not in shown:
                stack.pop_all().close()  # the bar of the part before it
                shown[part] = stack.enter_context(progress_bar(PART_NAMES[part]))
            shown[part](done, total, "")

        yield progress


def _say_plan(plan: ComputePlan, workers: int, *, kept: bool) -> None:
    """Prints what will be bought, what each part costs, and when it ends."""
    pick, seconds = plan.pick, plan.parts
    images = "all" if plan.images is None else f"{plan.images:,}"
    say("compute", f"{pick.compute:.3g} full trainings of {epochs_text(plan.epochs)} on {images} images{_kept(kept)}")
    say("plan", f"free scores of {pick.scored:,} candidates ({rough_duration(seconds['scored'])})")
    if pick.short and plan.short_epochs:
        say("", f"{pick.short} short trainings, {epochs_text(plan.short_epochs)} ({rough_duration(seconds['short'])})")
    else:
        say("", "no short trainings: so few of them would fit that they teach nothing")
    say("", f"{pick.full} full trainings ({rough_duration(seconds['full'])})")
    say("", f"1 more for the test accuracy of the pick, beyond the compute ({rough_duration(seconds['test'])})")
    say("", "no condensed proxy set: no measurement so far shows that one adds to free scores and short trainings")
    end = datetime.now() + timedelta(seconds=plan.seconds / workers)
    clock = end.strftime("%H:%M" if plan.seconds < 12 * 3600 else "%H:%M on %d %B")
    say("time", f"about {rough_duration(plan.seconds / workers)}, finished at about {clock}")


def _kept(kept: bool) -> str:
    return ", by the plan with which this run began" if kept else ""


# ----------------------------------------------------------------------------------------------------------- the report


def report_of(
    found: Picked,
    inspection: SpaceInspection,
    dataset: Dataset,
    config: ComputeConfig,
    choice: DeviceChoice,
    commands: list[str],
) -> PickReport:
    """The report of what was found."""
    plan, left = found.plan, found.remaining
    images = len(dataset.train) if plan.images is None else min(plan.images, len(dataset.train))
    order = np.argsort(-found.vote, kind="stable")
    places = np.empty(len(order), dtype=int)
    places[order] = np.arange(1, len(order) + 1)

    def row(index: int, *, expected: bool = False) -> PickRow:
        one, model = found.candidates[index], expected and found.belief.has_model
        return PickRow(
            one.id,
            dict(one.params),
            int(places[index]),
            _known(found.short[index]),
            _known(found.full[index]),
            float(found.belief.mean[index]) if model else None,
            float(found.belief.std[index]) if model else None,
            found.failures.get(index),
        )

    shortly = [index for index in np.flatnonzero(~np.isnan(found.short)).tolist() if index not in found.order]
    shortly.sort(key=lambda index: -found.short[index])
    failed = [index for index in found.failures if index not in found.order and index not in shortly]
    untrained = [
        index
        for index in np.argsort(-found.belief.mean, kind="stable").tolist()
        if index not in found.order and index not in found.failures
    ]
    num = {"scored": len(found.candidates), "short": len(shortly) + len(failed), "full": len(found.order), "test": 1}
    num["short"] += sum(not math.isnan(found.short[index]) for index in found.order)
    planned = {"scored": plan.pick.scored, "short": plan.pick.short, "full": plan.pick.full, "test": 1}
    return PickReport(
        title=f"{inspection.space.name} on {dataset.name}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        dataset=dataset.name,
        space=inspection.space.name,
        space_size=inspection.space.size(),
        compute=plan.pick.compute,
        protocol=f"{epochs_text(plan.epochs)} on {images:,} of {len(dataset.train):,} training images, one seed",
        epochs=plan.epochs,
        short_epochs=plan.short_epochs,
        long_enough=plan.validation(config).is_full_length(len(dataset.train)),
        parts=tuple(Part(name, planned[name], num[name], plan.parts[name], found.seconds[name]) for name in planned),
        rows=tuple(row(index) for index in (*found.order, *shortly, *failed)),
        promising=tuple(row(index, expected=True) for index in untrained[:NUM_PROMISING])
        if found.belief.has_model
        else (),
        pick=None if found.pick is None else found.order.index(found.pick),
        test=None if found.test is None else found.test.value,
        better=None if left is None else left.better,
        margin=0.01 if left is None else left.margin,
        expected_loss=None if left is None else left.expected,
        low=None if left is None else left.low,
        high=None if left is None else left.high,
        reproducibility=_reproducibility(found, inspection, dataset, config, choice),
        commands=tuple(commands),
        short_trust=found.belief.trust,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _reproducibility(
    found: Picked, inspection: SpaceInspection, dataset: Dataset, config: ComputeConfig, choice: DeviceChoice
) -> tuple[tuple[str, str], ...]:
    pick = found.plan.pick
    rows = {
        "data set": f"{dataset.name}, fingerprint {dataset.fingerprint[:16]}",
        "splits": f"{len(dataset.train):,} train, {len(dataset.val):,} validation, {len(dataset.test):,} test images",
        "search space": f"{inspection.space.name}, hash {inspection.space.hash[:16]}",
        "free scores": ", ".join(sorted(found.free)),
        "cost of a candidate's free scores": f"{pick.cost_scored:.2g} full trainings",
        "cost of a short training": f"{pick.cost_short:.2g} full trainings",
        "settings": ", ".join(f"{name}={value}" for name, value in vars(config).items()),
        "hardware": hardware(choice),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
    }
    return tuple(rows.items())


def _command(options: ComputeOptions, plan: ComputePlan, config: ComputeConfig) -> str:
    """The command that repeats the run, with the length of full training spelled out."""
    words: list[object] = ["nasproxy", "search", "--space", from_here(options.space)]
    if options.data.dataset is not None:
        words += ["--dataset", options.data.dataset]
    words += ["--compute", f"{plan.pick.compute:g}", "--full-epochs", plan.epochs]
    if plan.images is not None:
        words += ["--full-images", plan.images]
    words += ["--full-precision", config.precision, "--seed", config.seed]
    return shlex.join(map(str, words))


def _numbers(report: PickReport) -> dict[str, Any]:
    """The pick and what is left, for programs."""
    pick = report.picked
    return {
        "pick": None if pick is None else pick.params,
        "pick_accuracy": None if pick is None else pick.full,
        "pick_test_accuracy": report.test,
        "better_left": report.better,
        "expected_loss": report.expected_loss,
    }
