"""Whether full training was long enough to be called the truth, in words."""

from __future__ import annotations

from enum import StrEnum

from nasproxy.config import LONGER_TIMES
from nasproxy.core.wording import epochs_text, precise_duration, signed
from nasproxy.correlation import Estimate
from nasproxy.report.data import CorrelationReport, LengthPoint
from nasproxy.report.wording import rho_text

# ρ of full accuracy with that of longer training from which on the two share half of the variance of ranks.
HOLDS = 0.7


class Standing(StrEnum):
    """What is known of the truth."""

    TABLE = "table"  # it comes from a table, which is taken at its word
    FULL_LENGTH = "full length"  # as long as published benchmarks train
    HOLDS = "holds"  # a longer training ranks alike: the interval of their ρ lies above ``HOLDS``
    OTHERWISE = "otherwise"  # a longer training ranks otherwise: the interval lies below
    UNKNOWN = "unknown"  # the interval is too wide, or there is none

    @property
    def capped(self) -> bool:
        """Whether nothing may be concluded but for trainings of this length."""
        return self in (Standing.OTHERWISE, Standing.UNKNOWN)


def standing(report: CorrelationReport) -> Standing:
    """What is known of the truth of ``report``. Reports of earlier versions do not say how long it was trained."""
    if report.full_seconds is None:
        return Standing.TABLE
    length = report.length
    rho = None if length is None else length.agreement
    if rho is not None and rho.low is not None and rho.high is not None:
        if rho.low >= HOLDS:
            return Standing.HOLDS
        return Standing.OTHERWISE if rho.high < HOLDS else Standing.UNKNOWN
    return Standing.FULL_LENGTH if length is not None and length.full_length else Standing.UNKNOWN


def trained_for(report: CorrelationReport) -> str:
    """How long full training was: ``3 epochs``."""
    return "a full training of unknown length" if report.length is None else epochs_text(report.length.epochs)


def capped_claim(report: CorrelationReport, claim: str) -> str:
    """``claim``, which begins with "This proxy set", for a truth that is not shown to hold."""
    known = standing(report)
    length = report.length
    if known is Standing.OTHERWISE and length is not None and length.long_epochs is not None:
        why = f"and {epochs_text(length.long_epochs)} rank them otherwise"
    else:
        why = "and nothing shows that longer training ranks them alike"
    return f"The truth here is {trained_for(report)}, {why}. Against it, {claim[0].lower()}{claim[1:]}"


def ranks_like_short_training(report: CorrelationReport, *, better: bool) -> str:
    """The claim of a proxy set that agrees with a truth which is not shown to hold."""
    length = report.length
    what = f"what {trained_for(report)} of training rank" if length is not None else f"what {trained_for(report)} ranks"
    if length is not None and length.epochs == 1:
        what += "s"
    claim = f"This proxy set ranks {what}{', and better than random real images' if better else ''}; "
    if standing(report) is Standing.OTHERWISE and length is not None and length.long_epochs is not None:
        return f"{claim}but training for {epochs_text(length.long_epochs)} ranks these architectures otherwise"
    return f"{claim}whether that is what full training ranks is not known"


def checked_by(report: CorrelationReport) -> str:
    """What the longer training of some candidates showed; empty where there was none."""
    length = report.length
    if length is None or length.agreement is None or length.long_epochs is None:
        return ""
    rho = length.agreement
    failed = f" {length.num_failed} more failed in it." if length.num_failed else ""
    return (
        f"{rho.n} candidates were trained for {epochs_text(length.long_epochs)} as well: the two rankings agree at "
        f"ρ = {rho_text(rho)}.{failed}"
    )


def agrees_with_its_end(report: CorrelationReport) -> str:
    """What the learning curves of all candidates show; empty where there are none."""
    if len(report.epochs) < 2:
        return ""
    end = report.epochs[-1].epoch
    half = min(report.epochs, key=lambda one: abs(one.epoch - end / 2))
    return (
        f"After {half.epoch} of {epochs_text(end)} the accuracies of the sample agree with the last ones at ρ = "
        f"{rho_text(half.final)}. That is agreement with itself: it does not show what a longer training ranks."
    )


