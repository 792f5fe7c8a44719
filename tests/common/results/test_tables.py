"""Rows as a table: protocols apart, deviations with the number of seeds, intervals, LaTeX."""

from result_rows import result_row

from common.results.paper import join
from common.results.tables import beside_paper, latex, markdown, own_tables, show

ROWS = [
    result_row(method="DFB +", auroc=0.8),
    result_row(method="DFB +", auroc=0.6, protocol="via32"),
    result_row(method="DFB +", auroc=0.7, protocol="native", id_accuracy=0.3),
]
PRINTED = [
    {"id_set": "cifar10", "backbone": "resnet18", "printed": "DFB", "method": "DFB +", "scorer": "energy", "ood_set": "svhn",
     "metric": "auroc", "value": "81.00", "note": ""}
]  # fmt: skip


def body(*rows, metrics=("auroc",)) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in show(rows, metrics).splitlines() if line[:1] == "|"
    ][2:]


def test_protocols_are_lines_of_their_own_and_never_a_mean():
    assert body(*ROWS) == [
        ["DFB +", "energy", "80.00", "80.00", "90.00"],
        ["DFB + (via32)", "energy", "60.00", "60.00", "90.00"],
        ["DFB + (native)", "energy", "70.00", "70.00", "30.00"],
    ]


def test_a_deviation_says_how_many_seeds_and_recipes_never_share_one():
    rows = [
        result_row(seed=seed, auroc=value, id_accuracy=0.9 + seed / 100)
        for seed, value in ((0, 0.7), (1, 0.8), (2, 0.9))
    ]
    other = result_row(seed=0, auroc=0.1, recipe='{"mu": 3}')
    assert body(*rows, other) == [
        ["LBF, mu 1", "energy", "80.00 ± 10.00 (n=3)", "80.00 ± 10.00 (n=3)", "91.00 ± 1.00 (n=3)"],
        ["LBF, mu 3", "energy", "10.00", "10.00", "90.00"],
    ]


def test_intervals_stand_in_the_cells_of_one_seed():
    ends = {"fpr95_low": "0.4", "fpr95_high": "0.6", "auroc_low": "0.7", "auroc_high": "0.8"}
    row = result_row(**ends)
    assert body(row, metrics=("fpr95", "auroc"))[0][2] == "50.00 [40.00, 60.00] / 75.00 [70.00, 80.00]"
    assert "[" not in show([row, result_row(seed=1, **ends)])


def test_only_the_networks_own_protocol_stands_beside_a_printed_number():
    assert beside_paper(ROWS, PRINTED, ["auroc"]).count("| DFB +") == 1
    assert " 80.00 |" in beside_paper(ROWS, PRINTED, ["auroc"]) and beside_paper(ROWS[1:], PRINTED, ["auroc"]) == ""
    assert beside_paper([ROWS[0] | {"benchmark": "False"}], PRINTED, ["auroc"]) == "", "a part of the set"
    (table,) = join(PRINTED, ROWS, [("DFB + (via32)", "energy")])
    values = {line[:2]: table.cells[line, "svhn", "auroc"].values for line in table.rows}
    assert values == {("DFB", "DFB +"): (80.0,), ("ours only", "DFB + (via32)"): (60.0,)}


def test_own_tables_are_written_for_latex_too():
    rows = [result_row(method="a_b & c", seed=seed) for seed in (0, 1)]
    text = latex(own_tables(rows, ["auroc"]))
    assert r"a\_b \& c & energy & 75.00 $\pm$ 0.00 (n=2) & 75.00 $\pm$ 0.00 (n=2) & 90.00 $\pm$ 0.00 (n=2) \\" in text
    assert r"\textbackslash{}input\{/x\} \$1 -- a\_b" in latex(
        {"t": (["method", "score"], [[r"\input{/x} $1 -- a_b", "-"]])}
    )
    assert r"\begin{tabular}{llrrr}" in text and text.count(r"\\") == 2


def test_a_name_neither_ends_a_cell_nor_a_line():
    table = markdown(["method", "score", "folder:/a\nb"], [["a|b", "msp", "1.00"]])
    assert table.splitlines()[0] == r"| method | score | folder:/a\nb |" and r"| a\|b   | msp   |" in table
    assert len(table.splitlines()) == 3
    assert r"folder:/a\textbackslash{}nb" in latex({"x": (["method", "score", "folder:/a\nb"], [])})
