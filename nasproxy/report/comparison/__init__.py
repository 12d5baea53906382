"""Several runs side by side: whose proxy ranks best, as far as their validations can tell.

Everything comes from the saved reports. runs.py: the runs, and what stands in their records · pairs.py: the difference
of two proxies, paired where both ranked the same candidates by one truth · conclusions.py: what follows, in words ·
page.py: one HTML page.
"""

from nasproxy.report.comparison.conclusions import Comparison, compare
from nasproxy.report.comparison.page import render_comparison, write_comparison
from nasproxy.report.comparison.pairs import Pair, unpaired_difference
from nasproxy.report.comparison.runs import Run, load_runs

__all__ = [
    "Comparison",
    "Pair",
    "Run",
    "compare",
    "load_runs",
    "render_comparison",
    "unpaired_difference",
    "write_comparison",
]
