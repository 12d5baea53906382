"""``nasproxy search``, ``validate`` and ``report``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nasproxy.budget import duration, omissions, plan_search, search_omissions
from nasproxy.commands.shared import Source, device_named, load_data, say, say_plan, say_space, say_workers, source_of
from nasproxy.config import SELECTIONS, CondenseConfig, Recipe, SearchConfig, ValidateConfig, config_hash
from nasproxy.correlation import candidates_for
from nasproxy.datasets import Dataset
from nasproxy.devices import DeviceChoice, training_precision
from nasproxy.errors import NasproxyError
from nasproxy.evaluations import TrainingTask
from nasproxy.ledger import Ledger, database_url, hidden
from nasproxy.objective import NUM_REFERENCES, Objective, check_objective, make_objective
from nasproxy.page import write_report
from nasproxy.progress import progress_bar
from nasproxy.proxyset import SUFFIX, ProxySet, load_proxy, newest_proxy
from nasproxy.report import CorrelationReport, read_report, save_report
from nasproxy.runs import (
    CHECKPOINTS,
    LEDGER_FILE,
    PROXY_FILE,
    REPORT_FILE,
    SETTINGS_FILE,
    RunSettings,
    fork,
    keep_copy,
    load_settings,
    run_lock,
    save_settings,
)
from nasproxy.scores import candidate_recipe, check_fit, proxy_task, score_names
from nasproxy.search import SearchResult, run_search, search_result
from nasproxy.spaces import SearchSpace, SpaceInspection, inspect_space, load_space
from nasproxy.study import default_pending
from nasproxy.truth import Truth, load_truth
from nasproxy.validate import validate as run_validation
from nasproxy.verdict import three_lines, verdict
from nasproxy.watching import JsonLines, LiveTable, Watcher, make_tracker, tracker_names, watched
from nasproxy.wording import signed
from nasproxy.workers import Crew, default_size, hire

# Starting workers takes seconds: shorter work is done by this process.
WORTH_WORKERS_SECONDS = 30.0

# Of a recipe whose low learning rate counts on many epochs, less than this part leaves nets far from trained: on three
# sets of CIFAR-10 it ranked worse than one_cycle, if not surely so (benchmarks/RESULTS.md).
SHORTENED = 3

# Of SearchConfig: what cannot change within a run.
STUDY_SETTINGS = (
    "sampler",
    "seeds",
    "recipe",
    "epochs",
    "seed",
    "pending",
    "precision",
    "score",
    "against",
    "rungs",
    "pruner",
    "reduction",
)


@dataclass(frozen=True)
class _Prepared:
    """What search and validate share, loaded and checked."""

    choice: DeviceChoice
    proxy: ProxySet
    dataset: Dataset
    space: SearchSpace
    inspection: SpaceInspection

    def task(self, config: SearchConfig) -> TrainingTask:
        recipe = candidate_recipe(self.proxy, self.dataset, config)
        return proxy_task(self.proxy, self.dataset, recipe, precision=config.precision)

    def objective(self, config: SearchConfig) -> Objective:
        return make_objective(config, self.proxy, self.dataset)


def _prepare(space_spec: str, proxy_path: Path, source: Source, *, offline: bool, device: str) -> _Prepared:
    space = load_space(space_spec)
    proxy = load_proxy(proxy_path)
    choice = device_named(device)
    data = load_data(source, offline=offline)
    check_fit(proxy, data)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, data.input_shape, data.num_classes, progress=progress)
    say_space(space, inspection)
    return _Prepared(choice, proxy, data, space, inspection)


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
    workers: int | None,
    storage: str | None,
    forked: bool,
    beside: Sequence[Path] = (),
    track: str = "",
    lines: JsonLines | None = None,
) -> Path:
    """``nasproxy search``: search, validation and report; returns the run folder."""
    check_objective(SearchConfig(**search_overrides))  # says what is wrong before anything is loaded
    score_names(ValidateConfig(**validate_overrides).scores)
    trackers = tracker_names(track)
    load_space(space_spec)
    if storage is not None and budget is None and not {"trials", "epochs"} <= search_overrides.keys():
        raise NasproxyError(
            "Hosts that share a --storage must search alike, but each would choose a budget by its own speed: give "
            "--budget quick|standard|paper, or --trials and --epochs."
        )
    proxy_path = proxy or newest_proxy(proxy_folder)
    say("proxy", f"{proxy_path}{'' if proxy else ' (the newest one; --proxy takes another)'}")
    source = source_of(load_proxy(proxy_path), dataset, data_dir)
    prepared = _prepare(space_spec, proxy_path, source, offline=offline, device=device)
    table = None if truth is None else load_truth(truth, prepared.space)
    for other in beside:
        check_fit(load_proxy(other), prepared.dataset)
    # As for proxy files: the folder is named after what was asked for; more trials or a larger sample go on in it.
    asked = {name: search_overrides.get(name) for name in STUDY_SETTINGS}
    digest = config_hash(prepared.space.hash, prepared.proxy.content_id, asked, budget)
    run = out or run_folder / f"{prepared.space.name}-{prepared.dataset.name}-{prepared.proxy.method}-{digest[:8]}"
    if forked:
        load_settings(run)  # there must be one
        run = fork(run)
    say("run", str(run))
    asked_workers, workers = workers, workers or default_size(prepared.choice.device)
    if (run / SETTINGS_FILE).exists():
        known = load_settings(run)
        config = SearchConfig(**(known.search | search_overrides))
        kept = known.beside
        _check_same_run(run, known, config, prepared)
        validate_config = ValidateConfig(**(known.validate | validate_overrides))
        say("resume", "with the settings the run was started with, but for those given now")
    else:
        kept = []
        # Hosts that share a database may differ in what they have, and their full accuracies must not.
        precision = training_precision(prepared.choice.device) if storage is None else ValidateConfig.precision
        validate_overrides = {"precision": precision} | validate_overrides
        plan = plan_search(
            prepared.space,
            prepared.inspection,
            prepared.dataset,
            prepared.task(SearchConfig(**search_overrides)),
            search_overrides,
            validate_overrides,
            budget=budget,
            validation=validation,
            truth=table is not None,
            device=prepared.choice.device,
            proxy=prepared.proxy,
        )
        say_plan(plan)
        config, validate_config = plan.search, plan.validate
        if config.pending is None and storage is None:  # in a database the study's first host decides
            config = replace(config, pending=default_pending(workers, config.trials))
        if plan.seconds < WORTH_WORKERS_SECONDS and not asked_workers:
            workers = 1
    task, objective = prepared.task(config), prepared.objective(config)
    if prepared.proxy.num_sets > 1:
        say("sets", sets_text(prepared.proxy.num_sets, config.seeds))
    if config.recipe is None and (hint := recipe_hint(prepared.proxy.recipe, task.recipe.epochs)):
        say("recipe", hint)
    others = _beside(run, kept, beside)
    settings = RunSettings(
        space=str(prepared.space.source),
        space_hash=prepared.space.hash,
        source=source.as_json(),
        search=asdict(config),
        validate=asdict(validate_config),
        truth=None if truth is None else str(truth),
        notes=_notes(prepared, config, validate_config, validation=validation and table is None),
        commands=_commands(
            prepared.proxy,
            space_spec,
            config,
            validate_config,
            validation=validation,
            truth=truth,
            beside=[run / name for name in others],
        ),
        space_lines=prepared.space.describe(),
        storage=None if storage is None else hidden(database_url(storage)),
        beside=others,
    )
    with _at_work(run, storage, workers, prepared.choice) as (ledger, crew):
        save_settings(run, settings, proxy_path)
        watchers: list[Watcher] = [] if lines is None else [lines]
        watchers += [make_tracker(name, run, settings.search) for name in trackers]
        result = _search(prepared, objective, config, run, ledger, crew, watchers)
        outcome = _validate_and_report(
            prepared, task, settings, result, run, ledger, crew, table, validation=validation
        )
    if lines is not None:
        lines.say("report", run=str(run), verdict=verdict(outcome).level, **_numbers(outcome))
    return run


def sets_text(num_sets: int, seeds: int) -> str:
    """Which of a file's sets candidates train on, in words."""
    if seeds == 1:
        return f"candidates train on the first of {num_sets}; with --seeds {num_sets} they train once on each"
    shared = f"; of {num_sets} sets the first {seeds}" if seeds < num_sets else ""
    again = f"; after {num_sets} from the first again" if seeds > num_sets else ""
    return f"every seed of a candidate trains on another one{shared}{again}"


