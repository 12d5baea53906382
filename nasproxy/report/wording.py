"""Estimates and p-values in words, as the report page and the terminal print them."""

from __future__ import annotations

from nasproxy.core.wording import signed
from nasproxy.correlation import Estimate


def interval_text(estimate: Estimate) -> str:
    """``95 % interval +0.12 to +0.34``, or why there is none."""
    if estimate.low is None or estimate.high is None:
        return f"no interval: {estimate.undefined}"
    return f"95 % interval {signed(estimate.low)} to {signed(estimate.high)}"


def rho_text(estimate: Estimate) -> str:
    """``+0.23 (95 % interval +0.12 to +0.34)``."""
    if estimate.value is None:
        return f"undefined ({estimate.undefined})"
    return f"{signed(estimate.value)} ({interval_text(estimate)})"


def value_and_interval(estimate: Estimate) -> str:
    """``+0.23 (+0.12 to +0.34)``, for figures and tables that say that it is a 95 % interval."""
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return signed(estimate.value)
    return f"{signed(estimate.value)} ({signed(estimate.low)} to {signed(estimate.high)})"


def p_value(p: float, *, at_floor: bool = False) -> str:
    """``< 0.01`` or ``0.03``, for a table whose head says p; ``≤ 0.02`` where resamples can show no less."""
    if p < 0.01:
        return "< 0.01"
    return f"≤ {p:.2f}" if at_floor and p < 1 else f"{p:.2f}"


def p_text(p: float, *, at_floor: bool = False) -> str:
    """``p < 0.01``, ``p = 0.03`` or ``p ≤ 0.02``."""
    text = p_value(p, at_floor=at_floor)
    return f"p {text}" if text[0] in "<≤" else f"p = {text}"
