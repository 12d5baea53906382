"""The networks of NAS-Bench-Macro against the benchmark's own counts."""

import gzip

import pandas as pd
import pytest
import torch
from conftest import SHARED_DATA

from nasproxy.core.errors import NasproxyError
from nasproxy.networks import NETWORKS, num_params, seeded
from nasproxy.networks.nasbench_macro import layer_options
from nasproxy.spaces import load_space, num_flops
from nasproxy.validation.truth_table import load_truth

# (network, parameters, multiply-adds) as the benchmark counts them.
KNOWN = [
    ("10000000", 396_298, 12_128_768),
    ("11111111", 1_588_874, 53_246_464),
    ("22222222", 2_932_586, 105_660_928),
    ("00000011", 1_195_306, 20_517_376),
]


def build(arch):
    with torch.device("meta"):
        return NETWORKS["nasbench_macro"]((3, 32, 32), 10, **layer_options(arch))


@pytest.mark.parametrize(("arch", "params", "flops"), KNOWN)
def test_parameters_are_those_of_the_benchmark(arch, params, flops):
    assert num_params(build(arch)) == params


@pytest.mark.slow
def test_every_parameter_count_of_the_table():
    path = SHARED_DATA / "nasbench_macro" / "accuracy_part.csv.gz"
    if not path.is_file():
        pytest.skip("NAS-Bench-Macro is not in ../shared/data")
    table = pd.read_csv(path, dtype={"arch": str}).iloc[::7]
    assert [num_params(build(arch)) for arch in table.arch] == table.params.tolist()


def test_flops_are_twice_the_multiply_adds_of_the_benchmark():
    for arch, _, flops in KNOWN:
        assert num_flops(build(arch), (3, 32, 32)) == 2 * flops


def test_identities_may_change_places_with_their_neighbours():
    """The benchmark has the same three accuracies for such pairs."""
    space = load_space("nasbench_macro_space")
    assert len({space.function_of(candidate) for candidate in space.enumerate()}) == 9 * 21 * 21
    first, second, other = (space.candidate(layer_options(arch)) for arch in ("00001000", "00010000", "00100000"))
    assert space.function_of(first) == space.function_of(second) != space.function_of(other)
    images = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    nets = [
        seeded(lambda own=own: NETWORKS["nasbench_macro"]((3, 32, 32), 10, **own.params), 0) for own in (first, second)
    ]
    assert torch.equal(nets[0](images), nets[1](images))


def test_the_space_has_all_networks_and_a_table_of_the_benchmark_can_be_read(tmp_path):
    space = load_space("nasbench_macro_space")
    assert space.size() == 3**8
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"arch,test_1\n01200120,90.5\n22222222,93.1\n"))
    found = load_truth(tmp_path / "table.csv.gz:test_1", space)
    best = space.candidate({f"layer_{place}": "k5_e6" for place in range(1, 9)})
    assert found.accuracy[best.id] == pytest.approx(0.931)
    assert len(found.accuracy) == 2


@pytest.mark.parametrize("arch", ["0120012", "012001203", "0120012x", ""])
def test_a_network_that_is_not_eight_digits_is_refused_with_its_line(tmp_path, arch):
    path = tmp_path / "table.csv"
    path.write_text(f"arch,accuracy\n{arch},0.5\n")
    with pytest.raises(NasproxyError, match=r"table.csv:2: a network must be eight digits"):
        load_truth(path, load_space("nasbench_macro_space"))


def test_an_unknown_operation_is_refused():
    with torch.device("meta"), pytest.raises(NasproxyError, match="Unknown operation 'k7'"):
        NETWORKS["nasbench_macro"]((3, 32, 32), 10, layer_3="k7")
