"""Writes docs/command_line.md from ``--help`` of every command: ``python docs/command_line.py``."""

import contextlib
import io
import os
import sys
from pathlib import Path

COMMANDS = [
    "demo",
    "build-proxy",
    "search",
    "validate",
    "report",
    "export",
    "evaluate",
    "compare",
    "check",
    "list",
    "schema",
]
HEAD = """# Command line

The page is made from `nasproxy COMMAND --help` by `python docs/command_line.py`.
"""


def help_of(command):
    """What ``nasproxy COMMAND --help`` prints, 100 columns wide."""
    from nasproxy.cli import main

    text = io.StringIO()
    sys.argv = ["nasproxy", command, "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        main()
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines()).strip("\n")


def page():
    """The whole page."""
    return HEAD + "".join(f"\n## nasproxy {command}\n\n```text\n{help_of(command)}\n```\n" for command in COMMANDS)


if __name__ == "__main__":
    os.environ |= {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    path = Path(__file__).with_suffix(".md")
    check = "--check" in sys.argv[1:]
    text = page()
    if not check:
        path.write_text(text)
    elif path.read_text() != text:
        sys.exit(f"{path} is not current: run python docs/command_line.py")
