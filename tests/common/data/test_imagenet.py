import pytest
from PIL import Image

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.formats import draw, list_hash
from common.data.imagenet import class_list, imagenet1k, imagenet100

NPOS, MCM = class_list("imagenet100"), class_list("imagenet100-mcm")


def make(place, classes, images=1):
    for name in classes:
        (place / name).mkdir(parents=True)
        for k in range(images):
            Image.new("RGB", (4, 5), (k, 0, 0)).save(place / name / f"{k}.JPEG")


def test_the_lists_are_the_published_ones():
    # Hashes computed by others from the authors' lists (ids sorted, one a line, final newline).
    assert list_hash(NPOS) == "d9e57983b19f033fc72cd56688a15581b731c15ceb97a637b3d90d56bc1a4a99"
    assert list_hash(MCM) == "c825b3a3b9248b3398539b82d938747b4398d97d23e0fbd3ff268e5662f64578"
    assert len(NPOS) == len(MCM) == 100 and len(set(NPOS) & set(MCM)) == 6


def test_labels_are_places_in_sorted_order_and_the_hash_goes_along(tmp_path):
    make(tmp_path / "imagenet100" / "val", NPOS)
    raw = imagenet100(tmp_path, "test", {})
    assert raw.classes == NPOS and raw.labels.tolist() == list(range(100))
    assert raw.facts == {"class_list": "NPOS", "class_list_sha256": list_hash(NPOS)}


def test_a_whole_other_list_is_refused_by_name(tmp_path):
    make(tmp_path / "imagenet100" / "val", MCM)
    with pytest.raises(
        UserError,
        match=r"not the NPOS list's 100 \(6 of the NPOS list, 100 of the MCM list\); it is imagenet100-mcm\. The lists share 6",
    ):
        imagenet100(tmp_path, "test", {})


@pytest.mark.parametrize(
    "classes, said",
    [(NPOS[:50] + tuple(sorted(set(MCM) - set(NPOS)))[:50], "50 of the NPOS list"), (NPOS[:-1], "99 of the NPOS list")],
)
def test_a_mixture_and_a_gap_are_refused(tmp_path, classes, said):
    make(tmp_path / "imagenet100" / "val", classes)
    with pytest.raises(UserError, match=said):
        imagenet100(tmp_path, "test", {})


def test_the_list_is_picked_out_of_imagenet1k(tmp_path):
    make(tmp_path / "imagenet1k" / "train", sorted(set(NPOS) | set(MCM)), images=2)
    raw = imagenet100(tmp_path, "train", {}, name="imagenet100-mcm")
    assert raw.classes == MCM and len(raw) == 200 and raw.facts["class_list"] == "MCM"


def test_a_class_missing_from_imagenet1k_is_named(tmp_path):
    make(tmp_path / "imagenet1k" / "train", NPOS[1:])
    with pytest.raises(UserError, match=f"lacks 1 of the list's classes: {NPOS[0]}"):
        imagenet100(tmp_path, "train", {})


def test_a_flat_validation_folder_is_answered_with_how_to_sort_it(tmp_path):
    (tmp_path / "imagenet1k" / "val").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "imagenet1k" / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(
        UserError, match=r'one flat folder of 1 images.*devkit.*torchvision.datasets.ImageNet\(FOLDER, split="val"\)'
    ):
        load("imagenet1k", "test", root=tmp_path)


def test_a_drawn_subset_of_classes_is_the_published_rule(tmp_path):
    names = [f"n{k:08d}" for k in range(1000)]
    make(tmp_path / "imagenet1k" / "val", names)
    raw = imagenet1k(tmp_path, "test", {"C": 5, "seed": 3})
    assert raw.classes == tuple(names[row] for row in draw(names, 5, 3)) and raw.labels.tolist() == [0, 1, 2, 3, 4]
    assert raw.facts["class_list_sha256"] == list_hash(raw.classes)
    assert imagenet1k(tmp_path, "test", {"C": 5, "seed": 4}).classes != raw.classes


def test_nine_hundred_classes_are_not_imagenet1k(tmp_path):
    make(tmp_path / "imagenet1k" / "val", [f"n{k:08d}" for k in range(3)])
    with pytest.raises(UserError, match="has 3 class folders, expected 1,000"):
        imagenet1k(tmp_path, "test", {})


def test_an_empty_class_of_a_drawn_subset_shifts_no_label_and_is_not_trained_on(tmp_path):
    names = [f"n{k:08d}" for k in range(1000)]
    for split in ("val", "train"):
        make(tmp_path / "imagenet1k" / split, names)
        (tmp_path / "imagenet1k" / split / names[draw(names, 3, 0)[0]] / "0.JPEG").unlink()
    images = load("imagenet1k:C=3", "test", root=tmp_path)
    assert images.labels.tolist() == [1, 2] and len(images.classes) == 3
    assert load("imagenet1k:C=3", "test", root=tmp_path, classes=images.classes[::-1]).labels.tolist() == [1, 0]
    with pytest.raises(UserError, match=f"has no image to train on of the class {images.classes[0]}$"):
        load("imagenet1k:C=3", "train", root=tmp_path, to_train_on=True)
