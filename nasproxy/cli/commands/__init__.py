"""What each command does and prints, one file per command. They share options.py and output.py, search and validate
also session.py.
"""

from nasproxy.cli.commands.build import build
from nasproxy.cli.commands.check import check, list_everything
from nasproxy.cli.commands.compare import compare_methods
from nasproxy.cli.commands.compute import ComputeOptions, search_compute
from nasproxy.cli.commands.demo import demo
from nasproxy.cli.commands.evaluate import evaluate
from nasproxy.cli.commands.export import export
from nasproxy.cli.commands.options import DataOptions, EvaluateOptions, SearchOptions, Source, ValidateOptions
from nasproxy.cli.commands.report import compare, report
from nasproxy.cli.commands.search import search
from nasproxy.cli.commands.validate import plan, validate

__all__ = [
    "ComputeOptions",
    "DataOptions",
    "EvaluateOptions",
    "SearchOptions",
    "Source",
    "ValidateOptions",
    "build",
    "check",
    "compare",
    "compare_methods",
    "demo",
    "evaluate",
    "export",
    "list_everything",
    "plan",
    "report",
    "search",
    "search_compute",
    "validate",
]
