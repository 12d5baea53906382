"""The report's data, and what it says in words: the verdict, its warnings, the pick, the cost."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nasproxy.atomic import write_atomically
from nasproxy.correlation import Bias, Difference, Effect, Estimate, Part, RankAgreement
from nasproxy.errors import NasproxyError

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
    ``curve`` is the mean accuracy after some of the epochs of full training.
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

    @property
    def label(self) -> str:
        return label_of(self.params)


@dataclass(frozen=True)
class ScoreSummary:
    """One row of the table of scores; ``agreement`` is on the uniform sample.

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
    """One searched candidate: its score, what that was held against, and whether no other beats it in everything."""

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
    """Everything that the page shows, as plain data; :func:`nasproxy.validate.validate` makes it."""

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
    against: tuple[str, ...] = ()  # what it was held against, names of scores
    front: tuple[FrontPoint, ...] = ()  # with one that was
    differences: tuple[Difference, ...] = ()  # of the proxy against every other score, tested together
    ceiling: Estimate | None = None  # how far full training agrees with itself over seeds
    sample_seconds: float | None = None  # of everything, by candidate of the sample
    full_seconds: float | None = None  # of full training alone
    effects: tuple[Effect, ...] = ()  # of the space's parameters on full accuracy
    epochs: tuple[EpochAgreement, ...] = ()

    def score(self, name: str) -> ScoreSummary | None:
        return next((score for score in self.scores if score.name == name), None)


# -------------------------------------------------------------------------------------------------------------- verdict


@dataclass(frozen=True)
class Verdict:
    """``level``, one of ``VERDICTS``; one ``sentence`` with ρ, interval and n; further ``details``."""

    level: str
    sentence: str
    details: tuple[str, ...]


VERDICTS = {
    "believe": "the interval of ρ lies above 0, and so does that of the difference to the random subset",
    "weak": "the interval of ρ lies above 0, but an advantage over the random subset is not shown",
    "worse": "the random subset ranks better: the interval of the difference lies below 0",
    "not_shown": "the interval of ρ includes 0",
    "harmful": "the interval of ρ lies below 0",
    "unknown": "ρ or its interval is undefined, or nothing was validated",
}

ANSWERS = {  # to "Can I trust this proxy?"
    "believe": "Yes.",
    "weak": "Only partly.",
    "worse": "No.",
    "not_shown": "Not on this evidence.",
    "harmful": "No.",
    "unknown": "Nobody knows.",
}

FEW = 50  # below, intervals near ρ = .8 are wider than .25


