"""The numbers of a run: gathered over an epoch's steps, and log.jsonl, one line an epoch."""

import json
from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.cli.files import read_plain, write_atomically


class Log:
    """Sums of logged numbers over an epoch and over all processes, kept on the device: no host synchronisation in the step."""

    def __init__(self, sums: dict[str, Any] | None = None):
        self.sums = sums or {}

    def add(self, numbers_: dict[str, Any]) -> dict[str, Any]:
        """Add a step's numbers; returns their pairs, summed over processes."""
        import torch  # the lines of a log are read without it

        from common.training.distributed import global_sum

        values = [value.double() for value in numbers_.values()]
        pairs = [value if value.ndim else torch.stack([value, torch.ones_like(value)]) for value in values]
        summed = dict(zip(numbers_, global_sum(torch.stack(pairs)), strict=True))
        self.sums = {name: self.sums[name] + pair if name in self.sums else pair for name, pair in summed.items()}
        return summed

    def means(self) -> dict[str, float | None]:
        """None where nothing was counted (no location selected in a whole epoch, say)."""
        pairs = {name: pair.tolist() for name, pair in self.sums.items()}
        return {name: top / bottom if bottom else None for name, (top, bottom) in pairs.items()}


def append_log(path: Path, epoch: int, line: dict[str, Any]) -> None:
    """Add an epoch's line; lines of this or later epochs, left by a run that was killed after them, are dropped."""
    lines = [json.dumps(old) for old in (read_log(path) if epoch > 0 else []) if old["epoch"] < epoch] + [
        json.dumps(line)
    ]
    write_atomically(path, lambda part: part.write_text("\n".join(lines) + "\n"))


def read_log(path: Path, needs: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The lines of a log, epoch by epoch; none where there is no log. Raises UserError that names the file and the line that is damaged, or
    lacks one of `needs`."""
    try:
        texts = read_plain(path).splitlines() if path.exists() else []
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", type(error).__name__)
            raise UserError(f"{path}, line {number}: not a whole line of JSON ({reason})") from None
        last = lines[-1]["epoch"] if lines else -1
        epoch = line.get("epoch") if isinstance(line, dict) else None
        if type(epoch) is not int or epoch <= last:
            raise UserError(
                f'{path}, line {number}: expected {{"epoch": a whole number above {last}, ...}}, got {text[:60]!r}'
            )
        if odd := [name for name, value in line.items() if not isinstance(value, (int, float, type(None)))]:
            raise UserError(f"{path}, line {number}: {odd[0]} must be a number or null, got {line[odd[0]]!r}")
        if lost := [name for name in needs if name not in line]:
            raise UserError(f"{path}, line {number}: lacks {lost[0]}; it has: {', '.join(line)}")
        lines.append(line)
    return lines
