"""Which figures the page shows, and what each says: a report in, plots with captions out.

One file a question: trust.py, choose.py with lines.py, misjudgement.py. A figure whose data a report lacks (old ones
lack some) is left out.
"""

from nasproxy.report.charts.choose import against_k, fronts, history, replays, size_front
from nasproxy.report.charts.common import MANY, Chart, baselines, is_accuracy, main_score, numbered
from nasproxy.report.charts.lengths import against_length, length_table, longer_training
from nasproxy.report.charts.lines import curves_of_learning, parallel
from nasproxy.report.charts.misjudgement import (
    bias_charts,
    importance,
    importances,
    misjudged,
    outliers,
    places_text,
    residuals,
    share_text,
)
from nasproxy.report.charts.trust import against_epochs, against_n, cutoffs_chart, forest, pairs, part_name, parts_chart

__all__ = [
    "MANY",
    "Chart",
    "against_epochs",
    "against_k",
    "against_length",
    "against_n",
    "baselines",
    "bias_charts",
    "curves_of_learning",
    "cutoffs_chart",
    "forest",
    "fronts",
    "history",
    "importance",
    "importances",
    "is_accuracy",
    "length_table",
    "longer_training",
    "main_score",
    "misjudged",
    "numbered",
    "outliers",
    "pairs",
    "parallel",
    "part_name",
    "parts_chart",
    "places_text",
    "replays",
    "residuals",
    "share_text",
    "size_front",
]
