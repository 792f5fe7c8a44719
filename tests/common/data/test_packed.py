"""Sets in one file of arrays: what is in it is images with labels, or one line says what is not."""

import numpy as np
import pytest
from scipy.io import savemat

from common.cli.errors import UserError
from common.data.packed import check_images, read_arrays

PIXELS, LABELS = np.zeros((5, 8, 8, 3), np.uint8), np.array([0, 1, 2, 0, 1])


def test_arrays_are_read_and_a_missing_one_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS, fine=LABELS)
    savemat(tmp_path / "a.mat", {"X": PIXELS, "y": LABELS})
    assert np.array_equal(read_arrays(tmp_path / "a.npz", ("images", "fine"))["fine"], LABELS)
    assert np.array_equal(read_arrays(tmp_path / "a.mat", ("X",))["y"].ravel(), LABELS)
    with pytest.raises(UserError, match=r"a\.npz has no array class_names; it has: images, fine$"):
        read_arrays(tmp_path / "a.npz", ("images", "class_names"))
    with pytest.raises(UserError, match=r"a\.mat has no array Y; it has: X, y$"):
        read_arrays(tmp_path / "a.mat", ("Y",))


@pytest.mark.parametrize("ending", [".npz", ".mat"])
def test_a_file_that_is_cut_or_another_is_one_line(tmp_path, ending):
    path, rng = tmp_path / f"a{ending}", np.random.default_rng(0)
    np.savez(path, X=PIXELS) if ending == ".npz" else savemat(path, {"X": PIXELS}, do_compression=True)
    whole = path.read_bytes()
    for content in (b"", b"hello", *(whole[:length] for length in rng.integers(len(whole), size=20).tolist())):
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            read_arrays(path, ("X",))
        assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "pixels, labels, said",
    [
        (PIXELS.astype(np.float32), LABELS, "expected pixels uint8, images x 8 x 8 x 3, got float32"),
        (PIXELS.transpose(0, 3, 1, 2), LABELS, r"got uint8 of shape \(5, 3, 8, 8\)"),
        (PIXELS[:0], LABELS[:0], "expected pixels"),
        (PIXELS, LABELS[:4], r"expected 5 whole labels, got int64 of shape \(4,\)"),
        (PIXELS, LABELS + 0.5, "expected 5 whole labels, got float64"),
        (PIXELS, LABELS + 1, r"labels must be in 0\.\.2, got 1\.\.3"),
    ],
)
def test_what_is_not_images_with_labels_is_named(tmp_path, pixels, labels, said):
    check_images(tmp_path / "a.npz", PIXELS, LABELS, 3, 8)
    with pytest.raises(UserError, match=rf"a\.npz: .*{said}"):
        check_images(tmp_path / "a.npz", pixels, labels, 3, 8)
