"""FLOPs of making a set, against torch's own counter watching it."""

import pytest
import torch
from counting import Counter
from toy import toy_dataset

from nasproxy.condense.build import build_proxy
from nasproxy.condense.cost import condensing_flops
from nasproxy.config import condense_config

SMALL = {"width": 16, "depth": 2, "batch_real": 16, "outer_steps": 3, "inner_steps": 2, "net_steps": 2}


@pytest.mark.parametrize("ipc", [1, 4])
@pytest.mark.parametrize("method", ["gradient_matching", "dsa"])
def test_the_count_of_a_build_is_that_of_torch(method, ipc, cpu):
    """Within a fifth: the first layer needs no gradient of real images, and there are classes in parts of batches."""
    config = condense_config(method=method, ipc=ipc, **SMALL)
    dataset = toy_dataset()
    with Counter() as counter:
        build_proxy(dataset, config, choice=cpu)
    assert condensing_flops(dataset, config) == pytest.approx(counter.flops, rel=0.2)


@pytest.mark.parametrize("ipc", [1, 4])
@pytest.mark.parametrize("method", ["dataset_distillation", "soft_label", "generative_teaching"])
def test_the_count_of_unrolled_training_is_that_of_torch(method, ipc, cpu):
    config = condense_config(method=method, ipc=ipc, **(SMALL | {"unroll_steps": 20 if "teach" in method else 4}))
    dataset = toy_dataset()
    with Counter() as counter:
        build_proxy(dataset, config, choice=cpu)
    assert condensing_flops(dataset, config) == pytest.approx(counter.flops, rel=0.2)


def test_the_count_of_k_means_is_that_of_torch(cpu):
    config = condense_config(method="kmeans", ipc=2, width=16, depth=2)
    dataset = toy_dataset()
    with Counter() as counter:
        build_proxy(dataset, config, choice=cpu)
    assert condensing_flops(dataset, config) == pytest.approx(counter.flops, rel=0.2)


def test_random_images_cost_nothing_and_options_cost_more(cpu):
    dataset = toy_dataset()
    assert condensing_flops(dataset, condense_config(method="random")) == 0
    plain = condensing_flops(dataset, condense_config(ipc=1, **SMALL))
    for option in ({"real_choice": "kmeans"}, {"pool": 2}, {"net_data": "real"}, {"formation": 2}):
        assert condensing_flops(dataset, condense_config(ipc=1, **SMALL, **option)) > plain, option
    assert torch.is_grad_enabled()
