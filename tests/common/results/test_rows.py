"""Rows are written whole with their provenance, and read only where they are what they must be."""

import csv

import pytest
from result_rows import result_row, write_rows

from common.cli.errors import UserError
from common.metrics import INTERVALS
from common.results.columns import COLUMNS, IDENTITY
from common.results.rows import csv_text, merge_rows, method_of, read_rows, write_csv

ROW = result_row(auroc=1 / 3, protocol="via32")
OTHER = {"n_id": "7", "n_ood": "7", "seed": "7", "benchmark": "False"}  # a value that fits, where "other" does not


def test_all_digits_are_kept_and_a_row_that_lacks_something_is_refused(tmp_path):
    merge_rows(tmp_path / "r.csv", [ROW | {"auroc": 1 / 3}])
    (row,) = read_rows([tmp_path / "r.csv"])
    assert float(row["auroc"]) == 1 / 3 and row["protocol"] == "via32" and list(row) == list(COLUMNS)
    for column in ("checkpoint_sha256", "protocol"):
        with pytest.raises(UserError, match=f"a row of results lacks {column}; it is not written"):
            merge_rows(tmp_path / "s.csv", [ROW, {name: value for name, value in ROW.items() if name != column}])
    with pytest.raises(UserError, match=r"a new row of results: auroc must be a number in \[0, 1\], got 'nan'"):
        merge_rows(tmp_path / "s.csv", [ROW | {"auroc": float("nan")}])
    assert not (tmp_path / "s.csv").exists()


def test_intervals_are_columns_where_one_row_has_them(tmp_path):
    whole = ROW | {"fpr95_low": 0.1, "fpr95_high": 0.2, "auroc_low": 0.3, "auroc_high": 0.4}
    merge_rows(tmp_path / "r.csv", [whole])
    assert read_rows([tmp_path / "r.csv"])[0]["auroc_high"] == "0.4"
    with pytest.raises(UserError, match="lacks fpr95_low"):
        merge_rows(tmp_path / "r.csv", [whole, ROW])
    with pytest.raises(UserError, match=r"fpr95_low must be a number in \[0, 1\], got '2'"):
        merge_rows(tmp_path / "r.csv", [whole | {"fpr95_low": 2}])


def scored(path) -> list[tuple[str, str]]:
    return [(row["scorer"], row["auroc"]) for row in read_rows([path])]


def test_rows_join_those_of_the_file_and_replace_those_of_the_same(tmp_path):
    path, row = tmp_path / "r.csv", lambda scorer, auroc, **columns: ROW | {"scorer": scorer, "auroc": auroc} | columns
    assert not merge_rows(path, [row("msp", 0.1), row("energy", 0.2)])
    assert not merge_rows(path, [row("energy", 0.2, seconds="9", commit="y", device="y"), row("knn", 0.3)])
    assert scored(path) == [("msp", "0.1"), ("energy", "0.2"), ("knn", "0.3")], "the same result again is no loss"
    assert [r["seconds"] for r in read_rows([path])] == ["1.0", "9", "1.0"]
    assert merge_rows(path, [row("energy", 0.4)]), "another result in its place is one"
    assert scored(path) == [("msp", "0.1"), ("knn", "0.3"), ("energy", "0.4")]
    names = [name for name, column in COLUMNS.items() if column.kind == IDENTITY] + ["seed"]
    for column in names:
        assert not merge_rows(path, [row("energy", 0.4) | {column: OTHER.get(column, "other")}]), column
    assert path.read_text().count("\n") == 1 + 3 + len(names)


def test_rows_of_stale_weights_go_where_the_file_is_of_one_network(tmp_path):
    path, row = (
        tmp_path / "r.csv",
        lambda scorer, weights: ROW | {"scorer": scorer, "checkpoint_sha256": weights, "method": weights},
    )
    merge_rows(path, [row("msp", "old"), row("knn", "vanilla")])
    assert not merge_rows(path, [row("energy", "new")])
    assert [r["scorer"] for r in read_rows([path])] == ["msp", "knn", "energy"]
    merge_rows(path, [row("msp", "old") | {"n_id": "7"}])
    assert merge_rows(path, [row("react", "new")], {"new", "vanilla"})
    assert [r["scorer"] for r in read_rows([path])] == ["knn", "energy", "react"]


def test_rows_with_intervals_stand_beside_rows_without(tmp_path):
    path, ends = tmp_path / "r.csv", dict.fromkeys(INTERVALS, 0.5)
    merge_rows(path, [ROW])
    assert not merge_rows(path, [ROW | {"scorer": "y"} | ends])
    assert [row.get("auroc_low") for row in read_rows([path])] == ["", "0.5"]
    assert merge_rows(path, [ROW | ends]) and not merge_rows(path, [ROW | ends])
    assert [row["auroc_low"] for row in read_rows([path])] == ["0.5", "0.5"]
    assert merge_rows(path, [ROW, ROW | {"scorer": "y"}]) and "auroc_low" not in read_rows([path])[0]


def test_a_file_from_before_a_column_is_filled_up_and_one_that_lacks_more_is_refused(tmp_path):
    before = ("protocol", "upstream", "limit")
    path = write_rows(tmp_path / "old.csv", {name: value for name, value in ROW.items() if name not in before})
    (row,) = read_rows([path])
    assert [row[name] for name in before] == ["own", "-", "-"]
    for name in set(COLUMNS) - set(before):
        write_rows(path, {column: value for column, value in ROW.items() if column != name})
        with pytest.raises(
            UserError, match=f"old.csv is not a file of results as this version reads them: no column {name}"
        ):
            read_rows([path])
        with pytest.raises(UserError, match="not a file of results"):
            merge_rows(path, [ROW])


