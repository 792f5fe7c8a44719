import sys
from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as TF

from common.objectives.mixup import _beta, mixup
from common.training import augment as A
from common.training.augment import Augmentation
from common.training.placement import JointAugmentation

sys.path.insert(0, str(Path(__file__).parent))
import plain_augment

WAYS = {
    "pad": Augmentation(),
    "reflect": Augmentation(crop_padding="reflect", flip=False),
    "resized": Augmentation(crop="resized", jitter=True),
    "window": Augmentation(crop="window", window_px=20),
    "jitter": Augmentation(crop="none", flip=False, jitter=True),
    "placed": JointAugmentation(),
}


@pytest.fixture
def images():
    return torch.rand(30, 3, 16, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (50, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def augment(pixels, how, generator):
    return how.apply(pixels, how.draw(len(pixels), tuple(pixels.shape[2:]), generator))[0]


def test_some_images_lose_their_colours_and_nothing_else_is_drawn_otherwise(pixels):
    plain, some = (Augmentation(jitter=True, grey_probability=p) for p in (0.0, 0.3))
    before, after = (augment(pixels, how, draw()) for how in (plain, some))
    greyed = some.draw(50, (32, 32), draw()).greyed
    assert 5 < greyed.sum() < 25 and torch.equal(before[~greyed], after[~greyed])
    for i in greyed.nonzero().squeeze(1):
        assert torch.allclose(after[i], TF.rgb_to_grayscale(before[i], 3), atol=1e-6)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_padded_crops_are_torchvisions_image_by_image(images, mode):
    dy, dx = torch.randint(0, 9, (2, 30), generator=draw())
    ours = A.crop_pad(images, dy, dx, 4, mode)
    for i, image in enumerate(images):
        padded = TF.pad(image, [4], padding_mode="constant" if mode == "zero" else mode)
        assert torch.equal(ours[i], TF.crop(padded, int(dy[i]), int(dx[i]), 16, 12))


def test_resized_crops_are_torchvisions_image_by_image(images):
    boxes = A.draw_boxes(30, 16, 12, 0.2, draw())
    ours = A.resized_crop(images, boxes)
    for i, image in enumerate(images):
        assert torch.allclose(ours[i], TF.resized_crop(image, *boxes[i].tolist(), [16, 12], antialias=False), atol=1e-5)


def test_boxes_lie_inside_and_keep_area_and_aspect_in_range():
    boxes = A.draw_boxes(4000, 64, 64, 0.2, draw())
    top, left, h, w = boxes.unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 64).all() and (left + w <= 64).all()
    area, ratio = h * w / 4096, w / h
    assert (
        0.19 < area.min()
        and area.mean().item() == pytest.approx(0.55, abs=0.02)
        and 0.7 < ratio.min()
        and ratio.max() < 1.4
    )
    assert (top + h == 64).any() and (top == 0).any()


@pytest.mark.parametrize(
    "ours, theirs, low, high",
    [
        (A.adjust_brightness, TF.adjust_brightness, 0.6, 1.4), (A.adjust_contrast, TF.adjust_contrast, 0.6, 1.4),
        (A.adjust_saturation, TF.adjust_saturation, 0.6, 1.4), (A.adjust_hue, TF.adjust_hue, -0.5, 0.5),
    ],
)  # fmt: skip
def test_each_colour_operation_is_torchvisions_image_by_image(images, ours, theirs, low, high):
    images[0] = 0.5  # grey: hue undefined
    images[1] = 0
    factors = low + (high - low) * torch.rand(30, generator=draw())
    result = ours(images, factors)
    for i, image in enumerate(images):
        assert torch.allclose(result[i], theirs(image, factors[i].item()), atol=2e-5), i


def test_jitter_applies_each_images_factors_in_its_own_order(images):
    factors = torch.tensor([1.0, 1, 1, 0]) + torch.tensor([0.4, 0.4, 0.4, 0.1]) * (
        2 * torch.rand(30, 4, generator=draw()) - 1
    )
    order = torch.randperm(30, generator=draw(1)) % 24
    result = A.color_jitter(images, factors, order)
    theirs = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    for i, k in enumerate(order.tolist()):
        image = images[i]
        for op in A.ORDERS[k]:
            image = theirs[op](image, factors[i, op].item())
        assert torch.allclose(result[i], image, atol=5e-5), i
    assert len(set(A.ORDERS)) == 24 and len(set(order.tolist())) == 24


def test_every_image_is_drawn_for_itself(pixels):
    same = pixels[:1].expand(50, -1, -1, -1)
    for how in (
        Augmentation(),
        Augmentation(crop="none", flip=False, jitter=True),
        Augmentation(crop="resized", flip=False),
    ):
        assert len(torch.unique(augment(same, how, draw()).flatten(1), dim=0)) > 25


def test_the_generator_decides_and_nothing_else(pixels):
    how = Augmentation(jitter=True)
    torch.manual_seed(1)
    first = augment(pixels, how, draw())
    torch.manual_seed(2)
    assert torch.equal(augment(pixels, how, draw()), first) and not torch.equal(augment(pixels, how, draw(1)), first)


def test_nothing_asked_is_the_image_in_0_to_1(pixels):
    assert torch.equal(augment(pixels, Augmentation(crop="none", flip=False), draw()), pixels.float() / 255)


def test_shares_are_as_asked(pixels):
    many = pixels[:1].expand(4000, -1, -1, -1)[:, :, :8, :8]
    plain = many[0].float() / 255
    flipped = (augment(many, Augmentation(crop="none"), draw()) == plain.flip(2)).flatten(1).all(1).float().mean()
    assert flipped.item() == pytest.approx(0.5, abs=0.04)
    left = (
        (augment(many, Augmentation(crop="none", flip=False, jitter=True), draw()) == plain)
        .flatten(1)
        .all(1)
        .float()
        .mean()
    )
    assert left.item() == pytest.approx(0.2, abs=0.03)
    assert augment(many, Augmentation(jitter=True), draw()).aminmax().min >= 0


def test_mixup_mixes_with_one_share_a_batch(images):
    mixed, partner, share = mixup(images, 0.1, draw())
    assert torch.allclose(mixed, share * images + (1 - share) * images[partner]) and sorted(partner.tolist()) == list(
        range(30)
    )


def test_mixup_shares_follow_the_beta_distribution():
    from scipy.stats import beta, kstest

    generator = draw()
    shares = [_beta(a, generator, torch.device("cpu")).item() for a in (0.1,) for _ in range(1500)]
    assert kstest(shares, beta(0.1, 0.1).cdf).pvalue > 1e-3
    assert kstest([_beta(1.0, generator, torch.device("cpu")).item() for _ in range(500)], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", [name for name in WAYS if name != "placed"])
def test_pixels_are_those_of_the_plain_twin_bit_for_bit_and_view_after_view(pixels, name):
    ours, theirs = draw(3), draw(3)
    for _ in range(2):
        assert torch.equal(augment(pixels, WAYS[name], ours), plain_augment.augment(pixels, WAYS[name], theirs))


@pytest.mark.parametrize("name", WAYS)
def test_rows_applied_alone_are_those_of_the_whole_batch(pixels, name):
    """What a process makes of its part of a global batch, masks too; numbers stay on the CPU."""
    how, masks = WAYS[name], pixels[:, 0] > 128
    draws = how.draw(50, (32, 32), draw(5))
    assert all(numbers is None or numbers.device.type == "cpu" for numbers in draws)
    whole = how.apply(pixels, draws, masks)
    for rows in (slice(0, 26), slice(26, 50), slice(7, 8)):
        mine = type(draws)(*(None if numbers is None else numbers[rows] for numbers in draws))
        part = how.apply(pixels[rows], mine, masks[rows])
        assert torch.allclose(part[0], whole[0][rows], rtol=0, atol=1e-6) and torch.equal(part[1], whole[1][rows])
        assert torch.equal(how.apply(pixels[rows], mine)[0], part[0]), "the masks leave the images alone"


@pytest.mark.parametrize("name", WAYS)
def test_a_mask_moves_as_an_image_that_shows_it(pixels, name):
    how, masks = WAYS[name], (pixels[:, 0] > 128)
    if name == "jitter":
        how = Augmentation(crop="none")
    draws = how.draw(50, (32, 32), draw(6))
    shown, placed = how.apply((255 * masks[:, None].expand(-1, 3, -1, -1)).to(torch.uint8), draws, masks)
    if name == "placed":
        sure = (shown[:, 0] < 0.01) | (shown[:, 0] > 0.99)  # bilinear beside nearest
        assert torch.equal((shown[:, 0] > 0.5)[sure & (placed >= 0)], (placed == 1)[sure & (placed >= 0)])
    elif name == "resized":
        assert placed.shape == shown[:, 0].shape
        plain, moved = Augmentation(crop="resized").apply(
            (255 * masks[:, None].expand(-1, 3, -1, -1)).to(torch.uint8), draws._replace(jittered=None), masks
        )
        assert torch.equal(plain[:, 0] >= 0.5, moved) and torch.equal(moved, placed)
    else:
        assert torch.equal(shown[:, 0] >= 0.5, placed) and not torch.equal(
            placed, masks[:, : placed.shape[1], : placed.shape[2]]
        )
