"""``nasproxy validate``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from nasproxy.cli.commands.options import ValidateOptions
from nasproxy.cli.commands.output import Source, say
from nasproxy.cli.commands.session import (
    commands_of,
    notes_of,
    prepare,
    session_of,
    validate_and_report,
    with_kept,
)
from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import rough_duration, signed
from nasproxy.correlation import candidates_for
from nasproxy.data.proxy_set import load_proxy
from nasproxy.report.data import read_report
from nasproxy.report.length import plan_lines
from nasproxy.scores.registry import score_names
from nasproxy.search.loop import search_result
from nasproxy.search.run_folder import PROXY_FILE, load_settings, save_settings
from nasproxy.spaces import load_space
from nasproxy.validation.truth_table import load_truth

PLAN_WIDTHS = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
PLAN_RHO = 0.5  # where nothing was measured yet


def validate(options: ValidateOptions) -> Path:
    """``nasproxy validate``: validates a run (again) and writes its report; returns the run folder."""
    score_names(ValidateConfig.check(options.validate))
    run, settings = options.run, load_settings(options.run)
    if settings.storage is not None and options.storage is None:
        raise NasproxyError(f"The run '{run}' lives in {settings.storage}: name it, with its password, by --storage.")
    say("run", str(run))
    source = Source.from_json(settings.source)
    if options.data.dataset is not None:
        source = replace(source, spec=options.data.dataset)
    if options.data.data_dir is not None:
        source = replace(source, data_dir=options.data.data_dir)
    space = load_space(settings.space)
    prepared = prepare(space, load_proxy(run / PROXY_FILE), source, options.data, options.beside)
    if space.hash != settings.space_hash:
        raise NasproxyError(
            f"The space must be the one that the run '{run}' searched, but '{settings.space}' was changed since: "
            "restore it, or start a new run."
        )
    prepared = with_kept(prepared, run, settings.beside, options.beside)
    truth = options.truth or (None if settings.truth is None else Path(settings.truth))
    table = None if truth is None else load_truth(truth, space)
    search, config = SearchConfig(**settings.search), ValidateConfig.continued(settings.validate, options.validate)
    others = list(prepared.beside)
    settings = replace(
        settings,
        source=source.as_json(),
        validate=asdict(config),
        notes=notes_of(prepared, search, config, validation=table is None),
        truth=None if truth is None else str(truth),
        beside=others,
        commands=commands_of(
            prepared.proxy,
            settings.space,
            search,
            config,
            validation=True,
            truth=truth,
            beside=[run / name for name in others],
        ),
    )
    with session_of(run, options.storage, options.workers, prepared.choice) as session:
        save_settings(run, settings, run / PROXY_FILE)
        result = search_result(prepared.inspection, prepared.objective(search), search, session)
        validate_and_report(prepared, settings, result, session, table, validation=True)
    return run


def plan(run: Path) -> None:
    """``nasproxy validate --plan``: how many candidates an interval width takes, and how long that is."""
    load_settings(run)
    report = read_report(run)
    found = report.score("proxy")
    rho = None if found is None else found.agreement.spearman
    known, assumed, each = 0, PLAN_RHO, report.sample_seconds
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
        beyond = report.space_size is not None and n > report.space_size - report.num_invalid
        say("", f"{width:>28.2f}   {n:>10,}   {left:>20,}   {'more than the space has' if beyond else time}")
    say("", f"nasproxy validate {run} --sample N continues with N candidates.")
    for number, line in enumerate(plan_lines(report)):
        say("" if number else "length", line)
