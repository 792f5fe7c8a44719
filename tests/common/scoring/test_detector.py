"""Detectors: the same scores as common.evaluate, the same again from a file in a new process, a threshold, and wrong use."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from scipy.stats import beta

from common import data, evaluate
from common.cli.errors import UserError
from common.scorers import ALL
from common.scoring import Detector
from common.scoring.sets import PAPER_SCORERS

ROOT = Path(__file__).resolve().parents[3]
CLASSES = [f"class {k}" for k in range(37)]
PIXELS = np.random.default_rng(0).integers(0, 256, (111, 40, 32, 3), np.uint8)
LABELS = np.arange(111) % 37
SMALL = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2}
NETS = {
    "vit_tiny_patch16_224": (32, SMALL, ALL),
    "swin_tiny_patch4_window7_224": (
        56, {"img_size": 56, "depths": (1, 1), "num_heads": (2, 2), "embed_dim": 24}, ("react", "vim:D=8"),
    ),
    "convnext_atto": (32, {"depths": (1, 1, 1, 1)}, ("react", "odin", "featurenorm")),
    "resnet50": (32, {}, ("react", "mahalanobis")),
}  # fmt: skip
AGAIN = """
import sys, timm, numpy as np
from common.scoring import Detector
folder, nets = eval(sys.argv[1])
pixels = np.load(f"{folder}/pixels.npy")
for name, (how, files) in nets.items():
    for file in files:
        d = Detector.load(f"{folder}/{file}", timm.create_model(name, num_classes=37, **how), device="cpu")
        np.save(f"{folder}/{file}.npy", d.score(pixels))
