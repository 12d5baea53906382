"""The laboratory of rankings: rows are never lost or repeated, samples are balanced, and tables go by function."""

import csv
import gzip
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from toy import toy_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from nasproxy.condense.build import build_proxy  # noqa: E402
from nasproxy.config import CondenseConfig  # noqa: E402
from nasproxy.core.devices import choose_device  # noqa: E402
from nasproxy.core.errors import NasproxyError  # noqa: E402
from nasproxy.data.proxy_set import save_proxy  # noqa: E402
from nasproxy.spaces import load_space  # noqa: E402
from ranking_lab import convnets, published, report, skeleton, tables  # noqa: E402
from ranking_lab.measuring import HELD_OUT, TRAINED, Full, Laboratory, Short, Subject, shrunk  # noqa: E402
from ranking_lab.rows import COLUMNS, Recorder, Row, read_rows  # noqa: E402

DATA = BENCHMARKS / "data"


def row(candidate="a", signal="accuracy", value=0.5, seed=0, **options):
    settings = {"space": "s", "setting": "updates=30", "seconds": 1.5, "gflop": 2.0, "device": "CPU with 1 threads"}
    return Row(candidate=candidate, signal=signal, value=value, seed=seed, **(settings | options))


# ---------------------------------------------------------------------------------------------------------------- rows


def test_rows_are_read_as_they_were_written(tmp_path):
    written = [row(), row("b", value=None, failure='diverged: a, "b"\nc'), row("c", value=-np.inf), row("a", seed=1)]
    with Recorder(tmp_path / "rows.csv") as recorder:
        recorder.add(written)
    found = read_rows(tmp_path / "rows.csv")
    assert found[1].failure == 'diverged: a, "b" c'
    assert [replace(one, failure="") for one in found] == [replace(one, failure="") for one in written]
    assert read_rows(tmp_path / "none.csv") == []


def test_what_is_recorded_is_never_recorded_again(tmp_path):
    path = tmp_path / "rows.csv"
    with Recorder(path) as recorder:
        recorder.add([row(value=0.5)])
    before = path.read_bytes()
    with Recorder(path) as recorder:
        recorder.add([row(value=0.9), row("b")])
    assert path.read_bytes().startswith(before)
    assert [one.value for one in read_rows(path)] == [0.5, 0.5]


def test_a_line_that_was_cut_is_removed_and_the_rest_stays(tmp_path):
    """``kill -9`` within a write leaves a part of a line: at every length of that part nothing else is lost."""
    path = tmp_path / "rows.csv"
    with Recorder(path) as recorder:
        recorder.add([row()])
    whole = path.read_bytes()
    with Recorder(path) as recorder:
        recorder.add([row("b")])
    line = path.read_bytes()[len(whole) :]
    for length in range(len(line)):
        path.write_bytes(whole + line[:length])
        assert [one.candidate for one in read_rows(path)] == ["a"]
        with Recorder(path) as recorder:
            assert path.read_bytes() == whole
            recorder.add([row("b")])
        assert path.read_bytes() == whole + line


