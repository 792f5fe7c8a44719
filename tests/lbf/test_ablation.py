"""A variant's dots are its differences to the control of the same seed."""

import pytest
from result_rows import result_row

from common.cli.errors import UserError
from lbf.ablation import differences, draw

SETS = ("shapes-objects", "shapes-textures", "shapes-noise", "shapes-backgrounds", "cifar10:encode=jpeg75")


def rows(method, *aurocs, seeds=(0, 1), **changes):
    return [result_row(method=method, ood_set=ood, seed=seed, auroc=auroc + 0.1 * seed, checkpoint_sha256=f"{method}{seed}", **changes)
            for seed in seeds for ood, auroc in zip(SETS, aurocs)]  # fmt: skip


CONTROL = rows("control", 0.5, 0.5, 0.5, 0.5, 0.5, recipe='{"lam": 0.0}')
RANDOM = rows("random", 0.6, 0.2, 0.4, 0.5, 0.9, recipe='{"lam": 1.0}', seeds=(0, 1, 2))


def test_sets_reported_apart_stand_alone_and_the_others_are_averaged_by_seed():
    found = differences(RANDOM + CONTROL, "auroc")
    said = {(d.variant, d.panel, d.seed): d.value for d in found}
    mean = "mean of shapes-textures, shapes-noise"
    assert said == pytest.approx({
        ("random", panel, seed): value for seed in "01" for panel, value in
        (("shapes-objects", 10), ("shapes-backgrounds", 0), (mean, -20))
    })  # fmt: skip


def test_each_variant_has_a_row_and_each_panel_its_dots():
    figure = draw(
        differences(rows("low-norm", 0.7, 0.5, 0.5, 0.5, 0.5, recipe='{"lam": 2.0}') + RANDOM + CONTROL, "auroc"),
        "auroc",
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["low-norm", "random"]
    assert sorted(figure.axes[0].get_lines()[0].get_xdata()) == pytest.approx([10, 10, 20, 20])


@pytest.mark.parametrize(
    ("given", "said"),
    [(RANDOM, "no row has a control"), (CONTROL + rows("x", 0.5, id_set="cifar10"), "one ID set, got ")],
)
def test_what_cannot_be_compared_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        differences([row | {"id_set": row["id_set"] if row["method"] == "x" else "shapes"} for row in given], "auroc")
