"""How images pass: every setting has its effect, and features are asked for only where a score needs them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.backbones import build
from common.checkpoint import weights_digest
from common.cli.errors import UserError
from common.data import load
from common.data.shapes import CLASSES
from common.data.transforms import Transform
from common.scorers import SCORERS
from common.scoring.network import Inference, Network
from common.scoring.sets import accuracy, score_sets, scorer_lines

FACTS = {
    "id_set": "shapes", "limit": 24, "seed": 3, "train_data_sha256": "t", "recipe": {"epochs": 1},
    "transform": {"size_px": 48, "rule": "none"}, "classes": list(CLASSES),
}  # fmt: skip
HOW = Inference(device="cpu", limit=10, quiet=True)


def network(**changes) -> Network:
    torch.manual_seed(0)
    return Network(build("resnet8", 8, image_size=48), FACTS, replace(HOW, **changes))


def test_bad_settings_are_named():
    with pytest.raises(UserError, match="^batch-size must be >= 1, got 0$"):
        Inference(batch_size=0)
    with pytest.raises(UserError, match="no device 'warp' here"):
        network(device="warp")
    with pytest.raises(UserError, match="limit must be >= 1, got 0"):
        network(limit=0).scored(["shapes-noise"], [SCORERS["msp"]])


def test_training_images_pass_only_for_scores_that_look_at_them():
    some = network()
    assert some.scored(["shapes-noise"], [SCORERS["msp"]]).train is None
    scored = some.scored(["shapes-noise"], [SCORERS["knn"], SCORERS["featurenorm"]])
    assert (
        len(scored.train) == 24
        and "block_norms" in scored.id.extras
        and "block_norms" in scored.ood["shapes-noise"].extras
    )
    assert len(scored.id) == len(scored.ood["shapes-noise"]) == 10 and list(scored.ood) == ["shapes-noise"]


def test_a_score_that_this_network_cannot_serve_is_left_out_before_any_pass():
    some, scorers = network(), scorer_lines(["msp", "featurenorm", "masf"], "shapes", "M")
    assert some.able(scorers, None) == scorers
    some.model.blocks = lambda: []
    refused = {}
    assert [line.scorer for line in some.able(scorers, refused)] == ["msp"]
    assert [line.scorer for line in refused] == ["featurenorm", "masf"]
    assert all("none are known of resnet8" in reason for reason in refused.values())
    with pytest.raises(UserError, match="none are known of resnet8"):
        some.able(scorers, None)


def test_batch_size_precision_cache_and_bar_have_their_effect(tmp_path: Path, capsys):
    sizes = []
    some = network(batch_size=4, precision="bf16", cache=tmp_path, quiet=False)
    some.model.normalise.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    scored = some.scored(["shapes-noise"], [SCORERS["msp"]])
    assert sizes == [4, 4, 2] * 2 and len(list(tmp_path.rglob("logits.npy"))) == 2
    assert "shapes-noise" in capsys.readouterr().err
    assert some.with_provenance(scored).columns["shapes-noise"]["precision"] == "bf16"


def test_rows_say_where_they_come_from():
    some, scorers = network(), scorer_lines(["msp"], "shapes", "M")
    scored = some.with_provenance(some.scored(["shapes-noise"], scorers.values()), "native")
    (row,) = score_sets(scored, scored.fit(scorers)).rows
    said = {
        name: row[name]
        for name in ("method", "protocol", "id_set", "ood_set", "seed", "backbone", "precision", "recipe")
    }
    assert said == {
        "method": "M", "protocol": "native", "id_set": "shapes", "ood_set": "shapes-noise", "seed": 3, "backbone": "resnet8",
        "precision": "float32", "recipe": '{"epochs": 1}',
    }  # fmt: skip
    assert row["checkpoint_sha256"] == weights_digest(some.model)
    assert row["ood_data_sha256"] == scored.images["shapes-noise"].digest != row["id_data_sha256"]


def photographs(tmp_path, names) -> str:
    """A set of one image of noise a class, below test/."""
    for k, name in enumerate(names):
        (tmp_path / "mine" / "test" / name).mkdir(parents=True)
        pixels = np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / "test" / name / "0.png")
    return f"folder:{tmp_path / 'mine'}"


def knowing(id_set, classes, size, how=HOW) -> Network:
    """A network that tells the set's own images apart without a fault: its head is the nearest of their features."""
    torch.manual_seed(0)
    model = build("resnet8", len(classes), image_size=size).eval()
    transform = Transform(size)
    pixels = load(id_set, "test", root=Path(), transform=transform, classes=classes)
    with torch.no_grad():
        features = model.pool(model.feature_map(next(pixels.batches(9)).float() / 255))[pixels.labels.argsort()]
        model.head.weight.copy_(features), model.head.bias.copy_(-features.square().sum(1) / 2)
    facts = FACTS | {"id_set": id_set, "classes": list(classes), "transform": transform.facts()}
    return Network(model, facts, how)


