"""The preset custom: what follows from images and network, by value, and one's own photographs from pre-training to a report."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from common import evaluate, pretrain, report
from common.backbones import build
from common.backbones.classifier import IMAGENET_STATS
from common.checkpoint import load
from common.cli.errors import UserError
from common.data.datasets import load as load_set
from common.data.notes import note
from common.data.transforms import IMAGENET, Transform
from common.training.custom import batch_of, epochs_of, rate_of, transform_for, typical_side
from dfb import evaluate as dfb_evaluate
from dfb import finetune as dfb_finetune
from dfb import masks
from lbf import finetune

SIZES = [(19, 44), (30, 21), (25, 25)]  # of photographs, in turn; the median of the shorter sides is 21
QUIET = ("--quiet", "--device", "cpu")


@pytest.fixture(autouse=True)
def said_anew():
    note.cache_clear()  # what another test has had said is said once more


@pytest.fixture
def photographs(tmp_path):
    """photographs(folder, count, tint): JPEGs of several sizes."""

    def make(place: str, count: int, tint: int) -> None:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for k in range(count):
            width, height = SIZES[k % len(SIZES)]
            pixels = np.random.default_rng([k, tint]).integers(0, 120, (height, width, 3), dtype=np.uint8)
            pixels[..., tint] += np.uint8(120)
            Image.fromarray(pixels).save(folder / f"my {k}.jpg", quality=95)

    return make


@pytest.fixture
def pets(photographs, tmp_path):
    """A folder with train/ and test/, of two classes; twelve photographs to train on."""
    for split, count in (("train", 6), ("test", 3)):
        for tint, name in enumerate(("cat", "dog")):
            photographs(f"pets/{split}/{name}", count, tint)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    "images, size_px, batch_size, scratch, further",
    [(12, 32, 8, 200, 30), (6, 32, 6, 200, 30), (400, 32, 50, 200, 30), (6400, 64, 64, 40, 10), (6400, 72, 32, 20, 5), (10**6, 224, 32, 10, 3)],
)  # fmt: skip
def test_batch_and_length_follow_from_the_number_of_images(images, size_px, batch_size, scratch, further):
    assert batch_of(images, size_px) == batch_size
    assert [epochs_of(images, batch_size, is_scratch) for is_scratch in (True, False)] == [scratch, further]


def test_the_rate_follows_from_batch_and_start():
    rates = [rate_of(64, True, False), rate_of(64, False, False), rate_of(64, False, True), rate_of(6, True, False)]
    assert rates == [0.05, 0.025, 0.005, 0.0047]


def test_the_size_follows_from_images_and_network(pets, photographs, tmp_path):
    name = f"folder:{pets}"
    assert typical_side(name, tmp_path) == 21
    (pets / "train/cat/my 0.jpg").write_bytes(b"")  # whose size nobody knows
    assert typical_side(name, tmp_path) == 21
    sides = {8: 16, 21: 16, 47: 40, 64: 64, 480: 64}
    assert {side: transform_for(name, "resnet18", side).size_px for side in sides} == sides
    assert transform_for(name, "resnet50", 21) == IMAGENET and transform_for(name, "bit-r50x1", 21).size_px == 128
    assert transform_for("cifar10", "resnet18", typical_side("cifar10", tmp_path)) == Transform(32)


def run(typed, module, *words):
    code, out, err = typed(module, *words, *QUIET)
    assert code == 0, err
    return out, err


def test_own_photographs_go_from_a_folder_to_a_report(typed, pets, photographs, tmp_path):
    photographs("ood", 4, 2)
    name, short = f"folder:{pets}", ("--epochs", 1)
    pre, lbf, dfb = (tmp_path / place / "checkpoint.pt" for place in ("pre", "lbf", "dfb"))
    words = ("custom", "--id", name, "--backbone", "resnet8", *short, "--out", pre.parent)
    _, said = run(typed, pretrain, *words)
    facts = load(pre)[1]
    recipe, pixels = facts["recipe"], load_set(name, "train", root=tmp_path, transform=Transform(16)).pixels / 255
    assert facts["transform"]["size_px"] == recipe["image_size"] == 16 and facts["classes"] == ["cat", "dog"]
    assert recipe["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert recipe["std"] == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-5)
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"], recipe["crop"]) == (1, 8, 0.0063, "pad")
    assert "custom, from 12 images and resnet8: 16 px, normalised by mean " in said
    assert "batch size 8, lr 0.0063, crop pad\n" in said and "epochs" not in said
    _, said = run(typed, finetune, pre, "--preset", "custom", *short, "--out", lbf.parent)
    recipe = load(lbf)[1]["recipe"]
    assert (
        recipe["delta"] == 0.5 and f"16 px, batch size 8, lr 0.0031, crop pad, delta 0.5, mu {recipe['mu']:g}" in said
    )
    run(typed, masks, pre, "--out", tmp_path / "masks")
    words = (dfb_finetune, pre, "--masks", tmp_path / "masks", "--preset", "custom", *short, "--out", dfb.parent)
    assert "16 px, batch size 8, lr 0.0031\n" in run(typed, *words)[1]
    scored = ("--ood", f"folder:{tmp_path / 'ood'}", "--scorers", "msp", "energy")
    for path in (pre, lbf):
        run(typed, evaluate, path, *scored)
    run(typed, dfb_evaluate, dfb, "--vanilla", pre, "--ood", f"folder:{tmp_path / 'ood'}", "--scorers", "energy")
    words = (report, pre.parent, lbf.parent, dfb.parent, "--out", tmp_path / "report.html")
    run(typed, *words)
    page = (tmp_path / "report.html").read_text()
    assert f"folder:{tmp_path / 'ood'}" in page and "LBF" in page and "DFB" in page


def test_what_is_given_is_kept_and_the_rest_follows_from_it(typed, pets, tmp_path):
    words = ("custom", "--id", f"folder:{pets}", "--backbone", "resnet8", "--image-size", 24, "--batch-size", 3)
    run(typed, pretrain, *words, "--lr", 0.2, "--steps", 1, "--crop", "none", "--out", tmp_path / "run")
    recipe = json.loads((tmp_path / "run/recipe.json").read_text())["recipe"]
    given = {"image_size": 24, "batch_size": 3, "lr": 0.2, "steps": 1, "crop": "none", "epochs": 200}
    assert {name: recipe[name] for name in given} == given


def test_custom_needs_a_set_and_a_set_needs_images_for_a_test(typed, pets, tmp_path):
    code, _, err = typed(pretrain, "custom", "--backbone", "resnet8", "--out", tmp_path / "run", *QUIET)
    assert code == 2 and err.startswith("error: custom needs the images to train on: --id SET, as --id folder:PATH")
    words = ("custom", "--id", f"folder:{pets / 'train'}", "--backbone", "resnet8", "--epochs", 1)
    _, said = run(typed, pretrain, *words, "--out", tmp_path / "run")
    assert "pets/train has no test split: all its images are trained on" in said
    code, _, err = typed(evaluate, tmp_path / "run/checkpoint.pt", "--ood", "shapes-noise", *QUIET)
    assert code == 2 and "pets/train: its test images are those that the network was trained on" in err
    assert not (tmp_path / "run/results.csv").exists()


def test_a_start_network_brings_its_size_and_normalisation_along(typed, pets, tmp_path):
    words = ("custom", "--id", f"folder:{pets}", "--epochs", 1)
    run(typed, pretrain, *words, "--backbone", "resnet8", "--image-size", 24, "--out", tmp_path / "a")
    run(typed, pretrain, *words, "--start", tmp_path / "a/checkpoint.pt", "--out", tmp_path / "b")
    first, second = (load(tmp_path / name / "checkpoint.pt")[1]["recipe"] for name in "ab")
    same = ("image_size", "mean", "std")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert (first["lr"], second["lr"]) == (0.0063, 0.0031)


def test_others_weights_bring_their_normalisation_and_a_lower_rate(typed, pets, tmp_path):
    torch.save(build("resnet20", 2).body.state_dict(), tmp_path / "body.pt")
    words = ("custom", "--id", f"folder:{pets}", "--backbone", "resnet20", "--weights", tmp_path / "body.pt")
    run(typed, pretrain, *words, "--epochs", 1, "--out", tmp_path / "run")
    model, facts = load(tmp_path / "run/checkpoint.pt")
    assert facts["recipe"]["mean"] == pytest.approx(IMAGENET_STATS[0]) and facts["recipe"]["lr"] == rate_of(
        8, False, True
    )
    assert model.normalise.std.flatten().tolist() == pytest.approx(IMAGENET_STATS[1])


def test_an_own_objective_has_the_preset_too_with_a_recipe_of_its_own(typed, pets, tmp_path, monkeypatch):
    text = "from common.objectives.cross_entropy import CrossEntropy\nclass Own(CrossEntropy):\n    pass\n"
    (tmp_path / "own_objective.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("custom", "--objective", "own_objective:Own", "--id", f"folder:{pets}", "--backbone", "resnet8")
    _, said = run(typed, pretrain, *words, "--epochs", 1, "--out", tmp_path / "run")
    assert "16 px, normalised by mean" in said and load(tmp_path / "run/checkpoint.pt")[1]["method"] == "Own"


def test_an_unknown_network_is_named(pets):
    with pytest.raises(UserError, match="unknown backbone 'zork'"):
        transform_for(f"folder:{pets}", "zork", 32)
