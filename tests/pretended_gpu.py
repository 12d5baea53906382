"""A pretended GPU: what runs on it computes nothing, but every operation is seen, and every wait for the device.

Tensors of torch's private-use device under FakeTensorMode have shapes and devices and no values. An operation on
tensors of two devices raises, as on a GPU. A dispatch mode counts the operations and the bytes that they touch, and
names the line of ours at every *wait*: a copy between the devices, or a value that the CPU reads. Run as a program it
does the scenarios of pretended_scenarios.py and prints a line of JSON for each.

It changes torch for the whole process, so tests run it in a process of its own.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim.optimizer import _foreach_supported_types
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

GIGABYTE = 1 << 30
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "bincount"}
FREE = {  # they start nothing on the device
    *("detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_", "t"),
    *("_unsafe_view", "lift_fresh", "alias", "is_same_size", "device", "_local_scalar_dense"),
}


class _Backend(_DummyBackendModule):
    """What torch asks the module of a device for."""

    def is_initialized(self):
        return True

    def is_available(self):
        return True

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        pass

    manual_seed = manual_seed_all

    def get_rng_state(self, device=None):
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state, device=None):
        pass

    def mem_get_info(self, device=None):
        return 78 * GIGABYTE, 79 * GIGABYTE

    def memory_reserved(self, device=None):
        return 0

    memory_allocated = max_memory_allocated = memory_reserved

    def reset_peak_memory_stats(self, device=None):
        pass

    empty_cache = synchronize = reset_peak_memory_stats

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    @contextlib.contextmanager
    def device(self, device):
        yield


_setup_privateuseone_for_python_backend("pretended", backend_module=_Backend())
GPU = torch.device("pretended:0")


def _on_gpu(value):
    return isinstance(value, torch.Tensor) and value.device.type == GPU.type


def _our_line():
    for frame in reversed(traceback.extract_stack()):
        if "/nasproxy/" in frame.filename:
            return f"{frame.filename.rsplit('/nasproxy/', 1)[1]}: {frame.line}"
    return "outside of nasproxy"


class Recorder(TorchDispatchMode):
    """Counts operations by name, waits by their line, and bytes, of what runs on the pretended GPU."""

    def __init__(self):
        super().__init__()
        self.operations, self.waits, self.bytes = Counter(), Counter(), 0

    def wait(self, what):
        self.waits[f"{what} at {_our_line()}"] += 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.name().split("::")[1].split(".")[0]
        inputs = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        gpu = any(map(_on_gpu, inputs))
        if gpu and name in READS:
            self.wait(name)
        if name == "_local_scalar_dense":
            return (args[0].dtype.is_floating_point and 1.0) or args[0].dtype == torch.bool or 1
        if name == "equal":
            return True
        result = function(*args, **kwargs)
        outputs = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
        if name in ("_to_copy", "copy_"):
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], outputs[0])
            if _on_gpu(source) != _on_gpu(target):
                self.wait("copy to the device" if _on_gpu(target) else "copy from the device")
        view = not function._schema.is_mutable and any(one.alias_info for one in function._schema.returns)
        if (gpu or any(map(_on_gpu, outputs))) and not view and name not in FREE:
            self.operations[name] += 1
            self.bytes += sum(one.nbytes for one in (*inputs, *outputs) if _on_gpu(one))
        return result


_recorder: Recorder | None = None
_Generator, _tensor, _repeat = torch.Generator, torch.tensor, torch.Tensor.repeat_interleave


class _GpuGenerator:
    device = GPU

    def manual_seed(self, seed):
        return self

    def get_state(self):
        return torch.zeros(16, dtype=torch.uint8)

    def set_state(self, state):
        return self


class _AnyGenerator:
    def __new__(cls, device="cpu"):
        return _Generator(device=device) if torch.device(device).type == "cpu" else _GpuGenerator()


def _drawing(name):
    """torch's ``name``, which must be given a generator of the device that it draws on."""
    real = getattr(torch, name)

    def draw(*args, generator=None, device=None, **others):
        if generator is not None:
            kind = "cpu" if device is None else torch.device(device).type
            own = "cpu" if isinstance(generator, _Generator) else GPU.type
            assert own == kind, f"a generator of {own} cannot draw on {kind}"
        more = {"device": device} if device is not None else {}
        if isinstance(generator, _Generator):
            more["generator"] = generator
        return real(*args, **more, **others)

    return draw


def _made_tensor(data, *args, device=None, requires_grad=False, **others):
    made = _tensor(data, *args, **others)
    if device is not None and torch.device(device).type == GPU.type:
        if _recorder is not None:
            _recorder.wait("torch.tensor on the device")
        made = torch.empty(made.shape, dtype=made.dtype, device=device)
    if isinstance(made, FakeTensor):
        made.constant = None
        made.written = data
    return made.requires_grad_() if requires_grad else made


def _repeated(self, repeats, dim=None, *, output_size=None):
    if isinstance(repeats, torch.Tensor) and output_size is None:
        if _on_gpu(repeats) and _recorder is not None:
            _recorder.wait("repeat_interleave")
        output_size = sum(repeats.written)
    return _repeat(self, repeats, dim, output_size=output_size)


def _moved(self, function, recurse=True):
    """Module._apply without torch's exchange of a parameter's data, which fake tensors do not have."""
    for module in self.children():
        module._apply(function)
    for key, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                self._parameters[key] = torch.nn.Parameter(function(parameter), parameter.requires_grad)
    for key, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[key] = function(buffer)
    return self


@contextlib.contextmanager
def _no_fork(*args, **kwargs):
    yield


def _change_torch():
    torch.Generator = _AnyGenerator
    for name in ("rand", "randn", "randint", "randperm"):
        setattr(torch, name, _drawing(name))
    torch.tensor = _made_tensor
    torch.Tensor.repeat_interleave = _repeated
    torch.nn.Module._apply = _moved
    torch.random.fork_rng = _no_fork
    _foreach_supported_types.append(FakeTensor)


@contextlib.contextmanager
def pretended():
    """In the ``with`` block everything is pretended; gives the recorder."""
    global _recorder
    _change_torch()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autograd.set_multithreading_enabled(False):
        _recorder = Recorder()
        with _recorder:
            yield _recorder
        _recorder = None