def signed(value: float, digits: int = 2) -> str:
    """A signed number with a true minus: ``+0.42``, ``−0.10``; ``0.00`` without a sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"no interval: {estimate.undefined}"
    return f"95 % interval {signed(estimate.low)} to {signed(estimate.high)}"


def rho_text(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined ({estimate.undefined})"
    return f"{signed(estimate.value)} ({_interval(estimate)})"


def verdict(report: CorrelationReport) -> Verdict:
    """What may be concluded, by the rules in ``VERDICTS``, which the page prints, too."""
    proxy = report.score("proxy")
    if proxy is None or proxy.agreement.n == 0:
        return Verdict("unknown", "This proxy set was not validated: nothing is known about how it ranks.", ())
    rho, n = proxy.agreement.spearman, proxy.agreement.n
    if rho.value is None or rho.low is None or rho.high is None:
        why = rho.undefined or "no interval"
        return Verdict("unknown", f"Nothing can be said about how this proxy set ranks architectures: {why}.", ())
    difference, random = report.difference, report.score("random_subset")
    better = difference is not None and difference.low is not None and difference.low > 0
    worse = difference is not None and difference.high is not None and difference.high < 0
    facts = f"Spearman ρ = {rho_text(rho)}, n = {n}"
    against = "a random subset of equal size was not measured"
    if random is not None and difference is not None and difference.value is not None:
        against = (
            f"a random real subset of equal size reaches {rho_text(random.agreement.spearman)}; "
            f"the difference is {rho_text(difference)}"
        )
    if rho.high < 0:
        level, claim = "harmful", "This proxy set ranks architectures backwards"
    elif worse:
        level, claim = "worse", "This proxy set ranks architectures worse than random real images"
    elif rho.low <= 0:
        level, claim = "not_shown", "This proxy set is not shown to rank architectures better than chance"
    elif better:
        level, claim = "believe", "This proxy set ranks architectures, and better than random real images"
    else:
        level, claim = "weak", "This proxy set ranks architectures, but not demonstrably better than random real images"
    details = [f"Equally many random images: {against}."]
    details += _rivals(report)
    free = [s for s in report.scores if s.name in ("params", "flops") and s.agreement.spearman.value is not None]
    if free:
        words = [f"{s.label} {rho_text(s.agreement.spearman)}" for s in free]
        best = max(free, key=lambda s: s.agreement.spearman.value or 0.0)
        beaten = (best.agreement.spearman.value or 0.0) > rho.value
        details.append(
            f"Free of charge: {'; '.join(words)}."
            + (f" On this sample {best.label} ranks better than the proxy set." if beaten else "")
        )
    details += _untrained(report, rho) + _only_between(proxy, rho)
    return Verdict(level, f"{claim}: {facts}.", tuple(details))


RIVALS = {
    "early_stop": "The full data at equal training cost, stopped early",
    "kmeans_subset": "Equally many real images chosen by k-means",
    "random_total": "More random images, at equal total cost",
    "kmeans_total": "More real images by k-means, at equal total cost",
    "early_stop_total": "The full data at equal total cost, stopped early",
}


def _rivals(report: CorrelationReport) -> list[str]:
    """What else could be trained on: at equal cost (of those at equal total cost the best), and the sets beside."""
    totals = [s for s in report.scores if s.name.endswith("_total") and s.agreement.spearman.value is not None]
    best = max(totals, key=lambda s: s.agreement.spearman.value or 0.0, default=None)
    told = [s for name in RIVALS for s in report.scores if s.name == name and (s not in totals or s is best)]
    others = [s for s in report.scores if s.trained and s.name not in (*TRAINED, *RIVALS)]
    sentences = []
    for score in (*told, *others):
        found = next((one.difference for one in report.differences if one.score == score.name), None)
        if found is not None and found.value is not None:
            what = RIVALS.get(score.name, f"Beside it, {score.label[0].lower()}{score.label[1:]}")
            luck = " It is the better of those." if score is best and len(totals) > 1 else ""
            sentences.append(
                f"{what}: {rho_text(score.agreement.spearman)}; the difference is {rho_text(found)}.{luck}"
            )
    return sentences


TRAINED = ("proxy", "random_subset", "early_stop")


def _untrained(report: CorrelationReport, rho: Estimate) -> list[str]:
    """The best of the scores that need no training, when it ranks better than the proxy."""
    known = (*TRAINED, "params", "flops", report.objective)
    others = [s for s in report.scores if not s.trained and s.name not in known]
    defined = [s for s in others if s.agreement.spearman.value is not None]
    if not defined:
        return []
    best = max(defined, key=lambda s: s.agreement.spearman.value or 0.0)
    if (best.agreement.spearman.value or 0.0) <= (rho.value or 0.0):
        return []
    found = next((one for one in report.differences if one.score == best.name), None)
    p = "" if found is None or found.p is None else f", p {'< 0.01' if found.p < 0.01 else f'= {found.p:.2f}'} adjusted"
    return [
        f"{best.label}, which trains nothing, ranks better on this sample: {rho_text(best.agreement.spearman)}{p}; "
        f"it is the best of {len(defined)} such scores, so some of that is luck."
    ]


def _only_between(proxy: ScoreSummary, rho: Estimate) -> list[str]:
    """Parameters within whose values the proxy is not shown to rank, although it is overall."""
    if rho.low is None or rho.low <= 0:
        return []
    within = [part for part in proxy.parts if part.name.startswith("within") and part.spearman.value is not None]
    weakest = min(within, key=lambda part: part.spearman.value or 0.0, default=None)
    if weakest is None or weakest.spearman.low is None or weakest.spearman.low > 0:
        return []
    return [
        f"Among candidates of equal {weakest.kind} it is not shown to rank: {rho_text(weakest.spearman)} on average. "
        f"What it knows may be which {weakest.kind} is better."
    ]


MANY_TIES = 0.1  # of all pairs; the spread of ranks is then visibly smaller
NOISY = 2.0  # a spread of the truth below this many standard deviations of one candidate over seeds


def warnings_of(report: CorrelationReport) -> tuple[tuple[str, str], ...]:
    """What weakens the verdict, as ``(kind, sentence)``: what it is, what follows, what to do about it."""
    proxy = report.score("proxy")
    if proxy is None or proxy.agreement.n == 0:
        return ()
    drawn = [row for row in report.candidates if row.group == "sample"]
    measured = [row for row in drawn if row.truth is not None and row.ranking]
    found = [
        ("few candidates", _few(proxy.agreement.n)),
        ("no sign of agreement", _includes_zero(proxy.agreement.spearman)),
        ("little to tell apart", _range_restriction(measured)),
        ("ties", _ties(measured, trained=report.full_seconds is not None)),
        ("candidates left out", _left_out(len(drawn), proxy.agreement.n)),
    ]
    return tuple((kind, sentence) for kind, sentence in found if sentence)


def _few(n: int) -> str:
    if n >= FEW:
        return ""
    return (
        f"n = {n} is few: even near ρ = .8 an interval from fewer than {FEW} architectures is wider than .25. "
        "nasproxy validate RUN --sample N goes on with more, and with --plan says how many it takes, and how long."
    )


def _includes_zero(rho: Estimate) -> str:
    if rho.low is None or rho.high is None or not rho.low <= 0 <= rho.high:
        return ""
    return (
        f"The interval of ρ, {signed(rho.low)} to {signed(rho.high)}, includes 0: a score that knows nothing of these "
        "architectures could have done as well. A larger sample (--sample N) shows whether there is anything; until "
        "then choose by another score, or train fully."
    )


def _range_restriction(measured: list[CandidateRow]) -> str:
    """Whether candidates differ too little for anything to rank them, given how far one training is from the next."""
    truths = [row.truth for row in measured if row.truth is not None]
    noises = [row.truth_std for row in measured if row.truth_std is not None]
    if len(truths) < 4 or not noises:
        return ""
    spread, noise = statistics.stdev(truths), statistics.fmean(noises)
    low, _, high = statistics.quantiles(truths, method="inclusive")
    if spread >= NOISY * noise and high - low > noise:
        return ""
    return (
        f"The candidates differ little: the middle half of them lies within {100 * (high - low):.1f} points of full "
        f"accuracy (standard deviation {100 * spread:.1f}), and one candidate varies by {100 * noise:.1f} from seed to "
        "seed. Much of their true order is luck, which keeps the ρ of any score low. More seeds (--full-seeds) or "
        "longer full training tell them apart better; if they are alike, the choice matters little."
    )


def _ties(measured: list[CandidateRow], *, trained: bool) -> str:
    """Pairs that truth or proxy cannot order; ``trained``: the truth is, so that more seeds of it can be had."""
    seeds = " More seeds of full training tell some of them apart (--full-seeds 2)." if trained else ""
    kinds = (
        ("full accuracy", [row.truth for row in measured], f"nobody knows which of the two is better.{seeds}"),
        (
            "score",
            [row.ranking.get("proxy") for row in measured],
            "the proxy cannot order them. Train it on more seeds.",
        ),
    )
    words = [
        f"{percent(share)} of all pairs of candidates have the same {what}: {follows}"
        for what, values, follows in kinds
        if (share := _tied(values)) > MANY_TIES
    ]
    return " ".join(words)


def _tied(values: Sequence[float | None]) -> float:
    """The share of pairs that are equal, up to rounding."""
    known = [float(f"{value:.12g}") for value in values if value is not None]
    pairs = len(known) * (len(known) - 1)
    return sum(num * (num - 1) for num in Counter(known).values()) / pairs if pairs else 0.0


def _left_out(drawn: int, n: int) -> str:
    if drawn <= n:
        return ""
    return (
        f"{drawn - n} of the {drawn} candidates that were drawn count in no number, because a training failed. "
        "If a net that fails is one the proxy likes, the proxy is worse than it looks. The reasons stand at the end."
    )


def advice(report: CorrelationReport) -> str:
    """How many of the proxy's first to train fully, and what that loses; empty where nothing is known."""
    proxy = report.score("proxy")
    if proxy is None or proxy.agreement.regret_at_k.value is None or proxy.agreement.regret.value is None:
        return ""
    best_of, first, n, k = proxy.agreement.regret_at_k, proxy.agreement.regret, proxy.agreement.n, proxy.agreement.k
    guess = "" if (proxy.agreement.spearman.low or 0) > 0 else " But its order is not shown to be better than chance."
    return (
        f"Train the proxy's first {k} fully and keep the best of them: among the {n} of the sample that loses "
        f"{_points(best_of)} of full accuracy against the best; its first alone would lose "
        f"{_points(first)}.{guess}"
    )


