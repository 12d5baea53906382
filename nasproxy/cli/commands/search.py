"""``nasproxy search``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nasproxy.cli.commands.output import say, say_plan, source_of
from nasproxy.cli.commands.session import (
    STUDY_SETTINGS,
    Prepared,
    at_work,
    commands_of,
    kept_beside,
    notes_of,
    prepare,
    validate_and_report,
)
from nasproxy.config import Recipe, SearchConfig, ValidateConfig, config_hash
from nasproxy.core.devices import training_precision
from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import rough_duration
from nasproxy.data.proxy_set import check_fit, load_proxy, newest_proxy
from nasproxy.report.data import CorrelationReport
from nasproxy.report.verdict import verdict
from nasproxy.scores.registry import score_names
from nasproxy.search.callbacks import JsonLines, LiveTable, Watcher, make_tracker, tracker_names, watched
from nasproxy.search.loop import SearchResult, run_search
from nasproxy.search.objective import NUM_REFERENCES, Objective, check_objective
from nasproxy.search.run_folder import PROXY_FILE, SETTINGS_FILE, RunSettings, fork, load_settings, save_settings
from nasproxy.search.search_plan import plan_search
from nasproxy.search.study import default_pending
from nasproxy.spaces import load_space
from nasproxy.training.crew import Crew, default_size
from nasproxy.training.ledger import Ledger, database_url, hidden
from nasproxy.validation.truth_table import load_truth

# Starting workers takes seconds: shorter work is done by this process.
WORTH_WORKERS_SECONDS = 30.0

# Of a recipe whose low learning rate counts on many epochs, less than this part leaves nets far from trained: on three
# sets of CIFAR-10 it ranked worse than one_cycle, if not surely so (benchmarks/RESULTS.md).
SHORTENED = 3


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
    prepared = prepare(space_spec, proxy_path, source, offline=offline, device=device)
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
    others = kept_beside(run, kept, beside)
    settings = RunSettings(
        space=str(prepared.space.source),
        space_hash=prepared.space.hash,
        source=source.as_json(),
        search=asdict(config),
        validate=asdict(validate_config),
        truth=None if truth is None else str(truth),
        notes=notes_of(prepared, config, validate_config, validation=validation and table is None),
        commands=commands_of(
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
    with at_work(run, storage, workers, prepared.choice) as (ledger, crew):
        save_settings(run, settings, proxy_path)
        watchers: list[Watcher] = [] if lines is None else [lines]
        watchers += [make_tracker(name, run, settings.search) for name in trackers]
        result = _search(prepared, objective, config, run, ledger, crew, watchers)
        outcome = validate_and_report(prepared, task, settings, result, run, ledger, crew, table, validation=validation)
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


def _check_same_run(run: Path, known: RunSettings, config: SearchConfig, prepared: Prepared) -> None:
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
    prepared: Prepared,
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
        text += f": {rough_duration(result.seconds)} of training, about {rough_duration(whole)} without rungs"
    return text
