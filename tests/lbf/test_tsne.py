"""The picture of pooled and local features as a person types it: files, numbers, refusals."""

import json

import torch

from lbf import tsne


def test_the_command_writes_the_picture_and_the_numbers_in_its_titles(finished, typed, tmp_path):
    words = ("--ood", "shapes-noise", "--limit", 40, "--delta", 0.2, "--out", tmp_path, "--quiet")
    assert typed(tsne, finished("c.pt"), *words)[:2] == (0, f"{tmp_path / 't-sne.png'}\n")
    numbers = json.loads((tmp_path / "t-sne.json").read_text())
    counts = numbers["n"]
    assert numbers["delta"] == 0.2 and counts["ID shapes, by class"] == counts["OOD shapes-noise"] == 40
    local = [count for name, count in counts.items() if name.startswith("local")]
    assert 0 < sum(local) and max(local) <= tsne.POINTS
    for said in ("as they are", "scaled to length 1"):
        assert all(share is None or 0 <= share <= 1 for share in numbers[said].values()) and len(numbers[said]) == 2
    assert (tmp_path / "t-sne.png").exists() and (tmp_path / "t-sne.pdf").exists()


def test_a_draw_of_rows_is_seeded_by_its_use():
    rows = torch.arange(1000.0)[:, None]
    assert (
        torch.equal(tsne.draw_rows(rows, "a"), tsne.draw_rows(rows, "a"))
        and len(tsne.draw_rows(rows, "a")) == tsne.POINTS
    )
    assert not torch.equal(tsne.draw_rows(rows, "a"), tsne.draw_rows(rows, "b"))


def test_the_id_set_cannot_stand_for_the_ood_set(finished, typed, tmp_path):
    code, _, err = typed(tsne, finished("c.pt"), "--ood", "shapes", "--out", tmp_path)
    assert code == 2 and err.startswith("error: shapes is the in-distribution set itself")
