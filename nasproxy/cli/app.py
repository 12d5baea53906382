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
from nasproxy.cli.report_options import export, report
from nasproxy.cli.run_options import demo, validate
from nasproxy.cli.search_options import search
from nasproxy.cli.set_options import compare, evaluate
from nasproxy.cli.shared_options import NO_VALUE
from nasproxy.core.errors import NasproxyError

BAD_INPUT = 2
INTERRUPTED = 130  # what typer exits with after Ctrl-C

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search neural architectures on a small synthetic proxy set, and check whether its ranking can be trusted.",
)

_pipeline = "Pipeline"
_sets = "Proxy sets"
_lookup = "Look up and check"
app.command("demo", rich_help_panel=_pipeline)(demo)
app.command("build-proxy", rich_help_panel=_pipeline)(build_proxy)
app.command("search", rich_help_panel=_pipeline)(search)
app.command("validate", rich_help_panel=_pipeline)(validate)
app.command("report", rich_help_panel=_pipeline)(report)
app.command("export", rich_help_panel=_pipeline)(export)
app.command("evaluate", rich_help_panel=_sets)(evaluate)
app.command("compare", rich_help_panel=_sets)(compare)
app.command("list", rich_help_panel=_lookup)(list_names)
app.command("check", rich_help_panel=_lookup)(check)
app.command("schema", rich_help_panel=_lookup)(schema)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", metavar=NO_VALUE, help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", metavar=NO_VALUE, help="Show the traceback of an error.")] = False,
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
        code = app(standalone_mode=False) or 0
    except NasproxyError as error:
        if debug:
            raise
        print(f"nasproxy: {error}", file=sys.stderr)
        code = BAD_INPUT
    except OSError as error:
        if debug or error.filename is None:
            raise
        print(f"nasproxy: {_file_error(error)}", file=sys.stderr)
        code = BAD_INPUT
    except typer.TyperException as error:
        print(_usage_error(error), end="", file=sys.stderr)
        code = error.exit_code
    if code == INTERRUPTED:
        print("\nnasproxy: interrupted; the same command resumes from its last checkpoint.", file=sys.stderr)
    sys.exit(code)


def _file_error(error: OSError) -> str:
    """One sentence on a file that the system does not let us read or write."""
    return (
        f"A file must be readable and its folder writable, but '{error.filename}' gives '{error.strerror}': check the "
        "path and its permissions."
    )


def _usage_error(error: typer.TyperException) -> str:
    """One line on an option that does not exist or has no value of its type; empty when the help was printed."""
    message = error.format_message()
    if not message:
        return ""
    context = getattr(error, "ctx", None)
    command = "nasproxy" if context is None else context.command_path
    # Of a value of the wrong type, typer names the option but not the value.
    errors = getattr(error.__cause__, "errors", None)
    got = f", but got '{errors()[0]['input']}'" if errors else ""
    sentence = f"{message.rstrip('.')}{got}"
    return f"nasproxy: {sentence}{' See' if sentence.endswith('?') else ': see'} `{command} --help`.\n"


if __name__ == "__main__":
    main()
