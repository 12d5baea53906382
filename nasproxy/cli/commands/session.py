"""What ``nasproxy search`` and ``validate`` do alike: load and check, train in a run's folder, tell, report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nasproxy.cli.commands.output import Source, device_named, load_data, say, say_space, say_workers
from nasproxy.condense.build_plan import omissions
from nasproxy.config import SELECTIONS, CondenseConfig, SearchConfig, ValidateConfig
from nasproxy.core.devices import DeviceChoice
from nasproxy.core.progress import progress_bar
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import SUFFIX, ProxySet, check_fit, load_proxy
from nasproxy.report.data import CorrelationReport, save_report
from nasproxy.report.page import write_report
from nasproxy.report.verdict import three_lines
from nasproxy.scores.proxy import candidate_recipe, proxy_task
from nasproxy.search.loop import SearchResult
from nasproxy.search.objective import Objective, make_objective
from nasproxy.search.run_folder import CHECKPOINTS, LEDGER_FILE, REPORT_FILE, RunSettings, keep_copy, run_lock
from nasproxy.search.search_plan import search_omissions
from nasproxy.spaces import SearchSpace, SpaceInspection, inspect_space, load_space
from nasproxy.training.crew import Crew, hire
from nasproxy.training.ledger import Ledger
from nasproxy.training.tasks import TrainingTask
from nasproxy.validation.ranking import validate as run_validation
from nasproxy.validation.truth_table import Truth

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
class Prepared:
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


def prepare(space_spec: str, proxy_path: Path, source: Source, *, offline: bool, device: str) -> Prepared:
    """Loads space, proxy set and data, finds which candidates can be built, and says so.

    Raises:
        NasproxyError: when one of them cannot be read, or the proxy set is of other data.
    """
    space = load_space(space_spec)
    proxy = load_proxy(proxy_path)
    choice = device_named(device)
    data = load_data(source, offline=offline)
    check_fit(proxy, data)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, data.input_shape, data.num_classes, progress=progress)
    say_space(space, inspection)
    return Prepared(choice, proxy, data, space, inspection)


@contextmanager
def at_work(run: Path, storage: str | None, workers: int, choice: DeviceChoice) -> Iterator[tuple[Ledger, Crew]]:
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


def kept_beside(run: Path, kept: list[str], more: Sequence[Path]) -> list[str]:
    """The run's copies of the proxy sets that are validated beside its own, by file name."""
    names = list(kept)
    for path in more:
        name = f"beside-{load_proxy(path).content_id[:16]}{SUFFIX}"
        keep_copy(path, run / name)
        names.append(name)
    return list(dict.fromkeys(names))


def notes_of(prepared: Prepared, search: SearchConfig, config: ValidateConfig, *, validation: bool) -> list[str]:
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


def commands_of(
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


def validate_and_report(
    prepared: Prepared,
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
    """Trains what the validation of ``run`` lacks, writes data and page, and says the verdict.

    Without ``validation`` nothing is trained, and the page says that nothing is known.
    """
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
