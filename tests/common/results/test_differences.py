"""A method against its control: the same images, the same seed, the same score."""

import numpy as np
import pytest
from result_rows import result_row, write_rows

from common.cli.errors import UserError
from common.metrics import auroc, fpr_at_tpr, paired_difference, summary
from common.results.differences import caption, differences, read_scores
from common.results.rows import read_rows

METRICS = ("fpr95", "auroc")


def body(rows, raw=None, repeats=0) -> list[list[str]]:
    return [line for _, lines in differences(rows, raw or {}, METRICS, repeats).values() for line in lines]


def test_seeds_are_paired_by_seed_and_the_control_comes_before_vanilla():
    values = {
        ("LBF", 0): 0.9,
        ("LBF", 1): 0.5,
        ("control", 1): 0.4,
        ("control", 0): 0.6,
        ("LBF", 2): 0.1,
        ("pre-trained", 0): 0.1,
        ("vanilla", 0): 0.2,
    }
    rows = [result_row(method=method, seed=seed, auroc=value) for (method, seed), value in values.items()]
    assert body(rows) == [["LBF - control", "energy", "+0.00 ± 0.00 / +20.00 ± 14.14 (n=2)"]]
    assert body([row for row in rows if row["method"] != "control"]) == [["LBF - vanilla", "energy", "+0.00 / +70.00"]]


def test_a_joint_score_is_held_against_its_control_and_against_the_score_alone_on_the_same_network():
    of = {"DFB +": "dense", "DFB, S_h alone": "dense", "DFB control, S_h alone": "none", "DFB control +": "none"}
    values = {
        "DFB +": 0.9,
        "DFB, S_h alone": 0.8,
        "DFB control, S_h alone": 0.6,
        "vanilla": 0.5,
        "LBF": 0.7,
        "control": 0.3,
    }
    values["DFB control +"] = 0.1
    rows = [
        result_row(method=m, auroc=v, **({"checkpoint_sha256": of[m]} if m in of else {})) for m, v in values.items()
    ]
    found = {line[0]: line[2] for line in body(rows)}
    assert found == {
        "DFB + - DFB control, S_h alone": "+0.00 / +30.00", "DFB + - DFB, S_h alone": "+0.00 / +10.00",
        "DFB, S_h alone - DFB control, S_h alone": "+0.00 / +20.00", "LBF - control": "+0.00 / +40.00",
    }  # fmt: skip
    without = {line[0] for line in body([row for row in rows if "control" not in row["method"]])}
    assert without == {"DFB + - vanilla", "DFB + - DFB, S_h alone", "DFB, S_h alone - vanilla", "LBF - vanilla"}
    other = [row | {"checkpoint_sha256": "other"} if row["method"] == "DFB +" else row for row in rows]
    assert "DFB + - DFB, S_h alone" not in {line[0] for line in body(other)}, "of another network"


def test_other_images_or_another_score_are_no_control():
    ours = result_row(auroc=0.9)
    for change in (
        {"n_ood": 5, "ood_data_sha256": "part"},
        {"scorer": "msp"},
        {"id_set": "cifar100"},
        {"seed": 1},
        {"ood_set": "isun"},
        {"n_id": 5, "id_data_sha256": "part"},
        {"id_data_sha256": "other"},
        {"precision": "bf16"},
        {"backbone": "wrn28-10"},
        {"protocol": "via32"},
        {"options": "Energy(T=2.0)"},
    ):
        found = body([ours, result_row(method="control", **change)])
        assert found == [] or found[0][2:] == ["-"], change
    assert body([ours]) == []


def test_of_several_controls_the_nearest_is_taken():
    recipe = '{{"epochs": {}, "mu": {}}}'.format
    rows = [
        result_row(method=method, recipe=recipe(epochs, mu), auroc=auroc)
        for method, epochs, mu, auroc in (("LBF", 10, 1, 0.9), ("LBF", 20, 1, 0.8), ("control", 20, 0, 0.5), ("control", 10, 0, 0.3))
    ]  # fmt: skip
    assert [(line[0], line[2].partition(" / ")[2]) for line in body(rows)] == [
        ("LBF, epochs 10 - control, epochs 10", "+60.00"),
        ("LBF, epochs 20 - control, epochs 20", "+30.00"),
    ]


