"""TagFog's anchors."""

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.objectives.anchors import random_anchors, read_anchors

GOOD = {"anchors": np.array([[3.0, 4, 0], [0, 0, 2]]), "classes": np.array(["b", "a"]), "source": np.array("by hand")}


def test_random_anchors_are_at_right_angles_and_of_length_1_or_only_that():
    rows = random_anchors(5, 8)
    assert torch.allclose(rows @ rows.T, torch.eye(5), atol=1e-5)
    assert torch.allclose(random_anchors(9, 4).norm(dim=1), torch.ones(9))


def test_a_file_is_read_in_the_order_of_the_classes_and_its_digest_is_of_what_is_used(tmp_path):
    np.savez(tmp_path / "one.npz", **GOOD)
    rows, said = read_anchors(tmp_path / "one.npz", ("a", "b"))
    assert torch.allclose(rows, torch.tensor([[0, 0, 1], [0.6, 0.8, 0]])) and said["anchors_source"] == "by hand"
    turned = {name: array[::-1] if array.ndim else array for name, array in GOOD.items()}
    np.savez(tmp_path / "two.npz", **turned | {"anchors": 2 * turned["anchors"]})
    assert read_anchors(tmp_path / "two.npz", ("a", "b"))[1] == said
    assert read_anchors(tmp_path / "two.npz", ("b", "a"))[1]["anchored_by"] != said["anchored_by"]
    np.savez(tmp_path / "two.npz", **GOOD | {"anchors": GOOD["anchors"] + 0.1})
    assert read_anchors(tmp_path / "two.npz", ("a", "b"))[1]["anchored_by"] != said["anchored_by"]


@pytest.mark.parametrize("changes, said", [
    ({"source": None}, "lacks source; expected an .npz with anchors"),
    ({"classes": np.array(["a", "a"])}, "names a class twice, among 2; expected 2 different ones"),
    ({"classes": np.array(["a", "c"])}, "has no anchor of the class 'b'; expected 2: a, b"),
    ({"classes": np.array(["a", "b", "c"]), "anchors": np.ones((3, 4))}, "has one of a class that the set has not, 'c'; expected 2: a, b"),
    ({"classes": np.array([0, 1])}, "classes must be a list of text and source one text, got int64 (2,)"),
    ({"source": np.array(["x"])}, "classes must be a list of text and source one text"),
    ({"anchors": np.ones((3, 4))}, "anchors must be floats, 2 x width, got float64 of shape (3, 4)"),
    ({"anchors": np.ones(2)}, "anchors must be floats, 2 x width, got float64 of shape (2,)"),
    ({"anchors": np.ones((2, 4), dtype=int)}, "anchors must be floats, 2 x width, got int64 of shape (2, 4)"),
    ({"anchors": np.array([[1, 0], [np.nan, 1]])}, "the anchor of 'a' must be finite and not zero"),
    ({"anchors": np.array([[0.0, 0], [1, 1]])}, "the anchor of 'b' must be finite and not zero"),
])  # fmt: skip
def test_what_is_none_is_refused_by_file_and_part(tmp_path, changes, said):
    path = tmp_path / "odd.npz"
    np.savez(path, **{name: array for name, array in (GOOD | changes).items() if array is not None})
    with pytest.raises(UserError) as refused:
        read_anchors(path, ("a", "b"))
    assert str(refused.value).startswith(f"{path}") and said in str(refused.value)
