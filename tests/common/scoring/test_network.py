"""How images pass: every setting has its effect, and features are asked for only where a score needs them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.backbones import build
from common.checkpoint import weights_digest
from common.cli.errors import UserError
from common.data.shapes import CLASSES
from common.scorers import SCORERS
from common.scoring.network import Inference, Network
from common.scoring.sets import score_sets, scorer_lines

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
