"""The command line.

``app.py`` holds the app and what a failure prints, the ``*_options.py`` the options of each command with their help,
and ``commands/`` what each command does and prints.
"""

from nasproxy.cli.app import main

__all__ = ["main"]
