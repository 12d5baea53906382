"""``nasproxy search``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nasproxy.cli.commands.options import SearchOptions
from nasproxy.cli.commands.output import Source, say, say_plan, source_of
from nasproxy.cli.commands.session import (
    STUDY_SETTINGS,
    Prepared,
    commands_of,
    notes_of,
    prepare,
    session_of,
    validate_and_report,
    with_kept,
)
from nasproxy.config import Recipe, SearchConfig, ValidateConfig, config_hash
from nasproxy.core.devices import training_precision
from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import rough_duration
from nasproxy.data.proxy_set import load_proxy, newest_proxy
from nasproxy.report.data import CorrelationReport
from nasproxy.report.verdict import verdict
from nasproxy.scores.registry import score_names
from nasproxy.search.callbacks import JsonLines, LiveTable, SearchCallback, all_callbacks, make_tracker, tracker_names
from nasproxy.search.loop import SearchResult, run_search
from nasproxy.search.objective import NUM_REFERENCES, check_objective
from nasproxy.search.run_folder import PROXY_FILE, SETTINGS_FILE, RunSettings, fork, load_settings, save_settings
from nasproxy.search.search_plan import PlannedSearch, plan_search, truth_planned
from nasproxy.search.study import default_pending
from nasproxy.spaces import load_space
from nasproxy.training.crew import default_size
from nasproxy.training.ledger import database_url, hidden
from nasproxy.training.session import Session
from nasproxy.validation.truth_table import load_truth

# Starting workers takes seconds: shorter work is done by this process.
WORTH_WORKERS_SECONDS = 30.0

# A recipe with a low learning rate needs its many epochs: with less than a third of them nets are far from trained. On
# three sets of CIFAR-10 it then ranked worse than one_cycle, though not significantly (benchmarks/RESULTS.md).
SHORTENED = 3


@dataclass(frozen=True)
class _Resolved:
    """The settings of a run: planned, or those with which it was started."""

    search: SearchConfig
    validate: ValidateConfig
    workers: int
    beside: tuple[str, ...] = ()  # proxy sets that the run keeps already


def search(options: SearchOptions, lines: JsonLines | None = None) -> Path:
    """``nasproxy search``: search, validation and report; returns the run folder.

    Args:
        options: what was asked for.
        lines: where events are written as JSON, besides what is said to the person.
    """
    _check(options)
    trackers = tracker_names(options.track)
    space = load_space(options.space)
    proxy_path = options.proxy or newest_proxy(options.proxy_folder)
    say("proxy", f"{proxy_path}{'' if options.proxy else ' (the newest one; --proxy takes another)'}")
    proxy = load_proxy(proxy_path)
    source = source_of(proxy, options.data)
    prepared = prepare(space, proxy, source, options.data, options.beside)
    table = None if options.truth is None else load_truth(options.truth, space)
    run = _run_folder(options, prepared)
    say("run", str(run))
    resolved = _resolve(options, prepared, run)
    prepared = with_kept(prepared, run, resolved.beside, options.beside)
    full_training = options.validation and table is None
    settings = _settings(options, prepared, source, resolved, run, full_training=full_training)
    _say_recipe(prepared, resolved.search)
    with session_of(run, options.storage, resolved.workers, prepared.choice) as session:
        save_settings(run, settings, proxy_path)
        callbacks: list[SearchCallback] = [] if lines is None else [lines]
        callbacks += [make_tracker(name, run, settings.search) for name in trackers]
        result = _search(prepared, resolved.search, session, callbacks)
        report = validate_and_report(prepared, settings, result, session, table, validation=options.validation)
    if lines is not None:
        lines.say("report", run=str(run), verdict=verdict(report).level, **_numbers(report))
    if result.failed and not result.ranking:
        raise NasproxyError(
            f"A search must measure at least one candidate, but all {len(result.failed)} failed, the first with: "
            f"{result.failed[0].score.failure}. The report of '{run}' names them: mend the network, or the data."
        )
    return run


def _check(options: SearchOptions) -> None:
    """Says what is wrong before anything is loaded."""
    check_objective(SearchConfig(**options.search))
    score_names(ValidateConfig.check(options.validate))
    if options.storage is not None and options.budget is None and not {"trials", "epochs"} <= options.search.keys():
        raise NasproxyError(
            "Hosts that share a --storage must search alike, but each would choose a budget by its own speed: give "
            "--budget quick|standard|paper, or --trials and --epochs."
        )


def _run_folder(options: SearchOptions, prepared: Prepared) -> Path:
    """The run folder. Its name follows from what was asked for: more trials or a larger sample continue in it."""
    asked = {name: options.search.get(name) for name in STUDY_SETTINGS}
    digest = config_hash(prepared.space.hash, prepared.proxy.content_id, asked, options.budget)
    name = f"{prepared.space.name}-{prepared.dataset.name}-{prepared.proxy.method}-{digest[:8]}"
    run = options.out or options.run_folder / name
    if options.forked:
        load_settings(run)  # there must be one
        run = fork(run)
    return run


def _resolve(options: SearchOptions, prepared: Prepared, run: Path) -> _Resolved:
    """The settings with which ``run`` was started, with what is given now; or a plan for a new run."""
    workers = options.workers or default_size(prepared.choice.device)
    if (run / SETTINGS_FILE).exists():
        known = load_settings(run)
        search = SearchConfig(**(known.search | dict(options.search)))
        _check_same_run(run, known, search, prepared)
        say("resume", "with the settings the run was started with, but for those given now")
        validate = ValidateConfig.continued(known.validate, options.validate)
        return _Resolved(search, validate, workers, tuple(known.beside))
    # Hosts that share a database may have different devices, and their full accuracies must not differ.
    local = options.storage is None
    precision = training_precision(prepared.choice.device) if local else ValidateConfig.precision
    planned = PlannedSearch(
        prepared.inspection,
        prepared.dataset,
        prepared.task(SearchConfig(**options.search)),
        prepared.choice.device,
        proxy=prepared.proxy,
        validation=options.validation,
        truth=options.truth is not None,
    )
    plan = plan_search(
        planned, options.search, {"precision": precision} | dict(options.validate), budget=options.budget
    )
    say_plan(plan)
    if planned.validation and not planned.truth:
        say("truth", truth_planned(plan.validate, len(prepared.dataset.train)))
    search = plan.search
    if search.pending is None and local:  # in a database the study's first host decides
        search = replace(search, pending=default_pending(workers, search.trials))
    if plan.seconds < WORTH_WORKERS_SECONDS and not options.workers:
        workers = 1
    return _Resolved(search, plan.validate, workers)


def _check_same_run(run: Path, known: RunSettings, config: SearchConfig, prepared: Prepared) -> None:
    """Refuses to continue a run that was started with something else, before anything in it is touched."""
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
            "Choose another --out, or continue in a copy with --fork, which keeps what is trained already."
            + "".join("\n" + line for line in (differences if not same["space"] else []))
        )


def _settings(
    options: SearchOptions, prepared: Prepared, source: Source, resolved: _Resolved, run: Path, *, full_training: bool
) -> RunSettings:
    """What the run folder keeps: enough to resume, to validate again and to write the report."""
    others = list(prepared.beside)
    commands = commands_of(
        prepared.proxy,
        options.space,
        resolved.search,
        resolved.validate,
        validation=options.validation,
        truth=options.truth,
        beside=[run / name for name in others],
    )
    return RunSettings(
        space=str(prepared.space.source),
        space_hash=prepared.space.hash,
        source=source.as_json(),
        search=asdict(resolved.search),
        validate=asdict(resolved.validate),
        truth=None if options.truth is None else str(options.truth),
        notes=notes_of(prepared, resolved.search, resolved.validate, validation=full_training),
        commands=commands,
        space_lines=prepared.space.describe(),
        storage=None if options.storage is None else hidden(database_url(options.storage)),
        beside=others,
    )


def _say_recipe(prepared: Prepared, config: SearchConfig) -> None:
    """Says which sets candidates train on, and when the set's own recipe is cut short."""
    if prepared.proxy.num_sets > 1:
        say("sets", sets_text(prepared.proxy.num_sets, config.seeds))
    if config.recipe is None and (hint := recipe_hint(prepared.proxy.recipe, prepared.task(config).recipe.epochs)):
        say("recipe", hint)


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


