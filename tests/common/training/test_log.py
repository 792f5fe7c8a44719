import pytest
import torch

from common.cli.errors import UserError
from common.training.log import Log, append_log, read_log
from common.training.objective import ratio


def test_logged_shares_are_divided_over_the_epoch_not_per_step():
    log = Log()
    log.add({"loss": torch.tensor(1.0), "share": ratio(torch.tensor(1.0), 2)})
    log.add({"loss": torch.tensor(3.0), "share": ratio(torch.tensor(0.0), 6)})
    log.add({"loss": torch.tensor(2.0), "share": ratio(torch.tensor(0.0), 0)})
    assert log.means() == {"loss": 2.0, "share": 0.125}
    empty = Log()
    empty.add({"norm": ratio(torch.tensor(0.0), 0)})
    assert empty.means() == {"norm": None}


def test_lines_are_added_epoch_by_epoch_and_those_of_a_killed_run_are_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    for epoch, loss in ((0, 3.0), (1, 2.0), (2, 1.5), (1, 1.0)):
        append_log(path, epoch, {"epoch": epoch, "loss": loss, "share": None})
    assert read_log(path) == [{"epoch": 0, "loss": 3.0, "share": None}, {"epoch": 1, "loss": 1.0, "share": None}]
    assert read_log(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "second, said",
    [
        (b'{"epoch": 1, "lo', "not a whole line of JSON (Unterminated string"),
        (b"\xff\xfe\xfa", "not a whole line of JSON"),
        (b"[" * 100_000, "not a whole line of JSON (RecursionError)"),
        (b"[1]", 'expected {"epoch": a whole number above 0, ...}'),
        (b'{"loss": 1}', 'expected {"epoch": a whole number above 0, ...}'),
        (b'{"epoch": 0, "loss": 1}', 'expected {"epoch": a whole number above 0, ...}'),
        (b'{"epoch": 1, "loss": "low"}', "loss must be a number or null, got 'low'"),
        (b'{"epoch": 1}', "lacks loss; it has: epoch"),
    ],
)
def test_a_damaged_line_is_named_with_its_number(tmp_path, second, said):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 0, "loss": 1.5}\n' + second + b"\n")
    with pytest.raises(UserError) as error:
        read_log(path, ("loss",))
    assert str(error.value).startswith(f"{path}, line 2: {said}") and "\n" not in str(error.value)