def test_two_processes_do_not_write_one_file_and_repeated_rows_are_an_error(tmp_path):
    path = tmp_path / "rows.csv"
    with Recorder(path) as recorder:
        with pytest.raises(NasproxyError, match="Another process"):
            Recorder(path)
        recorder.add([row()])
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(NasproxyError, match=r":3 repeats .*accuracy"):
        read_rows(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(NasproxyError, match="a,b"):
        read_rows(path)
    path.write_text(",".join(COLUMNS) + "\nno row\n")
    with pytest.raises(NasproxyError, match=":2 is no row"):
        read_rows(path)


def test_the_recorded_rows_of_the_repository_can_be_read():
    files = sorted(DATA.glob("ranking_rows*.csv"))
    assert files
    codes = {tables.cell_code(one.cell) for one in skeleton.read_cells(DATA / "ranking_cells.csv")}
    for path in files:
        for one in read_rows(path):
            assert (one.value is None) == bool(one.failure)
            assert one.space in (skeleton.SPACE, convnets.SPACE)
    assert {one.candidate for one in read_rows(DATA / "ranking_rows.csv")} <= codes


# ------------------------------------------------------------------------------------------------------------- samples


def test_the_cells_are_different_functions_and_any_beginning_is_a_sample():
    cells = skeleton.read_cells(DATA / "ranking_cells.csv")
    assert len({one.function for one in cells}) == len(cells) == skeleton.NUM_FUNCTIONS
    assert [one.place for one in cells] == list(range(len(cells)))
    assert all(one.block == one.place // skeleton.BLOCK for one in cells)
    assert all(tables.function_of(one.cell) == one.function != "0" for one in cells)
    assert len({tables.cell_code(one.cell) for one in cells}) == len(cells)
    drawn = skeleton.draw_cells(set(tables.all_cells()))
    assert drawn == skeleton.draw_cells(set(tables.all_cells()))
    assert len(drawn) == skeleton.NUM_FUNCTIONS


def test_the_convnets_have_equally_many_of_each_activation_in_every_block():
    nets = convnets.read_nets(DATA / "ranking_convnets.csv")
    assert nets == convnets.draw_nets(load_space(str(convnets.SPACE_FILE)))
    assert len({one.name for one in nets}) == convnets.NUM_CANDIDATES
    for block in range(convnets.NUM_CANDIDATES // convnets.BLOCK):
        members = [one.params["activation"] for one in nets if one.block == block]
        assert Counter(members) == dict.fromkeys(convnets.ACTIVATIONS, convnets.BLOCK // 3)


# ----------------------------------------------------------------------------------------------------------- measuring


@pytest.fixture
def laboratory(tmp_path):
    with Recorder(tmp_path / "rows.csv") as recorder:
        yield Laboratory(toy_dataset(), recorder, "cpu")


def toy_subject():
    space = load_space("convnet_space:width=32,depth=1,activation=relu,norm=batch,pooling=avg")
    return Subject(
        "toy",
        "one",
        space,
        space.parse_candidate({"width": "32", "depth": "1", "activation": "relu", "norm": "batch", "pooling": "avg"}),
    )


def test_a_training_gives_four_signals_once(laboratory):
    plan = Short("", "fresh", 2, side=8, held_out=20)
    assert laboratory.short(toy_subject(), plan, 0)
    assert not laboratory.short(toy_subject(), plan, 0)
    rows = {one.signal: one for one in read_rows(laboratory.recorder.path)}
    assert set(rows) == set(TRAINED)
    assert all(one.setting == "side=8 images=fresh updates=2 held_out=20" for one in rows.values())
    assert 0 <= rows["accuracy"].value <= 1
    assert rows["loss_sum"].value > rows["late_loss"].value > 0  # two updates: the second is the late one
    assert rows["loss"].gflop > 0
    assert laboratory.short(toy_subject(), plan, 1)


def test_an_interrupted_training_is_repeated_and_what_was_recorded_stays(laboratory):
    """Two of the four rows were on the disk: the training runs again and adds the other two alone."""
    plan = Short("", "fresh", 2, side=8, held_out=20)
    laboratory.recorder.add(
        [row("one", signal, 9.0, space="toy", setting=plan.text) for signal in ("accuracy", "loss")]
    )
    assert laboratory.short(toy_subject(), plan, 0)
    values = {one.signal: one.value for one in read_rows(laboratory.recorder.path)}
    assert values["accuracy"] == values["loss"] == 9.0
    assert set(values) == set(TRAINED)


def test_full_training_is_measured_on_both_splits(laboratory):
    assert laboratory.full(toy_subject(), Full(1), 0)
    assert not laboratory.full(toy_subject(), Full(1), 0)
    rows = {one.signal: one.value for one in read_rows(laboratory.recorder.path)}
    assert set(rows) == {"val_accuracy", "val_loss", "test_accuracy", "test_loss"}
    assert rows["val_loss"] != rows["test_loss"]


def test_free_scores_are_recorded_once(laboratory):
    assert laboratory.free(toy_subject(), "", "synflow", 0)
    assert not laboratory.free(toy_subject(), "", "synflow", 0)
    (found,) = read_rows(laboratory.recorder.path)
    assert found.value > 0


def test_images_are_as_the_setting_says(laboratory):
    dataset = laboratory.dataset
    each, epochs = laboratory.training_images("30", 4, 8, 0)
    assert (len(each.images), epochs) == (30, 4)
    assert set(Counter(each.labels.tolist()).values()) == {30 // dataset.num_classes}
    other, _ = laboratory.training_images("30", 4, 8, 1)
    assert not torch.equal(each.images, other.images)
    fresh, epochs = laboratory.training_images("fresh", 1, 8, 0)
    assert (len(fresh.images), epochs) == (100, 1)
    assert len(laboratory.held_out(10, 8).images) == 10
    images = torch.tensor([[0, 4], [8, 255]], dtype=torch.uint8).reshape(1, 1, 2, 2)
    assert shrunk(images, 2) is images
    assert shrunk(images, 1).item() == 67  # 66.75
    assert f"held_out={HELD_OUT}" not in Short("", "fresh", 1).text


def test_fresh_images_are_repeated_only_when_there_are_too_few(laboratory):
    """The toy data have too few for many updates: the fewest whole epochs of equally many images."""
    num = len(laboratory.dataset.train)
    for updates in (1, 2, 10, 50):
        images, epochs = laboratory.training_images("fresh", updates, 8, 0)
        assert len(images.images) * epochs == 100 * updates
        assert len(images.images) <= num
        assert all(updates % fewer or updates // fewer * 100 > num for fewer in range(1, epochs))


def test_a_set_is_a_column_and_each_seed_has_another_of_its_sets(laboratory, tmp_path):
    config = CondenseConfig(method="random", ipc=2, num_sets=2)
    proxy = build_proxy(laboratory.dataset, config, choice=choose_device("cpu"))
    save_proxy(proxy, tmp_path / "two.safetensors")
    with pytest.raises(NasproxyError, match="two"):
        laboratory.training_images("set:two", 3, 8, 0)
    laboratory.sets = tmp_path
    for seed in range(3):
        images, epochs = laboratory.training_images("set:two", 3, 8, seed)
        assert torch.equal(images.images, proxy.training_images(seed % 2)[0])
        assert epochs == 3
    with pytest.raises(NasproxyError, match="16"):
        laboratory.training_images("set:two", 3, 16, 0)
    with pytest.raises(NasproxyError, match="3 updates"):
        laboratory.training_images("120", 3, 8, 0)


def test_nothing_begins_after_the_time_is_over(laboratory):
    cells = skeleton.read_cells(DATA / "ranking_cells.csv")
    assert skeleton.measure_settings(laboratory, cells, skeleton.SETTINGS, until=time.monotonic() - 1) == 0
    assert read_rows(laboratory.recorder.path) == []


# -------------------------------------------------------------------------------------------------- tables and a report


@pytest.fixture
def made_tables(tmp_path):
    """Tables in the benchmark's layout with made accuracies: each function has one value, each cell a little noise."""
    rng = np.random.default_rng(0)
    cells = tables.all_cells()[::13]
    level = {function: rng.uniform(20, 90) for function in sorted({tables.function_of(cell) for cell in cells})}
    value = {cell: level[tables.function_of(cell)] + rng.normal(0, 0.1) for cell in cells}

    def write(name, rows):
        with gzip.open(tmp_path / name, "wt", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    splits = [f"{data}-{split}" for data in tables.DATA_NAMES for split in ("val", "test")]
    write(tables.SHORT_TABLE, [{"cellstr": cell} | dict.fromkeys(splits, value[cell]) for cell in cells])
    tests = [f"{data}-test" for data in tables.DATA_NAMES]
    write(tables.LONG_TABLE, [{"cellstr": cell} | dict.fromkeys(tests, value[cell]) for cell in cells[::2]])
    for name in tables.SCORE_TABLES.values():
        scores = [{"cellstr": cell} | dict.fromkeys(tables.SCORES, -value[cell]) for cell in cells[::2]]
        write(name, [scores[0] | {"zen": ""}, *scores[1:]])
    return tables.read_tables(tmp_path)


def test_a_function_has_the_mean_of_its_cells(made_tables):
    column = made_tables.columns["cifar10-test@200"]
    by_function = made_tables.by_function("cifar10-test@200")
    assert "0" not in by_function
    function = max(by_function, key=lambda one: sum(tables.function_of(cell) == one for cell in column))
    own = [column[cell] for cell in column if tables.function_of(cell) == function]
    assert len(own) > 1
    assert by_function[function] == pytest.approx(np.mean(own))
    assert len(made_tables.columns["zen@cifar10"]) == len(made_tables.columns["params@cifar10"]) - 1
    first, second = published.twins(column)
    assert first.keys() == second.keys()
    assert all(first[key] != second[key] and abs(first[key] - second[key]) < 1 for key in first)


def test_correlations_are_scipys_and_minus_infinity_ranks_last():
    truth = {str(i): float(value) for i, value in enumerate(np.random.default_rng(0).normal(size=30))}
    score = {key: value + (i % 5) for i, (key, value) in enumerate(truth.items())} | {"3": -np.inf, "x": 1.0}
    keys = sorted(truth)
    finite = [
        min(value for value in score.values() if np.isfinite(value)) - 1 if key == "3" else score[key] for key in keys
    ]
    expected = spearmanr(finite, [truth[key] for key in keys]).statistic
    found = tables.correlation(score, truth)
    assert found.value == pytest.approx(expected)
    assert found.n == 30
    assert tables.correlation(score, truth, keys[:10]).n == 10


def test_rows_of_two_cells_of_one_function_are_one():
    codes = [tables.cell_code(cell) for cell in tables.all_cells()[::500]]
    assert [tables.cell_code(tables.cell_of_code(code)) for code in codes] == codes
    found = report.by_function([row("000s00", value=1.0), row("s0s00s", value=2.0), row("000000"), row("000300")])
    assert [(one.candidate, one.value) for one in found] == [("x", 1.0), ("conv3:a(x)", 0.5)]


def test_what_a_score_knows_beyond_size_is_the_correlation_of_residuals():
    rng = np.random.default_rng(0)
    size = rng.normal(size=200)
    own = rng.normal(size=200)
    truth, score = size + own, -size + own  # unrelated as a whole, alike once size is taken out
    named = [{str(i): float(value) for i, value in enumerate(values)} for values in (score, truth, size)]
    of = [rankdata(values) for values in (score, truth, size)]
    rest = [values - np.polyval(np.polyfit(of[2], values, 1), of[2]) for values in of[:2]]
    found = tables.beyond(*named)
    assert found.value == pytest.approx(np.corrcoef(*rest)[0, 1])
    assert found.low > 0.7 > abs(tables.correlation(*named[:2]).value) + 0.5
    assert tables.beyond(named[0], named[1], {}).value is None


def test_the_best_part_of_a_truth():
    truth = {str(i): float(i) for i in range(20)}
    assert published.best_part(truth, "upper tenth") == ["19", "18"]
    assert len(published.best_part(truth, "upper half")) == 10
    assert len(published.best_part(truth, "all")) == 20


def test_a_table_that_is_missing_is_named(tmp_path):
    with pytest.raises(NasproxyError, match="accuracy_12_epochs"):
        tables.read_tables(tmp_path)


@pytest.mark.slow
def test_the_old_sample_is_120_cells_of_87_functions():
    """Six of the cells do not depend on their input; they are one function."""
    cells = published.old_sample()
    functions = [tables.function_of(cell) for cell in cells]
    assert len(set(cells)) == 120
    assert len(set(functions)) == 87
    assert functions.count("0") == 6


@pytest.mark.slow
def test_the_report_takes_a_low_loss_for_good_and_draws_its_figure(made_tables, tmp_path, capsys, monkeypatch):
    known = made_tables.by_function("cifar10-test@200")
    cells = [one for one in skeleton.draw_cells(set(made_tables.columns["cifar10-test@200"])) if one.function in known]
    rows = []
    for one in cells[:20]:
        good = known[one.function]
        values = {"accuracy": good / 100, "loss": 100 - good, "loss_sum": good, "late_loss": 100 - good}
        options = {"space": skeleton.SPACE, "gflop": 5.0}
        rows += [row(tables.cell_code(one.cell), signal, value, **options) for signal, value in values.items()]
        rows.append(row(tables.cell_code(one.cell), "zen", -np.inf if one.place == 3 else good, setting="m", **options))
    failed = [
        replace(one, value=None, failure="diverged") if one.candidate == rows[0].candidate else one for one in rows
    ]
    monkeypatch.setattr(report, "old_sample", lambda: [one.cell for one in cells[:20]])
    found = report.report(failed, made_tables, cells, tmp_path)["nasbench201"]
    rho = {line["signal"]: line["agreement"]["200 epochs"]["value"] for line in found}
    assert rho["accuracy"] == rho["loss"] == pytest.approx(1)
    assert rho["loss_sum"] == pytest.approx(-1)
    assert 0.5 < rho["zen"] < 1
    assert {line["failed"] for line in found} == {1}
    printed = capsys.readouterr().out
    assert "19 (1 failed)" in printed
    assert "published nwot" in printed
    assert "<svg" in (tmp_path / "ranking_nasbench201.svg").read_text()


def test_what_a_change_does_is_asked_on_the_cells_that_have_both():
    truth = {str(i): float(i) for i in range(30)}
    rng = np.random.default_rng(0)
    noise = {key: float(rng.normal()) for key in truth}
    rows = [row(key, "loss", -value, setting="good") for key, value in truth.items()]
    rows += [row(key, "loss", value, setting="poor") for key, value in noise.items() if key != "0"]
    gap, p = report.difference(rows, "loss", ("good", "poor"), truth)
    shared = [key for key in truth if key != "0"]
    expected = 1 + spearmanr([noise[key] for key in shared], [truth[key] for key in shared]).statistic
    assert gap.value == pytest.approx(expected)
    assert (gap.n, p < 0.01) == (29, True)
    assert report.difference(rows, "loss", ("good", "none"), truth)[0].value is None


def test_convnets_are_compared_with_every_length_of_training(tmp_path):
    nets = convnets.read_nets(DATA / "ranking_convnets.csv")[:15]
    rows = []
    for place, one in enumerate(nets):
        for plan in convnets.TRUTHS[:2]:
            for seed in range(2 if place < 5 else 1):
                value = place if plan.epochs == 3 else -place
                rows.append(row(one.name, "test_accuracy", value, seed, space=convnets.SPACE, setting=plan.text))
        rows.append(row(one.name, "accuracy", place, space=convnets.SPACE))
    (line,) = report.report(rows, None, [], tmp_path)["convnets"]
    assert line["agreement"]["3 epochs"]["value"] == pytest.approx(1)
    assert line["agreement"]["10 epochs"]["value"] == pytest.approx(-1)
