"""Damaged and odd input for every command: does each refuse it in one line, or give the value that is right?

    python tests/fuzz.py --inputs 3000 --seed 1
    python tests/fuzz.py --inputs 1 --seed 1 --first 1234 --keep /tmp/kept      # one of them again, its folder kept

Each generator states what is right for its input: a refusal that names it, a word, or the value. Exit code 1 where a fault was found.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from robustness import arrays, cases, files, flags, lists, pictures, processes, world  # noqa: E402

# Generator, and its share of the inputs
GENERATORS = {
    "flags": (flags.make, 36), "own arrays": (arrays.own, 14), "rows": (arrays.rows, 12), "saved scores": (arrays.scores, 4),
    "checkpoints": (files.checkpoint, 10), "runs": (files.resumed, 2), "masks": (files.masks, 4), "cache": (files.cache, 4), "logs": (files.log, 2),
    "images": (pictures.image, 7), "folders": (pictures.classes, 2), "tars": (pictures.tar, 3), "lists": (lists.make, 6),
}  # fmt: skip


def fuzz(
    inputs: int, seed: int, first: int = 0, stop_after_s: float = 1e9, keep: Path | None = None
) -> dict[str, Counter]:
    """Faults by generator, under "inputs" how many there were. Each input is drawn from (seed, its number) alone."""
    processes.prepare()
    found = {name: Counter() for name in GENERATORS}
    with tempfile.TemporaryDirectory() as place:
        root, scratch = Path(place, "world"), Path(place, "scratch")
        scratch.mkdir()
        root.mkdir()
        made, started = cases.World(world.make(root), scratch), time.monotonic()
        for number in range(first, first + inputs):
            if time.monotonic() - started > stop_after_s:
                break
            draw = Random(f"{seed} {number}")
            name = draw.choices(list(GENERATORS), [share for _, share in GENERATORS.values()])[0]
            folder = (keep or scratch) / f"{number}"
            folder.mkdir(parents=True)
            case = GENERATORS[name][0](draw, made, folder)
            faults, said = cases.run(case, folder)
            found[name].update({"inputs": 1, **dict.fromkeys(dict(faults), 1)})
            for fault, text in faults:
                typed = " ".join(map(repr, map(str, case.words)))
                print(
                    f"{number} {name}: {fault}: {case.note}\n  {typed}\n  right: {case.right}; {text}",
                    file=sys.stderr,
                    flush=True,
                )
            if keep is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(case, said, sep="\n")
    return found


def table(found: dict[str, Counter]) -> str:
    """A line a generator, and one for all."""
    columns = ("inputs", *cases.FAULTS)
    lines = [f"| input | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    total = sum(found.values(), Counter())
    return "\n".join(
        lines
        + [
            f"| {name} | {' | '.join(str(counts[c]) for c in columns)} |"
            for name, counts in (found | {"all": total}).items()
        ]
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--inputs", type=int, default=3000, help="how many [3000]")
    made.add_argument("--seed", type=int, default=0, help="of all of them [0]")
    made.add_argument("--first", type=int, default=0, help="number of the first [0]")
    made.add_argument(
        "--stop-after", type=float, default=1e9, metavar="S", help="seconds after which no more are begun [never]"
    )
    made.add_argument("--keep", type=Path, metavar="DIR", help="keep each input there, and print what was said")
    given = made.parse_args()
    started = time.monotonic()
    found = fuzz(given.inputs, given.seed, given.first, given.stop_after, given.keep)
    print(table(found))
    print(f"seed {given.seed}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(1 if any(counts[fault] for counts in found.values() for fault in cases.FAULTS) else 0)


if __name__ == "__main__":
    main()
