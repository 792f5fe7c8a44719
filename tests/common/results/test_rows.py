"""Rows are written whole with their provenance, and read with a protocol."""

import csv

import pytest

from common.cli.errors import UserError
from common.metrics import INTERVALS
from common.results.rows import COLUMNS, IDENTIFY, csv_text, merge_rows, method_of, read_rows, write_csv

ROW = dict.fromkeys(COLUMNS, "x") | {"auroc": 1 / 3, "protocol": "via32"}


def test_all_digits_are_kept_and_a_row_that_lacks_something_is_refused(tmp_path):
    merge_rows(tmp_path / "r.csv", [ROW])
    (row,) = read_rows([tmp_path / "r.csv"])
    assert float(row["auroc"]) == 1 / 3 and row["protocol"] == "via32" and tuple(row) == COLUMNS
    for column in ("checkpoint_sha256", "protocol"):
        with pytest.raises(UserError, match=f"a row of results lacks {column}; it is not written"):
            merge_rows(tmp_path / "s.csv", [ROW, {name: value for name, value in ROW.items() if name != column}])
    assert not (tmp_path / "s.csv").exists()


def test_intervals_are_columns_where_one_row_has_them(tmp_path):
    whole = ROW | {"fpr95_low": 0.1, "fpr95_high": 0.2, "auroc_low": 0.3, "auroc_high": 0.4}
    merge_rows(tmp_path / "r.csv", [whole])
    assert read_rows([tmp_path / "r.csv"])[0]["auroc_high"] == "0.4"
    with pytest.raises(UserError, match="lacks fpr95_low"):
        merge_rows(tmp_path / "r.csv", [whole, ROW])


def scored(path) -> list[tuple[str, str]]:
    return [(row["scorer"], row["auroc"]) for row in read_rows([path])]


def test_rows_join_those_of_the_file_and_replace_those_of_the_same(tmp_path):
    path, row = tmp_path / "r.csv", lambda scorer, auroc, **columns: ROW | {"scorer": scorer, "auroc": auroc} | columns
    assert not merge_rows(path, [row("msp", 0.1), row("energy", 0.2)])
    assert not merge_rows(path, [row("energy", 0.2, seconds="y", commit="y", device="y"), row("knn", 0.3)])
    assert scored(path) == [("msp", "0.1"), ("energy", "0.2"), ("knn", "0.3")], "the same result again is no loss"
    assert [r["seconds"] for r in read_rows([path])] == ["x", "y", "x"]
    assert merge_rows(path, [row("energy", 0.4)]), "another result in its place is one"
    assert scored(path) == [("msp", "0.1"), ("knn", "0.3"), ("energy", "0.4")]
    for column in IDENTIFY:
        assert not merge_rows(path, [row("energy", 0.4) | {column: "other"}]), column
    assert path.read_text().count("\n") == 1 + 3 + len(IDENTIFY)


def test_rows_of_stale_weights_go_where_the_file_is_of_one_network(tmp_path):
    path, row = tmp_path / "r.csv", lambda scorer, weights: ROW | {"scorer": scorer, "checkpoint_sha256": weights}
    merge_rows(path, [row("msp", "old"), row("knn", "vanilla")])
    assert not merge_rows(path, [row("energy", "new")])
    assert [r["scorer"] for r in read_rows([path])] == ["msp", "knn", "energy"]
    merge_rows(path, [row("msp", "old") | {"n_id": "10"}])
    assert merge_rows(path, [row("react", "new")], {"new", "vanilla"})
    assert [r["scorer"] for r in read_rows([path])] == ["knn", "energy", "react"]


def test_rows_with_intervals_stand_beside_rows_without(tmp_path):
    path, ends = tmp_path / "r.csv", dict.fromkeys(INTERVALS, 0.5)
    merge_rows(path, [ROW])
    assert not merge_rows(path, [ROW | {"scorer": "y"} | ends])
    assert [row["auroc_low"] for row in read_rows([path])] == ["", "0.5"]
    assert merge_rows(path, [ROW | ends]) and not merge_rows(path, [ROW | ends])
    assert [row["auroc_low"] for row in read_rows([path])] == ["0.5", "0.5"]
    assert merge_rows(path, [ROW | {"scorer": name} for name in "xy"]) and "auroc_low" not in read_rows([path])[0]


def test_a_file_that_is_not_one_of_results_is_left_alone(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is not a file of results"):
        merge_rows(tmp_path / "other.csv", [ROW])
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"


def test_a_file_from_before_the_protocol_is_read_as_the_networks_own(tmp_path):
    (tmp_path / "old.csv").write_text("method,auroc\nDFB +,0.5\n")
    (row,) = read_rows([tmp_path / "old.csv"])
    assert row == {"protocol": "own", "method": "DFB +", "auroc": "0.5"} and method_of(row) == "DFB +"


def test_a_method_is_named_with_a_protocol_that_is_not_its_own():
    assert method_of({"method": "DFB +", "protocol": "via32"}) == "DFB + (via32)"
    assert method_of({"method": "DFB +", "protocol": "own"}) == method_of({"method": "DFB +"}) == "DFB +"


def test_what_is_missing_or_no_file_of_results_is_named(tmp_path):
    with pytest.raises(UserError, match="no results at"):
        read_rows([tmp_path / "none.csv"])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is not a file of results"):
        read_rows([tmp_path / "other.csv"])


def test_numbers_of_a_figure_are_written_by_the_columns_of_the_first_row(tmp_path):
    write_csv(tmp_path / "n.csv", [{"b": 0.1 + 0.2, "a": None}, {"a": "x,y", "b": 1}])
    assert (tmp_path / "n.csv").read_text() == 'b,a\n0.30000000000000004,\n1,"x,y"\n'
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        csv_text(["a"], [{"b": 1}])
    assert list(csv.DictReader((tmp_path / "n.csv").open()))[1] == {"b": "1", "a": "x,y"}


def test_two_results_of_one_network_are_not_read_as_two_seeds(tmp_path):
    path = tmp_path / "r.csv"
    merge_rows(path, [ROW | {"n_ood": 100}])
    merge_rows(path, [ROW | {"n_ood": 200}])
    with pytest.raises(UserError, match=r"two results of one network for x x on x \(n_ood 100 and 200\); remove it"):
        read_rows([path])
    merge_rows(tmp_path / "seeds.csv", [ROW | {"seed": 0}, ROW | {"seed": 1, "checkpoint_sha256": "y"}])
    assert len(read_rows([tmp_path / "seeds.csv"])) == 2
