"""Seeds of one thing in one line; different things apart, named by what differs."""

import json

import pytest
from result_rows import result_row

from common.results.lines import Column, lines_of, set_title

SVHN = Column("svhn")


def recipe(**fields) -> str:
    return json.dumps({"mu": 1.0, "lr": 0.1, "crop": "pad", "masks_sha256": "a"} | fields)


def names(*rows) -> list[tuple[str, str]]:
    return [(line.method, line.scorer) for line in lines_of(rows)[1]]


def test_seeds_share_a_line_and_come_in_the_order_of_seeds():
    rows = [result_row(seed=seed, auroc=seed / 20, device=f"machine {seed}") for seed in (10, 2, 0)]
    columns, (line,) = lines_of(rows)
    assert columns == [SVHN] and (line.method, line.scorer) == ("LBF", "energy")
    assert line.values(SVHN, "auroc") == {"0": 0.0, "2": 0.1, "10": 0.5} and list(line.values(SVHN, "auroc")) == [
        "0",
        "2",
        "10",
    ]


@pytest.mark.parametrize(
    "changes,found",
    [
        ({"recipe": recipe(mu=3)}, ("LBF, mu 1", "LBF, mu 3")),
        ({"recipe": recipe(mu=0.5, crop="window")}, ("LBF, mu 1, crop pad", "LBF, mu 0.5, crop window")),
        ({"recipe": recipe(masks_sha256="b"), "seed": 1}, ("LBF",)),
        ({"recipe": recipe(norm="l1")}, ("LBF, norm not said", "LBF, norm l1")),
        ({"recipe": recipe(norm=None)}, ("LBF, norm not said", "LBF, norm none")),
        ({"recipe": recipe(lr=0.1000000001)}, ("LBF, lr 0.1", "LBF, lr 0.1000000001")),
        ({"recipe": recipe(mu=2**53 + 1)}, ("LBF, mu 1", "LBF, mu 9007199254740993")),
        ({"recipe": recipe(mu=10**400)}, ("LBF, mu 1", f"LBF, mu {10**400}")),
        ({"recipe": recipe(mu="1")}, ("LBF, mu 1", "LBF, mu 1 #2")),
        ({"recipe": '{"lr": 1e-1, "masks_sha256": "b", "crop": "pad", "mu": 1}', "seed": 1}, ("LBF",)),
        ({"recipe": recipe(norm=float("nan")), "seed": 1}, ("LBF, norm not said", "LBF, norm nan")),
        ({"backbone": "wrn28-10"}, ("LBF, resnet18", "LBF, wrn28-10")),
        ({"n_id": 7}, ("LBF, n ID 10", "LBF, n ID 7")),
        ({"limit": 1000, "train_data_sha256": "0123456789ab"}, ("LBF, training data t, limit all", "LBF, training data 01234567, limit 1000")),
        ({"upstream": '{"start": {"epochs": 20}}'}, ("LBF, start epochs not said", "LBF, start epochs 20")),
        ({"protocol": "via32"}, ("LBF", "LBF (via32)")),
    ],
)  # fmt: skip
def test_what_differs_names_the_line(changes, found):
    rows = [result_row(recipe=recipe()), result_row(**{"recipe": recipe()} | changes)]
    assert tuple(name for name, _ in names(*rows)) == found


def test_a_recipe_sets_a_method_apart_whichever_scores_each_was_given():
    rows = [
        result_row(recipe=recipe(), scorer="msp"),
        result_row(recipe=recipe(mu=3), scorer="energy"),
        result_row(method="control"),
    ]
    assert names(*rows) == [("LBF, mu 1", "msp"), ("LBF, mu 3", "energy"), ("control", "energy")]


def test_options_set_scores_of_one_name_apart():
    rows = [result_row(), result_row(options="Energy(T=2.0)"), result_row(scorer="msp", options="MSP()")]
    assert names(*rows) == [("LBF", "energy Energy(T=1.0)"), ("LBF", "energy Energy(T=2.0)"), ("LBF", "msp")]


def test_what_differs_behind_the_digits_that_are_shown_is_a_line_and_a_column_of_its_own():
    rows = [
        result_row(ood_data_sha256=f"01234567{end}", id_data_sha256=f"89abcdef{end}", auroc=end / 10) for end in (1, 2)
    ]
    columns, lines = lines_of(rows)
    assert [column.title for column in columns] == ["SVHN (data 01234567)", "SVHN (data 01234567 #2)"]
    assert [line.method for line in lines] == ["LBF, ID data 89abcdef", "LBF, ID data 89abcdef #2"]
    assert [line.values(column, "auroc") for line, column in zip(lines, columns)] == [{"0": 0.1}, {"0": 0.2}]
    named = lines_of([result_row(method="LBF, mu 1"), result_row(recipe=recipe()), result_row(recipe=recipe(mu=3))])[1]
    assert len({(line.method, line.scorer) for line in named}) == 3


def test_other_images_under_one_name_are_columns_of_their_own():
    rows = [
        result_row(),
        result_row(n_ood=5, ood_data_sha256="part"),
        result_row(ood_set="isun"),
        result_row(ood_set="svhn:n=10000"),
    ]
    columns, (line,) = lines_of(rows)
    titles = [column.title for column in columns]
    assert (
        titles == ["SVHN (n 20, data sha-svhn)", "SVHN (n 5, data part)", "iSUN", "SVHN (n=10000)"]
        and len(line.cells) == 4
    )


def test_an_average_is_taken_by_seed_over_sets_that_all_seeds_have():
    rows = [result_row(ood_set=name, seed=seed, auroc=value) for name, seed, value in (
        ("svhn", 0, 0.5), ("svhn", 1, 0.9), ("isun", 1, 0.7), ("isun", 0, 0.1), ("shapes-backgrounds", 0, 0.0), ("shapes-objects:seed=1", 0, 0.0), ("cifar10:encode=jpeg75", 1, 0.0),
    )]  # fmt: skip
    columns, (line,) = lines_of(rows)
    assert line.average(columns, "auroc") == pytest.approx({"0": 0.3, "1": 0.8})
    columns, (line,) = lines_of(rows[:3])
    assert line.average(columns, "auroc") == {}, "seed 0 lacks a set"
    columns, (line,) = lines_of([rows[0], result_row(ood_set="isun", seed=1)])
    assert line.average(columns, "auroc") == {}, "as many, but of other seeds"


def test_a_set_read_with_options_never_bears_the_plain_title():
    assert set_title("svhn") == "SVHN" and set_title("svhn:n=10000") == "SVHN (n=10000)"
    assert (
        set_title("cifar10:encode=jpeg75") == "CIFAR-10 (encode=jpeg75)*"
        and set_title("shapes-backgrounds") == "shapes-backgrounds*"
    )
    assert set_title("shapes-noise:seed=1") == "shapes-noise:seed=1" and set_title("far") == "far"
