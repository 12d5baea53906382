"""benchmarks/picks.py and calibrated.py on small made-up tables, as a person runs them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Sixty networks with eight-digit names that begin with zeros, one of them without a score."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    keys = [f"{one:08d}" for one in rng.choice(3000, 60, replace=False)]
    quality = rng.normal(size=60)
    pd.DataFrame({"arch": keys, "accuracy": 90 + quality}).to_csv(folder / "truth.csv.gz", index=False)
    pd.DataFrame({"arch": keys[::-1], "early": (quality + rng.normal(size=60))[::-1]}).to_csv(
        folder / "short.csv", index=False
    )
    scores = pd.DataFrame({"arch": keys, "nwot": quality + rng.normal(size=60), "zen": rng.normal(size=60)})
    scores.loc[3, "zen"] = np.nan
    scores.to_csv(folder / "scores.csv", index=False)
    return folder


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *map(str, arguments)], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_the_last_line_is_json_with_a_mean_and_its_interval_for_every_cost(tables):
    code, out, errors = run(
        "picks.py",
        *("--truth", f"{tables}/truth.csv.gz:accuracy", "--short", f"{tables}/short.csv:early"),
        *("--scores", tables / "scores.csv", "--key", "arch", "--repetitions", 4, "--optuna", 1, "--budgets", "2,8"),
    )
    assert code == 0, errors
    assert out.startswith("60 candidates, 2 free scores")
    answer = json.loads(out.splitlines()[-1])
    assert {"plan", "random", "vote", "score naswot", "halving 2", "best halving", "hyperband", "tpe"} <= answer.keys()
    for by_cost in (answer["plan"], answer["best score"]):
        assert by_cost.keys() == {"2", "8"}
        assert all(low <= mean <= high for mean, low, high in by_cost.values())


def test_it_needs_neither_short_trainings_nor_scores(tables):
    code, out, errors = run(
        "picks.py", "--truth", f"{tables}/truth.csv.gz:accuracy", "--key", "arch", "--repetitions", 2
    )
    assert code == 0, errors
    assert json.loads(out.splitlines()[-1]).keys() == {"plan", "random"}


def test_a_column_that_is_not_there_is_named(tables):
    code, _, errors = run("picks.py", "--truth", f"{tables}/truth.csv.gz:acc", "--key", "arch")
    assert code == 1
    assert "has no column 'acc', but arch, accuracy" in errors


def test_the_calibrated_score_of_tables(tables):
    code, out, errors = run(
        "calibrated.py",
        *("--truth", f"{tables}/truth.csv.gz:accuracy", "--scores", tables / "scores.csv"),
        *("--key", "arch", "--repetitions", 3, "--cross", 1),
    )
    assert code == 0, errors
    answer = json.loads(out.splitlines()[-1])
    assert answer.keys() == {"8", "12", "20"}
    assert -1 <= answer["20"]["calibrated"][0] <= 1
