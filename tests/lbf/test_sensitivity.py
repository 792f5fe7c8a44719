"""Which points of Figure 6 a set of rows holds."""

import json

import pytest
from result_rows import result_row

from common.cli.errors import UserError
from lbf.sensitivity import AXES, draw, points


def row(auroc, seed=0, ood_set="svhn", scorer="energy", **recipe):
    words = json.dumps({"delta": 0.1, "mu": 1.0, "lam": 1.0, "lr": 0.1} | recipe)
    return result_row(auroc=auroc, seed=seed, ood_set=ood_set, scorer=scorer, recipe=words)


ROWS = [
    row(0.8), row(0.6, ood_set="isun"), row(0.1, ood_set="cifar10:encode=jpeg75"), row(0.9, seed=1), row(0.7, ood_set="isun", seed=1),
    row(0.5, mu=2.0), row(0.4, lam=0.0), row(0.3, lam=0.0, mu=2.0),
]  # fmt: skip


def test_one_parameter_at_a_time_the_others_at_their_defaults():
    found, default = points(ROWS)
    assert default == {"delta": 0.1, "mu": 1.0, "lam": 1.0}
    assert set(found) == {("delta", 0.1), ("mu", 1.0), ("mu", 2.0), ("lam", 1.0), ("lam", 0.0)}
    assert (
        found["mu", 1.0]["energy"] == pytest.approx([0.7, 0.8])
        and found["mu", 2.0]["energy"] == [0.5]
        and found["lam", 0.0]["energy"] == [0.4]
    )


def test_each_parameter_has_a_panel_with_its_name_and_unit():
    figure = draw(*points(ROWS), ["energy"])
    assert [panel.get_xlabel() for panel in figure.axes[3:]] == list(AXES.values()) and figure.axes[
        0
    ].get_ylabel() == "mean AUROC (%)"


@pytest.mark.parametrize("recipe", ["{}", "-", "unknown", 'z"delta": 0.1}', '{"delta": 0.1}'])
def test_rows_of_other_networks_are_refused(recipe):
    with pytest.raises(UserError, match=r"seed \w+: lbf.finetune did not make this network \(recipe "):
        points([{**ROWS[0], "recipe": recipe}])


def test_networks_that_differ_in_more_are_refused():
    with pytest.raises(UserError, match="differ in more than delta, mu, lam: lr 0.05, others not"):
        points([*ROWS, row(0.5, mu=2.0, lr=0.05)])
