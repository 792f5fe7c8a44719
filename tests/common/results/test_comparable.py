"""Which runs may be held against their controls: 0.3 points of ID or training accuracy, in each seed, from logs beside the rows."""

import json

import pytest
from result_rows import result_row, write_rows

from common.cli.errors import UserError
from common.results.comparable import (
    CONTROL_BEHIND,
    NOT_CONVERGED,
    UNKNOWN,
    Trained,
    against_controls,
    in_words,
    judged,
    last_epochs,
    level,
)
from common.results.rows import read_rows
from common.results.tables import show


def run(folder, method: str, seed: int = 0, accuracy: float = 0.99, train: float | None = 0.995, **log):
    """A folder with results.csv and log.jsonl of two epochs, the first of which counts for nothing."""
    path = write_rows(folder / "results.csv", result_row(method=method, seed=seed, id_accuracy=accuracy))
    if train is not None:
        lines = [
            {"epoch": 0, "ce": 9.0, "train_accuracy": 0.1},
            {"epoch": 1, "ce": 0.25, "train_accuracy": train} | log,
        ]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def found(*paths):
    (table, marks), *others = judged(read_rows(paths), last_epochs(paths)).values()
    assert not others
    return table[1], marks


@pytest.mark.parametrize(
    "ours, theirs, expected",
    [
        ((0.99, 0.99), (0.993, 0.99), ""),  # exactly 0.3 points
        ((0.99, 0.99), (0.9931, 0.99), NOT_CONVERGED),
        ((0.993, 0.99), (0.99, 0.99), ""),
        ((0.9931, 0.99), (0.99, 0.99), CONTROL_BEHIND),
        ((0.9931, 0.98), (0.99, 0.99), NOT_CONVERGED),
        ((0.99, 0.98), (0.99, 0.9831), NOT_CONVERGED),  # training accuracy counts too
        ((0.99, None), (0.99, 0.98), None),
        ((0.9, None), (0.99, 0.98), NOT_CONVERGED),  # ID accuracy alone is enough to say no
        ((float("nan"), 0.99), (0.99, 0.99), NOT_CONVERGED),
    ],
)
def test_level_is_within_three_tenths_of_a_point(ours, theirs, expected):
    of = lambda pair: Trained(None, pair[1], pair[0])  # noqa: E731
    assert level(of(ours), of(theirs)) == expected


def test_the_last_epoch_of_both_stands_in_the_table_and_the_difference_bears_the_mark(tmp_path):
    paths = [run(tmp_path / "a", "LBF", accuracy=0.95, train=0.96, ce=0.5), run(tmp_path / "b", "control"), run(tmp_path / "c", "pre-trained")]  # fmt: skip
    body, marks = found(*paths)
    assert body == [["LBF", "control", "0.500", "0.250", "96.00", "99.50", "95.00", "99.00", "not converged"]]
    assert marks == {"LBF": "not converged", "LBF - control": "not converged"}
    rows, logs = read_rows(paths), last_epochs(paths)
    tables, of_set = against_controls(rows, {}, logs, ("auroc",), 0)
    first, second = tables.values()
    assert [line[0] for line in first[1]] == ["LBF - control (not converged)"] and second[1] == body
    assert "| LBF (not converged) |" in show(rows, ("auroc",), of_set) and "| control " in show(
        rows, ("auroc",), of_set
    )


def test_each_seed_is_held_against_its_own_control(tmp_path):
    pairs = {0: (0.99, 0.99), 1: (0.95, 0.99), 2: (0.99, 0.95)}
    paths = [
        run(tmp_path / f"{method}-{seed}", method, seed, accuracy)
        for seed, pair in pairs.items()
        for method, accuracy in zip(("LBF", "control"), pair)
    ]
    body, marks = found(*paths)
    assert body[0][-1] == marks["LBF"] == "not converged: 2 of 3 seeds"
    assert body[0][6:8] == ["97.67 ± 2.31 (n=3)", "97.67 ± 2.31 (n=3)"]
    assert in_words(["", ""]) == "yes" and in_words([]) == in_words(["", None]) == UNKNOWN
    assert in_words(["", CONTROL_BEHIND]) == "its control not converged: 1 of 2 seeds"


def test_without_a_log_it_is_not_known_and_nothing_is_marked(tmp_path):
    body, marks = found(run(tmp_path / "a", "LBF", train=None), run(tmp_path / "b", "control"))
    assert body[0][2:5] == ["-", "0.250", "-"] and body[0][-1] == UNKNOWN and marks == {}


def test_a_log_is_of_the_network_of_the_folder_not_of_the_vanilla_one_in_its_file(tmp_path):
    vanilla = result_row(method="vanilla", checkpoint_sha256="pre")
    dense = {"id_accuracy": 0.9, "checkpoint_sha256": "dense"}
    rows = [result_row(method=method, **dense) for method in ("DFB, S_h alone", "DFB +")]
    (tmp_path / "c").mkdir()
    run(tmp_path / "dfb", "DFB", train=0.9)
    write_rows(tmp_path / "dfb/results.csv", vanilla, *rows)
    control = [result_row(method=f"DFB control{end}", checkpoint_sha256="none") for end in (", S_h alone", " +")]
    run(tmp_path / "control", "DFB control", train=0.99)
    write_rows(tmp_path / "control/results.csv", vanilla, *control)
    paths = [tmp_path / name / "results.csv" for name in ("dfb", "control")]
    assert last_epochs(paths).keys() == {"dense", "none"}
    body, marks = found(*paths)
    assert [line[:2] for line in body] == [["DFB", "DFB control"]], "one network, one line"
    assert marks.keys() == {f"{name}{end}" for name in ("DFB, S_h alone", "DFB +") for end in ("", " - DFB control, S_h alone")}  # fmt: skip


def test_a_log_beside_another_file_is_not_taken_for_its_own_and_a_damaged_one_is_named(tmp_path):
    path = run(tmp_path / "a", "LBF")
    assert last_epochs([path.rename(path.with_name("lbf.csv"))]) == {}
    path = run(tmp_path / "b", "LBF")
    (tmp_path / "b/log.jsonl").write_text('{"epoch": 0, "ce"')
    with pytest.raises(UserError, match="log.jsonl, line 1"):
        last_epochs([path])
