"""Features of the vanilla and of the DFB network side by side, as a person types it."""

from common.results import style
from dfb import tsne


def test_two_panels_name_network_seed_and_knn_auroc(finished, typed, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(tsne, "save", lambda figure, path: kept.append(figure) or style.save(figure, path))
    pair = (finished("dfb.pt", 9, extra_classes=1, seed=3), "--vanilla", finished("vanilla.pt"))
    code, out, err = typed(tsne, *pair, "--ood", "shapes-noise", "--limit", 80, "--out", tmp_path, "--quiet")
    assert code == 0 and out == f"{tmp_path / 't-sne-dfb.png'}\n" and (tmp_path / "t-sne-dfb.png").is_file(), err
    heads = [axis.get_title() for axis in kept[0].axes]
    assert [head.rpartition(" ")[0].rpartition(" ")[0] for head in heads] == [
        "vanilla, resnet8, seed 0; KNN AUROC", "DFB, resnet8, seed 3; KNN AUROC",
    ]  # fmt: skip
    points = [sum(len(group.get_offsets()) for group in axis.collections) for axis in kept[0].axes]
    assert points == [120, 120], "80 ID images and half as many OOD images"
