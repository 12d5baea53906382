"""What each command does and says: loading, planning, the work, and the lines a person reads on the way."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasproxy import peers
from nasproxy.budget import BuildPlan, SearchPlan, duration, omissions, plan_build, plan_search, search_omissions
from nasproxy.condense import CONDENSERS, build_proxy, checkpoint_of
from nasproxy.condense.checkpoint import checkpoint_config
from nasproxy.config import CondenseConfig, SearchConfig, ValidateConfig, condense_config, config_hash
from nasproxy.datasets import DATASETS, Dataset, denormalize, load_dataset
from nasproxy.devices import DeviceChoice, choose_device
from nasproxy.errors import NasproxyError, unknown
from nasproxy.evaluations import Ledger, TrainingTask
from nasproxy.figures import image_grid_png
from nasproxy.networks import NETWORKS
from nasproxy.progress import progress_bar
from nasproxy.proxyset import SUFFIX, ProxySet, load_proxy, newest_proxy, save_proxy, write_atomically
from nasproxy.report import CorrelationReport, read_report, save_report, three_lines, write_report
from nasproxy.runs import (
    LEDGER_FILE,
    PROXY_FILE,
    REPORT_FILE,
    SETTINGS_FILE,
    RunSettings,
    load_settings,
    save_settings,
)
from nasproxy.scores import SCORES, check_fit, on_device, proxy_task
from nasproxy.search import SearchResult, run_lock, run_search, search_result
from nasproxy.spaces import SearchSpace, SpaceInspection, inspect_space, load_space, shipped_spaces
from nasproxy.validate import Truth, load_truth
from nasproxy.validate import validate as run_validation


@dataclass(frozen=True)
class Source:
    """How a person named the data set; kept in the proxy's record so that later commands find it again."""

    spec: str
    data_dir: Path | None = None
    image_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        data_dir = None if self.data_dir is None else str(self.data_dir)
        return {"spec": self.spec, "data_dir": data_dir, "image_size": self.image_size}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Source:
        data_dir = values.get("data_dir")
        return Source(values["spec"], None if data_dir is None else Path(data_dir), values.get("image_size"))


def say(topic: str, text: str) -> None:
    """One line of a command's output: a short topic, then the facts."""
    if peers.own_rank() == 0:
        print(f"{topic:<10}{text}", flush=True)


def _load_data(source: Source, *, offline: bool) -> Dataset:
    with progress_bar("loading data") as progress:
        dataset = load_dataset(
            source.spec,
            data_dir=source.data_dir,
            offline=offline,
            image_size=source.image_size,
            progress=progress,
        )
    channels, height, width = dataset.input_shape
    say(
        "data",
        f"{dataset.name}: {len(dataset.train):,} train, {len(dataset.val):,} validation, {len(dataset.test):,} test "
        f"images of {channels}×{height}×{width}, {dataset.num_classes} classes",
    )
    return dataset


def _device(name: str) -> DeviceChoice:
    choice = choose_device(name)
    say("device", str(choice))
    return choice


def _say_plan(plan: BuildPlan | SearchPlan) -> None:
    say("budget", f"{plan.budget} ({plan.why})")
    say("", f"leaves out against the paper's protocol: {plan.leaves_out or 'nothing'}")
    ends = datetime.now() + timedelta(seconds=plan.seconds)
    clock = ends.strftime("%H:%M" if plan.seconds < 12 * 3600 else "%H:%M on %d %B")
    say("time", f"about {duration(plan.seconds)}, until about {clock}")