def _search(
    prepared: Prepared, config: SearchConfig, session: Session, callbacks: Sequence[SearchCallback]
) -> SearchResult:
    """Runs the search with a live table and ``callbacks``, and says what it found."""
    objective = prepared.objective(config)
    if objective.is_sum:
        say("", f"each score of the sum counts by its rank among {NUM_REFERENCES} random candidates, measured first")
    with all_callbacks([LiveTable(objective.show), *callbacks]) as callback:
        result = run_search(prepared.inspection, objective, config, session, callback=callback)
    for row in result.ranking[:3]:
        say("top", f"{objective.show(row.score.value or 0.0)}  {row.candidate.label}")
    if objective.against:
        say("front", f"{len(result.front)} of {len(result.ranking)} candidates are beaten by no other in everything")
    if result.pruned:
        say("saved", savings(result))
    if result.failed:
        say("failed", f"{len(result.failed)} candidates; the report lists them")
    return result


def savings(result: SearchResult) -> str:
    """What the rungs saved, in words."""
    num = len(result.ranking) + len(result.failed) + len(result.pruned)
    text = f"{len(result.pruned)} of {num} candidates were pruned at a rung"
    whole = result.unpruned_seconds
    if whole:
        text += f": {rough_duration(result.seconds)} of training, about {rough_duration(whole)} without rungs"
    return text


def _numbers(report: CorrelationReport) -> dict[str, Any]:
    """The proxy's correlation and the pick, for programs."""
    found = report.score("proxy")
    rho = None if found is None else found.agreement.spearman
    return {
        "n": 0 if found is None else found.agreement.n,
        "spearman": None if rho is None else [rho.value, rho.low, rho.high],
        "pick": None if report.pick is None else report.pick.params,
        "pick_accuracy": None if report.pick is None else report.pick.truth,
        "pick_test_accuracy": report.pick_test_accuracy,
    }
