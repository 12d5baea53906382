"""Whether a score knows more than the space's parameters do, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasproxy.correlation import AgainstRival, Estimate
from nasproxy.report.data import CorrelationReport, ParameterRival
from nasproxy.report.wording import rho_text

MAX_NAMED = 4  # parameters of a rival


def against(report: CorrelationReport, score: str) -> dict[str, AgainstRival]:
    """The comparisons of ``score`` with each rival that could be fitted, by the rival's name."""
    return {one.rival: one for one in report.against_rivals if one.score == score and one.beats is not None}


def knows_more(report: CorrelationReport, score: str) -> bool | None:
    """Whether ``score`` ranks better than every rival, within the interval of each difference; None where unknown."""
    found = against(report, score)
    return all(one.beats for one in found.values()) if found else None


def best_rival(report: CorrelationReport) -> ParameterRival | None:
    """The rival with the highest ρ."""
    known = [one for one in report.rivals if one.spearman.value is not None]
    return max(known, key=lambda one: one.spearman.value or 0.0, default=None)


def parameters_text(rival: ParameterRival) -> str:
    """The parameters that a rival takes, those that tell most first."""
    if rival.name == "main_effects" and len(rival.parameters) > MAX_NAMED:
        return ", ".join(rival.parameters[:MAX_NAMED]) + ", …"
    return ", ".join(rival.parameters)


def parameters_alone(report: CorrelationReport) -> str:
    """For the verdict: what the parameters alone know, and whether the proxy knows more. Empty where unknown."""
    rival, more = best_rival(report), knows_more(report, "proxy")
    if rival is None or more is None:
        return ""
    gap = against(report, "proxy").get(rival.name)
    difference = "" if gap is None else f"; the proxy's lead is {rho_text(gap.difference)}"
    end = (
        "So it knows more than the parameters do."
        if more
        else "It is not shown to know more than the parameters do, which need no image."
    )
    return (
        f"A rule of the space's parameters alone ({rival.label}: {parameters_text(rival)}), fitted to the same full "
        f"accuracies without those that it predicts, reaches {rho_text(rival.spearman)}{difference}. {end}"
    )


@dataclass(frozen=True)
class RivalRow:
    """A score: its ρ, its lead over each rival, and whether it leads over all of them."""

    label: str
    spearman: Estimate
    leads: tuple[Estimate | None, ...]
    knows_more: bool | None


def rival_rows(report: CorrelationReport) -> Sequence[RivalRow]:
    """For the page: every score against every rival. Empty where no rival could be fitted."""
    if best_rival(report) is None:
        return []
    rows = []
    for score in report.scores:
        found = against(report, score.name)
        leads = tuple(found[rival.name].difference if rival.name in found else None for rival in report.rivals)
        rows.append(RivalRow(score.label, score.agreement.spearman, leads, knows_more(report, score.name)))
    return rows
