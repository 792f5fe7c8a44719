"""Score a checkpoint's ID test set and OOD sets, and say how well they separate.

    python -m common.evaluate RUN/checkpoint.pt --ood isun cifar100 --scorers msp energy react

    python -m common.evaluate --features mine.npz --scorers all

One pass over each set serves every score. Rows go to a CSV with their provenance, beside those that it has of the same weights; the table goes to the screen. With --features the arrays
of any network are scored; python -c "help('common.scoring.own_arrays')" says which arrays the file holds.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import checkpoint
from common.cli import flags
from common.cli.commands import prog
from common.cli.device import pick_device
from common.cli.errors import UserError, command
from common.cli.recipes import from_arguments
from common.cli.steps import add_step_arguments, making
from common.metrics import check_repeats
from common.results import tables
from common.results.columns import formula, text
from common.results.rows import merge_rows
from common.scoring import own_arrays
from common.scoring.network import Inference, Network
from common.scoring.second import METHOD, Pair
from common.scoring.sets import (
    NEVER_DONE,
    IsDone,
    Scores,
    left_out,
    may_lack,
    ood_names,
    save_scores,
    score_sets,
    scorer_lines,
    scorer_names,
)
from common.training import distributed

VERSION = 1  # raised when the same network gives other rows
OF_IMAGES = (
    "ood",
    "cache",
    "limit",
    "precision",
    "batch_size",
    "on_corrupt",
    "second",
)  # flags that say something of images


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog("common.evaluate"), description=__doc__, formatter_class=flags.formatter)
    made.add_argument("checkpoint", type=Path, nargs="?", help="a finished checkpoint.pt")
    made.add_argument(
        "--features", type=Path, metavar="FILE", help="an .npz of your own arrays instead of a checkpoint"
    )
    second = "the second network, of dml-centre, for the score dml+ of a network of dml-focal"
    made.add_argument("--second", type=Path, metavar="FILE", help=second)
    made.add_argument("--method", default=None, metavar="NAME", help="name of the method column [the checkpoint's own]")
    flags.add_scoring_arguments(made)
    flags.add_results_arguments(made)
    add_step_arguments(made)
    return made


def score_checkpoint(
    path: Path, ood: list[str] | None, names: list[str], how: Inference, method: str | None = None, repeats: int = 0,
    is_done: IsDone = NEVER_DONE, second: Path | None = None,
) -> tuple[Scores, str] | None:  # fmt: skip
    """Every row of one checkpoint, and which scores are missing; None where `is_done` says so of what decides them. `second`: of a pair.

    Over several processes all pass their share of the images, and rank 0 alone scores; the others get None.
    """
    model, facts = checkpoint.load_finished(path)
    names = [own_score(path, facts) if name == "own" else name for name in names]
    refused = may_lack(names)
    if facts.get("extra_classes"):
        raise UserError(f"{path} has a background class; score it with python -m dfb.evaluate")
    ood = ood_names(ood, facts["id_set"])
    network = Network(model, facts, how) if second is None else Pair(model, facts, how).beside(path, second)
    method = method or (facts["method"] if second is None else METHOD)
    scorers = scorer_lines(scorer_names(names), facts["id_set"], method)
    if is_done(network.identity(ood, scorers, repeats)):
        return None
    scorers = network.able(scorers, refused)
    scored = network.scored(ood, scorers.values())
    if scored is None:
        return None
    scores = score_sets(network.with_provenance(scored), scored.fit(scorers, refused), repeats, refused)
    return scores, left_out(refused)


def own_score(path: Path, facts: dict[str, Any]) -> str:
    """What the authors of the network's method score it with, options included."""
    if not facts.get("score"):
        raise UserError(f"{path}: {facts['method']} has no score of its own; name one instead of own")
    return facts["score"]


def main() -> None:
    made = parser()
    arguments = made.parse_args()
    how, given = from_arguments(arguments, Inference()), arguments.features or arguments.checkpoint
    check_repeats(arguments.bootstrap)
    if (arguments.checkpoint is None) == (arguments.features is None):
        raise UserError("give a checkpoint, or --features FILE, and not both")
    if arguments.method is not None and (wants := text(arguments.method) or formula(arguments.method)):
        raise UserError(f"--method must be {wants}, got {arguments.method!r}")
    idle = [name for name in OF_IMAGES if getattr(arguments, name) != made.get_default(name)]
    if arguments.features and idle:
        raise UserError(f"--{idle[0].replace('_', '-')} says how images pass; with --features no image does")
    # The group first: its ranks agree on what is done.
    how = replace(how, device=str(distributed.start(pick_device(how.device))))
    out = arguments.out or given.with_name("results.csv")
    raw = arguments.save_scores or out.with_suffix(".npz")
    waits = {"expect": arguments.expect, "wait_s": arguments.wait, "shared": True, "together": distributed.of_main}
    with making([out, raw], [path for path in (given, arguments.second) if path], **waits) as step:
        started, names, method, repeats = time.monotonic(), arguments.scorers, arguments.method, arguments.bootstrap
        is_done = lambda words: step.is_done({"command": "common.evaluate", "version": VERSION} | words)  # noqa: E731
        if arguments.features is None:
            found = score_checkpoint(given, arguments.ood, names, how, method, repeats, is_done, arguments.second)
        else:
            found = own_arrays.score(given, names, method, repeats, is_done)
        if found is None or not distributed.is_main():
            return
        scores, missing = found
        seconds = round(time.monotonic() - started, 1)
        current = None if arguments.out else {scores.rows[0]["checkpoint_sha256"]}
        if lost := merge_rows(out, [row | {"seconds": seconds} for row in scores.rows], current):
            step.forget_others()
        save_scores(
            raw, {f"{scorer}/{name}": s for (_, scorer, name), s in scores.raw.items()}, keep=step.stands and not lost
        )
        step.say(tables.show(scores.rows) + missing)
    accuracy = 100 * scores.rows[0]["id_accuracy"]
    print(f"\nID accuracy {accuracy:.2f} %. Rows with their provenance: {out}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
