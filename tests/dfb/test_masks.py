"""Eq. 1 and 2 by hand."""

import numpy as np
import pytest
import torch

from common.cam import normalise_map
from common.cli.errors import UserError
from common.data import masks as stored
from dfb.masks import MaskRecipe, forget_damaged, pseudo_mask


def test_threshold_by_hand():
    attention = torch.tensor([[[0, 1], [0, 0.5]]])
    assert pseudo_mask(attention, 0.5).tolist() == [[[False, True], [False, True]]]
    assert pseudo_mask(attention, 0.5, strict=True).tolist() == [[[False, True], [False, False]]]
    assert pseudo_mask(normalise_map(attention, "max", 1e-5), 0.5).tolist() == [[[False, True], [False, False]]]


@pytest.mark.parametrize("theta", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_theta_outside_the_open_interval_is_refused(theta):
    with pytest.raises(UserError, match=r"theta must be in \(0, 1\), got"):
        pseudo_mask(torch.zeros(1, 2, 2), theta)


def test_sure_attention_lies_on_either_side_of_theta_where_masks_are_refined():
    MaskRecipe(theta=0.97)  # read by a refinement alone
    for theta in (0.1, 0.97):
        with pytest.raises(UserError, match=f"needs sure_background <= theta <= sure_object, got .* theta {theta:g}"):
            MaskRecipe(theta=theta, refine="grabcut")
    with pytest.raises(UserError, match="refine must be one of none, grabcut, got 'crf'"):
        MaskRecipe(refine="crf")


def test_a_damaged_part_is_forgotten_though_its_masks_can_be_read_and_the_whole_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PART", 2)
    facts = dict.fromkeys(("checkpoint_sha256", "data", "data_sha256"), "x") | {
        "classes": 2,
        "transform": {},
        "recipe": {},
    }
    made = lambda rows: {"masks": np.ones((len(rows), 4, 4), bool)}  # noqa: E731
    stored.make_masks(tmp_path, facts, 4, (4, 4), made)
    stored.write_manifest(tmp_path, facts, 4, (4, 4), {})
    forget_damaged(tmp_path)
    assert stored.read_masks(tmp_path)
    with (tmp_path / "part-00001.npz").open("ab") as file:
        file.write(b"x")  # behind the archive: what is read of it stays the same
    forget_damaged(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.npz"]
