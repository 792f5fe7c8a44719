"""Small sets on disk, and the real ones where this machine has them."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.specs import SPECS

REPOSITORY = Path(__file__).resolve().parents[3]
SHARED = REPOSITORY.parent / "shared" / "data"  # compressed copies of real sets; the project does not need them


@pytest.fixture
def small(monkeypatch):
    """small(name, split=count): the table's row with other counts, so that a handful of images makes a complete set."""

    def change(name: str, **counts: int) -> None:
        monkeypatch.setitem(SPECS, name, replace(SPECS[name], counts=counts))

    return change


@pytest.fixture
def noise(tmp_path):
    """noise("isun/a.jpeg", size=(32, 32), seed=0, smooth=False): an image file below tmp_path. Smooth = few edges, as in a crop."""

    def write(name: str, size: tuple[int, int] = (32, 32), seed: int = 0, smooth: bool = False) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = (4, 4) if smooth else size
        pixels = np.random.default_rng(seed).integers(0, 256, (cells[1], cells[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(
            path, **({"quality": 90} if path.suffix != ".png" else {})
        )
        return path

    return write


@pytest.fixture
def digits(tmp_path):
    """A root with a small svhn, and its pixels and digits as the .mat has them."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(1, 11), 4)[rng.permutation(40)]
    pixels = rng.integers(0, 256, (32, 32, 3, 40), dtype=np.uint8)
    (tmp_path / "svhn").mkdir()
    savemat(tmp_path / "svhn" / "test_32x32.mat", {"X": pixels, "y": labels[:, None].astype(np.uint8)})
    return tmp_path, pixels, labels


def _rebuild():
    if not (SHARED / "rebuild.py").exists():
        pytest.skip(f"no copies of real sets at {SHARED}")
    spec = importlib.util.spec_from_file_location("rebuild", SHARED / "rebuild.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def real_folders(tmp_path_factory) -> Path:
    """A root with the real iSUN (8,925 images) and the stand-in textures-10."""
    rebuild, root = _rebuild(), tmp_path_factory.mktemp("real")
    for name in ("isun", "textures-10"):
        folder, make = rebuild.SETS[name]
        (root / folder).mkdir()
        make(root / folder)
    return root


@pytest.fixture(scope="session")
def real_cifar10_test(tmp_path_factory) -> Path:
    """A root with CIFAR-10's real test_batch and batches.meta, byte for byte (the training batches would take 20 s)."""
    rebuild, root = _rebuild(), tmp_path_factory.mktemp("cifar")
    pytest.importorskip("imagecodecs", reason="unpacking CIFAR-10 needs imagecodecs")
    place = root / "cifar-10-batches-py"
    place.mkdir()
    facts = np.load(SHARED / "cifar10" / "labels.npz")
    batch = rebuild.cifar10_batch(
        b"testing batch 1 of 1", rebuild.sheets("cifar10", "test"), facts["test_labels"], facts["test_names"]
    )
    (place / "test_batch").write_bytes(batch)
    (place / "batches.meta").write_bytes((SHARED / "cifar10" / "batches.meta").read_bytes())
    return root


@pytest.fixture
def whole_cifar10() -> Path:
    """A root with all of CIFAR-10, where $OOD_DATA or data/ has it."""
    for root in (os.environ.get("OOD_DATA"), REPOSITORY / "data"):
        if root and (Path(root) / "cifar-10-batches-py" / "data_batch_5").exists():
            return Path(root)
    pytest.skip("all of CIFAR-10 is neither in $OOD_DATA nor in data/")
