"""The numbers of a run: gathered over an epoch's steps, and log.jsonl, one line an epoch."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.cli.files import write_atomically
from common.training.distributed import global_sum


class Log:
    """Sums of logged numbers over an epoch and over all processes, kept on the device: no host synchronisation in the step."""

    def __init__(self, sums: dict[str, Tensor] | None = None):
        self.sums = sums or {}

    def add(self, numbers_: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add a step's numbers; returns their pairs, summed over processes."""
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
    lines = path.read_text().splitlines() if path.exists() and epoch > 0 else []
    lines = [text for text in lines if json.loads(text)["epoch"] < epoch] + [json.dumps(line)]
    write_atomically(path, lambda part: part.write_text("\n".join(lines) + "\n"))
