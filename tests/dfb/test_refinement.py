"""Masks refined by the image itself, on pictures whose object is known."""

import numpy as np
import pytest
import torch

from dfb.refinement import grabcut, refine

SURE = (0.2, 0.8)


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, attention, truth): a red square on green, both with noise, and a round attention that lies 4 pixels too low and right."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((40, 40), dtype=bool)
    truth[10:26, 12:28] = True
    image = np.where(truth[:, :, None], (200, 40, 40), (40, 160, 60)) + rng.integers(-20, 20, (40, 40, 3))
    rows, cols = np.mgrid[:40, :40]
    distance = np.hypot(rows - 21.5, cols - 23.5)
    return image.astype(np.uint8), np.clip(1 - distance / 22, 0, 1).astype(np.float32), truth


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return (found & truth).sum() / (found | truth).sum()


def test_colours_find_the_object_from_a_seed_that_lies_beside_it():
    image, attention, truth = scene()
    mask = attention >= 0.5
    assert iou(mask, truth) < 0.6
    assert np.array_equal(grabcut(image, attention, mask, SURE, 3), truth)


def test_what_is_sure_stays():
    image, attention, truth = scene()
    sure = attention.copy()
    sure[0, 0], sure[15, 20] = 1, 0  # a corner of the ground called object, the square's middle called ground
    found = grabcut(image, sure, sure >= 0.5, SURE, 3)
    assert found[0, 0] and not found[15, 20]


@pytest.mark.parametrize("fault", ["empty", "nearly empty", "full", "nearly full", "one colour"])
def test_where_nothing_can_be_learned_the_mask_is_kept_and_counted(fault):
    image, attention, _ = scene()
    mask = attention >= 0.5
    if "empty" in fault or "full" in fault:
        mask = np.full_like(mask, "full" in fault)
        mask[0, : 4 * ("nearly" in fault)] ^= True
    else:
        image = np.full_like(image, 90)
    images, maps, masks = (
        torch.from_numpy(np.stack([one, two])) for one, two in zip((image, attention, mask), scene())
    )
    masks[1] = maps[1] >= 0.5
    refined, kept = refine(images.permute(0, 3, 1, 2), maps, masks, SURE, 3)
    assert kept.tolist() == [True, False]
    assert np.array_equal(refined[0].numpy(), mask) and np.array_equal(refined[1].numpy(), scene()[2])


def test_an_object_that_would_vanish_is_kept():
    """No pixel is surely object, and the mask's colours are the ground's: nothing would be left."""
    image, attention, _ = scene()
    mask = np.zeros_like(attention, dtype=bool)
    mask[30:34, 2:6] = True
    found = grabcut(image, np.where(mask, 0.6, 0.1).astype(np.float32), mask, SURE, 3)
    assert found is None


def test_neither_batch_nor_order_nor_number_of_threads_matters(monkeypatch):
    scenes = [scene(seed) for seed in range(6)]
    rng = np.random.default_rng(1)
    images = torch.from_numpy(np.stack([one for one, _, _ in scenes])).permute(0, 3, 1, 2)
    images = (images.int() + torch.from_numpy(rng.integers(-60, 60, images.shape))).clamp(0, 255).to(torch.uint8)
    maps = torch.from_numpy(np.stack([one for _, one, _ in scenes]))
    masks = maps >= 0.5
    whole, _ = refine(images, maps, masks, SURE, 3)
    single = torch.cat([refine(images[k : k + 1], maps[k : k + 1], masks[k : k + 1], SURE, 3)[0] for k in range(6)])
    turned, _ = refine(images.flip(0), maps.flip(0), masks.flip(0), SURE, 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    threaded, _ = refine(images, maps, masks, SURE, 3)
    assert torch.equal(whole, single) and torch.equal(whole, turned.flip(0)) and torch.equal(whole, threaded)
    assert not torch.equal(whole, masks) and torch.equal(masks, maps >= 0.5), "what was given is left as it is"
