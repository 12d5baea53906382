"""Counts FLOPs of everything that torch does."""

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counter(TorchDispatchMode):
    """torch's formulas for its own operators, without the hooks on modules that FlopCounterMode sets."""

    flops = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if operator._overloadpacket in flop_registry:
            self.flops += flop_registry[operator._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result