def build(
    source: Source,
    overrides: dict[str, Any],
    *,
    budget: str | None,
    out: Path | None,
    folder: Path,
    offline: bool,
    device: str,
    force: bool,
) -> Path:
    """``nasproxy build-proxy``: returns the proxy file. Processes started by ``torchrun`` share the work."""
    method = overrides.get("method", CondenseConfig.method)
    if method not in CONDENSERS:
        raise unknown("method", method, CONDENSERS)
    asked = condense_config(**overrides)  # says what is wrong before any data are loaded
    if asked.match_space is not None:
        load_space(asked.match_space)
    choice = choose_device(device)
    with peers.joined(choice.device):
        say("device", str(choice) + (f", {peers.num_peers()} processes" if peers.num_peers() > 1 else ""))
        dataset = _load_data(source, offline=offline)
        return _build(source, dataset, overrides, budget=budget, out=out, folder=folder, choice=choice, force=force)


def _build(
    source: Source,
    dataset: Dataset,
    overrides: dict[str, Any],
    *,
    budget: str | None,
    out: Path | None,
    folder: Path,
    choice: DeviceChoice,
    force: bool,
) -> Path:
    method = overrides.get("method", CondenseConfig.method)
    # The file is named after what was asked for, not after what was planned: the same command finds it again, although
    # the next timing might plan otherwise.
    digest = config_hash({name: _plain(value) for name, value in overrides.items()}, budget, dataset.fingerprint)
    ipc = overrides.get("ipc", CondenseConfig.ipc)
    path = out or folder / f"{dataset.name}-{method}-ipc{ipc}-{digest[:8]}{SUFFIX}"
    if path.suffix != SUFFIX:
        raise NasproxyError(f"A proxy file ends in {SUFFIX}, but got --out '{path}'.")
    if path.exists() and not force:
        if out is not None:
            raise NasproxyError(f"'{path}' exists: use --force to replace it, or another --out.")
        load_proxy(path)
        path.touch()  # search takes the newest
        say("proxy", f"{path} is built already; --force builds it again")
        return path
    checkpoint = path.with_suffix(".checkpoint")
    if force:
        for number in range(overrides.get("num_sets", CondenseConfig.num_sets)):
            checkpoint_of(checkpoint, number).unlink(missing_ok=True)
    if peers.from_first(checkpoint.exists()):
        config = checkpoint_config(checkpoint)
        say("resume", f"from {checkpoint}, with the settings it was started with")
    else:
        plan = peers.from_first(plan_build(dataset, overrides, budget=budget, device=choice.device))
        config = plan.config
        if config.method != "random":
            _say_plan(plan)
    if config.method != "random":
        inner, net = config.loops
        say(
            "loops",
            f"{config.outer_steps} nets × {inner} matchings, {net} net epochs between; {_net(config)}; "
            f"{config.batch_real} real images per class",
        )
        sets = f"; {config.num_sets} sets" if config.num_sets > 1 else ""
        siamese = f"; augmentation {config.augmentation}" if config.augmentation != "none" else ""
        threads = "" if config.threads is None else f"; {config.threads} of {os.cpu_count()} cores (timed)"
        compiled = "; compiled" if config.compile else ""
        say("", f"{config.precision}{threads}{compiled}{siamese}{sets}")
    pictures = path.with_suffix("")

    def snapshot(outer: int, images: Tensor) -> None:
        write_atomically(pictures / f"net-{outer:05d}.png", _grid(dataset, images, config.ipc))

    with progress_bar("condensing") as progress:
        proxy = build_proxy(
            dataset,
            config,
            choice=choice,
            source=source.as_json(),
            checkpoint=checkpoint,
            progress=progress,
            on_snapshot=snapshot,
        )
    if peers.own_rank() > 0:
        return path
    save_proxy(proxy, path)
    write_atomically(path.with_suffix(".png"), _grid(dataset, proxy.images[0], config.ipc))
    for number in range(config.num_sets):
        checkpoint_of(checkpoint, number).unlink(missing_ok=True)
    say("proxy", f"{path} ({proxy.describe()}, {duration(proxy.record['seconds'])})")
    say("picture", str(path.with_suffix(".png")))
    return path


