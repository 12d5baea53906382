"""Rank statistics of a score against the truth, with intervals. Imports nothing of ours but errors.

ranks.py: the statistics · bootstrap.py: intervals, and what is undefined · agreement.py: a score's agreement with the
truth, where it comes from, and how it differs from another's · cutoff.py: its agreement among the truly best ·
reliability.py: how reliable both are · parameters.py: what the space's parameters say of a ranking, and where a score
misjudges them · rivals.py: how far the parameters alone predict it ·
planning.py: how many candidates an interval takes.
"""

from nasproxy.correlation.agreement import (
    Difference,
    Part,
    RankAgreement,
    differences,
    paired_difference,
    parts,
    rank_agreement,
    rank_correlation,
    within,
)
from nasproxy.correlation.bootstrap import Estimate, holm
from nasproxy.correlation.cutoff import Cutoff, cutoffs
from nasproxy.correlation.parameters import Bias, Effect, biases, effects, grouped, rank_residuals
from nasproxy.correlation.planning import candidates_for, fisher_interval, interval_width
from nasproxy.correlation.ranks import kendall, lexicographic_ranks, log_rank_sum, recall_at_k, regret, spearman
from nasproxy.correlation.reliability import attainable, corrected, reliability
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
    "Cutoff",
    "Difference",
    "Effect",
    "Estimate",
    "Part",
    "RankAgreement",
    "Rival",
    "against_rivals",
    "attainable",
    "best_parameter",
    "best_rule_of_two",
    "biases",
    "candidates_for",
    "corrected",
    "cutoffs",
    "differences",
    "effects",
    "fisher_interval",
    "grouped",
    "holm",
    "interval_width",
    "kendall",
    "lexicographic_ranks",
    "log_rank_sum",
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