def recipe_hint(recipe: Recipe, epochs: int) -> str:
    """What to know of training by a set's ``recipe`` for so many ``epochs``; empty for nothing."""
    if recipe.schedule != "step" or SHORTENED * epochs > recipe.epochs:
        return ""
    of_all = f"the set's own is for {recipe.epochs} epochs, of which {epochs} are trained"
    return f"{of_all}: --recipe one_cycle may rank better"


def _beside(run: Path, kept: list[str], more: Sequence[Path]) -> list[str]:
    """The run's copies of the proxy sets that are validated beside its own, by file name."""
    names = list(kept)
    for path in more:
        name = f"beside-{load_proxy(path).content_id[:16]}{SUFFIX}"
        keep_copy(path, run / name)
        names.append(name)
    return list(dict.fromkeys(names))


def _numbers(outcome: CorrelationReport) -> dict[str, Any]:
    """The proxy's correlation and the pick, for machines."""
    found = outcome.score("proxy")
    rho = None if found is None else found.agreement.spearman
    return {
        "n": 0 if found is None else found.agreement.n,
        "spearman": None if rho is None else [rho.value, rho.low, rho.high],
        "pick": None if outcome.pick is None else outcome.pick.params,
        "pick_accuracy": None if outcome.pick is None else outcome.pick.truth,
        "pick_test_accuracy": outcome.pick_test_accuracy,
    }