def _net(config: CondenseConfig) -> str:
    if config.match_space is not None:
        return f"nets drawn from {config.match_space}"
    if config.network in ("convnet", "mlp"):
        return f"{config.network} of width {config.width}, depth {config.depth}"
    return config.network


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _grid(dataset: Dataset, images: Tensor, ipc: int) -> bytes:
    pixels = denormalize(images, dataset.mean, dataset.std).numpy()
    labels = torch.arange(dataset.num_classes).repeat_interleave(ipc).numpy()
    return image_grid_png(pixels, labels, dataset.num_classes)


@dataclass(frozen=True)
class _Prepared:
    """What search and validate share, loaded and checked."""

    choice: DeviceChoice
    proxy: ProxySet
    dataset: Dataset
    space: SearchSpace
    inspection: SpaceInspection

    def task(self, epochs: int | None) -> TrainingTask:
        held_out = on_device(self.dataset, self.dataset.val, self.choice.device)
        recipe = self.proxy.recipe if epochs is None else replace(self.proxy.recipe, epochs=epochs)
        return proxy_task(self.proxy, held_out, recipe, self.dataset, self.choice.device)


def _source(proxy: ProxySet, dataset: str | None, data_dir: Path | None) -> Source:
    recorded = Source.from_json(proxy.record["source"]) if proxy.record.get("source") else None
    if dataset is None and recorded is None:
        raise NasproxyError("The proxy file does not say where its data are: name them with --dataset.")
    source = (
        recorded
        if dataset is None
        else Source(dataset, image_size=proxy.input_shape[1] if recorded and recorded.image_size else None)
    )
    assert source is not None
    return source if data_dir is None else replace(source, data_dir=data_dir)


def _prepare(space_spec: str, proxy_path: Path, source: Source, *, offline: bool, device: str) -> _Prepared:
    space = load_space(space_spec)
    proxy = load_proxy(proxy_path)
    choice = _device(device)
    data = _load_data(source, offline=offline)
    check_fit(proxy, data)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, data.input_shape, data.num_classes, progress=progress)
    _say_space(space, inspection)
    return _Prepared(choice, proxy, data, space, inspection)


def _say_space(space: SearchSpace, inspection: SpaceInspection) -> None:
    for topic, line in zip(("space", "", *[""] * len(inspection.invalid)), inspection.describe(), strict=False):
        say(topic, line)
    if inspection.num_valid == 0:
        raise NasproxyError(f"No candidate of space '{space.name}' can be built for these data: widen the space.")


def search(
    space_spec: str,
    *,
    proxy: Path | None,
    proxy_folder: Path,
    run_folder: Path,
    search_overrides: dict[str, Any],
    validate_overrides: dict[str, Any],
    budget: str | None,
    validation: bool,
    truth: Path | None,
    out: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    offline: bool,
    device: str,
) -> Path:
    """``nasproxy search``: search, validation and report; returns the run folder."""
    SearchConfig(**search_overrides)  # says what is wrong before anything is loaded
    ValidateConfig(**validate_overrides)
    load_space(space_spec)
    proxy_path = proxy or newest_proxy(proxy_folder)
    say("proxy", f"{proxy_path}{'' if proxy else ' (the newest one; --proxy takes another)'}")
    source = _source(load_proxy(proxy_path), dataset, data_dir)
    prepared = _prepare(space_spec, proxy_path, source, offline=offline, device=device)
    table = None if truth is None else load_truth(truth, prepared.space)
    # As for proxy files: the folder is named after what was asked for; more trials or a larger sample go on in it.
    asked = {name: search_overrides.get(name) for name in ("sampler", "seeds", "seed", "epochs")}
    digest = config_hash(prepared.space.hash, prepared.proxy.content_id, asked, budget)
    run = out or run_folder / f"{prepared.space.name}-{prepared.dataset.name}-{prepared.proxy.method}-{digest[:8]}"
    say("run", str(run))
    if (run / SETTINGS_FILE).exists():
        known = load_settings(run)
        config = SearchConfig(**(known.search | search_overrides))
        _check_same_run(run, known, config, prepared)
        validate_config = ValidateConfig(**(known.validate | validate_overrides))
        say("resume", "with the settings the run was started with, but for those given now")
    else:
        plan = plan_search(
            prepared.space,
            prepared.inspection,
            prepared.dataset,
            prepared.task(search_overrides.get("epochs")),
            search_overrides,
            validate_overrides,
            budget=budget,
            validation=validation,
            truth=table is not None,
            device=prepared.choice.device,
        )
        _say_plan(plan)
        config, validate_config = plan.search, plan.validate
    task = prepared.task(config.epochs)
    settings = RunSettings(
        space=str(prepared.space.source),
        space_hash=prepared.space.hash,
        source=source.as_json(),
        search=asdict(config),
        validate=asdict(validate_config),
        truth=None if truth is None else str(truth),
        notes=_notes(prepared, config, validate_config, validation=validation and table is None),
        commands=_commands(prepared.proxy, space_spec, config, validate_config, validation=validation, truth=truth),
    )
    with run_lock(run):
        save_settings(run, settings, proxy_path)
        ledger = Ledger(run / LEDGER_FILE)
        result = _search(prepared, task, config, run, ledger)
        _validate_and_report(prepared, task, settings, result, run, ledger, table, validation=validation)
        ledger.close()
    return run