def _points(estimate: Estimate) -> str:
    text = f"{100 * (estimate.value or 0.0):.1f} points"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} (95 % interval {100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def break_even(report: CorrelationReport) -> str | None:
    """From how many candidates on the proxy has paid for its making, against training them fully; None if unknown."""
    proxy = report.score("proxy")
    full = report.full_seconds
    if proxy is None or full is None or not proxy.agreement.n or proxy.seconds_per_candidate is None:
        return None
    saved = full - proxy.seconds_per_candidate
    each = f"{duration_text(full)} of full training and {duration_text(proxy.seconds_per_candidate)} on the proxy"
    if saved <= 0:
        return f"It never pays here: a candidate takes {each}."
    num = math.floor((proxy.one_off_seconds or 0.0) / saved) + 1
    return f"The proxy has paid for its making from {num:,} candidate{'s' if num > 1 else ''} on: each takes {each}."


def duration_text(seconds: float | None) -> str:
    """Seconds for a table: ``0``, ``0.42 s``, ``12 s``, ``3.5 min``, ``2.1 h``."""
    if seconds is None:
        return "–"
    if seconds == 0:
        return "0"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def percent(fraction: float | None, std: float | None = None) -> str:
    """``54.3 %``, with ``± 0.4`` when ``std`` is known; a dash for None."""
    if fraction is None:
        return "–"
    return f"{100 * fraction:.1f}{f' ± {100 * std:.1f}' if std is not None else ''} %"


def picked_by(report: CorrelationReport) -> str:
    """What the pick has without full training: its accuracy on the proxy, or whatever the search ranked by."""
    score = None if report.pick is None else report.pick.scores.get(report.objective)
    if report.objective == "proxy":
        return f"accuracy on the proxy {percent(score)}"
    return f"{report.objective} {percent(score) if report.in_percent else compact(score)}"


def compact(value: float | None) -> str:
    """A number of any size for a table: ``20,874``, ``0.00034``, ``1.2e+30``; a dash for None."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def amount(value: float | None, unit: str = "") -> str:
    """A large number with its prefix: ``1.2 T``, ``340 MFLOP``; a dash for None."""
    if value is None:
        return "–"
    least, prefix = next(((least, prefix) for least, prefix in PREFIXES if abs(value) >= least), (1.0, ""))
    number = value / least
    return f"{number:.3g}" + (f" {prefix}{unit}" if prefix or unit else "")


def energy_text(joules: float | None) -> str:
    """Energy in watt-hours, as an electricity meter has it; a dash for None."""
    return "–" if joules is None else amount(joules / 3600, "Wh")


def three_lines(report: CorrelationReport) -> tuple[str, str, str]:
    """What the terminal prints at the end: the verdict, the pick, the cost."""
    found = verdict(report)
    comparison = f" {found.details[0]}" if found.details else ""
    if report.pick is None:
        pick = "No pick: no candidate could be trained."
    else:
        test = f", test accuracy {percent(report.pick_test_accuracy, report.pick_test_std)}"
        known = f"full accuracy {percent(report.pick.truth, report.pick.truth_std)}{test}"
        unknown = f"{picked_by(report)}, not trained on the full data"
        if report.pick.truth is not None and report.pick_test_accuracy is None:
            known = f"full accuracy {percent(report.pick.truth, report.pick.truth_std)}"
        pick = f"Pick: {report.pick.label} ({known if report.pick.truth is not None else unknown})."
    paid = "; ".join(f"{cost.what.lower()} {duration_text(cost.seconds)}" for cost in report.costs)
    return f"{found.sentence}{comparison}", pick, f"Cost: {paid or 'nothing was trained'}."


# ----------------------------------------------------------------------------------------------------------------- data


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
            f"'{path}' cannot be read ({error.error_count()} errors): write it again with `nasproxy validate {run}`."
        ) from None