@pytest.mark.parametrize("size", [32, 72], ids=["in memory", "streamed"])
@pytest.mark.parametrize("classes", ["abc", "cab"])
def test_the_id_accuracy_is_right_in_the_checkpoints_order_of_classes_and_where_one_is_empty(tmp_path, classes, size):
    id_set = photographs(tmp_path, "abc")
    some = knowing(id_set, classes, size)
    (tmp_path / "mine/test/a/0.png").unlink()
    scored = some.scored(["shapes-noise"], [SCORERS["msp"]])
    assert len(scored.id) == 2 and accuracy(scored.id, 3) == 1.0
    (tmp_path / "mine/test/b/0.png").rename(tmp_path / "mine/test/a/0.png")
    wrong = Network(some.model, some.facts, HOW).scored(["shapes-noise"], [SCORERS["msp"]])
    assert accuracy(wrong.id, 3) == 0.5
    (tmp_path / "mine/test/b").rmdir()
    with pytest.raises(UserError, match="lacks the class b"):
        Network(some.model, some.facts, HOW).test_images([])


@pytest.mark.parametrize("size", [32, 72], ids=["in memory", "streamed"])
def test_images_that_the_network_was_trained_on_are_no_test_images(tmp_path, size):
    id_set = photographs(tmp_path, "abc")
    some = knowing(id_set, "abc", size)
    digest = some.load(id_set).digest
    with pytest.raises(UserError, match="mine: its test images are those that the network was trained on"):
        Network(some.model, some.facts | {"train_data_sha256": digest}, HOW).test_images([])
    (tmp_path / "mine/test").rename(tmp_path / "mine/all")
    undivided = f"folder:{tmp_path / 'mine/all'}"
    facts = some.facts | {"id_set": undivided}
    Network(some.model, facts, HOW).test_images([])  # trained elsewhere, on nobody knows which
    with pytest.raises(UserError, match="mine/all: its test images are those that the network was trained on"):
        Network(some.model, facts | {"train_data": undivided}, HOW).test_images([])


@pytest.mark.parametrize("size", [32, 72], ids=["in memory", "streamed"])
def test_id_images_as_ood_set_are_refused_or_said(tmp_path, size, capsys):
    id_set, ood = photographs(tmp_path, "abc"), f"folder:{tmp_path / 'other'}"
    some = knowing(id_set, "abc", size)
    shutil.copytree(tmp_path / "mine/test/b", tmp_path / "other/b")
    with pytest.raises(UserError, match="every image is in the test set of"):
        some.test_images([ood])
    with pytest.raises(UserError, match="every image is in the test set of"):
        some.test_images([ood])
    Image.open(tmp_path / "other/b/0.png").save(tmp_path / "other/b/1.bmp")
    (tmp_path / "other/b/0.png").unlink()
    Image.new("RGB", (40, 40)).save(tmp_path / "other/2.png")
    assert len(some.scored([ood], [SCORERS["msp"]]).ood[ood]) == 2
    assert "1 of the 2 images of folder:" in capsys.readouterr().err


def test_images_that_do_not_decode_are_left_out_on_demand(tmp_path, capsys):
    id_set = photographs(tmp_path, "abc")
    some = knowing(id_set, "abc", 32, replace(HOW, on_corrupt="skip"))
    (tmp_path / "mine/test/a/1.png").write_bytes(b"")
    assert len(some.test_images([])[id_set]) == 3 and "mine/test/a/1.png does not decode" in capsys.readouterr().err
    with pytest.raises(UserError, match="mine/test/a/1.png does not decode"):
        Network(some.model, some.facts, HOW).test_images([])