@contextmanager
def _at_work(run: Path, storage: str | None, workers: int, choice: DeviceChoice) -> Iterator[tuple[Ledger, Crew]]:
    """The run's table of evaluations and a crew. A run in files is held by one process, one in a database is shared."""
    with ExitStack() as stack:
        if storage is None:
            stack.enter_context(run_lock(run))
        ledger = Ledger(run / LEDGER_FILE if storage is None else storage, tell=partial(say, "storage"))
        stack.callback(ledger.close)
        keep = run / CHECKPOINTS
        crew = stack.enter_context(hire(workers, choice.device, keep=keep, tell=partial(say, "worker")))
        say_workers(crew)
        yield ledger, crew


def _check_same_run(run: Path, known: RunSettings, config: SearchConfig, prepared: _Prepared) -> None:
    """Refuses to go on in a run that was started with something else, before anything in it is touched."""
    same = {
        "space": known.space_hash == prepared.space.hash,
        "proxy set": load_proxy(run / PROXY_FILE).content_id == prepared.proxy.content_id,
    } | {name: known.search.get(name) == getattr(config, name) for name in STUDY_SETTINGS}
    changed = [name for name, equal in same.items() if not equal]
    if changed:
        before, now = known.space_lines, prepared.space.describe()
        differences = [f"  was: {line}" for line in before if line not in now]
        differences += [f"  is:  {line}" for line in now if line not in before]
        raise NasproxyError(
            f"The run '{run}' was started with another {' and '.join(changed)}: its trials cannot be mixed. "
            "Choose another --out, or go on in a copy with --fork, which keeps what is trained already."
            + "".join("\n" + line for line in (differences if not same["space"] else []))
        )


