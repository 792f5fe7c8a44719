import pytest
import torch

from common.data.images import Images, balanced_subset

PIXELS = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_a_digest_is_of_pixels_and_labels_whatever_the_name_and_the_memory_format():
    one = Images("a", PIXELS, LABELS)
    assert one.digest == Images("b", PIXELS.contiguous(memory_format=torch.channels_last), LABELS).digest
    changed = PIXELS.clone()
    changed[5, 2, 3, 3] ^= 1
    others = {
        Images("a", changed, LABELS).digest,
        Images("a", PIXELS, LABELS.flip(0)).digest,
        Images("a", PIXELS).digest,
    }
    assert len({one.digest, *others}) == 4


def test_a_subset_has_its_rows_in_the_order_given_and_a_digest_of_its_own():
    masks = torch.zeros(6, 4, 4, dtype=torch.bool)
    masks[4] = True
    part = Images("a", PIXELS, LABELS, masks, ("x", "y", "z"), {"k": 1}).subset(torch.tensor([4, 0]))
    assert torch.equal(part.pixels, PIXELS[[4, 0]]) and part.labels.tolist() == [1, 0]
    assert part.masks.flatten(1).all(1).tolist() == [True, False] and (part.classes, part.facts) == (
        ("x", "y", "z"),
        {"k": 1},
    )
    assert part.digest == Images("b", PIXELS[[4, 0]], LABELS[[4, 0]]).digest


def test_batches_are_all_images_in_order_and_rows_come_as_asked():
    images = Images("a", PIXELS)
    assert [len(batch) for batch in images.batches(4)] == [4, 2] and torch.equal(
        torch.cat(list(images.batches(4))), PIXELS
    )
    order = torch.tensor([5, 1, 1, 0])
    assert torch.equal(torch.cat(list(images.whole_batches(order, 3))), PIXELS[order])


@pytest.mark.parametrize(("count", "expected"), [(3, [1, 1, 1]), (7, [2, 2, 3]), (9, [2, 2, 5])])
def test_a_balanced_part_takes_classes_as_equally_as_they_can_be(count, expected):
    labels = torch.tensor([0] * 2 + [1] * 2 + [2] * 6)
    rows = balanced_subset(labels, count, torch.Generator().manual_seed(1))
    assert (
        rows.tolist() == sorted(set(rows.tolist())) and sorted(labels[rows].bincount(minlength=3).tolist()) == expected
    )
