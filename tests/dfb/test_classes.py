"""AUROC against the number of classes: a mean over seeds, of one protocol."""

import numpy as np

from dfb.classes import class_count, draw


def row(classes: int, auroc: float, method: str = "DFB +", protocol: str = "own", seed: int = 0) -> dict[str, str]:
    given = {
        "id_set": f"imagenet1k:C={classes},seed={seed}",
        "ood_set": "textures",
        "method": method,
        "scorer": "energy",
    }
    return given | {"protocol": protocol, "auroc": str(auroc)}


def test_lines_are_means_over_seeds_and_leave_other_protocols_out():
    rows = [
        row(200, 0.9),
        row(100, 0.6),
        row(100, 0.8, seed=1),
        row(100, 0.1, protocol="via32"),
        row(100, 0.5, "vanilla"),
    ]
    lines = {line.get_label(): line.get_xydata().tolist() for line in draw(rows).axes[0].get_lines()}
    assert np.allclose(lines["energy, DFB +"], [[100, 70], [200, 90]])
    assert lines["energy, vanilla"] == [[100, 50]] and lines["energy, DFB -"] == []


def test_the_number_of_classes_is_read_from_the_name():
    assert (
        class_count("imagenet1k:C=200,seed=0") == 200
        and class_count("imagenet1k") == 1000
        and class_count("shapes") is None
    )
