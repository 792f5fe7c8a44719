"""Is one detector better than another on the same images? Paired differences with bootstrap intervals.

    python -m common.evaluate RUN/lbf/checkpoint.pt --save-scores lbf.npz ...
    python -m common.evaluate RUN/control/checkpoint.pt --save-scores control.npz ...
    python -m common.compare lbf.npz:energy control.npz:energy

Both see the same redrawn test images, so what is hard for both cancels. It speaks of the choice of test images, not of training seeds.
"""

import argparse

from common.cli.commands import prog
from common.cli.errors import UserError, command
from common.cli.flags import formatter
from common.cli.recipes import ranged
from common.metrics import auroc, fpr_at_tpr, paired_difference
from common.results.compare import read
from common.results.tables import markdown


def main() -> None:
    made = argparse.ArgumentParser(prog=prog("common.compare"), description=__doc__, formatter_class=formatter)
    made.add_argument("a", help="FILE.npz:SCORER")
    made.add_argument("b", help="FILE.npz:SCORER, on the same images")
    made.add_argument("--repeats", type=ranged(int, low=1), default=1000, metavar="N", help="redraws [1000]")
    made.add_argument("--seed", type=ranged(int, low=0), default=0, metavar="N", help="of the redraws [0]")
    arguments = made.parse_args()
    a, b = read(arguments.a), read(arguments.b)
    sets = [name for name in a if name in b and name != "id"]
    if not sets:
        raise UserError(f"no OOD set in both: {', '.join(a)} and {', '.join(b)}")
    for name in ("id", *sets):
        if len(a[name]) != len(b[name]):
            said = f"{len(a[name])} scores of {name} in {arguments.a}, {len(b[name])} in {arguments.b}"
            raise UserError(f"{said}; expected the same images in both")
    lines = []
    for name in sets:
        cells = [name]
        for metric in (fpr_at_tpr, auroc):
            found = paired_difference((a["id"], a[name]), (b["id"], b[name]), metric, arguments.repeats, arguments.seed)
            cells += [
                f"{100 * found.value:+.2f}",
                f"{100 * found.low:+.2f} to {100 * found.high:+.2f}",
                f"{found.p:.3f}",
            ]
        lines.append(cells)
    print(
        f"{arguments.a} minus {arguments.b}, points; FPR95 lower is better, AUROC higher is better; {arguments.repeats} redraws\n"
    )
    print(markdown(["OOD set", "FPR95", "95 % interval", "p", "AUROC", "95 % interval", "p"], lines))


if __name__ == "__main__":
    command(main)
