import sys

import pytest

from common.cli.errors import UserError
from common.results.rows import COLUMNS, write_rows
from dfb import classes


@pytest.fixture
def results(tmp_path):
    """results(id_set, auroc, seed) writes a row of the vanilla network's energy and gives its file."""

    def write(id_set: str, auroc: float, seed: int = 0):
        path = tmp_path / f"{id_set.replace(':', '_')}-{seed}.csv"
        row = dict.fromkeys(COLUMNS, "0") | {
            "method": "vanilla",
            "scorer": "energy",
            "ood_set": "places",
            "auroc": auroc,
        }
        write_rows(path, [row | {"id_set": id_set, "seed": seed}])
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "count"),
    [("imagenet1k:C=200,seed=0", 200), ("imagenet1k", 1000), ("imagenet100", None), ("cifar10", None)],
)
def test_the_number_of_classes_is_read_off_the_sets_name(name, count):
    assert classes.class_count(name) == count


def test_a_line_has_a_point_a_number_of_classes_the_mean_over_seeds(results, monkeypatch, tmp_path):
    files = [results("imagenet1k", 0.5), results("imagenet1k:C=200", 0.8), results("imagenet1k:C=200", 0.9, seed=1)]
    kept = []
    monkeypatch.setattr(classes, "save", lambda figure, path: kept.append(figure) or path)
    monkeypatch.setattr(sys, "argv", ["dfb.classes", *files, results("cifar10", 0.1), "--out", str(tmp_path)])
    classes.main()
    (axis,) = kept[0].axes
    assert axis.get_title() == "OOD Places" and axis.lines[0].get_label() == "energy, vanilla"
    assert axis.lines[0].get_xdata().tolist() == [200, 1000] and axis.lines[0].get_ydata() == pytest.approx([85, 50])
    assert not any(len(line.get_xdata()) for line in axis.lines[1:])


def test_results_on_other_sets_are_refused(results, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["dfb.classes", results("cifar10", 0.5), "--out", str(tmp_path)])
    with pytest.raises(UserError, match="^no row has imagenet1k as ID set"):
        classes.main()