@pytest.mark.parametrize(
    "damage,said",
    [
        (lambda text: b"\x89PNG\r\n\xff\xfe", "byte 0 is not text"),
        (lambda text: b"", "its first line is empty"),
        (lambda text: b"\n" + text, "its first line is empty"),
        (lambda text: text.replace(b",", b";"), "no column method"),
        (lambda text: text.replace(b"auroc", b"method", 1), "no column auroc"),
        (lambda text: text.replace(b",0.75,", b",0.1_2,"), r"auroc must be a number in \[0, 1\], got '0.1_2'"),
        (lambda text: text.splitlines(True)[0], "it has a header and no row"),
        (lambda text: text[:-1], "the last line is cut"),
        (lambda text: text[:-40], "the last line is cut"),
        (lambda text: text.replace(b",0.75,", b",", 1), "r.csv:2: 28 values, expected 29"),
        (lambda text: text + b"a,b\n", "r.csv:3: 2 values, expected 29"),
        (lambda text: text.replace(b"auroc", b"fpr95", 1), "no column auroc"),
        (lambda text: text.replace(b",0.75,", b",75,"), r"r.csv:2: auroc must be a number in \[0, 1\], got '75'"),
        (lambda text: text.replace(b'"{""mu"": 1.0}"', b'"{""mu"": 1.0"'), "recipe must be a whole recipe"),
        (lambda text: text + b'"open\n', "not a line of a CSV"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_left_alone(tmp_path, damage, said):
    path = write_rows(tmp_path / "r.csv", result_row())
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(UserError, match=said):
        read_rows([path])
    with pytest.raises(UserError, match=said):
        merge_rows(path, [ROW])
    assert path.read_bytes() == before


def test_what_is_missing_or_no_file_of_results_is_named(tmp_path):
    with pytest.raises(UserError, match="no results at"):
        read_rows([tmp_path / "none.csv"])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is not a file of results"):
        read_rows([tmp_path / "other.csv"])


def test_the_same_row_counts_once_wherever_it_stands(tmp_path):
    one = write_rows(tmp_path / "a.csv", result_row(), result_row(scorer="msp"))
    two = write_rows(tmp_path / "b.csv", result_row(seconds="7", commit="later", device="gpu"), result_row(seed=1))
    rows = read_rows([one, one, two])
    assert [(row["scorer"], row["seed"], row["seconds"]) for row in rows] == [
        ("energy", "0", "1.0"), ("msp", "0", "1.0"), ("energy", "1", "1.0"),
    ]  # fmt: skip


def test_one_seed_with_two_weights_or_one_network_with_two_numbers_names_both(tmp_path):
    one = write_rows(tmp_path / "a.csv", result_row(checkpoint_sha256="first"))
    other = write_rows(tmp_path / "b.csv", result_row(checkpoint_sha256="second"))
    with pytest.raises(
        UserError, match=r"two networks of LBF on cifar10, seed 0: .*a.csv:2 and .*b.csv:2 \(weights first and second\)"
    ):
        read_rows([one, other])
    write_rows(other, result_row(checkpoint_sha256="second", ood_set="isun", scorer="msp", options="MSP()"))
    with pytest.raises(UserError, match=r"two networks .*\(weights first and second\)"):
        read_rows([one, other])
    write_rows(other, result_row(checkpoint_sha256="first", auroc=0.5))
    with pytest.raises(UserError, match=r"a.csv:2 and .*b.csv:2 \(auroc 0.75 and 0.5\)"):
        read_rows([one, other])
    write_rows(
        other, result_row(checkpoint_sha256="second", recipe='{"mu": 3}'), result_row(checkpoint_sha256="third", seed=1)
    )
    assert len(read_rows([one, other])) == 3


def test_one_network_has_one_accuracy_on_one_id_test_set(tmp_path):
    one = write_rows(tmp_path / "a.csv", result_row(id_accuracy=0.9))
    for accuracy in ("0.7", "nan"):
        other = write_rows(tmp_path / "b.csv", result_row(id_accuracy=accuracy, ood_set="isun"))
        with pytest.raises(UserError, match=rf"a.csv:2 and .*b.csv:2 \(0.9 and {accuracy}\); score again"):
            read_rows([one, other])
        write_rows(other, result_row(id_accuracy=accuracy, ood_set="isun", id_data_sha256="part", n_id=5))
        assert len(read_rows([one, other])) == 2
    write_rows(other, result_row(id_accuracy=0.9001, ood_set="isun"))
    assert len(read_rows([one, other])) == 2, "an image of another machine"


def test_what_a_spreadsheet_makes_of_a_file_is_read_all_the_same(tmp_path):
    path = write_rows(tmp_path / "a.csv", result_row(auroc="0.5"))
    rows, text = read_rows([path]), path.read_bytes()
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    write_rows(tmp_path / "c.csv", dict(reversed(result_row(auroc="5.0e-1").items())))
    assert read_rows([path, tmp_path / "b.csv", tmp_path / "c.csv"]) == rows


def test_a_method_is_named_with_a_protocol_that_is_not_its_own():
    assert method_of({"method": "DFB +", "protocol": "via32"}) == "DFB + (via32)"
    assert method_of({"method": "DFB +", "protocol": "own"}) == method_of({"method": "DFB +"}) == "DFB +"


def test_numbers_of_a_figure_are_written_by_the_columns_of_the_first_row(tmp_path):
    write_csv(tmp_path / "n.csv", [{"b": 0.1 + 0.2, "a": None}, {"a": "x,y", "b": 1}])
    assert (tmp_path / "n.csv").read_text() == 'b,a\n0.30000000000000004,\n1,"x,y"\n'
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        csv_text(["a"], [{"b": 1}])
    assert list(csv.DictReader((tmp_path / "n.csv").open()))[1] == {"b": "1", "a": "x,y"}
