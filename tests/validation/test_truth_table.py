import gzip

import pytest
from tables import written
from toy import TINY_SPACE

from nasproxy.core.errors import NasproxyError
from nasproxy.networks.nasbench201 import CELL_OPERATIONS, cell_options
from nasproxy.spaces import load_space
from nasproxy.validation.truth_table import load_truth


@pytest.fixture
def space(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    return load_space(tmp_path / "tiny.yaml")


ROWS = "width,depth,activation,norm,accuracy,other\n4,1,relu,none,0.5,70.5\n8,2,relu,batch,0.25,0.9\n"


def test_accuracies_are_fractions_or_per_cent_and_of_any_column(space, tmp_path):
    path = written(tmp_path, ROWS)
    one, two = (space.candidate({"width": w, "depth": d, "activation": "relu", "norm": n}).id
                for w, d, n in ((4, 1, "none"), (8, 2, "batch")))  # fmt: skip
    assert load_truth(path, space).accuracy == {one: 0.5, two: 0.25}
    other = load_truth(tmp_path / "truth.csv:other", space)
    assert other.accuracy == pytest.approx({one: 0.705, two: 0.009})
    assert other.source == "truth.csv, column other, per cent"
    packed = tmp_path / "truth.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert load_truth(packed, space).accuracy == {one: 0.5, two: 0.25}
    with pytest.raises(NasproxyError, match=r"lacks othr\. Did you mean 'other'"):
        load_truth(tmp_path / "truth.csv:othr", space)


CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"


def test_cells_as_the_benchmark_spells_them():
    assert cell_options(CELL) == {
        "edge_01": "nor_conv_3x3", "edge_02": "none", "edge_12": "skip_connect",
        "edge_03": "avg_pool_3x3", "edge_13": "nor_conv_1x1", "edge_23": "none",
    }  # fmt: skip
    assert set(cell_options(CELL).values()) <= set(CELL_OPERATIONS)
    for bad in ("", "|none~0|", CELL[:-9], CELL.replace("~2", "~3")):
        with pytest.raises(NasproxyError, match="A cell is written"):
            cell_options(bad)


def test_a_benchmark_s_table_is_keyed_by_its_cells_in_any_skeleton(tmp_path):
    text = f"arch,cellstr,cifar10-val\n0,{CELL},83.5\n"
    path = written(tmp_path, text)
    for spec in ("nasbench201_space", "nasbench201_space:cells=1,channels=4"):
        space = load_space(spec)
        (found,) = load_truth(tmp_path / "truth.csv:cifar10-val", space).accuracy.items()
        assert found == (space.candidate(cell_options(CELL)).id, 0.835)
    path.write_text(text.replace("none~2", "conv~2"))
    with pytest.raises(NasproxyError, match=r":2: 'edge_23' of space 'nasbench201' is one of none"):
        load_truth(tmp_path / "truth.csv:cifar10-val", load_space("nasbench201_space"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width,depth,accuracy\n", "lacks activation, norm"),
        ("width,depth,activation,norm\n", "lacks accuracy"),
        ("width,depth,activation,norm,accuracy\n", "no candidate"),
        (
            "width,depth,activation,norm,accuracy\n4,1,relu,none,193.2\n",
            r":2: .* is 193.2",
        ),
        ("width,depth,activation,norm,accuracy\n4,1,relu,none,high\n", r":2: .* 'high'"),
        ("width,depth,activation,norm,accuracy\n4,1,relu,none,nan\n", r":2: .* is nan"),
        ("width,depth,activation,norm,accuracy\n4,1,relu,none,0.5\n4,1,tanh,none,0.5\n", r":3: .*tanh"),
        ("width,depth,activation,norm,accuracy\n4,1,relu,none,0.5\n4,1,relu,none,0.6\n", r":3: .*two accuracies"),
        ("width,depth,activation,norm,accuracy\n4,,relu,none,0.5\n", r":2: .*depth"),
    ],
)
def test_unusable_tables_are_named_with_their_line(space, tmp_path, text, message):
    with pytest.raises(NasproxyError, match=message):
        load_truth(written(tmp_path, text), space)


def test_binary_tables_are_refused(space, tmp_path):
    path = tmp_path / "truth.csv"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(NasproxyError, match=r"truth\.csv"):
        load_truth(path, space)
