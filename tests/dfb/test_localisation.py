"""How well masks fit a truth, by hand."""

import torch

from dfb.localisation import agreement, pointing

FOUND = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 1]]]).bool()
TRUTH = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 1]]]).bool()


def test_agreement_by_hand():
    got = agreement(FOUND, TRUTH)
    assert got == {
        "iou": 0.5,
        "precision": 2 / 3,
        "recall": 2 / 3,
        "mean_image_iou": (1 / 3 + 1) / 2,
        "foreground_share": 0.375,
        "true_share": 0.375,
    }


def test_no_mask_at_all_is_no_division_by_zero():
    got = agreement(torch.zeros_like(TRUTH), TRUTH)
    assert got["precision"] == 0 and got["recall"] == 0 and got["iou"] == 0


def test_pointing_counts_peaks_inside():
    assert pointing(torch.tensor([2, 0]), TRUTH) == 0.5
