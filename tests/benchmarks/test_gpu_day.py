"""The nine minutes of a GPU, a little of everything on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = ("optuna", "sqlalchemy", "pydantic")  # on the machine with the GPU


@pytest.mark.slow
def test_every_stage_runs_without_an_error_and_without_what_that_machine_lacks(tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ABSENT:
        (hidden / f"{name}.py").write_text("raise ImportError('it is not on that machine')")
    environment = os.environ | {"PYTHONPATH": str(hidden), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_day.py"), "--out", str(tmp_path), "--tiny"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["failed"] == [], done.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "gpu_day.jsonl").read_text().splitlines()]
    assert [row["code"] for row in rows if row["stage"] == "tests" and "code" in row] == [0]
    ended = {row["stage"] for row in rows if row["what"] == "ended"}
    assert ended == {"machine", "tests", "methods", "outer", "profile", "grid", "epoch", "sets", "truth"}
    assert any(row["what"] == "spearman" or row["what"] == "training" for row in rows)
