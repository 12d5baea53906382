"""Estimates in words, as the report page and the terminal print them."""

from __future__ import annotations

from nasproxy.core.wording import signed
from nasproxy.correlation import Estimate


def interval_text(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"no interval: {estimate.undefined}"
    return f"95 % interval {signed(estimate.low)} to {signed(estimate.high)}"


def rho_text(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined ({estimate.undefined})"
    return f"{signed(estimate.value)} ({interval_text(estimate)})"
