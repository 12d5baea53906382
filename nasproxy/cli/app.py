"""The command line, ``nasproxy COMMAND``: the app, its commands in order, and what a failure prints.

The options of a command are in the ``*_options.py`` beside this file. Each command imports what it needs when it runs,
so that ``--help`` answers at once. Input that the user can mend ends in one sentence and exit code 2.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nasproxy.cli.build_options import build_proxy
from nasproxy.cli.lookup_options import check, list_names, schema
from nasproxy.cli.run_options import demo, export, report, search, validate
from nasproxy.cli.set_options import compare, evaluate
from nasproxy.core.errors import NasproxyError

INTERRUPTED = 130  # what typer exits with after Ctrl-C

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Neural architecture search on a tiny synthetic proxy set, and a check of whether it can be believed.",
)
app.command("build-proxy")(build_proxy)
app.command("search")(search)
app.command("validate")(validate)
app.command("report")(report)
app.command("export")(export)
app.command("evaluate")(evaluate)
app.command("compare")(compare)
app.command("check")(check)
app.command("schema")(schema)
app.command("list")(list_names)
app.command("demo")(demo)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("nasproxy"))
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    # --debug works wherever it stands on the line.
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except NasproxyError as error:
        if debug:
            raise
        print(f"nasproxy: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("\nnasproxy: interrupted; the same command goes on from its last checkpoint.", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
