"""``nasproxy search --compute``: from the command line to the page and the pick."""

import json
import subprocess
import sys

import pytest
from commands import nasproxy

from nasproxy.cli.app import main
from nasproxy.report.picked import (
    PickReport,
    left_sentence,
    length_sentence,
    pick_sentence,
    read_pick,
    render_pick,
    short_sentence,
)

SPACE = "convnet_small:pooling=none,activation=relu,width=8"
QUICK = "--compute 4 --full-epochs 8 --workers 1 --offline --device cpu".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compute")
    nasproxy(folder, "search", "--space", SPACE, "--dataset", "digits", *QUICK, "--out", "run")
    return folder


@pytest.mark.slow
def test_it_ends_with_the_pick_its_file_and_the_page(folder):
    run = folder / "run"
    report = read_pick(run)
    assert report.picked.full == max(row.full for row in report.trained)
    assert report.test is not None
    page = (run / "report.html").read_text()
    assert report.picked.label in page
    assert "What was bought" in page
    assert ("Most promising" in page) == (len(report.promising) > 0)
    assert "whether it is the best after a longer training is not known" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    done = subprocess.run([sys.executable, str(run / "pick.py")], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Conv2d" in done.stdout


@pytest.mark.slow
def test_the_same_command_resumes_and_says_by_which_plan(folder):
    before = (folder / "run" / "pick.json").read_text()
    said = nasproxy(folder, "search", "--space", SPACE, "--dataset", "digits", *QUICK, "--out", "run")
    assert "by the plan with which this run began" in str(said)
    after = (folder / "run" / "pick.json").read_text()
    keep = ("rows", "pick", "test", "better")
    assert {k: json.loads(before)[k] for k in keep} == {k: json.loads(after)[k] for k in keep}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report run", "validate run", "export run"])
def test_other_commands_say_where_the_pick_is(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["nasproxy", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "spent a stated compute" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--compute 0.2 --dataset digits", "`compute >= 1` must hold, but got compute=0.2"),
        ("--compute 2 --hours 1 --dataset digits", "Exactly one of --compute and --hours"),
        ("--compute x --dataset digits", "Invalid value for '--compute'"),
        ("--compute nan --dataset digits", "`compute >= 1` must hold"),
        ("--hours -1 --dataset digits", "`hours > 0` must hold, but got hours=-1"),
        ("--compute 2 --trials 5 --dataset digits", "but got --trials: leave one of the two out"),
        ("--compute 2 --score naswot --dataset digits", "but got --score"),
        ("--compute 2 --no-validate --dataset digits", "but got --no-validate"),
        ("--compute 2", "needs a data set, but none is named"),
        ("--compute 2 --dataset no_such", "no_such"),
        ("--compute 2 --fork --out none --dataset digits", "'none' is none: leave --fork out"),
        ("--hours 0.000001 --full-epochs 50 --dataset digits", "suffice for two full trainings"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nasproxy", "search", "--space", SPACE, "--device", "cpu", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said.replace("│ ", "")
    assert "Traceback" not in said


# ----------------------------------------------------------------------------------------------------------- the words


def report_with(folder, **changes):
    from dataclasses import replace

    found: PickReport = read_pick(folder / "run")
    return replace(found, **changes)


@pytest.mark.slow
def test_what_is_left_is_said_in_points(folder):
    found = report_with(folder, better=0.2, expected_loss=0.004, low=0.0, high=0.012)
    assert left_sentence(found).endswith(
        "is 0.4 points better (95 % interval 0.0 to 1.2). "
        "The probability that one is better by more than 1 point is 20 %."
    )
    assert "below 1 %" in left_sentence(report_with(folder, better=0.001, expected_loss=0.0, low=0.0, high=0.0))
    assert "nothing can be said" in left_sentence(report_with(folder, better=None))


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("trust", "words"),
    [
        (0.03, "trainings mislead here: the probability that reading them"),
        (0.17, "trainings seem to mislead here"),
        (0.5, None),
        (0.9, "seem to agree with the short ones"),
        (0.995, "is above 99 %"),
        (None, None),
    ],
)
def test_the_page_says_what_the_full_trainings_say_of_the_short_ones(folder, trust, words):
    said = short_sentence(report_with(folder, short_trust=trust))
    assert (words in said) if words else said == ""


@pytest.mark.slow
def test_without_a_pick_the_page_says_why(folder):
    found = report_with(folder, pick=None, test=None)
    assert pick_sentence(found).startswith("Nothing can be picked, because every full training failed")
    assert "Nothing can be picked" in render_pick(found)
    assert left_sentence(found) == ""


@pytest.mark.slow
def test_a_training_of_full_length_needs_no_warning(folder):
    assert length_sentence(report_with(folder, long_enough=True)) == ""