"""


def made(net, scorer="energy", size_px=32, **how):
    return Detector.from_module(
        net, classes=CLASSES, size_px=size_px, mean=0.5, std=0.5, scorer=scorer, device="cpu", **how
    )


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=37, **SMALL).eval()


@pytest.mark.filterwarnings("ignore")  # of few training images
def test_every_score_that_fits_is_the_same_from_a_file_in_a_new_process(tmp_path):
    np.save(tmp_path / "pixels.npy", PIXELS[:10])
    before, files = {}, {}
    for name, (size, how, scores) in NETS.items():
        torch.manual_seed(0)
        net, refused = timm.create_model(name, num_classes=37, **how).eval(), {}
        for number, scorer in enumerate(scores):
            try:
                d = made(net, scorer, size).fit(PIXELS, labels=LABELS)
            except UserError as error:
                refused[scorer] = str(error)
                continue
            before[f"{name}-{number}.ood"] = d.score(PIXELS[:10])
            d.save(tmp_path / f"{name}-{number}.ood")
        files[name] = (how, [file for file in before if file.startswith(name)])
        assert refused.keys() <= ({"featurenorm", "masf"} if name.startswith("vit") else set()), refused
        assert all("residual blocks" in reason for reason in refused.values()) and len(files[name][1]) > len(refused)
    words = [sys.executable, "-c", AGAIN, repr((str(tmp_path), files))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for file, scores_before in before.items():
        again = np.load(tmp_path / f"{file}.npy")
        assert again.dtype == np.float64 and np.array_equal(again, scores_before), file


@pytest.mark.filterwarnings("ignore")
def test_scores_of_a_checkpoint_are_those_of_evaluate(finished, tmp_path, typed):
    path, scorers = (
        finished("checkpoint.pt", limit=200),
        [n for n in PAPER_SCORERS if n not in ("odin-dfb", "dice+react")],
    )
    words = ["--scorers", *scorers, "--ood", "shapes-noise", "--limit", 40, "--device", "cpu", "--quiet"]
    assert typed(evaluate, path, *words, "--save-scores", tmp_path / "s.npz").code == 0
    expected = np.load(tmp_path / "s.npz")
    images = {
        key: data.load(name, "test", root=Path("data"), limit=40)
        for name, key in (("shapes", "id"), ("shapes-noise", "shapes-noise"))
    }
    for scorer in scorers:
        d = Detector.from_checkpoint(path, scorer, device="cpu").fit()
        for key, own in images.items():
            assert np.array_equal(d.score(own), expected[f"{scorer}/{key}"]), (scorer, key)


def test_the_threshold_is_fpr95s_and_the_share_has_its_exact_interval(net):
    d = made(net).fit().calibrate(PIXELS[:50], accept=0.9)
    scores, said = d.score(PIXELS[:50]), d.facts["calibrated"]
    assert d.threshold == np.sort(scores)[-45] and said["accepted"] == (scores >= d.threshold).mean() == 0.9
    assert said["low"] == pytest.approx(beta.ppf(0.025, 45, 6)) and said["high"] == pytest.approx(
        beta.ppf(0.975, 46, 5)
    )
    assert "accepts 90.0 % (78.2 to 96.7) of 50 held-out images" in repr(d)


def test_predict_gives_class_score_and_accepted_one_an_image(net):
    d = made(net).fit().calibrate(PIXELS[:50])
    found = d.predict(PIXELS)
    with torch.no_grad():
        floats = torch.rand(4, 3, 32, 32)
        winners = net((floats - 0.5) / 0.5).argmax(1)
    assert [name for name, _, _ in d.predict(floats)] == [CLASSES[k] for k in winners]
    assert np.array_equal(found["score"], d.score(PIXELS)) and len(found) == 111
    assert np.array_equal(found["accepted"], found["score"] >= d.threshold)


def test_a_gradient_is_there_also_within_inference_mode(net):
    d = made(net, "odin").fit()
    expected = d.score(PIXELS[:4])
    with torch.inference_mode():
        assert np.array_equal(made(net, "odin").fit().score(PIXELS[:4]), expected)
        assert np.isfinite(d.score(torch.rand(2, 3, 32, 32))).all()  # an inference tensor


def test_a_new_fit_forgets_the_threshold(net):
    d = made(net).fit().calibrate(PIXELS[:50]).fit()
    with pytest.raises(UserError, match="there is no threshold yet: calibrate"):
        d.predict(PIXELS)


def test_wrong_use_says_what_to_do(net, tmp_path):
    d = made(net, "mahalanobis")
    for use in (d.score, d.calibrate):
        with pytest.raises(UserError, match=r"not fitted yet: fit\(train_images\) first"):
            use(PIXELS)
    with pytest.raises(UserError, match="not fitted yet"):
        d.save(tmp_path / "d.ood")
    with pytest.raises(UserError, match="there is no threshold yet"):
        d.predict(PIXELS)
    with pytest.raises(UserError, match=r"needs in-distribution training images"):
        d.fit()
    with pytest.raises(UserError, match="mahalanobis needs the class of each training image"):
        d.fit(PIXELS)
    with pytest.raises(UserError, match=r"accept must be in \(0, 1\], got 1.5"):
        made(net).fit().calibrate(PIXELS, accept=1.5)
    with pytest.raises(UserError, match="there are no images"):
        made(net).fit().score(PIXELS[:0])


def test_what_a_module_is_given_with_is_checked(net):
    known = {"classes": CLASSES, "size_px": 32, "mean": 0.5, "std": 0.5, "device": "cpu"}
    wrong = {
        "mean is missing": {"mean": None},
        "std must be one number or three above 0": {"std": (1, 1, 0)},
        "mean must be one number or three": {"mean": (0.5, 0.5)},
        "classes names 36": {"classes": CLASSES[1:]},
        "two different names or more, got 'class 1' twice": {"classes": [*CLASSES[1:], "class 1"]},
        "unknown scorer 'recat'": {"scorer": "recat"},
        "featurenorm and masf look into residual blocks": {"scorer": "featurenorm"},
    }
    for said, change in wrong.items():
        with pytest.raises(UserError, match=said):
            Detector.from_module(net, **known | change)


def test_a_checkpoint_with_a_background_class_is_sent_to_its_own_command(finished):
    with pytest.raises(UserError, match=r"score it with python -m dfb.evaluate"):
        Detector.from_checkpoint(finished("dfb.pt", 9, extra_classes=1))
