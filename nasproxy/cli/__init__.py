"""The command line: options and help in app.py, what each command does and says in commands/."""

from nasproxy.cli.app import main

__all__ = ["main"]
