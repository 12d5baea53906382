"""How many candidates a wanted interval takes.

References: [B] Bonett, Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
Psychometrika 2000.
"""

from __future__ import annotations

import math

from nasproxy.core.errors import NasproxyError


def fisher_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval around Spearman's ``rho`` of ``n`` candidates, from 4 on: Fisher's z with the variance of [B].

    tanh(atanh ρ ± 1.96 √((1 + ρ²/2) / (n − 3))).
    """
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    z = math.atanh(rho)
    return math.tanh(z - half), math.tanh(z + half)


def interval_width(rho: float, n: int) -> float:
    """Width of a 95 % interval of Spearman's ρ from ``n`` candidates; 2, all there is, for fewer than four."""
    if n < MIN_PLANNED:
        return 2.0
    low, high = fisher_interval(max(-0.999, min(0.999, rho)), n)
    return high - low


MIN_PLANNED = 4


def candidates_for(width: float, rho: float) -> int:
    """The least n whose interval around ``rho`` is at most ``width`` wide.

    Raises:
        NasproxyError: unless 0 < width < 2.
    """
    if not 0 < width < 2:
        raise NasproxyError(f"`0 < width < 2` must hold for an interval of a correlation, but got {width:g}.")
    low, high = MIN_PLANNED, MIN_PLANNED + 1
    while interval_width(rho, high) > width:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if interval_width(rho, middle) > width else (low, middle)
    return high