def _check_same_run(run: Path, known: RunSettings, config: SearchConfig, prepared: _Prepared) -> None:
    """Refuses to go on in a run that was started with something else, before anything in it is touched."""
    same = {
        "space": known.space_hash == prepared.space.hash,
        "proxy set": load_proxy(run / PROXY_FILE).content_id == prepared.proxy.content_id,
    } | {name: known.search[name] == getattr(config, name) for name in ("sampler", "seeds", "epochs", "seed")}
    changed = [name for name, equal in same.items() if not equal]
    if changed:
        raise NasproxyError(
            f"The run '{run}' was started with another {' and '.join(changed)}: its trials cannot be mixed. "
            "Choose another --out."
        )


def _search(prepared: _Prepared, task: TrainingTask, config: SearchConfig, run: Path, ledger: Ledger) -> SearchResult:
    """Runs the search; after the first candidate it says how long the rest will take."""
    started = time.perf_counter()
    first: int | None = None
    told = False
    with progress_bar("searching") as bar:

        def progress(done: int, total: int, note: str) -> None:
            nonlocal first, told
            if first is None:
                first = done
            elif not told and done > first:
                told = True
                each = (time.perf_counter() - started) / (done - first)
                say(
                    "search",
                    f"the first candidate took {duration(each)}; at that pace the other {total - done} take "
                    f"{duration(each * (total - done))}",
                )
            bar(done, total, note)

        result = run_search(
            prepared.space,
            task,
            config,
            inspection=prepared.inspection,
            run=run,
            ledger=ledger,
            device=prepared.choice.device,
            progress=progress,
        )
    for row in result.ranking[:3]:
        say("top", f"{100 * (row.score.accuracy or 0):.1f} %  {row.candidate.label}")
    if result.failed:
        say("failed", f"{len(result.failed)} candidates; the report lists them")
    return result


def _notes(prepared: _Prepared, search: SearchConfig, config: ValidateConfig, *, validation: bool) -> list[str]:
    """What a reader of the report must know about the protocol of this run; ``validation``: by full training."""
    notes, proxy = [], prepared.proxy
    leaves_out = search_omissions(search, config, prepared.inspection, prepared.dataset, validation)
    if leaves_out:
        notes.append(f"Against the paper's protocol: {leaves_out}.")
    built = proxy.provenance["config"]
    if built["method"] != "random":
        missing = omissions(CondenseConfig(**{name: built[name] for name in built if name != "match_space_hash"}))
        if missing:
            notes.append(f"The proxy set was condensed with less than the paper's protocol: {missing}.")
    return notes


