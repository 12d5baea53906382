"""The command line as a person meets it: in a folder of their own, through the console script's entry point."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import nasproxy
from safetensors.torch import save_file

from nasproxy.cli.commands.build import class_counts
from nasproxy.core.errors import NasproxyError
from nasproxy.data.proxy_set import load_proxy, save_proxy

FAST_BUILD = ["--outer-steps", "2", "--inner-steps", "1", "--width", "4", "--batch-real", "8", "--ipc", "1"]
FAST_SEARCH = [
    "--trials",
    "4",
    "--epochs",
    "3",
    "--sample",
    "5",
    "--top",
    "2",
    "--full-epochs",
    "1",
    "--full-images",
    "200",
    "--scores",
    "none",
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder in which a proxy set was built and a space was searched."""
    folder = tmp_path_factory.mktemp("pipeline")
    built = nasproxy(folder, "build-proxy", "--dataset", "digits", *FAST_BUILD)
    searched = nasproxy(folder, "search", "--space", "convnet_small.yaml", *FAST_SEARCH, "--workers", "2")
    (run,) = (folder / "reports").iterdir()
    return folder, run, built, searched


def test_build_says_what_it_does_and_writes_the_set(pipeline):
    folder, _, built, _ = pipeline
    assert re.search(r"^device +CPU", built, re.MULTILINE)
    assert re.search(
        r"^data +digits: .* train, .* validation, .* test images of 1×8×8, 10 classes", built, re.MULTILINE
    )
    assert "instead of 1000 fresh nets" in built
    (path,) = (folder / "proxies").glob("*.safetensors")
    proxy = load_proxy(path)
    assert proxy.images.shape == (1, 10, 1, 8, 8)
    assert proxy.provenance["config"]["outer_steps"] == 2
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert list(path.with_suffix("").glob("net-*.png"))
    assert not path.with_suffix(".checkpoint").exists()


def test_a_set_by_a_default_that_has_changed_since_is_told_of(pipeline, tmp_path):
    (path,) = (pipeline[0] / "proxies").glob("*.safetensors")
    proxy = load_proxy(path)
    config = proxy.provenance["config"] | {"lr_img": 0.01}
    old = replace(proxy, provenance=proxy.provenance | {"config": config})
    save_proxy(old, tmp_path / "proxies" / path.name)
    text = nasproxy(tmp_path, "build-proxy", "--dataset", "digits", *FAST_BUILD)
    assert "is built already" in text
    assert "its settings differ from those that this command chooses now: lr_img was 0.01, is 0.1" in text


def test_building_again_is_done_at_once(pipeline):
    folder = pipeline[0]
    before = {path: path.read_bytes() for path in (folder / "proxies").glob("*.safetensors")}
    text = nasproxy(folder, "build-proxy", "--dataset", "digits", *FAST_BUILD)
    assert "is built already" in text
    assert "others now" not in text
    assert {path: path.read_bytes() for path in (folder / "proxies").glob("*.safetensors")} == before


def test_search_takes_the_newest_proxy_and_walks_on_to_the_report(pipeline):
    _, run, _, searched = pipeline
    assert "the newest one" in searched
    assert "72 cannot" in searched  # four poolings of 8×8
    assert f"report    {Path('reports') / run.name / 'report.html'}" in searched
    page = (run / "report.html").read_text()
    assert "Spearman" in page
    assert {path.name for path in run.iterdir()} >= {
        "run.json",
        "study.sqlite",
        "evaluations.sqlite",
        "proxy.safetensors",
        "report.json",
        "report.html",
    }
    report = json.loads((run / "report.json").read_text())
    assert [s["name"] for s in report["scores"]] == ["proxy", "random_subset", "params", "flops"]
    assert all(s["agreement"]["n"] == 5 for s in report["scores"])
    assert sum(row["group"] == "sample" for row in report["candidates"]) == 5
    assert sum(row["group"] == "top" for row in report["candidates"]) == 2
    assert report["pick_test_accuracy"] is not None


@pytest.mark.slow
def test_the_same_search_again_trains_nothing(pipeline):
    folder, run, _, _ = pipeline
    before = json.loads((run / "report.json").read_text())
    again = nasproxy(folder, "search", "--space", "convnet_small.yaml", *FAST_SEARCH)
    assert "resume" in again
    after = json.loads((run / "report.json").read_text())
    assert {**before, "created": ""} == {**after, "created": ""}


