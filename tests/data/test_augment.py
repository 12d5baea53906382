import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nasproxy.config import AUGMENTATIONS
from nasproxy.data.augment import (
    SHIFTS,
    DsaParams,
    ShiftParams,
    apply_augmentation,
    mirrored_first,
    sample_augmentation,
    sample_siamese,
)

DSA = {"dsa": 6, "dsa_no_flip": 5}
HEIGHT, WIDTH = 6, 9  # neither square nor even, so that mixed-up axes and half pixels show
STILL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
PLAIN = (0.0, 1.0, 1.0)
NO_BOX = (0, 0, 0, 0)


def images_of(n, h=8, w=16):
    return torch.randn(n, 2, h, w, generator=torch.Generator().manual_seed(0))


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def fields(params):
    return [value for value in vars(params).values() if value is not None]


# ------------------------------------------------------------------------------------------------- shift and flip_shift


def shifted_by_loop(image, dy, dx):
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - dy < height and 0 <= x - dx < width:
                out[:, y, x] = image[:, y - dy, x - dx]
    return out


def test_shift_equals_the_loop_image_by_image():
    images = images_of(4)
    params = ShiftParams(
        flip=torch.tensor([False, True, False, True]),
        dy=torch.tensor([0, 1, -1, 1]),
        dx=torch.tensor([0, -2, 2, 1]),
    )
    result = apply_augmentation(images, params)
    for i in range(4):
        source = images[i].flip(2) if params.flip[i] else images[i]
        assert torch.equal(result[i], shifted_by_loop(source, int(params.dy[i]), int(params.dx[i])))


@pytest.mark.parametrize("policy", SHIFTS)
def test_shifts_stay_in_range(policy):
    params = sample_augmentation(policy, images_of(500).shape, stream(5))
    assert set(params.dy.tolist()) == {-1, 0, 1}
    assert set(params.dx.tolist()) == {-2, -1, 0, 1, 2}
    assert (params.flip is not None) == policy.startswith(("flip", "alternate"))
    assert (params.box is not None) == policy.endswith("cutout")
    if params.flip is not None:
        assert 200 < params.flip.sum() < 300


def test_an_alternating_policy_shows_both_views_in_two_epochs():
    images = images_of(64)
    first = mirrored_first(64, stream())
    assert 16 < first.sum() < 48
    for mirrored in (first, ~first):
        params = sample_augmentation("alternate_shift", images.shape, stream(1), mirrored=mirrored)
        assert params.flip is mirrored
    without_epochs = sample_augmentation("alternate_shift", images.shape, stream(1))
    assert 16 < without_epochs.flip.sum() < 48


