"""Memory told beforehand, against the most bytes of tensors that are alive while a set is made."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toy import toy_dataset

from nasproxy.condense.build import build_proxy
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.memory import memory_needed
from nasproxy.config import condense_config

CPU = torch.device("cpu")
SMALL = {"width": 32, "depth": 2, "batch_real": 16, "outer_steps": 1, "inner_steps": 1}


class Alive(TorchDispatchMode):
    """The most bytes of results that were alive at once."""

    def __init__(self):
        super().__init__()
        self.known, self.now, self.most = set(), 0, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not torch.is_tensor(tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.ended, storage._cdata, storage.nbytes())
        return result

    def ended(self, address, size):
        self.known.discard(address)
        self.now -= size


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("dataset_distillation", {"unroll_steps": 4, "unroll_epochs": 1}),
        ("dataset_distillation", {"unroll_steps": 4, "unroll_epochs": 20}),
        ("soft_label", {"unroll_steps": 1, "unroll_epochs": 2, "ipc": 40}),
        ("generative_teaching", {"unroll_steps": 20}),
        ("parameter_matching", {"unroll_steps": 20}),
        ("label_distillation", {"unroll_steps": 1}),
        ("label_distillation", {"unroll_steps": 20}),
        ("label_distillation", {"solver": "ridge"}),
        ("trajectory_matching", {"unroll_steps": 20, "num_experts": 1, "start_epochs": 0}),
    ],
)
def test_what_is_told_is_about_what_is_needed(method, settings, cpu):
    dataset = toy_dataset(shape=(3, 16, 16))
    config = condense_config(**({"method": method, "ipc": 4} | SMALL | settings))
    with Alive() as alive:
        build_proxy(dataset, config, choice=cpu)
    assert 0.5 < memory_needed(dataset, config, CPU) / alive.most < 2


@pytest.mark.parametrize(("method", "copies"), [("dataset_distillation", 1), ("generative_teaching", 2)])
def test_every_step_more_is_a_state_more(method, copies):
    dataset = toy_dataset()
    name = "unroll_epochs" if method == "dataset_distillation" else "unroll_steps"
    config = condense_config(method=method, ipc=1, **(SMALL | {"width": 4}))
    few, many = (
        memory_needed(dataset, condense_config(method=method, ipc=1, **(SMALL | {"width": 4, name: steps})), CPU)
        for steps in (3, 13)
    )
    net = build_net(config.resolved((1, 8, 8), flip=False), dataset, 0, CPU)
    assert many - few == 10 * copies * sum(parameter.nbytes for parameter in net.parameters())


def test_nets_whose_batch_norms_see_one_value_of_an_image_are_measured(cpu):
    config = condense_config(method="label_distillation", ipc=1, network="resnet18", norm="batch", width=4)
    assert memory_needed(toy_dataset(), config, CPU) > 0


def test_methods_that_do_not_go_back_through_training_say_so():
    assert memory_needed(toy_dataset(), condense_config(method="random"), CPU) == 0
