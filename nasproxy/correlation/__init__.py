"""Rank statistics of a score against the truth, with intervals. Imports nothing of ours but errors.

ranks.py: the statistics · bootstrap.py: intervals, and what is undefined · agreement.py: a score's agreement with the
truth, where it comes from, how it differs from another's, and how reliable both are.
"""

from nasproxy.correlation.agreement import (
    Difference,
    Part,
    RankAgreement,
    candidates_for,
    corrected,
    differences,
    interval_width,
    paired_difference,
    parts,
    rank_agreement,
    rank_correlation,
    reliability,
    within,
)
from nasproxy.correlation.bootstrap import Estimate, holm
from nasproxy.correlation.ranks import kendall, lexicographic_ranks, recall_at_k, regret, spearman

__all__ = [
    "Difference",
    "Estimate",
    "Part",
    "RankAgreement",
    "candidates_for",
    "corrected",
    "differences",
    "holm",
    "interval_width",
    "kendall",
    "lexicographic_ranks",
    "paired_difference",
    "parts",
    "rank_agreement",
    "rank_correlation",
    "recall_at_k",
    "regret",
    "reliability",
    "spearman",
    "within",
]