@pytest.mark.slow
def test_a_larger_sample_goes_on_from_the_smaller(pipeline):
    folder, run, _, _ = pipeline
    small = json.loads((run / "report.json").read_text())
    nasproxy(folder, "validate", run, "--sample", 7)
    large = json.loads((run / "report.json").read_text())

    def sample(report):
        rows = [row for row in report["candidates"] if row["group"] == "sample"]
        return {row["id"]: {**row, "ranking": None} for row in rows}  # ranks are among all that were sampled

    assert len(sample(large)) == 7
    assert sample(small).items() <= sample(large).items()
    nasproxy(folder, "validate", run, "--sample", 5)  # as the other tests expect it


@pytest.mark.slow
def test_another_set_and_all_baselines_join_a_finished_run(pipeline, tmp_path):
    """What is trained stays; the copy of the other set is kept, so that its file may go."""
    folder, run, _, _ = pipeline
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    other = tmp_path / "kmeans.safetensors"
    built = nasproxy(
        folder, "build-proxy", "--dataset", "digits", "--method", "kmeans", "--ipc", 2, "--width", 4, "--out", other
    )
    assert "kmeans, 2 per class" in built
    text = nasproxy(folder, "validate", copy, "--beside", tmp_path / "none.safetensors", code=2)
    assert "none.safetensors" in text
    scores = "kmeans_subset,early_stop,random_total,early_stop_total"
    nasproxy(folder, "validate", copy, "--beside", other, "--scores", scores)
    report = json.loads((copy / "report.json").read_text())
    names = [score["name"] for score in report["scores"]]
    content = load_proxy(other).content_id[:8]
    beginning = ["proxy", f"kmeans-{content}", "random_subset", "kmeans_subset", "early_stop"]
    assert names[:5] == beginning
    assert set(names[5:]) <= {"random_total", "early_stop_total", "params", "flops"}
    assert all(one["agreement"]["n"] == 5 for one in report["scores"])
    assert any("--beside" in command for command in report["commands"])
    other.unlink()
    nasproxy(folder, "validate", copy, "--sample", 5)
    again = json.loads((copy / "report.json").read_text())
    assert {**report, "created": "", "commands": 0} == {**again, "created": "", "commands": 0}


def test_the_plan_says_how_many_candidates_an_interval_takes(pipeline):
    said = nasproxy(pipeline[0], "validate", pipeline[1], "--plan")
    assert "width of the 95 % interval" in said
    widths = re.findall(r"^ +(0\.\d\d) +([\d,]+) +([\d,]+) +(.+)$", said, re.MULTILINE)
    assert [width for width, *_ in widths] == ["0.50", "0.40", "0.30", "0.25", "0.20", "0.15", "0.10"]
    numbers = [int(n.replace(",", "")) for _, n, _, _ in widths]
    assert numbers == sorted(numbers)
    assert any("about" in time or "more than the space has" in time for *_, time in widths)


def test_report_writes_the_same_page_again(pipeline, tmp_path):
    folder, run, _, _ = pipeline
    text = nasproxy(folder, "report", run, "--out", tmp_path / "copy.html")
    assert "copy.html" in text
    assert (tmp_path / "copy.html").read_text() == (run / "report.html").read_text()


@pytest.mark.slow
def test_the_reports_commands_repeat_the_run(pipeline, tmp_path):
    folder, run, _, _ = pipeline
    build, search = json.loads((run / "report.json").read_text())["commands"]
    assert build.startswith("nasproxy build-proxy --dataset digits ")
    nasproxy(folder, *shlex.split(build)[1:], "--out", tmp_path / "again.safetensors")
    assert load_proxy(tmp_path / "again.safetensors").content_id == load_proxy(run / "proxy.safetensors").content_id
    assert "resume" in nasproxy(folder, *shlex.split(search)[1:], "--out", run)


