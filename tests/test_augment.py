import pytest
import torch

from nasproxy.augment import AugmentParams, apply_augmentation, sample_augmentation
from nasproxy.config import AUGMENTATIONS


def images_of(n, h=8, w=16):
    return torch.randn(n, 2, h, w, generator=torch.Generator().manual_seed(0))


def shifted_by_loop(image, dy, dx):
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - dy < height and 0 <= x - dx < width:
                out[:, y, x] = image[:, y - dy, x - dx]
    return out


def test_equals_the_loop_image_by_image():
    images = images_of(4)
    params = AugmentParams(
        flip=torch.tensor([False, True, False, True]),
        dy=torch.tensor([0, 1, -1, 1]),
        dx=torch.tensor([0, -2, 2, 1]),
    )
    result = apply_augmentation(images, params)
    for i in range(4):
        source = images[i].flip(2) if params.flip[i] else images[i]
        assert torch.equal(result[i], shifted_by_loop(source, int(params.dy[i]), int(params.dx[i])))


@pytest.mark.parametrize("policy", AUGMENTATIONS)
def test_parameters_stay_in_range_and_follow_the_seed(policy):
    shape = images_of(500).shape
    first, second = (sample_augmentation(policy, shape, torch.Generator().manual_seed(5)) for _ in range(2))
    if policy == "none":
        assert first is None
        return
    assert torch.equal(first.dy, second.dy)
    assert set(first.dy.tolist()) == {-1, 0, 1}
    assert set(first.dx.tolist()) == {-2, -1, 0, 1, 2}
    assert (first.flip is not None) == (policy == "flip_shift")
    if first.flip is not None:
        assert 200 < first.flip.sum() < 300


def test_none_returns_the_images():
    images = images_of(2)
    assert apply_augmentation(images, None) is images


def test_is_differentiable():
    images = images_of(3).double().requires_grad_()
    params = sample_augmentation("flip_shift", images.shape, torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: apply_augmentation(x, params), (images,))
