"""What each command does and says, one file per command: the work, and the lines a person reads on the way."""

from nasproxy.commands.build import build
from nasproxy.commands.compare import compare
from nasproxy.commands.demo import demo
from nasproxy.commands.evaluate import evaluate
from nasproxy.commands.export import export
from nasproxy.commands.inspect import check, list_everything
from nasproxy.commands.methods import compare_methods
from nasproxy.commands.report import report
from nasproxy.commands.search import search
from nasproxy.commands.shared import Source
from nasproxy.commands.validate import plan, validate

__all__ = [
    "Source",
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
    "validate",
]