def test_cutout_after_a_shift_equals_the_loop():
    """Boxes of half the side, around any pixel: zeros, and nothing else is touched."""
    images = images_of(300)
    params = sample_augmentation("shift_cutout", images.shape, stream(3))
    result = apply_augmentation(images, params)
    assert (params.box[:, 1] - params.box[:, 0]).unique().tolist() == [4]
    assert (params.box[:, 3] - params.box[:, 2]).unique().tolist() == [8]
    assert params.box[:, 0].unique().tolist() == list(range(-2, 7))
    assert params.box[:, 2].unique().tolist() == list(range(-4, 13))
    for i in range(len(images)):
        expected = shifted_by_loop(images[i], int(params.dy[i]), int(params.dx[i]))
        top, bottom, left, right = params.box[i].tolist()
        expected[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
        assert torch.equal(result[i], expected)


@pytest.mark.parametrize("policy", ["shift", "flip_shift"])
def test_shifts_keep_their_stream(policy):
    """Stored accuracies were trained with these draws."""
    params = sample_augmentation(policy, (5, 3, 8, 16), stream(5))
    assert params.dy.tolist() == [1, -1, 0, -1, 1]
    assert params.dx.tolist() == [-2, 0, 1, 1, 2]
    if policy == "flip_shift":
        assert params.flip.tolist() == [False, False, True, False, False]


def test_none_returns_the_images():
    images = images_of(2)
    assert sample_augmentation("none", images.shape, stream()) is None
    assert sample_siamese("none", 3, (2, 8, 16), stream()) is None
    assert apply_augmentation(images, None) is images


# ------------------------------------------------------------------------------------------------ dsa against the loops


def read_by_loop(image, place):
    """Output pixel (y, x) is read at ``place(y, x)``, in pixels, by bilinear interpolation among zeros."""
    out = torch.zeros_like(image)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            at_y, at_x = place(y, x)
            for row in range(HEIGHT):
                for col in range(WIDTH):
                    share = max(0.0, 1 - abs(at_y - row)) * max(0.0, 1 - abs(at_x - col))
                    out[:, y, x] += share * image[:, row, col]
    return out


def coloured_by_loop(image, brightness, saturation, contrast):
    image = image + brightness
    saturated = torch.zeros_like(image)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            mean = sum(image[:, y, x].tolist()) / len(image)
            saturated[:, y, x] = (image[:, y, x] - mean) * saturation + mean
    mean = sum(saturated.flatten().tolist()) / saturated.numel()
    return (saturated - mean) * contrast + mean


def cut_by_loop(image, top, bottom, left, right):
    out = image.clone()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            if top <= y < bottom and left <= x < right:
                out[:, y, x] = 0
    return out


def scale_case(sx, sy):
    def place(y, x):
        centre_y, centre_x = (HEIGHT - 1) / 2, (WIDTH - 1) / 2
        return centre_y + sy * (y - centre_y), centre_x + sx * (x - centre_x)

    return ((sx, 0.0, 0.0), (0.0, sy, 0.0)), PLAIN, NO_BOX, lambda image: read_by_loop(image, place)


def rotate_case(angle):
    def place(y, x):
        # Sides are 2 long in both directions, whatever their pixels: on an oblong image this also shears.
        v, u = (y - (HEIGHT - 1) / 2) * 2 / HEIGHT, (x - (WIDTH - 1) / 2) * 2 / WIDTH
        from_u, from_v = u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle)
        return (HEIGHT - 1) / 2 + from_v * HEIGHT / 2, (WIDTH - 1) / 2 + from_u * WIDTH / 2

    theta = ((math.cos(angle), -math.sin(angle), 0.0), (math.sin(angle), math.cos(angle), 0.0))
    return theta, PLAIN, NO_BOX, lambda image: read_by_loop(image, place)


def crop_case(dy, dx):
    """The window moves by (dy, dx), so the image moves by the opposite."""
    theta = ((1.0, 0.0, 2 * dx / WIDTH), (0.0, 1.0, 2 * dy / HEIGHT))
    return theta, PLAIN, NO_BOX, lambda image: shifted_by_loop(image, -dy, -dx)


