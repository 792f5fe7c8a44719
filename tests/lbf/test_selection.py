"""What Eq. 5 selects against the truth, by hand, and the command as it is typed."""

import csv
import math
from pathlib import Path

import pytest
import torch

from common.backbones import build
from common.cli.errors import UserError
from common.data.boxes import box_masks
from common.data.images import Images
from common.scoring.network import Inference, Network
from lbf import selection
from lbf.selection import counted, draw, measure, names_of, shares

SELECTED = torch.tensor([[[1, 1, 0], [0, 1, 0], [0, 0, 0]]]).bool()
BACKGROUND = torch.tensor([[[0, 1, 1], [1, 0, 1], [1, 1, 1]]]).bool()  # the object: a corner and the centre
NORMS = torch.tensor(
    [[[9.0, 1, 2], [3, 8, 9], [9, 9, 9]]]
)  # the three lowest: two in the first row, one at its left below


def test_shares_by_hand():
    sums = counted(SELECTED, BACKGROUND, NORMS)
    assert sums.tolist() == [3, 1, 2, 3, 7, 2, 42, 17]
    assert shares(*sums.tolist()) == pytest.approx({
        "selected_share": 3 / 9, "object_share": 2 / 2, "precision": 1 / 3, "recall": 1 / 7, "base_rate": 7 / 9,
        "border_share": 2 / 3, "low_norm_precision": 1, "low_norm_object_share": 0, "norm_background": 6, "norm_object": 8.5,
    })  # fmt: skip


def test_nothing_selected_and_no_object_are_no_division_by_zero():
    none, everywhere = torch.zeros_like(SELECTED), torch.ones_like(SELECTED)
    found = shares(*counted(none, everywhere, NORMS).tolist())
    unknown = {
        "precision",
        "border_share",
        "low_norm_precision",
        "object_share",
        "low_norm_object_share",
        "norm_object",
    }
    assert {name for name, value in found.items() if value is None} == unknown
    assert found["recall"] == 0 and found["base_rate"] == 1


def network_of(batch_size: int) -> Network:
    """Its map is the image's first two channels, and they are the local logits too."""
    made = object.__new__(Network)
    made.model, made.how = build("resnet8", 2), Inference(batch_size=batch_size, quiet=True)
    made.model.feature_map, made.model.local_logits = (
        lambda pixels: 255 * pixels[:, :2],
        lambda feature_map: feature_map,
    )
    return made


def test_each_delta_is_measured_in_one_pass_over_all_images_whatever_the_batch():
    """Local logits (0, 0), (1, 0), (2, 0): the probability of class 0 is .5, .731, .881, that of class 1 the rest."""
    pixels = torch.zeros(3, 3, 1, 3, dtype=torch.uint8)
    pixels[:, 0, 0] = torch.tensor([0, 1, 2], dtype=torch.uint8)
    masks = torch.tensor([[[False, False, True]]]).expand(3, 1, 3)
    images = Images("few", pixels, torch.tensor([0, 0, 1]), masks)
    for batch_size in (1, 2, 3):
        network = network_of(batch_size)
        low, high = measure(network, images, [0.2, 0.6])
        assert (low["selected_share"], low["precision"], low["object_share"]) == (1 / 9, 0, 1 / 3)
        assert (high["selected_share"], high["precision"], high["recall"]) == pytest.approx((5 / 9, 4 / 5, 4 / 6))
        assert (
            high["object_share"] == pytest.approx(1 / 3) and low["norm_object"] == 2 and low["norm_background"] == 0.5
        )
        assert low["low_norm_precision"] == 1 and low["low_norm_object_share"] == 0
    with pytest.raises(UserError, match="few has no foreground masks; .*--against tiny-imagenet-boxes"):
        measure(network, Images("few", pixels, images.labels), [0.2])


