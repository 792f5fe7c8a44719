"""Eq. 1 and 2 by hand."""

import pytest
import torch

from common.cam import normalise_map
from common.cli.errors import UserError
from dfb.masks import pseudo_mask


def test_threshold_by_hand():
    attention = torch.tensor([[[0, 1], [0, 0.5]]])
    assert pseudo_mask(attention, 0.5).tolist() == [[[False, True], [False, True]]]
    assert pseudo_mask(attention, 0.5, strict=True).tolist() == [[[False, True], [False, False]]]
    assert pseudo_mask(normalise_map(attention, "max", 1e-5), 0.5).tolist() == [[[False, True], [False, False]]]


@pytest.mark.parametrize("theta", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_theta_outside_the_open_interval_is_refused(theta):
    with pytest.raises(UserError, match=r"theta must be in \(0, 1\), got"):
        pseudo_mask(torch.zeros(1, 2, 2), theta)
