"""Rank statistics of a score against the truth, with intervals. Imports nothing of ours but errors.

ranks.py: the statistics · bootstrap.py: intervals, and what is undefined · agreement.py: a score's agreement with the
truth, where it comes from, how it differs from another's, and how reliable both are · parameters.py: what the space's
parameters say of a ranking, and where a score misjudges them · rivals.py: how far the parameters alone predict it.
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
from nasproxy.correlation.parameters import Bias, Effect, biases, effects, grouped, rank_residuals
from nasproxy.correlation.ranks import kendall, lexicographic_ranks, recall_at_k, regret, spearman
from nasproxy.correlation.rivals import (
    AgainstRival,
    Rival,
    against_rivals,
    best_parameter,
    best_rule_of_two,
    main_effects,
    rivals_of,
)

__all__ = [
    "AgainstRival",
    "Bias",
    "Difference",
    "Effect",
    "Estimate",
    "Part",
    "RankAgreement",
    "Rival",
    "against_rivals",
    "best_parameter",
    "best_rule_of_two",
    "biases",
    "candidates_for",
    "corrected",
    "differences",
    "effects",
    "grouped",
    "holm",
    "interval_width",
    "kendall",
    "lexicographic_ranks",
    "main_effects",
    "paired_difference",
    "parts",
    "rank_agreement",
    "rank_correlation",
    "rank_residuals",
    "recall_at_k",
    "regret",
    "reliability",
    "rivals_of",
    "spearman",
    "within",
]
