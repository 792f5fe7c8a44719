"""Boxes as masks, by hand."""

import pytest
import torch

from common.cli.errors import UserError
from common.data.boxes import box_masks, load_boxed
from common.data.transforms import Transform


def test_boxes_are_inclusive_and_scale_with_the_mask():
    assert box_masks([[1, 0, 2, 1]], 4, (4, 4))[0].int().tolist() == [
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert torch.equal(box_masks([[1, 0, 2, 1]], 4, (8, 8)), box_masks([[2, 0, 5, 3]], 8, (8, 8)))


@pytest.fixture
def root(tmp_path, small, noise):
    """Four photographs of two classes of CIFAR-10, each with another box."""
    small("tiny-imagenet-boxes", boxes=4)
    lines = ["file,x0,y0,x1,y1,cifar10_class"]
    for k in range(4):
        noise(f"tiny-imagenet-boxes/images/val_{k}.JPEG", size=(64, 64), seed=k)
        lines.append(f"val_{k}.JPEG,{8 * k},0,{8 * k + 7},31,{('ship', 'cat')[k // 2]}")
    (tmp_path / "tiny-imagenet-boxes/boxes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def test_each_image_keeps_its_own_box_and_class_under_a_limit(root):
    whole = load_boxed(root, Transform(32, "resize-crop"), CLASSES)
    assert whole.labels.tolist() == [8, 8, 3, 3] and whole.size_px == (32, 32)
    for k, mask in enumerate(whole.masks):  # columns 8 k .. 8 k + 7 of 64 and the upper half, at half the size
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[:16, 4 * k : 4 * k + 4] = True
        assert torch.equal(mask, inside)
    part = load_boxed(root, Transform(32, "resize-crop"), CLASSES, limit=2)
    assert sorted(part.labels.tolist()) == [3, 8], "as equal a share of each class as can be"
    rows = [next(k for k in range(4) if torch.equal(whole.pixels[k], pixels)) for pixels in part.pixels]
    assert torch.equal(part.masks, whole.masks[rows])


def test_a_network_of_other_classes_and_a_transform_that_crops_are_refused(root):
    with pytest.raises(UserError, match="tiny-imagenet-boxes boxes has the class airplane"):
        load_boxed(root, Transform(32, "resize-crop"), ["circle", "square"])
    with pytest.raises(UserError, match=r"transform crops \(resize_px 40, size_px 32\), and boxes are of whole images"):
        load_boxed(root, Transform(32, "resize-crop", 40), CLASSES)
