"""``nasproxy validate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nasproxy.cli.commands.output import Source, say
from nasproxy.cli.commands.session import at_work, commands_of, kept_beside, notes_of, prepare, validate_and_report
from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import rough_duration, signed
from nasproxy.correlation import candidates_for
from nasproxy.data.proxy_set import check_fit, load_proxy
from nasproxy.report.data import read_report
from nasproxy.scores.registry import score_names
from nasproxy.search.loop import search_result
from nasproxy.search.run_folder import PROXY_FILE, load_settings, save_settings
from nasproxy.training.crew import default_size
from nasproxy.validation.truth_table import load_truth

PLAN_WIDTHS = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
PLAN_RHO = 0.5  # where nothing was measured yet


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
    prepared = prepare(settings.space, run / PROXY_FILE, source, offline=offline, device=device)
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
    others = kept_beside(run, settings.beside, beside)
    settings = replace(
        settings,
        source=source.as_json(),
        validate=asdict(validate_config),
        notes=notes_of(prepared, search_config, validate_config, validation=table is None),
        truth=None if truth_path is None else str(truth_path),
        beside=others,
        commands=commands_of(
            prepared.proxy,
            settings.space,
            search_config,
            validate_config,
            validation=True,
            truth=truth_path,
            beside=[run / name for name in others],
        ),
    )
    with at_work(run, storage, workers or default_size(prepared.choice.device), prepared.choice) as (ledger, crew):
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
        validate_and_report(prepared, task, settings, result, run, ledger, crew, table, validation=True)
    return run


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
        time = "" if each is None else "none" if left == 0 else f"about {rough_duration(left * each)}"
        beyond = outcome.space_size is not None and n > outcome.space_size - outcome.num_invalid
        say("", f"{width:>28.2f}   {n:>10,}   {left:>20,}   {'more than the space has' if beyond else time}")
    say("", f"nasproxy validate {run} --sample N goes on with N.")