def _commands(
    proxy: ProxySet,
    space: str,
    search_config: SearchConfig,
    validate_config: ValidateConfig,
    *,
    validation: bool,
    truth: Path | None,
) -> list[str]:
    """The commands that repeat this run with every planned value spelled out."""
    source = proxy.record.get("source") or {"spec": proxy.provenance["dataset"]["name"]}
    build_words: list[object] = ["nasproxy", "build-proxy", "--dataset", source["spec"]]
    if source.get("image_size"):
        build_words += ["--image-size", source["image_size"]]
    config = {name: value for name, value in proxy.provenance["config"].items() if name != "match_space_hash"}
    if config.get("match_space") is not None:
        config["match_space"] = proxy.record["match_space"]
    for name, value in config.items():
        if isinstance(value, bool):
            build_words.append(f"--{'' if value else 'no-'}{name}")
        elif value is not None:
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            build_words += [f"--{name.replace('_', '-')}", text]
    words: list[object] = ["nasproxy", "search", "--space", space]
    for name in ("trials", "sampler", "seeds", "epochs", "seed"):
        words += [f"--{name}", getattr(search_config, name)]
    if not validation:
        words.append("--no-validate")
    words += ["--sample", validate_config.sample, "--top", validate_config.top]
    if truth is not None:
        words += ["--truth", truth]
    else:
        words += ["--full-epochs", validate_config.epochs, "--full-seeds", validate_config.seeds]
        if validate_config.images is not None:
            words += ["--full-images", validate_config.images]
    return [shlex.join(map(str, build_words)), shlex.join(map(str, words))]


def _validate_and_report(
    prepared: _Prepared,
    task: TrainingTask,
    settings: RunSettings,
    result: SearchResult,
    run: Path,
    ledger: Ledger,
    truth: Truth | None,
    *,
    validation: bool,
) -> CorrelationReport:
    config = ValidateConfig(**settings.validate)
    if not validation:
        config = replace(config, sample=0, top=0)
    with progress_bar("validating") as progress:
        outcome = run_validation(
            prepared.space,
            prepared.proxy,
            prepared.dataset,
            task,
            result,
            search_config=SearchConfig(**settings.search),
            config=config,
            inspection=prepared.inspection,
            ledger=ledger,
            choice=prepared.choice,
            truth=truth,
            notes=tuple(settings.notes),
            commands=tuple(settings.commands),
            progress=progress,
        )
    save_report(outcome, run)
    path = write_report(outcome, run / REPORT_FILE)
    for line in three_lines(outcome):
        say("", line)
    say("report", str(path))
    return outcome


def validate(
    run: Path,
    overrides: dict[str, Any],
    *,
    truth: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    offline: bool,
    device: str,
) -> Path:
    """``nasproxy validate``: validates a run (again) and writes its report; returns the run folder."""
    ValidateConfig(**overrides)
    settings = load_settings(run)
    say("run", str(run))
    source = Source.from_json(settings.source)
    if dataset is not None:
        source = replace(source, spec=dataset)
    if data_dir is not None:
        source = replace(source, data_dir=data_dir)
    prepared = _prepare(settings.space, run / PROXY_FILE, source, offline=offline, device=device)
    if prepared.space.hash != settings.space_hash:
        raise NasproxyError(
            f"The space must be the one that the run '{run}' searched, but '{settings.space}' was changed since: "
            "restore it, or start a new run."
        )
    truth_path = truth or (None if settings.truth is None else Path(settings.truth))
    table = None if truth_path is None else load_truth(truth_path, prepared.space)
    search_config = SearchConfig(**settings.search)
    validate_config = ValidateConfig(**(settings.validate | overrides))
    settings = replace(
        settings,
        source=source.as_json(),
        validate=asdict(validate_config),
        notes=_notes(prepared, search_config, validate_config, validation=table is None),
        truth=None if truth_path is None else str(truth_path),
        commands=_commands(
            prepared.proxy, settings.space, search_config, validate_config, validation=True, truth=truth_path
        ),
    )
    with run_lock(run):
        save_settings(run, settings, run / PROXY_FILE)
        ledger = Ledger(run / LEDGER_FILE)
        task = prepared.task(search_config.epochs)
        result = search_result(prepared.space, task, search_config, run=run, ledger=ledger)
        _validate_and_report(prepared, task, settings, result, run, ledger, table, validation=True)
        ledger.close()
    return run


