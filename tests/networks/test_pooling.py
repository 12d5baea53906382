import pytest
import torch
from torch import nn

from nasproxy.networks.pooling import AveragePool


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (3, 4, 8, 6), (2, 3, 7, 8), (2, 3, 8, 5), (0, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_torch_forward_and_backward(shape, dtype):
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=stream, dtype=dtype, requires_grad=True)
    ours, theirs = AveragePool()(images), nn.AvgPool2d(2)(images)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn(ours.shape, generator=stream, dtype=dtype)
    torch.testing.assert_close(
        *(torch.autograd.grad((pooled * weight).sum(), images)[0] for pooled in (ours, theirs)), rtol=1e-6, atol=1e-6
    )


def test_any_layout():
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = nn.AvgPool2d(2)(images)
    torch.testing.assert_close(AveragePool()(images.to(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(AveragePool()(images.transpose(2, 3)), expected.transpose(2, 3))


def test_both_derivatives():
    images = torch.randn(
        2, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(AveragePool(), (images,))
    with torch.random.fork_rng(devices=[]):  # it draws directions from the global generator
        assert torch.autograd.gradgradcheck(lambda x: AveragePool()(x) ** 2, (images,))


def test_under_vmap():
    images = torch.randn(3, 2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    pool = AveragePool()
    gradient = torch.func.vmap(torch.func.grad(lambda x: (pool(x) ** 2).sum()))(images)
    expected = torch.stack([torch.func.grad(lambda x: (nn.AvgPool2d(2)(x) ** 2).sum())(x) for x in images])
    torch.testing.assert_close(gradient, expected)