def test_check_and_list(pipeline):
    folder = pipeline[0]
    (proxy,) = (folder / "proxies").glob("*.safetensors")
    assert "is intact" in nasproxy(folder, "check", proxy)
    assert "the proxy set was built from this data set, digits" in nasproxy(
        folder, "check", proxy, "--dataset", "digits"
    )
    text = nasproxy(folder, "check", "convnet_small", "--dataset", "digits")
    assert "360 can be used" in text
    listed = nasproxy(folder, "list")
    for name in ("digits", "cifar10", "svhn", "gradient_matching", "random", "convnet_space", "params", "mlp"):
        assert re.search(rf"^  {name}\b", listed, re.MULTILINE), name


@pytest.mark.slow
def test_truth_from_a_table_trains_nothing_on_the_full_data(pipeline, tmp_path):
    folder = pipeline[0]
    table = tmp_path / "truth.csv"
    rows = ["width,depth,activation,norm,pooling,accuracy"]
    for width in (8, 16, 32):
        for depth in (1, 2, 3):
            rows += [f"{width},{depth},relu,{norm},avg,{0.5 + width / 100 + depth / 50}" for norm in ("none", "batch")]
    table.write_text("\n".join(rows))
    text = nasproxy(
        folder, "search", "--space", "convnet_small", "--trials", 3, "--epochs", 3, "--truth", table,
        "--sample", 6, "--seed", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "truth.csv" in report["truth_note"]
    assert sum(row["group"] == "sample" for row in report["candidates"]) == 6
    assert report["pick_test_accuracy"] is None
    assert "Full training" not in text


def test_evaluate_takes_the_newest_proxy_and_goes_on(pipeline, tmp_path):
    folder = pipeline[0]
    options = ["--nets", 2, "--epochs", 3, "--network", "convnet:width=4,depth=1", "--network", "mlp:width=8"]
    text = nasproxy(folder, "evaluate", *options, "--csv", tmp_path / "rows.csv")
    table = text.split("\n\n")[1]
    assert re.search(
        r"^convnet:width=4,depth=1 +gradient_matching +2 +\d+\.\d \(\d+\.\d to \d+\.\d\) +\d", table, re.MULTILINE
    )
    assert re.search(r"^ +random real +2 ", table, re.MULTILINE)
    assert re.search(r"^ +difference +[+-]\d", table, re.MULTILINE)
    assert max(map(len, table.splitlines())) <= 120
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["net"] for row in rows] == ["convnet:width=4,depth=1"] * 4 + ["mlp:width=8"] * 4
    assert nasproxy(folder, "evaluate", *options).split("\n\n")[1] == table
    assert "left out  vgg11" in nasproxy(folder, "evaluate", "--cross", "--nets", 1, "--epochs", 1, "--no-baseline")


