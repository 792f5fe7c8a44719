"""Is one detector better than another on the same images? Paired differences with bootstrap intervals.

    python -m common.evaluate RUN/lbf/checkpoint.pt --save-scores lbf.npz ...
    python -m common.evaluate RUN/control/checkpoint.pt --save-scores control.npz ...
    python -m common.compare lbf.npz:energy control.npz:energy

Both see the same redrawn test images, so what is hard for both cancels. It speaks of the choice of test images, not of training seeds.
"""

import argparse
from pathlib import Path

import numpy as np

from common.cli.errors import UserError, command, unknown
from common.metrics import auroc, fpr_at_tpr, paired_difference
from common.cli.flags import formatter
from common.results.tables import markdown


def read(word: str) -> dict[str, np.ndarray]:
    """`FILE.npz:SCORER` -> scores of each set; "id" is the ID test set. Raises UserError that names what is there."""
    name, _, scorer = word.rpartition(":")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"expected FILE.npz:SCORER with a file of --save-scores, got {word!r}")
    try:
        with np.load(path, allow_pickle=False) as file:
            scores = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is not a file of --save-scores: {str(error).splitlines()[0]}") from error
    found = {key.rpartition("/")[2]: values for key, values in scores.items() if key.rpartition("/")[0] == scorer}
    if not found:
        raise unknown(f"scorer of {path}", scorer, dict.fromkeys(key.rpartition("/")[0] for key in scores))
    return found


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m common.compare", description=__doc__, formatter_class=formatter)
    made.add_argument("a", help="FILE.npz:SCORER")
    made.add_argument("b", help="FILE.npz:SCORER, on the same images")
    made.add_argument("--repeats", type=int, default=1000, metavar="N", help="redraws [1000]")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the redraws [0]")
    arguments = made.parse_args()
    a, b = read(arguments.a), read(arguments.b)
    sets = [name for name in a if name in b and name != "id"]
    if not sets:
        raise UserError(f"no OOD set in both: {', '.join(a)} and {', '.join(b)}")
    lines = []
    for name in sets:
        cells = [name]
        for metric in (fpr_at_tpr, auroc):
            found = paired_difference((a["id"], a[name]), (b["id"], b[name]), metric, arguments.repeats, arguments.seed)
            cells += [f"{100 * found.value:+.2f}", f"{100 * found.low:+.2f} to {100 * found.high:+.2f}", f"{found.p:.3f}"]
        lines.append(cells)
    print(f"{arguments.a} minus {arguments.b}, points; FPR95 lower is better, AUROC higher is better; {arguments.repeats} redraws\n")
    print(markdown(["OOD set", "FPR95", "95 % interval", "p", "AUROC", "95 % interval", "p"], lines))


if __name__ == "__main__":
    command(main)