def truth_holds(report: CorrelationReport) -> str:
    """A sentence for the terminal and for the first card of the page; empty where there is nothing to say."""
    known, length = standing(report), report.length
    if known is Standing.TABLE:
        return ""
    if known is Standing.FULL_LENGTH and length is not None:
        return f"Full training has {epochs_text(length.epochs)} on all images, as long as published benchmarks train."
    if known is Standing.HOLDS:
        return f"Full training is long enough to rank: {checked_by(report)}"
    return ""


def taken_at_its_word(report: CorrelationReport) -> str:
    """What a reader must know of a truth that comes from a table; empty for any other."""
    if standing(report) is not Standing.TABLE or "table" not in report.truth_note:
        return ""
    return (
        "The truth comes from a table. It is not checked how long its trainings were, and whether longer ones rank "
        "alike."
    )


def short_truth(report: CorrelationReport) -> str:
    """The warning of a truth that is not shown to hold: what it is, what follows, what to do. Empty for any other."""
    known, length = standing(report), report.length
    if not known.capped:
        return ""
    what = f"Full training had {trained_for(report)}" if length is not None else "How long full training was is unknown"
    if known is Standing.OTHERWISE:
        evidence = checked_by(report)
    elif length is not None and length.agreement is not None:
        evidence = f"{checked_by(report)} An interval above {HOLDS:g} would show that it is long enough."
    else:
        evidence = "Nothing shows that longer training ranks alike."
    return (
        f"{what}. {evidence} Short training favours what learns fast, and so does a proxy set: the two can agree, and "
        f"both be wrong. {what_to_do(report)}"
    )


def what_to_do(report: CorrelationReport) -> str:
    """Which options of ``nasproxy validate`` find out more about the length of the truth."""
    length = report.length
    if length is None or length.agreement is None:
        return "nasproxy validate RUN trains some candidates longer (--long-sample N) and shows how well both agree."
    num = 2 * length.agreement.n
    larger = f"--sample {num} " if num > _num_sampled(report) else ""
    return (
        f"nasproxy validate RUN --full-epochs {length.long_epochs} takes the longer training as the truth, and "
        f"{larger}--long-sample {num} narrows the interval. With --plan it says how long each takes."
    )


def falling(report: CorrelationReport) -> str:
    """Names the scores whose ρ falls as training gets longer; empty where none is shown to."""
    words = []
    for score in report.scores:
        points = [point for point in score.lengths if point.spearman.value is not None]
        ends = [point for point in points if not point.within]
        if _below_zero(score.long_fall) and len(ends) > 1:
            words.append(f"{score.label} from {_at(ends[0])} to {_at(ends[-1])}")
        elif _below_zero(score.fall) and ends:
            words.append(f"{score.label} from {_at(points[0])} to {_at(ends[0])}")
    if not words:
        return ""
    return (
        f"These scores agree less with full training the longer it is: {'; '.join(words)}. They rank what learns fast."
    )


def _below_zero(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.high is not None and estimate.high < 0


def _at(point: LengthPoint) -> str:
    return f"{signed(point.spearman.value or 0.0)} after {epochs_text(point.epochs)}"


def plan_lines(report: CorrelationReport) -> list[str]:
    """For ``--plan``: what is known of the length of full training, which one is recommended, and how long it takes."""
    length = report.length
    if length is None or report.full_seconds is None:
        return []
    known, each, num = standing(report), report.full_seconds, _num_sampled(report)
    lines = [f"{epochs_text(length.epochs)}. {checked_by(report) or 'No longer training checked it.'}"]
    if not known.capped:
        lines.append("It is long enough to rank. Longer training is not needed.")
        return lines
    long_epochs = length.long_epochs or LONGER_TIMES * length.epochs
    seconds = length.long_seconds or each * long_epochs / length.epochs
    trained = 0 if length.agreement is None else length.agreement.n
    left = max(0, num - trained)
    lines.append(
        f"Recommended: --full-epochs {long_epochs}, about {precise_duration(left * seconds)} for the {left} candidates "
        "of the sample that were not trained so long, and a check of it by still longer training."
    )
    return lines


def _num_sampled(report: CorrelationReport) -> int:
    return sum(row.group == "sample" for row in report.candidates)