@pytest.mark.slow
def test_a_killed_build_resumes_to_the_same_bits(tmp_path):
    """kill −9 in the middle; a checkpoint after every matching, so that there is one."""
    arguments = ["build-proxy", "--ipc", "2", "--outer-steps", "6", "--inner-steps", "4", "--net-steps", "2"]
    arguments += ["--width", "16", "--batch-real", "64", "--threads", "1", "--precision", "float32"]
    code = (
        "import sys, importlib; m = importlib.import_module('nasproxy.condense.methods.gradient_matching')\n"
        "m.CHECKPOINT_SECONDS = 0.0\nfrom nasproxy.cli.app import main\nsys.argv = ['nasproxy', *sys.argv[1:]]\nmain()"
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    nasproxy(whole, *arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list((killed / "proxies").glob("*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((killed / "proxies").glob("*.safetensors")), "it finished before it was killed"
    text = nasproxy(killed, *arguments)
    assert "resume" in text
    (a,), (b,) = ((folder / "proxies").glob("*.safetensors") for folder in (whole, killed))
    assert a.name == b.name
    assert load_proxy(a).content_id == load_proxy(b).content_id


BAD = [
    (["build-proxy", "--dataset", "cifar11"], "cifar11"),
    (["build-proxy", "--dataset", "cifar10", "--offline", "--data-dir", "nowhere"], "cifar10"),
    (["build-proxy", "--dataset", "./absent"], "absent"),
    (["build-proxy", "--method", "gradient"], "'gradient'"),
    (["build-proxy", "--method", "random", "--ipc", "1000"], "ipc=1000"),
    (["build-proxy", "--ipc", "0"], "ipc=0"),
    (["build-proxy", "--budget", "huge"], "'huge'"),
    (["build-proxy", "--init", "nois"], "'nois'. Did you mean 'noise'?"),
    (["build-proxy", "--layer-weights", "1,a"], "'1,a'"),
    (["build-proxy", "--layer-weights", "1,2,3"], "[1.0, 2.0, 3.0]"),
    (["build-proxy", "--device", "tpu"], "'tpu'"),
    (["build-proxy", "--depth", "4", "--width", "4"], "4 poolings"),
    (["build-proxy", "--network", "resnet99"], "'resnet99'"),
    (["build-proxy", "--real-choice", "kmean"], "'kmean'. Did you mean 'kmeans'?"),
    (["build-proxy", "--perturbation", "0.1"], "pool=0"),
    (["build-proxy", "--formation", "5"], "formation=5 for 8×8"),
    (["build-proxy", "--net-data", "reel"], "'reel'. Did you mean 'real'?"),
    (["build-proxy", "--augmentation", "das"], "'das'"),
    (["build-proxy", "--method", "dsa", "--augmentation", "none"], "augmentation='none'"),
    (["build-proxy", "--out", "proxy.pt", "--method", "random"], "proxy.pt"),
    (["search", "--space", "convnet_space.yaml", "--proxy", "gone.safetensors"], "gone.safetensors"),
    (["search", "--space", "convnet_spac"], "convnet_space"),
    (["search", "--space", "convnet_small", "--sampler", "tpu"], "'tpu'. Did you mean 'tpe'?"),
    (["search", "--space", "convnet_small", "--trials", "0"], "trials=0"),
    (["search", "--space", "convnet_small", "--truth", "gone.csv"], "gone.csv"),
    (["search", "--space", "convnet_small", "--dataset", "digitss"], "digitss"),
    (["search", "--space", "convnet_small", "--score", "nasswot"], "'nasswot'. Did you mean 'naswot'?"),
    (["search", "--space", "convnet_small", "--score", "proxy naswot"], "0.7*proxy+0.3*naswot"),
    (["search", "--space", "convnet_small", "--against", "param"], "'param'. Did you mean 'params'?"),
    (["search", "--space", "convnet_small", "--rungs", "epoch=3"], "epochs=N or ipc=N, but got 'epoch=3'"),
    (["search", "--space", "convnet_small", "--rungs", "ipc=1"], "fewer images per class than the proxy's 1"),
    (["search", "--space", "convnet_small", "--pruner", "halvin"], "'halvin'. Did you mean 'halving'?"),
    (["search", "--space", "convnet_small", "--reduction", "1"], "reduction=1"),
    (["search", "--space", "convnet_small", "--scores", "synflo"], "'synflo'. Did you mean 'synflow'?"),
    (["search", "--space", "convnet_small", "--track", "wandb"], "'wandb'"),
    (["search", "--space", "convnet_small:norm=btach"], "btach"),
    (["export", "nowhere"], "nowhere"),
    (["evaluate", "gone.safetensors"], "gone.safetensors"),
    (["evaluate", "--network", "vgg12"], "'vgg12'. Did you mean 'vgg11'?"),
    (["evaluate", "--network", "vgg11"], "too small for the net"),
    (["evaluate", "--network", "convnet:wide=3"], "convnet:wide=3"),
    (["evaluate", "--nets", "0"], "nets=0"),
    (["evaluate", "--recipe", "publishd"], "'publishd'. Did you mean 'published'?"),
    (["validate", "nowhere"], "nowhere"),
    (["report", "nowhere"], "nowhere"),
    (["check", "gone.yaml"], "gone.yaml"),
    (["check", "gone.safetensors"], "gone.safetensors"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_gets_one_sentence_and_exit_code_2(pipeline, arguments, message):
    text = nasproxy(pipeline[0], *arguments, code=2)
    (line,) = [line for line in text.splitlines() if line.startswith("nasproxy: ")]
    assert message in line


def test_without_a_proxy_or_a_run_the_command_to_run_is_named(tmp_path):
    assert "nasproxy build-proxy" in nasproxy(tmp_path, "search", "--space", "convnet_small", code=2)
    assert "nasproxy build-proxy" in nasproxy(tmp_path, "evaluate", code=2)
    for command in ("validate", "report"):
        assert "nasproxy search" in nasproxy(tmp_path, command, code=2)


def test_unknown_options_are_usage_errors(tmp_path):
    assert "--outersteps" in nasproxy(tmp_path, "build-proxy", "--outersteps", "3", code=2)


def test_debug_shows_the_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "nasproxy.cli.app", "check", "gone.yaml", "--debug"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
def test_damaged_proxy_files_are_refused(pipeline, tmp_path, damage):
    (good,) = (pipeline[0] / "proxies").glob("*.safetensors")
    path = tmp_path / "bad.safetensors"
    data = bytearray(good.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[:-7])
    elif damage == "flipped":
        data[-100] ^= 4
        path.write_bytes(data)
    else:
        save_file({"weight": torch.zeros(3)}, path)
    for command in (["check", path], ["search", "--space", "convnet_small", "--proxy", path]):
        text = nasproxy(tmp_path, *command, code=2)
        assert "bad.safetensors" in text


def test_a_proxy_of_other_data_is_refused(pipeline, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 100), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (n, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(n) % 10
    np.savez(tmp_path / "other.npz", **arrays)
    (proxy,) = (pipeline[0] / "proxies").glob("*.safetensors")
    arguments = ["search", "--space", "convnet_small", "--proxy", proxy, "--dataset", tmp_path / "other.npz"]
    assert "must come from the data it is used with" in nasproxy(tmp_path, *arguments, code=2)


@pytest.mark.slow
def test_a_changed_space_is_not_mixed_into_a_run(pipeline, tmp_path):
    folder = pipeline[0]
    space = tmp_path / "s.yaml"
    space.write_text("name: s\nnetwork: convnet\nparameters:\n  width: [4, 8]\n  depth: [1, 2]\n")
    arguments = [
        "search",
        "--space",
        space,
        "--trials",
        "2",
        "--epochs",
        "2",
        "--no-validate",
        "--out",
        tmp_path / "run",
    ]
    nasproxy(folder, *arguments)
    space.write_text(space.read_text().replace("[4, 8]", "[4, 8, 16]"))
    refused = nasproxy(folder, *arguments, code=2)
    assert "another space" in refused
    assert "was: width: 4, 8\n" in refused
    assert "is:  width: 4, 8, 16" in refused
    assert str(tmp_path / "run-2") in nasproxy(folder, *arguments, "--fork")
    rows = sqlite3.connect(tmp_path / "run-2" / "evaluations.sqlite").execute("SELECT COUNT(*) FROM evaluations")
    assert rows.fetchone()[0] >= 2  # with those of the run it was forked from
    space.write_text(space.read_text().replace("[4, 8, 16]", "[4, 8]"))
    for other, what in ((["--sampler", "random"], "sampler"), (["--epochs", "3"], "epochs"), (["--seed", "1"], "seed")):
        assert f"another {what}" in nasproxy(folder, *arguments, *other, code=2)
    assert "resume" in nasproxy(folder, *arguments)  # refusals left it whole
    space.write_text(space.read_text().replace("[4, 8]", "[4, 8, 16]"))
    assert "was changed since" in nasproxy(folder, "validate", tmp_path / "run", code=2)


def test_a_space_none_of_whose_candidates_fits_is_refused(pipeline, tmp_path):
    space = tmp_path / "s.yaml"
    space.write_text("name: s\nnetwork: convnet\nparameters:\n  depth: [4, 5]\n  width: [4]\n")
    assert "No candidate of space 's'" in nasproxy(pipeline[0], "search", "--space", space, code=2)


OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self, pixels, classes, width):
        super().__init__()
        self.layer, self.width = torch.nn.Linear(pixels, classes), width

    def forward(self, images):
        if len(images) > 2 and self.width == {broken}:
            raise RuntimeError("too many images")
        return self.layer(images.flatten(1)) * {times}

def build(input_shape, num_classes, *, width):
    return Net(input_shape[0] * input_shape[1] * input_shape[2], num_classes, width)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "times", "code", "message"),
    [
        ("self.width", 1, 2, "be trainable on a batch of 10 images, but none of 5 is (width=10: RuntimeError: too"),
        ("10", 1, 0, "failed    1 candidates; the report lists them"),
        ("0", "float('nan')", 2, "must measure at least one candidate, but all 10 failed, the first with: diverged"),
    ],
)
def test_a_network_that_misbehaves_ends_in_a_sentence(pipeline, tmp_path, broken, times, code, message):
    """It passes `check`, which runs two images of zeros."""
    folder = pipeline[0]
    (tmp_path / "nets.py").write_text(OWN.replace("{broken}", broken).replace("{times}", str(times)))
    (tmp_path / "own.yaml").write_text("name: own\nnetwork: nets.py:build\nparameters:\n  width: {range: [1, 10]}\n")
    settings = ["--trials", "10", *FAST_SEARCH[2:], "--out", str(tmp_path / "run")]
    assert message in nasproxy(folder, "search", "--space", tmp_path / "own.yaml", *settings, code=code)


@pytest.mark.slow
def test_a_search_with_rungs_scores_and_json_ends_in_a_file_of_its_own(pipeline, tmp_path):
    """Lines of JSON alone on standard output; the savings, a row per score, and the pick as a program."""
    folder, run = pipeline[0], tmp_path / "run"
    settings = ["--trials", "9", "--epochs", "4", "--rungs", "naswot,epochs=2", "--sampler", "random"]
    checked = [
        "--sample",
        "4",
        "--top",
        "1",
        "--full-epochs",
        "1",
        "--full-images",
        "100",
        "--scores",
        "synflow,early_stop",
    ]
    command = [sys.executable, "-m", "nasproxy", "search", "--space", "convnet_small:depth=1", "--json", "--out", run]
    result = subprocess.run(
        [*map(str, command), *settings, *checked],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"NASPROXY_CACHE_DIR": str(folder / "cache")},
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["candidate"] * 9 + ["report"]
    states = [line["state"] for line in lines[:-1]]
    assert f"{states.count('pruned')} of 9 candidates were pruned at a rung" in result.stderr
    assert lines[-1]["n"] == 4
    assert lines[-1]["pick"]["depth"] == 1
    report = json.loads((run / "report.json").read_text())
    assert [score["name"] for score in report["scores"]] == [
        "proxy", "random_subset", "synflow", "early_stop", "params", "flops"
    ]  # fmt: skip
    said = nasproxy(folder, "export", run, "--out", tmp_path / "best.py", "--train", "1")
    assert "test      accuracy" in said
    own = subprocess.run([sys.executable, "-I", tmp_path / "best.py"], capture_output=True, text=True)
    assert own.stdout.splitlines()[-1] == "(2, 10) logits of two images"
    assert (tmp_path / "best.safetensors").exists()
    one = next(line["candidate"] for line in lines if line["event"] == "candidate")
    assert f"{one}: " in nasproxy(folder, "export", run, "--candidate", one[:8], "--out", tmp_path / "one.py")
    assert "starts with 'zzz', but none has" in nasproxy(folder, "export", run, "--candidate", "zzz", code=2)
    (line,) = (text for text in report["commands"] if "search" in text)
    assert "--rungs naswot,epochs=2" in line
    assert "--scores synflow,early_stop" in line


@pytest.mark.slow
def test_a_search_by_a_vote_against_sizes_shows_the_front(pipeline, tmp_path):
    folder, run = pipeline[0], tmp_path / "run"
    arguments = ["--trials", "6", "--epochs", "2", "--score", "naswot+synflow", "--against", "params", "--no-validate"]
    said = nasproxy(folder, "search", "--space", "convnet_small:depth=1", *arguments, "--out", run)
    assert "counts by its rank among 20 random candidates" in said
    assert "of 6 candidates are beaten by no other in everything" in said
    page = (run / "report.html").read_text()
    assert "Against params" in page
    assert "naswot+synflow" in page
    assert "another against" in nasproxy(
        folder, "search", "--space", "convnet_small:depth=1", *arguments[:-3], "--no-validate", "--out", run, code=2
    )


def test_the_schema_is_printed(tmp_path):
    assert json.loads(nasproxy(tmp_path, "schema"))["title"] == "nasproxy search space"


def test_methods_are_compared_on_one_page(tmp_path):
    words = (
        "compare --methods random,kmeans,gradient_matching --ipc 1,200 --num-sets 2 --nets 1 --budget quick --epochs 2"
    )
    words = [*words.split(), "--outer-steps", "1", "--width", "4"]
    text = nasproxy(tmp_path, *words)
    assert text.count("left out  ") >= 3  # no class has 200 training images, so no method makes that set
    assert re.search(r"A  random, 1 per class\nB  kmeans, 1 per class\nC  gradient_matching, 1 per class", text)
    folder = tmp_path / "reports" / "compare-digits"
    assert "trains best" in (folder / "compare.html").read_text()
    assert "--ipc 1,200" in (folder / "compare.html").read_text()
    rows = list(csv.DictReader((folder / "trainings.csv").read_text().splitlines()))
    assert len(rows) == 3 * (2 + 2)
    (net,) = {row["net"] for row in rows}  # of random images, too, which were matched with none
    assert net.startswith("convnet:width=4")
    before = (folder / "compare.html").read_bytes()
    again = nasproxy(tmp_path, *words)
    assert again.count("is built already") == 3
    assert (folder / "compare.html").read_bytes() == before


def test_a_set_larger_than_the_data_is_evaluated_alone(tmp_path):
    words = ["--ipc", "180", "--init", "noise", "--outer-steps", "1", "--inner-steps", "1", "--width", "4"]
    nasproxy(tmp_path, "build-proxy", "--batch-real", "8", "--out", "large.safetensors", *words)
    text = nasproxy(tmp_path, "evaluate", "large.safetensors", "--nets", "1", "--epochs", "1")
    assert "left out  random real images: a class has fewer training images" in text
    assert "difference" not in text


def test_what_cannot_be_compared_is_said(tmp_path):
    assert "'herdin'. Did you mean 'herding'" in nasproxy(tmp_path, "compare", "--methods", "random,herdin", code=2)
    assert "whole numbers" in nasproxy(tmp_path, "compare", "--ipc", "1,x", code=2)
    assert "at least one method" in nasproxy(tmp_path, "compare", "--methods", ",", code=2)
    assert "At least one set must be built, but none could be" in nasproxy(
        tmp_path, "compare", "--methods", "random", "--ipc", "500", code=2
    )


def test_an_option_of_another_method_is_refused(tmp_path):
    text = nasproxy(tmp_path, "build-proxy", "--method", "herding", "--outer-steps", "3", code=2)
    assert "'herding' does not use --outer-steps, but got 3" in text


def test_classes_may_have_different_numbers_of_images(tmp_path):
    counts, small = "1,2,3,1,1,1,1,1,1,2", ["--ipc", "1", "--outer-steps", "1", "--inner-steps", "2", "--width", "4"]
    text = nasproxy(tmp_path, "build-proxy", "--ipc-per-class", counts, *small)
    assert "1 to 3 per class, 14 images" in text
    (path,) = (tmp_path / "proxies").glob("*.safetensors")
    assert "n14" in path.name
    assert list(map(str, load_proxy(path).counts)) == counts.split(",")
    assert "one number for each of the 10 classes, but got 2" in nasproxy(
        tmp_path, "build-proxy", "--ipc-per-class", "1,2", code=2
    )
    assert "`ipc_per_class >= 1`" in nasproxy(tmp_path, "build-proxy", "--ipc-per-class", "1,0", code=2)
    # Classes are in the order of the data set, which is not that of numbers for folders: names leave no doubt.
    named = nasproxy(tmp_path, "build-proxy", "--ipc-per-class", "2=3,9=2,1=2", *small)
    assert "images    0 1, 1 2, 2 3, 3 1, 4 1, 5 1, 6 1, 7 1, 8 1, 9 2" in named
    assert "is built already" in named  # the same set as by numbers


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("cat=1", "Unknown class 'cat'"),
        ("1=2,1=3", "must name a class once, but got '1' twice"),
        ("1=x", "takes whole numbers, such as 10,10,5 or 0=10, but got '1=x'"),
        ("1,2,x", "but got 'x'"),
    ],
)
def test_counts_of_classes_that_cannot_be(counts, message):
    with pytest.raises(NasproxyError, match=message):
        class_counts(counts, [str(name) for name in range(10)], 1)
