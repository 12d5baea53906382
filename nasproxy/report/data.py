"""The report's data, as plain values: what the page shows, and what old runs are read from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.correlation import AgainstRival, Bias, Cutoff, Difference, Effect, Estimate, Part, RankAgreement
from nasproxy.report.calibration import Calibration

DATA_FILE = "report.json"
MAX_ROWS = 40  # of failures and of candidates in a table; what is left out is counted

Scalar = str | int | float | bool | None


def label_of(params: dict[str, Scalar]) -> str:
    return " ".join(f"{name}={value}" for name, value in params.items())


@dataclass(frozen=True)
class CandidateRow:
    """One candidate of the validation: its parameters, its mean full accuracy ``truth``, its scores by name.

    ``group``: "sample" was drawn uniformly from the space and makes the global numbers; "top" are the search's best.
    Accuracies are fractions; None where a training failed or was not done. ``stds`` are those of the scores over seeds,
    ``curve`` is the mean accuracy after some of the epochs of full training. ``by_seed``: the full accuracy of every
    seed. ``long_truth``: the accuracy after the longer training that checks full training, of the candidates that have
    one.
    """

    id: str
    params: dict[str, Scalar]
    group: str
    truth: float | None
    truth_std: float | None
    truth_seeds: int
    scores: dict[str, float | None]
    ranking: dict[str, float]  # what the correlations rank by: accuracies with the loss breaking ties, or counts
    stds: dict[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    by_seed: tuple[float, ...] = ()
    long_truth: float | None = None

    @property
    def label(self) -> str:
        return label_of(self.params)


@dataclass(frozen=True)
class LengthPoint:
    """A score's ρ with the accuracy after ``epochs`` epochs.

    ``within``: the accuracy is from within full training, whose learning rate is still high there, so that it is lower
    than that of a training which ends there. Otherwise a training ended there.
    """

    epochs: int
    spearman: Estimate
    within: bool


@dataclass(frozen=True)
class TruthLength:
    """How long full training was, and whether a longer one ranks alike.

    ``full_length``: it is as long as published benchmarks train. ``agreement``: ρ of full accuracy with the accuracy
    after ``long_epochs`` epochs, on the candidates that were trained longer; None where none was. ``num_failed`` of
    these trainings gave no number. ``long_seconds``: of one of them.
    """

    epochs: int
    images: int
    full_length: bool
    long_epochs: int | None = None
    agreement: Estimate | None = None
    num_failed: int = 0
    long_seconds: float | None = None


@dataclass(frozen=True)
class ParameterRival:
    """What the space's parameters alone predict of the truth of each candidate, from the truths of the others.

    ``parameters``: those that the fit to all candidates takes. ``spearman``: ρ of the predictions with the truth.
    """

    name: str
    label: str
    parameters: tuple[str, ...]
    spearman: Estimate


@dataclass(frozen=True)
class StuckSeed:
    """A training that stayed at the accuracy of chance, while another seed of the same candidate did not.

    ``accuracies``: of all seeds of the candidate by ``score``.
    """

    candidate: str
    params: dict[str, Scalar]
    score: str
    accuracies: tuple[float, ...]

    @property
    def label(self) -> str:
        return label_of(self.params)


@dataclass(frozen=True)
class ScoreSummary:
    """One row of the table of scores; ``agreement`` is on the uniform sample.

    ``lengths``: its ρ with trainings of several lengths. ``fall``: its ρ with full accuracy minus that with the
    accuracy after the first epochs; ``long_fall``: its ρ with the longer training minus that with full accuracy, on the
    candidates that have both. Where the interval of one lies below 0, the score ranks what learns fast.
    ``with_failures``: ρ on all drawn candidates with failed trainings ranked last, where some failed.
    ``with_medians``: ρ with the median over the seeds of full training in place of the mean, from three seeds on.
    ``parts`` say where it comes from, ``reliability`` how far the score agrees with itself over seeds, ``corrected``
    what its ρ would be without the noise of seeds in score and truth, ``effects`` what it thinks of the space's
    parameters, ``biases`` where it misjudges them. ``trained``: it is an accuracy. Costs are means over the sample,
    FLOPs with two per multiply-add; None where nobody knows.
    """

    name: str
    label: str
    agreement: RankAgreement
    num_images: int | None
    seconds_per_candidate: float | None
    one_off_seconds: float | None
    parts: tuple[Part, ...] = ()
    reliability: Estimate | None = None
    corrected: Estimate | None = None
    effects: tuple[Effect, ...] = ()
    biases: tuple[Bias, ...] = ()
    trained: bool = False
    flops_per_candidate: float | None = None
    joules_per_candidate: float | None = None
    lengths: tuple[LengthPoint, ...] = ()
    fall: Estimate | None = None
    long_fall: Estimate | None = None
    with_failures: Estimate | None = None
    with_medians: Estimate | None = None
    cutoffs: tuple[Cutoff, ...] = ()  # among the truly best, of scores that train


@dataclass(frozen=True)
class LossCurves:
    """ρ with full accuracy of the score ``name``, and of the training losses of the same trainings.

    ``total`` is the sum of the losses, ``late`` their mean in the last fifth. A low loss is good, so a score that ranks
    well has negative numbers. ``late`` is None for a training of one epoch.
    """

    name: str
    label: str
    accuracy: Estimate
    total: Estimate
    late: Estimate | None


@dataclass(frozen=True)
class RegretPoint:
    """The mean regret, in accuracy, for ``cost`` full trainings; the interval is over replays."""

    cost: float
    regret: Estimate


@dataclass(frozen=True)
class ReplayedWay:
    """A way of picking, replayed on parts of the sample."""

    name: str
    label: str
    points: tuple[RegretPoint, ...]


@dataclass(frozen=True)
class Failure:
    """A training that gave no number, and why."""

    candidate: str
    params: dict[str, Scalar]
    stage: str
    reason: str


@dataclass(frozen=True)
class Cost:
    """What was paid for what; FLOPs with two per multiply-add, None where nobody counted them."""

    what: str
    seconds: float | None
    images: int | None
    note: str
    flops: float | None = None
    joules: float | None = None


@dataclass(frozen=True)
class EpochAgreement:
    """After ``epoch`` epochs of full training: how the proxy agrees with accuracies so far, and these with the last.

    The learning rate is that of the whole schedule, so that an accuracy on the way is lower than that of a training
    which ends there.
    """

    epoch: int
    proxy: Estimate
    final: Estimate


@dataclass(frozen=True)
class FrontPoint:
    """One candidate of a Pareto search: its score, its further objectives, and whether it is on the Pareto front."""

    params: dict[str, Scalar]
    score: float
    against: tuple[float, ...]
    on_front: bool

    @property
    def label(self) -> str:
        return label_of(self.params)


@dataclass(frozen=True)
class ClassPicture:
    """Images of one class, side by side, as a PNG in base64; ``nearest`` the training image nearest to each."""

    name: str
    png: str
    nearest: str | None = None


@dataclass(frozen=True)
class CorrelationReport:
    """Everything that the page shows, as plain data; :func:`nasproxy.validation.validate.validate` makes it."""

    title: str
    dataset: str
    space: str
    space_size: int | None
    num_invalid: int
    created: str
    candidates: tuple[CandidateRow, ...]
    scores: tuple[ScoreSummary, ...]
    difference: Estimate | None  # Spearman of the proxy minus that of the random subset
    history: tuple[tuple[int, float], ...]
    pick: CandidateRow | None
    pick_test_accuracy: float | None
    pick_test_std: float | None
    failures: tuple[Failure, ...]
    costs: tuple[Cost, ...]
    pictures: tuple[ClassPicture, ...]
    pictures_note: str
    truth_note: str
    notes: tuple[str, ...]
    reproducibility: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    objective: str = "proxy"  # what the search ranked by: a score's name, or a sum of them
    in_percent: bool = True  # whether that is an accuracy
    against: tuple[str, ...] = ()  # the further objectives of a Pareto search, names of scores
    front: tuple[FrontPoint, ...] = ()  # with one that was
    differences: tuple[Difference, ...] = ()  # of the proxy against every other score, tested together
    ceiling: Estimate | None = None  # how far full training agrees with itself over seeds
    sample_seconds: float | None = None  # of everything, by candidate of the sample
    full_seconds: float | None = None  # of full training alone
    effects: tuple[Effect, ...] = ()  # of the space's parameters on full accuracy
    epochs: tuple[EpochAgreement, ...] = ()
    length: TruthLength | None = None  # None: the truth comes from a table, or the report is an old one
    stuck: tuple[StuckSeed, ...] = ()
    rivals: tuple[ParameterRival, ...] = ()
    against_rivals: tuple[AgainstRival, ...] = ()  # every score against every rival
    calibration: Calibration | None = None  # None: too few candidates, or the report is an old one
    loss_curves: tuple[LossCurves, ...] = ()  # of trained scores whose training losses were kept
    replays: tuple[ReplayedWay, ...] = ()  # of ways of picking, on the sample; the plan of --compute first

    def score(self, name: str) -> ScoreSummary | None:
        return next((score for score in self.scores if score.name == name), None)


def save_report(report: CorrelationReport, run: Path) -> Path:
    """Writes the report's data into the folder ``run``, for :func:`read_report`."""
    path = run / DATA_FILE
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text.encode())
    return path


def read_report(run: Path) -> CorrelationReport:
    """Reads what :func:`save_report` wrote.

    Raises:
        NasproxyError: when the run has no finished validation, or its data cannot be read.
    """
    from pydantic import TypeAdapter, ValidationError

    path = run / DATA_FILE
    if not path.is_file():
        raise NasproxyError(f"The run '{run}' has no {DATA_FILE} yet: finish it with `nasproxy validate {run}`.")
    try:
        return TypeAdapter(CorrelationReport).validate_json(path.read_bytes())
    except ValidationError as error:
        raise NasproxyError(
            f"'{path}' cannot be read ({error.errors()[0]['msg']}): write it again with `nasproxy validate {run}`."
        ) from None
