"""Who is in the sample."""

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.scores.proxy import proxy_task
from nasproxy.search.loop import SearchResult
from nasproxy.search.objective import single
from nasproxy.spaces import inspect_space, load_space, uniform_sample
from nasproxy.validation.measured import Validation, choose_candidates

CPU = torch.device("cpu")


def sample(space, size, truth=None):
    dataset = toy_dataset()
    inspection = inspect_space(load_space(space), dataset.input_shape, dataset.num_classes)
    proxy = toy_proxy(dataset)
    search = SearchResult(inspection, SearchConfig(), single(proxy_task(proxy, dataset)))
    validation = Validation(search, proxy, dataset, ValidateConfig(sample=size, top=0), None, truth)
    return inspection, [one.candidate for one in choose_candidates(validation)]


@pytest.mark.slow
def test_cells_that_compute_one_function_are_drawn_once():
    space = "nasbench201_space:cells=1,channels=4,edge_01=skip_connect,edge_02=skip_connect,edge_12=none,edge_03=none"
    inspection, chosen = sample(space, 12)
    functions = [inspection.space.function_of(candidate) for candidate in chosen]
    assert len(set(functions)) == len(functions) == 12
    plain = uniform_sample(inspection, 12, 0)
    assert len({inspection.space.function_of(candidate) for candidate in plain}) < 12
    assert chosen[0] == plain[0]
    _, fewer = sample(space, 8)
    assert fewer == chosen[:8]  # a larger sample contains the smaller one


def test_other_spaces_are_drawn_as_before():
    inspection, chosen = sample("convnet_small:depth=1,width=8", 10)
    assert chosen == uniform_sample(inspection, 10, 0)


def test_a_space_of_fewer_functions_gives_them_all():
    inspection, chosen = sample(
        "nasbench201_space:cells=1,channels=4,edge_01=none,edge_02=none,edge_12=none,edge_23=none", 50
    )
    assert 0 < len(chosen) < 50
    assert len({inspection.space.function_of(candidate) for candidate in chosen}) == len(chosen)
