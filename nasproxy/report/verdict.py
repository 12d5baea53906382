"""What a report says in words: the verdict, reasons for caution, the pick, the cost."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nasproxy.config import FULL_LENGTH
from nasproxy.core.wording import compact, percent, precise_duration, signed
from nasproxy.correlation import Estimate
from nasproxy.report.data import CandidateRow, CorrelationReport, ScoreSummary
from nasproxy.report.length import (
    HOLDS,
    capped_claim,
    falling,
    ranks_like_short_training,
    short_truth,
    standing,
    taken_at_its_word,
    truth_holds,
)
from nasproxy.report.rivals import parameters_alone
from nasproxy.report.wording import p_text, rho_text


@dataclass(frozen=True)
class Verdict:
    """``level``, one of ``VERDICTS``; one ``sentence`` with ρ, interval and n; further ``details``."""

    level: str
    sentence: str
    details: tuple[str, ...]


VERDICTS = {
    "believe": "the interval of ρ lies above 0, and so does that of the difference to the random subset",
    "weak": "the interval of ρ lies above 0, but an advantage over the random subset is not shown",
    "short": "the interval of ρ lies above 0, but full training is not shown to rank as longer training does (it is "
    f"where the interval of their ρ lies above {HOLDS:g}, and where it has {FULL_LENGTH} epochs on all images)",
    "worse": "the random subset ranks better: the interval of the difference lies below 0",
    "not_shown": "the interval of ρ includes 0",
    "harmful": "the interval of ρ lies below 0",
    "unknown": "ρ or its interval is undefined, or nothing was validated",
}

ANSWERS = {  # to "Can I trust this proxy?"
    "believe": "Yes.",
    "weak": "Only partly.",
    "short": "Only for short training.",
    "worse": "No.",
    "not_shown": "Not on this evidence.",
    "harmful": "No.",
    "unknown": "Not known.",
}

FEW = 50  # below, intervals near ρ = .8 are wider than .25


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
    elif standing(report).capped:
        level, claim = "short", ranks_like_short_training(report, better=better)
    elif better:
        level, claim = "believe", "This proxy set ranks architectures, and better than random real images"
    else:
        level, claim = "weak", "This proxy set ranks architectures, but not demonstrably better than random real images"
    if standing(report).capped and level != "short":
        claim = capped_claim(report, claim)
    details = [f"Equally many random images: {against}."]
    details += [words for words in (truth_holds(report), taken_at_its_word(report), falling(report)) if words]
    details += _rivals(report)
    free = [s for s in report.scores if s.name in ("params", "flops") and s.agreement.spearman.value is not None]
    if free:
        words = [f"{s.label} {rho_text(s.agreement.spearman)}" for s in free]
        best = max(free, key=lambda s: s.agreement.spearman.value or 0.0)
        beaten = (best.agreement.spearman.value or 0.0) > rho.value
        details.append(
            f"Scores that cost nothing: {'; '.join(words)}."
            + (f" On this sample {best.label} ranks better than the proxy set." if beaten else "")
        )
    details += _untrained(report, rho) + _only_between(proxy, rho)
    details += [words for words in (parameters_alone(report),) if words]
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
    p = "" if found is None or found.p is None else f", {p_text(found.p, at_floor=found.at_floor)} adjusted"
    return [
        f"{best.label}, which trains nothing, ranks better on this sample: {rho_text(best.agreement.spearman)}{p}; "
        f"it is the best of {len(defined)} such scores, so part of this is luck."
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
        f"It may only know which {weakest.kind} is better."
    ]


MANY_TIES = 0.1  # of all pairs; the spread of ranks is then visibly smaller
NOISY = 2.0  # a spread of the truth below this many standard deviations of one candidate over seeds


def warnings_of(report: CorrelationReport) -> tuple[tuple[str, str], ...]:
    """Reasons for caution, as ``(kind, sentence)``: what it is, what follows, what to do about it."""
    proxy = report.score("proxy")
    if proxy is None or proxy.agreement.n == 0:
        return ()
    drawn = [row for row in report.candidates if row.group == "sample"]
    measured = [row for row in drawn if row.truth is not None and row.ranking]
    found = [
        ("short full training", short_truth(report)),
        ("few candidates", _few(proxy.agreement.n)),
        ("no sign of agreement", _includes_zero(proxy.agreement.spearman)),
        ("little to tell apart", _range_restriction(measured)),
        ("ties", _ties(measured, trained=report.full_seconds is not None)),
        ("candidates left out", _left_out(len(drawn), proxy)),
        ("seeds that did not learn", _stuck(report)),
    ]
    return tuple((kind, sentence) for kind, sentence in found if sentence)


def _few(n: int) -> str:
    if n >= FEW:
        return ""
    return (
        f"n = {n} is few: even near ρ = 0.8 an interval from fewer than {FEW} architectures is wider than 0.25. "
        "nasproxy validate RUN --sample N continues with a larger sample. With --plan it says how large the sample "
        "must be, and how long that takes."
    )


def _includes_zero(rho: Estimate) -> str:
    if rho.low is None or rho.high is None or not rho.low <= 0 <= rho.high:
        return ""
    return (
        f"The interval of ρ, {signed(rho.low)} to {signed(rho.high)}, includes 0: a score that knows nothing of these "
        "architectures could have done as well. A larger sample (--sample N) shows whether there is an agreement. "
        "Until then choose by another score, or train fully."
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


def _left_out(drawn: int, proxy: ScoreSummary) -> str:
    n = proxy.agreement.n
    if drawn <= n:
        return ""
    verb = "is" if drawn - n == 1 else "are"
    more = "If the proxy ranks such candidates high, it is worse than it looks."
    if proxy.with_failures is not None:
        more = (
            f"With failed trainings ranked last ρ is {rho_text(proxy.with_failures)}, n = {proxy.with_failures.n}; "
            f"without them it is {rho_text(proxy.agreement.spearman)}."
        )
    return (
        f"{drawn - n} of the {drawn} candidates that were drawn {verb} not counted, because a training failed. {more} "
        "The reasons are at the end of the page."
    )


MAX_STUCK = 3  # that are named


def _stuck(report: CorrelationReport) -> str:
    """Which trainings stayed at chance while another seed of the same candidate learned."""
    if not report.stuck:
        return ""
    labels = {score.name: score.label for score in report.scores} | {"full": "full training"}
    words = [
        f"{one.label} by {labels.get(one.score, one.score)} ({', '.join(percent(value) for value in one.accuracies)})"
        for one in report.stuck[:MAX_STUCK]
    ]
    more = len(report.stuck) - len(words)
    rest = f"; {more} more are in the table of candidates" if more > 0 else ""
    return (
        f"One seed stayed at the accuracy of chance and another did not: {'; '.join(words)}{rest}. Their mean says "
        "little of either. With three seeds (--full-seeds 3) the page also shows the correlation with their median."
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
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (None if end is None else round(100 * end, 1) + 0.0 for end in ends)  # −0.0 + 0.0 is 0.0
    return f"{value} points" if low is None or high is None else f"{value} points (95 % interval {low} to {high})"


def break_even(report: CorrelationReport) -> str | None:
    """From how many candidates on the proxy set saves time, compared with training them fully; None if unknown."""
    proxy = report.score("proxy")
    full = report.full_seconds
    if proxy is None or full is None or not proxy.agreement.n or proxy.seconds_per_candidate is None:
        return None
    saved = full - proxy.seconds_per_candidate
    each = f"{precise_duration(full)} of full training and {precise_duration(proxy.seconds_per_candidate)} on the proxy"
    if saved <= 0:
        return f"The proxy set never saves time here: a candidate takes {each}."
    num = math.floor((proxy.one_off_seconds or 0.0) / saved) + 1
    return f"The proxy set saves time from {num:,} candidate{'s' if num > 1 else ''} on: each takes {each}."


def picked_by(report: CorrelationReport) -> str:
    """What the pick has without full training: its accuracy on the proxy, or whatever the search ranked by."""
    score = None if report.pick is None else report.pick.scores.get(report.objective)
    if report.objective == "proxy":
        return f"accuracy on the proxy {percent(score)}"
    return f"{report.objective} {percent(score) if report.in_percent else compact(score)}"


def last_lines(report: CorrelationReport) -> list[str]:
    """What the terminal prints at the end: the verdict, what is known of the truth, the pick, the cost."""
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
    paid = "; ".join(f"{cost.what.lower()} {precise_duration(cost.seconds)}" for cost in report.costs)
    told = [short_truth(report) or truth_holds(report), falling(report)] if found.details else []
    truth = " ".join(words for words in told if words)
    lines = [f"{found.sentence}{comparison}", truth, pick, f"Cost: {paid or 'nothing was trained'}."]
    return [line for line in lines if line]