def test_the_figure_shows_each_rule_against_delta_in_order():
    rows = [
        {"run": "a", "delta": d, "precision": p, "low_norm_precision": 0.9, "object_share": 0.1, "low_norm_object_share": None, "base_rate": 0.7}
        for d, p in ((0.5, 0.8), (0.01, None), (0.1, 0.6))
    ]  # fmt: skip
    precision, share = draw([rows]).axes
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in precision.lines}
    assert lines["a, Eq. 5"] == ([0.1, 0.5], [60, 80])
    assert lines["a, as many of lowest norm"] == ([0.01, 0.1, 0.5], [90, 90, 90])
    assert list(share.lines[0].get_ydata()) == [10, 10, 10] and not len(share.lines[1].get_xdata())


@pytest.mark.parametrize("paths, names", [
    (["r/lbf/c.pt", "r/control/c.pt"], ["lbf", "control"]),
    (["r/seed-0/lbf/c.pt", "r/seed-1/lbf/c.pt", "r/seed-1/control/c.pt"], ["seed-0/lbf", "seed-1/lbf", "seed-1/control"]),
    (["r/a.pt", "r/b.pt"], ["r/a.pt", "r/b.pt"]),
    (["a.pt"], [""]),
])  # fmt: skip
def test_networks_are_told_apart_by_their_folders(paths, names):
    assert list(names_of([Path(path) for path in paths]).values()) == [name or "a.pt" for name in names]


FEW = ("--limit", 24, "--device", "cpu", "--quiet")


def test_one_line_a_network_and_delta(finished, typed, tmp_path):
    path = finished("c.pt", seed=0)
    code, out, err = typed(
        selection, path, *FEW, "--deltas", 1.1, 0, 1.1, "--out", tmp_path / "s.csv", "--figure", tmp_path / "f"
    )
    assert code == 0, err
    every, none = csv.DictReader((tmp_path / "s.csv").open())
    assert (every["delta"], every["selected_share"], every["recall"], every["object_share"]) == (
        "1.1",
        "1.0",
        "1.0",
        "1.0",
    )
    assert every["precision"] == every["base_rate"] == every["low_norm_precision"] != ""
    assert none["precision"] == "" and none["selected_share"] == "0.0" and out.count("\n| ") == 3
    assert (tmp_path / "f.png").stat().st_size and (tmp_path / "f.pdf").stat().st_size
    again = typed(selection, path, *FEW, "--deltas", 1.1, 0, "--out", tmp_path / "s.csv", "--figure", tmp_path / "f")
    assert again.out == out and "done already" in again.err


@pytest.mark.parametrize("flags, said", [
    (("--deltas", "nan"), "got nan"),
    (("--deltas", "0.1", "-0.1"), "got -0.1"),
    (("--against", "boxes"), "boxes"),
    (("--against", "tiny-imagenet-boxes", "--split", "test"), "--split goes with --against truth"),
    (("--against", "tiny-imagenet-boxes", "--data", "nowhere"), "tiny-imagenet-boxes: expected"),
])  # fmt: skip
def test_bad_input_is_refused_in_one_line(finished, typed, tmp_path, flags, said):
    code, _, err = typed(selection, finished("c.pt"), *FEW, *flags, "--out", tmp_path / "s.csv")
    assert (
        code == 2
        and said in err.strip().splitlines()[-1]
        and "Traceback" not in err
        and not (tmp_path / "s.csv").exists()
    )


def test_boxes_are_the_truth_of_photographs(finished, typed, tmp_path, monkeypatch):
    """Boxes over the left half of all images: the base rate is a half, whatever the network."""
    names = [f"c{k}" for k in range(8)]
    masks = box_masks([[0, 0, 31, 63]] * 16, 64, (48, 48))
    pixels = torch.randint(0, 255, (16, 3, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    boxed = Images("tiny-imagenet-boxes", pixels, torch.arange(16) % 8, masks, tuple(names))
    monkeypatch.setattr(selection.boxes, "load_boxed", lambda data, transform, classes, limit: boxed)
    words = ("--against", "tiny-imagenet-boxes", "--out", tmp_path / "s.csv", *FEW)
    code, out, err = typed(selection, finished("c.pt", classes=names), *words)
    (row,) = csv.DictReader((tmp_path / "s.csv").open())
    assert code == 0 and "against the boxes" in out, err
    assert row["images_of"] == "tiny-imagenet-boxes" and math.isclose(float(row["base_rate"]), 0.5)
