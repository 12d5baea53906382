"""What learning from the full trainings makes of the cheap columns, and what each of them adds: data and words."""

from __future__ import annotations

from dataclasses import dataclass

from nasproxy.correlation import Estimate
from nasproxy.report.wording import rho_text


@dataclass(frozen=True)
class ColumnSet:
    """Columns that a model learned from: ρ of its cross-validated order with full accuracy.

    ``columns`` are the names of scores, and of the losses of those that train; the space's parameters are in every set.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    spearman: Estimate


@dataclass(frozen=True)
class Added:
    """ρ with the columns of ``more`` minus ρ with those of ``less``, names of column sets or of scores."""

    more: str
    less: str
    label: str
    difference: Estimate


@dataclass(frozen=True)
class Calibration:
    """The calibrated score on ``n`` candidates of the sample.

    ``reliable``: n is large enough that the data and not the prior vote decide.
    """

    n: int
    reliable: bool
    sets: tuple[ColumnSet, ...]
    added: tuple[Added, ...]
    best_single: str  # the label of the score with the highest ρ, known only afterwards

    def set_named(self, name: str) -> ColumnSet | None:
        return next((one for one in self.sets if one.name == name), None)

    def added_by(self, more: str, less: str) -> Added | None:
        return next((one for one in self.added if (one.more, one.less) == (more, less)), None)


def calibration_words(found: Calibration, proxy: str = "proxy set") -> list[str]:
    """What the table says, one fact a sentence.

    Args:
        proxy: what the proxy is called, such as "condensed set".
    """
    words = []
    everything = found.set_named("everything")
    if everything is not None and everything.spearman.value is not None:
        words.append(
            f"A model that learned from four fifths of the {found.n} full trainings, with every cheap column, orders "
            f"the others at {rho_text(everything.spearman)}."
        )
    if not found.reliable:
        words.append(
            f"{found.n} full trainings are few: the model rests on its prior, the vote of size and of scores that are "
            "known to travel."
        )
    own, random = found.added_by("free_proxy", "free"), found.added_by("free_random", "free")
    if own is not None and own.difference.value is not None:
        words.append(f"The {proxy} adds {rho_text(own.difference)} to the scores that train nothing.")
        if random is not None and random.difference.value is not None:
            words.append(f"As many random images add {rho_text(random.difference)}.")
        low, high = own.difference.low, own.difference.high
        if low is not None and high is not None:
            if low > 0:
                words.append("It is shown to add something: the interval lies above 0.")
            elif high < 0:
                words.append(f"With the {proxy} the model ranks worse: the interval lies below 0.")
            else:
                words.append(f"It is not shown that the {proxy} adds anything to the scores that train nothing.")
    return words
