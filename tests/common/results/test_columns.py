"""When two rows are of the same thing: every column declared, and its declaration what decides."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_rows import result_row

from common.results.columns import COLUMNS, IDENTITY, MEASUREMENT, OF_OOD_SET, OPTIONAL, SEED, TRACE, complaint, key

RECIPE = {"mu": 1.0, "drops": [0.5], "steps": None, "crop": "pad", "flip": True, "masks_sha256": "a"}
UPSTREAM = {"start": {"lr": 0.1, "start": {"epochs": 5}}, "masks": {"theta": 0.2, "data_sha256": "b"}}
WHOLE = result_row(recipe=json.dumps(RECIPE), upstream=json.dumps(UPSTREAM))


def test_the_columns_are_those_that_were_promised():
    kinds = {
        kind: [name for name, column in COLUMNS.items() if column.kind == kind] for kind in (SEED, TRACE, MEASUREMENT)
    }
    assert kinds == {
        SEED: ["seed"], TRACE: ["checkpoint_sha256", "commit", "versions", "device", "seconds"],
        MEASUREMENT: ["fpr95", "auroc", "aupr_in", "aupr_out", "id_accuracy"],
    }  # fmt: skip
    identity = {
        "method",
        "scorer",
        "options",
        "id_set",
        "ood_set",
        "n_id",
        "n_ood",
        "protocol",
        "recipe",
        "upstream",
        "backbone",
        "precision",
    }
    identity |= {"limit", "convention", "train_data_sha256", "id_data_sha256", "ood_data_sha256", "benchmark"}
    assert {name for name, column in COLUMNS.items() if column.kind == IDENTITY} == identity


@given(st.sampled_from(sorted(COLUMNS)), st.text(min_size=1).filter(lambda text: not text.startswith("{")))
def test_rows_are_one_group_exactly_when_what_differs_is_seed_trace_or_measurement(column, value):
    other = WHOLE | {column: value}
    same = COLUMNS[column].kind in (SEED, TRACE, MEASUREMENT) or value == WHOLE[column]
    assert (key(other) == key(WHOLE)) is same


@given(
    st.sampled_from(sorted(RECIPE)),
    st.one_of(st.floats(allow_nan=False), st.text(), st.none(), st.lists(st.floats(0, 1))),
)
def test_recipes_are_compared_field_by_field_and_digests_in_them_are_trace(field, value):
    changed = WHOLE | {"recipe": json.dumps(RECIPE | {field: value})}
    assert (key(changed) == key(WHOLE)) is (field == "masks_sha256" or value == RECIPE[field])


@pytest.mark.parametrize(
    "upstream,same",
    [
        ({"start": {"lr": 0.2, "start": {"epochs": 5}}, "masks": UPSTREAM["masks"]}, False),
        ({"start": {"lr": 0.1, "start": {"epochs": 6}}, "masks": UPSTREAM["masks"]}, False),
        ({"start": UPSTREAM["start"], "masks": {"theta": 0.3, "data_sha256": "b"}}, False),
        ({"start": UPSTREAM["start"], "masks": {"theta": 0.2, "data_sha256": "other"}}, True),
        ({"masks": {"data_sha256": "b", "theta": 0.20}, "start": UPSTREAM["start"]}, True),
    ],
)
def test_recipes_of_what_a_network_was_made_of_count_too(upstream, same):
    assert (key(WHOLE | {"upstream": json.dumps(upstream)}) == key(WHOLE)) is same


def test_a_column_of_a_table_and_a_line_share_the_identity_between_them():
    of_set = tuple(name for name in COLUMNS if name not in OF_OOD_SET)
    other = WHOLE | {"ood_set": "isun"}
    assert key(other, OF_OOD_SET) == key(WHOLE, OF_OOD_SET) and key(other, of_set) != key(WHOLE, of_set)


@pytest.mark.parametrize(
    "column,value,wants",
    [
        ("auroc", "abc", "a number in [0, 1]"), ("auroc", "nan", "a number in [0, 1]"), ("fpr95", "inf", "a number in [0, 1]"),
        ("aupr_in", "1.0000001", "a number in [0, 1]"), ("aupr_out", "-0.1", "a number in [0, 1]"), ("auroc", "", "a number in [0, 1]"),
        ("id_accuracy", "90", "a number in [0, 1]"), ("n_id", "0", "a whole number above 0"), ("n_ood", "1.5", "a whole number above 0"),
        ("n_ood", "²", "a whole number above 0"), ("method", " ", "something"), ("seed", "", "something"),
        ("seed", "01", "a whole number, or -"), ("seed", "1.0", "a whole number, or -"), ("seed", "²", "a whole number, or -"), ("n_id", "010", "a whole number above 0"),
        ("n_id", "1" * 5000, "a whole number above 0"), ("auroc", "0.1_2", "a number in [0, 1]"), ("auroc", " 0.5", "a number in [0, 1]"), ("auroc", ".", "a number in [0, 1]"),
        ("benchmark", "TRUE", "True or False"), ("recipe", '{"mu": 1, "mu": 3}', "a whole recipe (JSON)"), ("upstream", '{"a":' * 9999, "a whole recipe (JSON)"),
        ("recipe", '{"mu": 1', "a whole recipe (JSON)"), ("method", "=cmd|' /C calc'!A0", "text that a spreadsheet does not run as a formula"),
        ("scorer", "+cmd", "text that a spreadsheet does not run as a formula"), ("ood_set", "@SUM(A1)", "text that a spreadsheet does not run as a formula"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named(column, value, wants):
    assert complaint(WHOLE | {column: value}, COLUMNS) == (column, value, wants)


@pytest.mark.parametrize(
    "change", [{}, {"id_accuracy": "nan"}, {"scorer": "+"}, {"scorer": "-"}, {"recipe": "-"}, {"auroc": "1e-3"}]
)
def test_what_can_be_is_left_alone(change):
    assert complaint(WHOLE | change, COLUMNS) is None


def test_an_interval_has_both_ends_in_their_order():
    ends, every = {"fpr95_low": "0.1", "fpr95_high": "0.2", "auroc_low": "0.3", "auroc_high": "0.4"}, COLUMNS | OPTIONAL
    assert complaint(WHOLE | ends, every) is None and complaint(WHOLE | dict.fromkeys(ends, ""), every) is None
    assert complaint(WHOLE | ends | {"auroc_low": "0.5"}, every) == ("auroc_low", "0.5", "at most auroc_high, 0.4")
    name, value, wants = complaint(WHOLE | ends | {"fpr95_high": ""}, every)
    assert (name, value) == ("fpr95_high", "") and wants.startswith("there")
