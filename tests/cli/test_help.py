"""``--help``: every option with its whole help text, in panels, at every width, without markup accidents."""

import re

import pytest
import typer
from typer.testing import CliRunner

from nasproxy.cli.app import app

COMMANDS = typer.main.get_command(app).commands


def shown(name, width):
    """What ``--help`` prints, without colours."""
    result = CliRunner().invoke(app, [name, "--help"], prog_name="nasproxy", env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def column_of_help(text, option):
    """The text beside ``option``, with its line breaks as spaces."""
    lines = text.splitlines()
    (number,) = [n for n, line in enumerate(lines) if re.match(rf"│ [ *]* *{option} ", line)]
    beside = []
    for line in lines[number:]:
        if line.startswith("╰") or (beside and re.match(r"│ [ *]* *--", line)):
            break
        beside.append(line.strip("│").rstrip())
    start = len(beside[0]) - len(re.split(r" {2,}", beside[0])[-1])
    return " ".join(line[start:].strip() for line in beside)


def has_default(option):
    """Whether a default is to be shown: switches and empty texts have none."""
    if isinstance(option.show_default, str):
        return True
    return option.default is not None and option.default != "" and not isinstance(option.default, bool)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_shown_whole_with_its_default(name, width):
    text = shown(name, width)
    assert "…" not in text, "something is truncated"
    assert "\\" not in text
    assert all(len(line) <= width for line in text.splitlines())
    for option in COMMANDS[name].params:
        if option.param_type_name != "option" or option.opts == ["--help"]:
            continue
        beside = column_of_help(text, option.opts[0])
        assert beside.startswith(option.help), option.opts[0]
        assert option.help[0].isupper(), option.opts[0]
        assert option.help.endswith("."), option.opts[0]
        assert ("[default: " in beside) == has_default(option), option.opts[0]
        assert all(word in text for word in option.secondary_opts), option.opts[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_texts_hold_no_square_brackets(name):
    """Rich would read them as markup and leave them out."""
    texts = [COMMANDS[name].help, *(getattr(param, "help", "") for param in COMMANDS[name].params)]
    assert not [text for text in texts if re.search(r"[\[\]]", text or "")]


def test_the_usual_options_come_first_and_the_rare_ones_last():
    for name in COMMANDS:
        titles = [title for title in re.findall(r"^╭─ (.*?) ─", shown(name, 80), re.MULTILINE) if title != "Arguments"]
        rare = [title.startswith("Advanced: ") for title in titles]
        assert titles[0] == "Options"
        assert rare == sorted(rare), titles
        usual = [param for param in COMMANDS[name].params if getattr(param, "rich_help_panel", None) is None]
        assert len(usual) <= 13, name


def test_the_list_of_commands_shows_what_each_does():
    result = CliRunner().invoke(app, ["--help"], prog_name="nasproxy", env={"COLUMNS": "80"})
    flat = re.sub(r"[\s│]+", " ", result.output)
    for name, command in COMMANDS.items():
        first = " ".join(command.help.split("\n\n")[0].split())
        assert f"{name} {first}" in flat