def test_a_joint_score_is_held_against_its_foreground_under_the_same_protocol():
    ours = result_row(method="DFB +", options="JointScorer(foreground=Energy(T=1.0))", protocol="via32", auroc=0.9)
    vanilla = [result_row(method="vanilla", protocol=protocol, auroc=0.5) for protocol in ("own", "via32")]
    assert body([ours, *vanilla]) == [["DFB + (via32) - vanilla (via32)", "energy", "+0.00 / +40.00"]]


def scored(folder, method: str, shift: float) -> dict:
    """A file of one row with its raw scores beside it."""
    draw = np.random.default_rng(0)
    inside, far = draw.normal(shift, 1, 60), draw.normal(0, 1, 50)
    row = result_row(
        method=method,
        n_id=60,
        n_ood=50,
        **{name: summary(inside, far)[name] for name in ("fpr95", "auroc", "aupr_in", "aupr_out")},
    )
    write_rows(folder / "results.csv", row)
    np.savez(folder / "results.npz", **{"energy/id": inside, "energy/svhn": far})
    return {"path": folder / "results.csv", "pair": (inside, far)}


def test_intervals_come_from_the_scores_beside_the_rows(tmp_path):
    lbf, control = scored(tmp_path / "lbf", "LBF", 1.5), scored(tmp_path / "control", "control", 1.0)
    paths = [lbf["path"], control["path"]]
    (line,) = body(read_rows(paths), read_scores(paths), 200)
    said = []
    for metric in (fpr_at_tpr, auroc):
        found = paired_difference(lbf["pair"], control["pair"], metric, 200)
        said.append(f"{100 * found.value:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]")
    assert line == ["LBF - control", "energy", " / ".join(said)]
    table = next(iter(differences(read_rows(paths), read_scores(paths), METRICS, 200).values()))
    assert caption("cifar10", table, METRICS, 200).endswith(
        "FPR95 / AUROC in points [95 % interval of 200 redraws of the images]"
    )
    assert "[" not in body(read_rows(paths), {}, 200)[0][2]


def test_scores_that_are_not_of_the_rows_are_refused(tmp_path):
    one = scored(tmp_path / "a", "LBF", 1.5)
    with np.load(tmp_path / "a/results.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "a/results.npz", **arrays | {"energy/id": arrays["energy/id"] + 0.5})
    for damage, said in (
        ({"energy/id": arrays["energy/id"][:, None]}, "energy/id must be one number an image"),
        ({"energy/svhn": arrays["energy/svhn"].astype(str)}, "energy/svhn must be one number an image"),
        ({"energy/id": arrays["energy/id"][:-1]}, "LBF energy on svhn has n_id 59, not 60; score again"),
    ):
        np.savez(tmp_path / "a/results.npz", **arrays | damage)
        with pytest.raises(UserError, match=said):
            read_scores([one["path"]])
    np.savez(tmp_path / "a/results.npz", **{name: of for name, of in arrays.items() if name != "energy/id"})
    assert read_scores([one["path"]]) == {}
    np.savez(tmp_path / "a/results.npz", **arrays | {"energy/id": arrays["energy/id"] + 0.5})
    with pytest.raises(
        UserError,
        match=r"a/results.npz is not of the rows of results.csv: LBF energy on svhn has FPR95 0.\d+, not 0.\d+; score again",
    ):
        read_scores([one["path"]])


def test_in_a_file_of_two_networks_the_scores_are_those_of_one(tmp_path):
    first, last = scored(tmp_path / "a", "LBF", 1.5), scored(tmp_path / "b", "control", 1.0)
    both = write_rows(tmp_path / "b/results.csv", *read_rows([first["path"], last["path"]]))
    (pair,) = read_scores([both]).values()
    assert all(np.array_equal(*of) for of in zip(pair, last["pair"]))