def _search(
    prepared: _Prepared,
    objective: Objective,
    config: SearchConfig,
    run: Path,
    ledger: Ledger,
    crew: Crew,
    watchers: Sequence[Watcher],
) -> SearchResult:
    """Runs the search, looked on by a live table and by ``watchers``."""
    if objective.is_sum:
        say("", f"scores of a sum take their rank among {NUM_REFERENCES} random candidates, measured first")
    with watched([LiveTable(objective.show), *watchers]) as watch:
        result = run_search(
            prepared.space,
            objective,
            config,
            inspection=prepared.inspection,
            run=run,
            ledger=ledger,
            crew=crew,
            watch=watch,
        )
    for row in result.ranking[:3]:
        say("top", f"{objective.show(row.score.value or 0.0)}  {row.candidate.label}")
    if objective.against:
        say("front", f"{len(result.front)} of {len(result.ranking)} candidates are beaten by no other in everything")
    if result.pruned:
        say("saved", savings(result))
    if result.failed and not result.ranking:
        say("failed", f"all {len(result.failed)} candidates, so nothing is ranked: {result.failed[0].score.failure}")
    elif result.failed:
        say("failed", f"{len(result.failed)} candidates; the report lists them")
    return result


def savings(result: SearchResult) -> str:
    """What the rungs saved, in words."""
    num = len(result.ranking) + len(result.failed) + len(result.pruned)
    text = f"{len(result.pruned)} of {num} candidates were ended at a rung"
    whole = result.unpruned_seconds
    if whole:
        text += f": {duration(result.seconds)} of training, about {duration(whole)} without rungs"
    return text


def _notes(prepared: _Prepared, search: SearchConfig, config: ValidateConfig, *, validation: bool) -> list[str]:
    """What a reader of the report must know about the protocol of this run; ``validation``: by full training."""
    notes, proxy = [], prepared.proxy
    leaves_out = search_omissions(search, config, prepared.inspection, prepared.dataset, full_training=validation)
    if leaves_out:
        notes.append(f"Against the paper's protocol: {leaves_out}.")
    built = proxy.provenance["config"]
    if built["method"] not in SELECTIONS:
        missing = omissions(
            CondenseConfig.from_json({name: built[name] for name in built if name != "match_space_hash"})
        )
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
    beside: Sequence[Path],
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
    words: list[object] = ["nasproxy", "search", "--space", _from_here(space)]
    for name in ("trials", *STUDY_SETTINGS):
        if getattr(search_config, name) not in ("", None):
            words += [f"--{name}", getattr(search_config, name)]
    if not validation:
        words.append("--no-validate")
    words += ["--sample", validate_config.sample, "--top", validate_config.top]
    words += ["--scores", validate_config.scores or "none"]
    for other in beside:
        words += ["--beside", other]
    if truth is not None:
        words += ["--truth", truth]
    else:
        words += ["--full-epochs", validate_config.epochs, "--full-seeds", validate_config.seeds]
        if validate_config.images is not None:
            words += ["--full-images", validate_config.images]
        words += ["--full-precision", validate_config.precision]
    return [shlex.join(map(str, build_words)), shlex.join(map(str, words))]


def _from_here(path: str) -> str:
    """A path below the current folder without what leads there: who repeats a command has other folders above it."""
    whole = Path(path)
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else path


