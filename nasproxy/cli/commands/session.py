"""What ``nasproxy search`` and ``validate`` share: inputs that are loaded and checked, notes, and the report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nasproxy.cli.commands.options import DataOptions
from nasproxy.cli.commands.output import Source, device_named, load_data, say, say_space, say_workers
from nasproxy.condense.build_plan import omissions
from nasproxy.condense.provenance import config_of
from nasproxy.config import METHODS, SearchConfig, ValidateConfig
from nasproxy.core.devices import DeviceChoice
from nasproxy.core.progress import progress_bar
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import SUFFIX, ProxySet, check_fit, load_proxy
from nasproxy.report.data import CorrelationReport, save_report
from nasproxy.report.page import write_report
from nasproxy.report.verdict import last_lines
from nasproxy.scores.proxy import candidate_recipe, proxy_task
from nasproxy.search.loop import SearchResult
from nasproxy.search.objective import Objective, make_objective
from nasproxy.search.open_session import open_session
from nasproxy.search.run_folder import REPORT_FILE, RunSettings, keep_copy
from nasproxy.search.search_plan import search_omissions
from nasproxy.spaces import SearchSpace, SpaceInspection, inspect_space
from nasproxy.training.session import Session
from nasproxy.training.tasks import TrainingTask
from nasproxy.validation.truth_table import Truth
from nasproxy.validation.validate import validate as run_validation

# The settings of SearchConfig that cannot change within a run.
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
    """The inputs of a search or a validation, loaded once and checked.

    Attributes:
        beside: other proxy sets by the name of their copy in the run folder.
    """

    choice: DeviceChoice
    proxy: ProxySet
    dataset: Dataset
    inspection: SpaceInspection
    beside: Mapping[str, ProxySet]

    @property
    def space(self) -> SearchSpace:
        return self.inspection.space

    def task(self, config: SearchConfig) -> TrainingTask:
        """The score "proxy" of a search by ``config``."""
        recipe = candidate_recipe(self.proxy, self.dataset, config)
        return proxy_task(self.proxy, self.dataset, recipe, precision=config.precision)

    def objective(self, config: SearchConfig) -> Objective:
        return make_objective(config, self.proxy, self.dataset)


def prepare(space: SearchSpace, proxy: ProxySet, source: Source, data: DataOptions, beside: Sequence[Path]) -> Prepared:
    """Loads the data and the proxy sets ``beside``, finds which candidates can be built, and says so.

    Raises:
        NasproxyError: when one of them cannot be read, or a proxy set was made of other data.
    """
    choice = device_named(data.device)
    dataset = load_data(source, offline=data.offline)
    check_fit(proxy, dataset)
    others = {}
    for path in beside:
        other = load_proxy(path)
        check_fit(other, dataset)
        others[f"beside-{other.content_id[:16]}{SUFFIX}"] = other
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, dataset.input_shape, dataset.num_classes, progress=progress)
    say_space(space, inspection)
    return Prepared(choice, proxy, dataset, inspection, others)


def with_kept(prepared: Prepared, run: Path, kept: Sequence[str], given: Sequence[Path]) -> Prepared:
    """``prepared`` with the proxy sets that ``run`` keeps from before, and copies of the ``given`` ones in the run."""
    earlier = {name: load_proxy(run / name) for name in kept if name not in prepared.beside}
    for name, path in zip(prepared.beside, given, strict=False):
        keep_copy(path, run / name)
    return replace(prepared, beside=earlier | dict(prepared.beside))


@contextmanager
def session_of(run: Path, storage: str | None, workers: int | None, choice: DeviceChoice) -> Iterator[Session]:
    """Opens ``run`` and tells the person about its workers, and about what they meet."""
    with open_session(run, choice, workers=workers, storage=storage, tell=say) as session:
        say_workers(session.crew)
        yield session


def notes_of(prepared: Prepared, search: SearchConfig, config: ValidateConfig, *, validation: bool) -> list[str]:
    """What a reader of the report must know about the protocol of this run; ``validation``: by full training."""
    notes, proxy = [], prepared.proxy
    leaves_out = search_omissions(search, config, prepared.inspection, prepared.dataset, full_training=validation)
    if leaves_out:
        notes.append(f"Against the paper's protocol: {leaves_out}.")
    spec = METHODS.get(proxy.method)
    if spec is not None and spec.learns:
        missing = omissions(config_of(proxy))
        if missing:
            notes.append(f"The proxy set was condensed with less than the paper's protocol: {missing}.")
    return notes


def commands_of(
    proxy: ProxySet,
    space: str,
    search: SearchConfig,
    config: ValidateConfig,
    *,
    validation: bool,
    truth: Path | None,
    beside: Sequence[Path],
) -> list[str]:
    """The commands that repeat this run with every planned value spelled out."""
    words: list[object] = ["nasproxy", "search", "--space", from_here(space)]
    for name in ("trials", *STUDY_SETTINGS):
        if getattr(search, name) not in ("", None):
            words += [f"--{name}", getattr(search, name)]
    if not validation:
        words.append("--no-validate")
    words += ["--sample", config.sample, "--top", config.top]
    words += ["--scores", config.scores or "none"]
    for other in beside:
        words += ["--beside", other]
    if truth is not None:
        words += ["--truth", truth]
    else:
        words += ["--full-epochs", config.epochs, "--full-seeds", config.seeds]
        if config.images is not None:
            words += ["--full-images", config.images]
        words += ["--full-precision", config.precision, "--long-sample", config.long_sample]
        if config.long_epochs is not None:
            words += ["--long-epochs", config.long_epochs]
    return [_build_command(proxy), shlex.join(map(str, words))]


def _build_command(proxy: ProxySet) -> str:
    """The command that builds ``proxy`` again, with every setting that its method reads."""
    source = proxy.record.get("source") or {"spec": proxy.provenance["dataset"]["name"]}
    words: list[object] = ["nasproxy", "build-proxy", "--dataset", source["spec"]]
    if source.get("image_size"):
        words += ["--image-size", source["image_size"]]
    settings = {name: value for name, value in proxy.provenance["config"].items() if name != "match_space_hash"}
    if settings.get("match_space") is not None:
        settings["match_space"] = proxy.record["match_space"]
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name}")
        elif value is not None:
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(map(str, words))


def from_here(path: str) -> str:
    """A path below the current folder without what leads there: who repeats a command has other folders above it."""
    whole = Path(path)
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else path


def validate_and_report(
    prepared: Prepared,
    settings: RunSettings,
    result: SearchResult,
    session: Session,
    truth: Truth | None,
    *,
    validation: bool,
) -> CorrelationReport:
    """Trains what the validation lacks, writes the data and the page, and says the verdict.

    Without ``validation`` nothing is trained, and the page says that nothing is known.
    """
    config = ValidateConfig(**settings.validate)
    if not validation:
        config = replace(config, sample=0, top=0)
    with progress_bar("validating") as progress:
        report = run_validation(
            result,
            prepared.proxy,
            prepared.dataset,
            config,
            session,
            truth=truth,
            beside=list(prepared.beside.values()),
            notes=settings.notes,
            commands=settings.commands,
            progress=progress,
        )
    save_report(report, session.run)
    path = write_report(report, session.run / REPORT_FILE)
    for line in last_lines(report):
        say("", line)
    say("report", str(path))
    return report