def report(run: Path, out: Path | None) -> Path:
    """``nasproxy report``: writes the page of a finished run again, from its data; trains and loads nothing."""
    load_settings(run)
    outcome = read_report(run)
    path = write_report(outcome, out or run / REPORT_FILE)
    for line in three_lines(outcome):
        say("", line)
    say("report", str(path))
    return path


def check(target: str, *, dataset: str | None, data_dir: Path | None, offline: bool, image_size: int | None) -> None:
    """``nasproxy check``: a proxy file (by its ending) or a search space, alone or against a data set."""
    data = None
    if target.endswith(SUFFIX):
        proxy = load_proxy(Path(target))
        say("proxy", f"{target} is intact: {proxy.describe()}")
        say("content", proxy.content_id)
        say("recipe", ", ".join(f"{name}={value}" for name, value in vars(proxy.recipe).items()))
        if dataset is not None:
            data = _load_data(Source(dataset, data_dir, image_size), offline=offline)
            check_fit(proxy, data)
            say("fits", f"it was built from this {data.name}")
        return
    space = load_space(target)
    say("space", f"{space.source} is valid: {space.name}, network {space.network}, {_size(space)}")
    if dataset is None:
        say("", "with --dataset NAME it is also checked which candidates can be built for the data")
        return
    data = _load_data(Source(dataset, data_dir, image_size), offline=offline)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, data.input_shape, data.num_classes, progress=progress)
    _say_space(space, inspection)


def list_everything() -> None:
    """``nasproxy list``: every name that an option takes."""
    sections: dict[str, dict[str, str]] = {
        "data sets (--dataset; or a folder of images or Parquet files, or an .npz)": {
            name: source.description for name, source in DATASETS.items()
        },
        "methods (build-proxy --method)": {name: _first_line(condenser) for name, condenser in CONDENSERS.items()},
        "networks (network: in a space; build-proxy --network)": {
            name: _first_line(network) for name, network in NETWORKS.items()
        },
        "spaces (search --space; or a YAML file)": {
            name: f"{space.network}, {_size(space)}"
            for name, space in ((name, load_space(path)) for name, path in shipped_spaces().items())
        },
        "scores (in every report)": SCORES,
    }
    for title, entries in sections.items():
        print(title)
        width = max(len(name) for name in entries)
        for name, text in entries.items():
            print(f"  {name:<{width}}  {text}")


def _first_line(function: Any) -> str:
    return (function.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "")


def _size(space: SearchSpace) -> str:
    size = space.size()
    return "infinitely many candidates" if size is None else f"{size:,} candidates"


# Small enough for three minutes on two cores, large enough that every part of the road is walked.
DEMO_CONDENSE = {"ipc": 1, "outer_steps": 200}
DEMO_SEARCH = {"trials": 30, "epochs": 100}
DEMO_VALIDATE = {"sample": 20, "top": 3, "epochs": 10}


def demo(out: Path, device: str) -> Path:
    """``nasproxy demo``: condense, search, validate and report on the embedded digits; returns the run folder."""
    proxy = build(
        Source("digits"),
        dict(DEMO_CONDENSE),
        budget="quick",
        out=None,
        folder=out,
        offline=True,
        device=device,
        force=False,
    )
    return search(
        "convnet_small",
        proxy=proxy,
        proxy_folder=out,
        run_folder=out,
        search_overrides=dict(DEMO_SEARCH),
        validate_overrides=dict(DEMO_VALIDATE),
        budget="quick",
        validation=True,
        truth=None,
        out=out / "run",
        dataset=None,
        data_dir=None,
        offline=True,
        device=device,
    )