def _validate_and_report(
    prepared: _Prepared,
    task: TrainingTask,
    settings: RunSettings,
    result: SearchResult,
    run: Path,
    ledger: Ledger,
    crew: Crew,
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
            crew=crew,
            choice=prepared.choice,
            truth=truth,
            beside=[load_proxy(run / name) for name in settings.beside],
            folder=run,
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
    workers: int | None,
    storage: str | None,
    beside: Sequence[Path] = (),
) -> Path:
    """``nasproxy validate``: validates a run (again) and writes its report; returns the run folder."""
    score_names(ValidateConfig(**overrides).scores)
    settings = load_settings(run)
    if settings.storage is not None and storage is None:
        raise NasproxyError(f"The run '{run}' lives in {settings.storage}: name it, with its password, by --storage.")
    say("run", str(run))
    source = Source.from_json(settings.source)
    if dataset is not None:
        source = replace(source, spec=dataset)
    if data_dir is not None:
        source = replace(source, data_dir=data_dir)
    prepared = _prepare(settings.space, run / PROXY_FILE, source, offline=offline, device=device)
    for other in beside:
        check_fit(load_proxy(other), prepared.dataset)
    if prepared.space.hash != settings.space_hash:
        raise NasproxyError(
            f"The space must be the one that the run '{run}' searched, but '{settings.space}' was changed since: "
            "restore it, or start a new run."
        )
    truth_path = truth or (None if settings.truth is None else Path(settings.truth))
    table = None if truth_path is None else load_truth(truth_path, prepared.space)
    search_config = SearchConfig(**settings.search)
    validate_config = ValidateConfig(**(settings.validate | overrides))
    others = _beside(run, settings.beside, beside)
    settings = replace(
        settings,
        source=source.as_json(),
        validate=asdict(validate_config),
        notes=_notes(prepared, search_config, validate_config, validation=table is None),
        truth=None if truth_path is None else str(truth_path),
        beside=others,
        commands=_commands(
            prepared.proxy,
            settings.space,
            search_config,
            validate_config,
            validation=True,
            truth=truth_path,
            beside=[run / name for name in others],
        ),
    )
    with _at_work(run, storage, workers or default_size(prepared.choice.device), prepared.choice) as (ledger, crew):
        save_settings(run, settings, run / PROXY_FILE)
        task = prepared.task(search_config)
        result = search_result(
            prepared.space,
            prepared.objective(search_config),
            search_config,
            inspection=prepared.inspection,
            run=run,
            ledger=ledger,
            crew=crew,
        )
        _validate_and_report(prepared, task, settings, result, run, ledger, crew, table, validation=True)
    return run


PLAN_WIDTHS = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
PLAN_RHO = 0.5  # where nothing was measured yet


def plan(run: Path) -> None:
    """``nasproxy validate --plan``: how many candidates an interval width takes, and how long that is."""
    load_settings(run)
    outcome = read_report(run)
    found = outcome.score("proxy")
    rho = None if found is None else found.agreement.spearman
    known, assumed, each = 0, PLAN_RHO, outcome.sample_seconds
    if rho is None or rho.value is None or rho.low is None or rho.high is None:
        say("now", f"no interval yet; planned for ρ = {PLAN_RHO:g}")
    else:
        known, assumed = rho.n, rho.value
        ends = f"{signed(rho.low)} to {signed(rho.high)}, {rho.high - rho.low:.2f} wide"
        say("now", f"n = {known}, ρ = {signed(rho.value)}, interval {ends}")
    say("", "width of the 95 % interval   candidates   still to be measured   time")
    for width in PLAN_WIDTHS:
        n = candidates_for(width, assumed)
        left = max(0, n - known)
        time = "" if each is None else "none" if left == 0 else f"about {duration(left * each)}"
        beyond = outcome.space_size is not None and n > outcome.space_size - outcome.num_invalid
        say("", f"{width:>28.2f}   {n:>10,}   {left:>20,}   {'more than the space has' if beyond else time}")
    say("", f"nasproxy validate {run} --sample N goes on with N.")


def report(run: Path, out: Path | None) -> Path:
    """``nasproxy report``: writes the page of a finished run again, from its data; trains and loads nothing."""
    load_settings(run)
    outcome = read_report(run)
    path = write_report(outcome, out or run / REPORT_FILE)
    for line in three_lines(outcome):
        say("", line)
    say("report", str(path))
    return path
