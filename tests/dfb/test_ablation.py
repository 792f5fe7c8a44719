"""One line a variant, from manifests and from results."""

import numpy as np
import pytest
from result_rows import result_row, write_rows

from common.cli.errors import UserError
from common.data.masks import make_masks, write_manifest
from dfb.ablation import report

FACTS = {"checkpoint_sha256": "c", "data": "toys", "data_sha256": "d", "classes": 2, "transform": {}, "recipe": {}}


def results(path, *cells, seed=0, protocol="own", **changes):
    """A file of rows, each (method, scorer, OOD set, AUROC, ID accuracy)."""
    names = ("method", "scorer", "ood_set", "auroc", "id_accuracy")
    return write_rows(
        path, *(result_row(seed=seed, protocol=protocol, **changes | dict(zip(names, cell))) for cell in cells)
    )


def test_results_are_means_over_sets_and_seeds_by_folder_or_file(tmp_path):
    files = []
    for seed, shift in ((0, 0.0), (1, 0.1)):
        files.append(results(
            tmp_path / f"seed-{seed}/theta-0.3/results.csv",
            ("vanilla", "energy", "svhn", 0.1, 0.5), ("DFB, S_h alone", "energy", "svhn", 0.5 + shift, 0.9), ("DFB, S_h alone", "energy", "isun", 0.7 + shift, 0.9),
            ("DFB, S_h alone", "energy", "shapes-backgrounds", 0.0, 0.9), ("DFB +", "energy", "svhn", 0.4, 0.9), ("DFB + softplus", "energy", "svhn", 0.0, 0.9),
            ("background alone", "+", "svhn", 0.25, 0.9), ("background alone", "-", "svhn", 0.75, 0.9),
            ("DFB +", "energy", "isun", 0.4, 0.9), ("background alone", "+", "isun", 0.25, 0.9), seed=seed,
        ))  # fmt: skip
    files.append(results(tmp_path / "seed-0/default/T=5.csv", ("DFB, S_h alone (via32)", "energy", "svhn", 0.3, 0.8)))
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in report(files, ["auroc"]).splitlines()[2:]
    ]
    assert lines[0] == ["variant", "DFB, S_h alone", "DFB +", "S_b alone, +", "ID accuracy"]
    assert lines[2] == [
        "theta-0.3",
        "65.00 ± 7.07 (n=2)",
        "40.00 ± 0.00 (n=2)",
        "25.00 ± 0.00 (n=2)",
        "90.00 ± 0.00 (n=2)",
    ] and lines[3] == ["T=5", "30.00", "-", "-", "80.00"]


def test_a_variant_under_another_protocol_is_a_line_of_its_own(tmp_path):
    own, other = (
        result_row(method="DFB, S_h alone", auroc=a, id_accuracy=i, protocol=p)
        for a, i, p in ((0.5, 0.9, "own"), (0.25, 0.75, "via32"))
    )
    write_rows(tmp_path / "default/results.csv", own, other)
    lines = [line.replace(" ", "") for line in report([tmp_path / "default/results.csv"], ["auroc"]).splitlines()[4:]]
    assert lines == ["|default|50.00|90.00|", "|default(via32)|25.00|75.00|"]


def test_a_variant_whose_seeds_are_not_of_one_thing_is_refused(tmp_path):
    cell = ("DFB, S_h alone", "energy", "svhn", 0.5, 0.9)
    files = [
        results(tmp_path / f"seed-{seed}/theta/results.csv", cell, seed=seed, recipe=f'{{"lr": 0.{seed + 1}}}')
        for seed in (0, 1)
    ]
    with pytest.raises(
        UserError, match="theta holds results of different things: DFB, S_h alone, lr 0.1, DFB, S_h alone, lr 0.2"
    ):
        report(files, ["auroc"])


def test_manifests_show_counts_and_the_truth_where_it_is_known(tmp_path):
    counts = {"foreground_share": 0.4, "empty_share": 0.0, "full_share": 0.0, "predicted_differs_share": 0.25}
    files = []
    for name, extra in (
        ("blur", {}),
        ("default", {"against_truth": {"iou": 0.5, "mean_image_iou": 0.25, "precision": 0.75, "recall": 1.0}}),
    ):
        files.append(tmp_path / name / "masks/manifest.json")
        make_masks(files[-1].parent, FACTS, 1, (2, 3), lambda rows: {"masks": np.zeros((len(rows), 2, 3), bool)})
        write_manifest(files[-1].parent, FACTS, 1, (2, 3), counts | extra)
    blur, default = report(files, ["auroc"]).splitlines()[4:]
    assert blur.replace(" ", "") == "|blur|40.00|0.00|0.00|25.00|-|-|-|-|" and default.replace(" ", "").endswith(
        "|50.00|25.00|75.00|100.00|"
    )
    with pytest.raises(UserError, match="not both"):
        report([files[0], tmp_path / "r.csv"], ["auroc"])
