"""Sets times scores gives rows, by hand."""

import numpy as np
import pytest

from common.cli.errors import UserError
from common.metrics import auroc, bootstrap, fpr_at_tpr
from common.scorers import ALL, SCORERS, canonical
from common.scorers.arrays import Features, Head
from common.scoring.sets import (
    PAPER_SCORERS,
    Line,
    Scored,
    accuracy,
    check_repeats,
    ood_names,
    save_scores,
    score_sets,
    scorer_lines,
    scorer_names,
)


def of(*logits, labels=None) -> Features:
    values = np.array(logits, dtype=np.float64)
    return Features(values, values, None if labels is None else np.array(labels))


ID = of([3, 0], [0, 2], [1, 0], [0, 4], labels=[0, 1, 0, 0])
SETS = {"far": of([0.5, 0], [0, 0.5]), "near": of([2.5, 0], [0, 0], [0, 3.5])}
SCORED = Scored(None, Head(np.eye(2), np.zeros(2)), ID, SETS, columns={"far": {"protocol": "via32"}, "near": {}})
LARGEST, FIRST = Line("A", "maxlogit", "MaxLogit()"), Line("B", "first", "-")
FUNCTIONS = {LARGEST: SCORERS["maxlogit"].fit(), FIRST: lambda features: features.logits[:, 0]}


def test_a_row_for_each_set_and_score_with_its_columns_and_numbers():
    rows, raw = score_sets(SCORED, FUNCTIONS)
    assert [(row["ood_set"], row["method"], row["scorer"], row["options"]) for row in rows] == [
        ("far", *LARGEST), ("far", *FIRST), ("near", *LARGEST), ("near", *FIRST)
    ]  # fmt: skip
    assert [(row["n_id"], row["n_ood"], row.get("protocol")) for row in rows[::2]] == [(4, 2, "via32"), (4, 3, None)]
    assert raw["A", "maxlogit", "id"].tolist() == [3, 2, 1, 4] and raw["A", "maxlogit", "near"].tolist() == [
        2.5,
        0,
        3.5,
    ]
    # ID 3 2 1 4 against 2.5 0 3.5: 1 pair won by 1, 1 by 2, 2 by 3, 3 by 4; the threshold 1 lets 2.5 and 3.5 in
    assert rows[0]["auroc"] == 1 and rows[2]["auroc"] == 7 / 12 and rows[2]["fpr95"] == pytest.approx(2 / 3)
    assert "auroc_low" not in rows[0]


def test_redraws_give_the_intervals_of_the_same_scores():
    row = score_sets(SCORED, FUNCTIONS, 100).rows[2]
    inside, near = np.array([3.0, 2, 1, 4]), np.array([2.5, 0, 3.5])
    assert (row["auroc_low"], row["auroc_high"]) == bootstrap(inside, near, auroc, 100)
    assert (row["fpr95_low"], row["fpr95_high"]) == bootstrap(inside, near, fpr_at_tpr, 100)
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_too_few_redraws_are_refused():
    check_repeats(0), check_repeats(100)
    for repeats in (1, 99, -1):
        with pytest.raises(UserError, match=f"bootstrap must be 0 or >= 100, got {repeats}"):
            check_repeats(repeats)


def test_accuracy_counts_the_first_classes_and_needs_labels():
    assert accuracy(ID, 2) == 0.75 and accuracy(ID, 1) == 0.75 and np.isnan(accuracy(SETS["far"], 2))
    assert accuracy(of([0, 1, 9], [1, 0, 9], labels=[1, 1]), 2) == 0.5


def test_names_become_scorers_with_their_authors_settings():
    assert scorer_lines(["knn", "msp"], "cifar100", "M") == {
        Line("M", "knn", "KNN(k=200)"): canonical("knn", "cifar100"), Line("M", "msp", "MSP()"): SCORERS["msp"]
    }  # fmt: skip
    assert scorer_names(["all"]) == list(ALL) and scorer_names(["papers"]) == list(PAPER_SCORERS)
    assert scorer_names(["all", "msp"]) == list(ALL) and scorer_names(["msp", "knn:k=5"]) == ["msp", "knn:k=5"]


def test_shapes_have_ood_sets_of_their_own_and_others_must_be_named():
    assert ood_names(None, "shapes:seed=1")[0] == "shapes-objects:seed=1" and len(ood_names(None, "shapes")) == 4
    with pytest.raises(UserError, match="--ood is required for cifar10"):
        ood_names(None, "cifar10")


def test_saved_scores_are_read_back(tmp_path):
    save_scores(tmp_path / "s.npz", {"energy/id": np.arange(3.0)})
    assert np.load(tmp_path / "s.npz")["energy/id"].tolist() == [0, 1, 2]
