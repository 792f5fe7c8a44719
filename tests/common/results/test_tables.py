"""Rows as a table: protocols apart, titles that say how a set was read."""

from common.results.paper import join
from common.results.tables import beside_paper, show, title


def row(method: str, auroc: float, protocol: str = "own", ood_set: str = "svhn", **changes) -> dict:
    return {
        "method": method, "scorer": "energy", "id_set": "cifar10", "ood_set": ood_set, "protocol": protocol, "fpr95": 0.5,
        "auroc": auroc, "id_accuracy": 0.9, "checkpoint_sha256": "net", "backbone": "resnet18", "benchmark": "True", "seed": 0,
    } | changes  # fmt: skip


ROWS = [row("DFB +", 0.8), row("DFB +", 0.6, "via32"), row("DFB +", 0.7, "native", id_accuracy=0.3)]
PRINTED = [
    {"id_set": "cifar10", "backbone": "resnet18", "printed": "DFB", "method": "DFB +", "scorer": "energy", "ood_set": "svhn",
     "metric": "auroc", "value": "81.00", "note": ""}
]  # fmt: skip


def test_protocols_are_lines_of_their_own_and_never_a_mean():
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in show(ROWS, ["auroc"]).splitlines()[4:]]
    assert lines == [
        ["DFB +", "energy", "80.00", "80.00", "90.00"],
        ["DFB + (via32)", "energy", "60.00", "60.00", "90.00"],
        ["DFB + (native)", "energy", "70.00", "70.00", "30.00"],
    ]


def test_only_the_networks_own_protocol_stands_beside_a_printed_number():
    assert beside_paper(ROWS, PRINTED, ["auroc"]).count("| DFB +") == 1
    assert " 80.00 |" in beside_paper(ROWS, PRINTED, ["auroc"]) and beside_paper(ROWS[1:], PRINTED, ["auroc"]) == ""
    (table,) = join(PRINTED, ROWS, [("DFB + (via32)", "energy")])
    values = {line[:2]: table.cells[line, "svhn", "auroc"].values for line in table.rows}
    assert values == {("DFB", "DFB +"): (80.0,), ("ours only", "DFB + (via32)"): (60.0,)}


def test_a_set_read_with_options_never_bears_the_plain_title():
    assert title("svhn") == "SVHN" and title("svhn:n=10000") == "SVHN (n=10000)"
    assert (
        title("cifar10:encode=jpeg75") == "CIFAR-10 (encode=jpeg75)*"
        and title("shapes-backgrounds") == "shapes-backgrounds*"
    )
    assert title("shapes-noise:seed=1") == "shapes-noise:seed=1" and title("far") == "far"
