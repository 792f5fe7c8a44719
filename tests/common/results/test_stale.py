"""Rows beside another network than theirs."""

from result_rows import result_row, write_rows

from common import checkpoint
from common.backbones import build
from common.results.stale import stale


def test_rows_of_other_weights_than_the_checkpoint_beside_them_are_named(tmp_path):
    network = build("resnet8", 3)
    facts = {
        "method": "DFB",
        "id_set": "shapes",
        "classes": ["a", "b", "c"],
        "transform": {},
        "seed": 0,
        "train_data_sha256": "t",
    }
    checkpoint.save(tmp_path / "checkpoint.pt", network, recipe={}, **facts)
    ours, vanilla = checkpoint.weights_digest(network), result_row(method="vanilla", checkpoint_sha256="v")
    path = write_rows(tmp_path / "results.csv", result_row(method="DFB", checkpoint_sha256=ours), vanilla)
    assert stale(path) == ""
    write_rows(
        path,
        result_row(method="DFB", checkpoint_sha256=ours),
        result_row(method="DFB", checkpoint_sha256="old", n_id=5),
        vanilla,
    )
    assert f"1 of 3 rows are stale, of weights old, and {tmp_path / 'checkpoint.pt'} has {ours[:12]}" in stale(path)
    write_rows(path, result_row(method="DFB", checkpoint_sha256="old"), vanilla)
    assert "2 of 2 rows are stale" in stale(path)
    (tmp_path / "checkpoint.pt").unlink()
    assert stale(path) == ""