CASES = {
    "still": (STILL, PLAIN, NO_BOX, lambda image: image),
    "brightness": (STILL, (0.4, 1.0, 1.0), NO_BOX, lambda image: coloured_by_loop(image, 0.4, 1, 1)),
    "saturation": (STILL, (0.0, 1.7, 1.0), NO_BOX, lambda image: coloured_by_loop(image, 0, 1.7, 1)),
    "contrast": (STILL, (0.0, 1.0, 0.6), NO_BOX, lambda image: coloured_by_loop(image, 0, 1, 0.6)),
    "colour": (STILL, (-0.3, 0.2, 1.4), NO_BOX, lambda image: coloured_by_loop(image, -0.3, 0.2, 1.4)),
    "crop": crop_case(1, -2),
    "crop far": crop_case(-1, 1),
    "cutout": (STILL, PLAIN, (1, 4, 3, 8), lambda image: cut_by_loop(image, 1, 4, 3, 8)),
    "cutout over the border": (STILL, PLAIN, (-1, 2, 6, 11), lambda image: cut_by_loop(image, -1, 2, 6, 11)),
    "flip": (((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), PLAIN, NO_BOX, lambda image: image.flip(2)),
    "enlarge": scale_case(0.85, 0.95),
    "shrink": scale_case(1.2, 1.1),
    "rotate": rotate_case(0.25),
    "rotate back": rotate_case(-0.1),
}


def case_params(names):
    theta, colour, box = ([CASES[name][part] for name in names] for part in range(3))
    return DsaParams(torch.tensor(theta, dtype=torch.float64), torch.tensor(colour).double(), torch.tensor(box))


@pytest.fixture
def case_images():
    return torch.randn(len(CASES), 3, HEIGHT, WIDTH, generator=stream(), dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_dsa_equals_the_loop(name, case_images):
    result = apply_augmentation(case_images[:1], case_params([name]))
    torch.testing.assert_close(result[0], CASES[name][3](case_images[0]), rtol=0, atol=1e-6)


def test_rows_of_a_batch_do_not_mix(case_images):
    together = apply_augmentation(case_images, case_params(list(CASES)))
    for i, name in enumerate(CASES):
        alone = apply_augmentation(case_images[i : i + 1], case_params([name]))
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_pixels_that_only_move_keep_their_values(side):
    images = torch.randn(3, 3, side, side, generator=stream())
    step = 2 / side
    theta = torch.tensor([STILL, ((-1, 0, 0), (0, 1, 0)), ((1, 0, -3 * step), (0, 1, 2 * step))])
    result = apply_augmentation(images, DsaParams(theta, torch.tensor([PLAIN] * 3), torch.tensor([NO_BOX] * 3)))
    expected = torch.stack((images[0], images[1].flip(2), shifted_by_loop(images[2], -2, 3)))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- what dsa draws


def rows_by_family(params):
    """Masks of the rows whose family can be told: those that differ from the identity."""
    scale_x, shear_x, shift_x, shear_y, scale_y, shift_y = params.theta.flatten(1).unbind(1)
    return {
        "colour": (params.colour != torch.tensor(PLAIN)).any(1),
        "crop": (shift_x != 0) | (shift_y != 0),
        "cutout": (params.box != 0).any(1),
        "flip": scale_x < 0,
        "rotate": (shear_x != 0) | (shear_y != 0),
        "scale": (scale_x > 0) & (shear_x == 0) & ((scale_x != 1) | (scale_y != 1)),
    }


@pytest.mark.parametrize(("policy", "num_families"), DSA.items())
def test_every_family_is_drawn_alike_and_alone(policy, num_families):
    n = 20_000
    masks = rows_by_family(sample_siamese(policy, n, (3, 32, 32), stream(1)))
    assert torch.stack(list(masks.values())).sum(0).max() == 1
    # A shift by (0, 0), one of 9 × 9, cannot be told from the identity, nor can half of the flips.
    told = dict.fromkeys(masks, 1.0) | {"crop": 80 / 81, "flip": 0.5 if policy == "dsa" else 0.0}
    for family, mask in masks.items():
        p = told[family] / num_families
        assert abs(mask.sum().item() - n * p) <= 4 * math.sqrt(n * p * (1 - p)), family


def fills(values, low, high):
    """Uniform over [low, high]: inside, within 1 % of both ends, the mean within four standard errors."""
    width = high - low
    assert low - 1e-6 <= values.min() <= low + 0.01 * width
    assert high - 0.01 * width <= values.max() <= high + 1e-6
    assert abs(values.mean() - (low + high) / 2) < 4 * width / math.sqrt(12 * len(values))


def test_parameters_fill_the_published_ranges():
    params = sample_siamese("dsa", 20_000, (3, 32, 20), stream(2))
    masks = rows_by_family(params)
    for column, (low, high) in enumerate(((-0.5, 0.5), (0.0, 2.0), (0.5, 1.5))):
        fills(params.colour[masks["colour"], column], low, high)

    theta = params.theta[masks["rotate"]]
    angle = torch.atan2(theta[:, 1, 0], theta[:, 0, 0])
    fills(angle, -math.radians(15), math.radians(15))
    torch.testing.assert_close(theta[:, 1, 1], angle.cos())
    torch.testing.assert_close(theta[:, 0, 1], -angle.sin())

    sx, sy = params.theta[masks["scale"], 0, 0], params.theta[masks["scale"], 1, 1]
    fills(sx, 1 / 1.2, 1.2)
    fills(sy, 1 / 1.2, 1.2)
    assert abs(torch.corrcoef(torch.stack((sx, sy)))[0, 1]) < 0.08  # drawn apart

    shift = params.theta[masks["crop"], :, 2] * torch.tensor([20, 32]) / 2
    torch.testing.assert_close(shift, shift.round(), rtol=0, atol=1e-5)
    assert set(shift[:, 0].round().tolist()) == set(range(-3, 4))  # 20 / 8 rounded: 3
    assert set(shift[:, 1].round().tolist()) == set(range(-4, 5))

    top, bottom, left, right = params.box[masks["cutout"]].unbind(1)
    assert set((bottom - top).tolist()) == {16}
    assert set((right - left).tolist()) == {10}
    assert set(top.tolist()) == set(range(-8, 25))  # centres from the upper to the lower border
    assert set(left.tolist()) == set(range(-5, 16))


def test_an_odd_cutout_is_centred_on_every_pixel():
    params = sample_siamese("dsa", 2000, (1, 6, 6), stream(3))
    top, bottom = params.box[rows_by_family(params)["cutout"], :2].unbind(1)
    assert set((bottom - top).tolist()) == {3}
    assert set(top.tolist()) == set(range(-1, 5))


@pytest.mark.parametrize("policy", DSA)
def test_a_batch_has_one_family_and_each_image_parameters_of_its_own(policy):
    generator, seen = stream(4), set()
    for _ in range(100):
        params = sample_augmentation(policy, images_of(12, 32, 32).shape, generator)
        (family,) = (name for name, mask in rows_by_family(params).items() if mask.any())
        seen.add(family)
        assert len(torch.cat([rows.flatten(1).double() for rows in fields(params)], 1).unique(dim=0)) > 1
    assert seen == set(rows_by_family(params)) - ({"flip"} if policy == "dsa_no_flip" else set())


# -------------------------------------------------------------------------------------------------------- every policy

RANDOM = [policy for policy in AUGMENTATIONS if policy != "none"]


@pytest.mark.parametrize("policy", RANDOM)
def test_an_image_is_augmented_as_its_class_whatever_the_batch(policy):
    params = sample_siamese(policy, 10, (2, 8, 16), stream(6))
    image = images_of(1)
    small, large = torch.arange(10), torch.arange(10).repeat(7)[torch.randperm(70, generator=stream())]
    one_each = apply_augmentation(image.expand(10, -1, -1, -1), params.take(small))
    many = apply_augmentation(image.expand(70, -1, -1, -1), params.take(large))
    torch.testing.assert_close(many, one_each[large], rtol=0, atol=1e-6)
    assert len(one_each.flatten(1).unique(dim=0)) > 3  # classes differ


@pytest.mark.parametrize("policy", RANDOM)
def test_the_seed_decides(policy):
    for sample in (
        lambda seed: sample_augmentation(policy, (9, 3, 16, 16), stream(seed)),
        lambda seed: sample_siamese(policy, 9, (3, 16, 16), stream(seed)),
    ):
        first, same, other = (fields(sample(seed)) for seed in (1, 1, 2))
        assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("policy", RANDOM)
def test_nothing_is_read_back(policy):
    """Fake tensors have no values: a branch on one, `.item()` or an index by a mask raises."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        images, generator = torch.empty(6, 3, 8, 8), stream()
        apply_augmentation(images, sample_augmentation(policy, images.shape, generator))
        params = sample_siamese(policy, 2, (3, 8, 8), generator).take(torch.zeros(6, dtype=torch.int64))
        assert apply_augmentation(images, params).shape == images.shape


def test_an_unknown_policy_is_named():
    for sample, shape in ((sample_augmentation, ((2, 3, 8, 8),)), (sample_siamese, (2, (3, 8, 8)))):
        with pytest.raises(ValueError, match=f"{', '.join(AUGMENTATIONS)}, but got 'das'"):
            sample("das", *shape, stream())


@pytest.mark.parametrize("policy", DSA)
def test_rows_of_classes_do_not_pass_for_rows_of_images(policy):
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        apply_augmentation(images_of(20), sample_siamese(policy, 10, (2, 8, 16), stream()))


# ---------------------------------------------------------------------------------------------------------- derivatives


def one_row_each(policy):
    if policy in SHIFTS:
        return sample_siamese(policy, 4, (3, HEIGHT, WIDTH), stream())
    return case_params(["colour", "crop", "cutout over the border", "flip", "shrink", "rotate"])


@pytest.mark.parametrize("policy", ["flip_shift", "dsa"])
def test_differentiable_twice_in_the_images(policy, case_images):
    params = one_row_each(policy)
    images = case_images[: len(fields(params)[0]), :2].clone().requires_grad_()
    with torch.random.fork_rng(devices=[]):  # gradgradcheck draws
        assert torch.autograd.gradcheck(lambda x: apply_augmentation(x, params), (images,))
        assert torch.autograd.gradgradcheck(lambda x: apply_augmentation(x, params).sin(), (images,))


def test_matching_differentiates_through_the_gradient_of_the_weights(case_images):
    params = one_row_each("dsa")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Linear(2 * (HEIGHT - 2) * (WIDTH - 2), 3)
        net = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.Softplus(), nn.Flatten(), head).double()
    labels = torch.arange(6) % 3

    def squared_gradient(images):
        loss = nn.functional.cross_entropy(net(apply_augmentation(images, params)), labels)
        return torch.autograd.grad(loss, net[0].weight, create_graph=True)[0].square().sum()

    assert torch.autograd.gradcheck(squared_gradient, (case_images[:6].clone().requires_grad_(),))
