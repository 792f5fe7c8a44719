"""Score a checkpoint's ID test set and OOD sets, and say how well they separate.

    python -m common.evaluate RUN/checkpoint.pt --ood isun cifar100 --scorers msp energy react

    python -m common.evaluate --features mine.npz --scorers all

One pass over each set serves every score. Rows go to a CSV with their provenance; the table goes to the screen. With --features the arrays
of any network are scored; python -c "help('common.scoring.own_arrays')" says which arrays the file holds.
"""

import argparse
import sys
import time
from pathlib import Path

from common import checkpoint
from common.cli import flags, provenance
from common.cli.errors import UserError, command
from common.metrics import CONVENTION
from common.results import tables
from common.results.rows import write_rows
from common.scorers import scorer
from common.scoring.own_arrays import OwnArrays
from common.scoring.sets import (
    Scored,
    Scores,
    add_scoring_arguments,
    ood_names,
    row_facts,
    save_scores,
    scorer_names,
    set_facts,
)
from common.training import distributed


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m common.evaluate", description=__doc__, formatter_class=flags.formatter
    )
    made.add_argument("checkpoint", type=Path, nargs="?", default=None, help="a finished checkpoint.pt")
    made.add_argument(
        "--features", type=Path, default=None, metavar="FILE", help="an .npz of your own arrays instead of a checkpoint"
    )
    made.add_argument("--method", default=None, metavar="NAME", help="name of the method column [the checkpoint's own]")
    add_scoring_arguments(made)
    return made


def score_checkpoint(arguments: argparse.Namespace) -> Scores | None:
    """Every row of one checkpoint. Over several processes all pass their share of the images, and rank 0 alone scores; the others get None."""
    model, facts = checkpoint.load_finished(arguments.checkpoint)
    if facts.get("extra_classes"):
        raise UserError(f"{arguments.checkpoint} has a background class; score it with python -m dfb.evaluate")
    names = ood_names(arguments.ood, facts["id_set"])
    scored = Scored(model, facts, scorer_names(arguments.scorers), arguments)
    sets = [scored.load(name, "test", arguments.limit) for name in names]  # missing data is named before any pass
    id_images = scored.load(facts["id_set"], "test", arguments.limit)
    train, id_features, *ood = [
        scored.train_features(),
        *(scored.features(images, scored.needs) for images in (id_images, *sets)),
    ]
    if not distributed.is_main():
        return None
    options = {name: repr(scorer) for name, scorer in scored.scorers.items()}
    scores = Scores(scored.fit_on(train), id_features, options, arguments.bootstrap)
    shared = row_facts(scored, id_images, scores.accuracy, arguments.method)
    for name, images, features in zip(names, sets, ood, strict=True):
        scores.add(name, features, shared | set_facts(name, images))
    return scores


def score_arrays(arguments: argparse.Namespace) -> Scores:
    """Somebody's own features: the digests in a row are those of the file."""
    own = OwnArrays(arguments.features)
    scorers = {name: scorer(name) for name in scorer_names(arguments.scorers)}
    inside = {need for made in scorers.values() for need in (*made.needs, *made.train_needs)} - {
        "penultimate",
        "logits",
        "labels",
    }
    if inside and arguments.scorers in (["all"], ["papers"]):
        left = [name for name, made in scorers.items() if {*made.needs, *made.train_needs} & inside]
        print(f"left out, for they look inside a network: {', '.join(left)}", file=sys.stderr)
        scorers = {name: made for name, made in scorers.items() if name not in left}
    functions = {name: made.fit(own.train, own.head) for name, made in scorers.items()}
    scores = Scores(functions, own.id, {name: repr(made) for name, made in scorers.items()}, arguments.bootstrap)
    file = dict.fromkeys(("checkpoint_sha256", "train_data_sha256", "id_data_sha256", "ood_data_sha256"), own.sha256)
    shared = file | {
        "method": arguments.method or "own features", "id_set": own.path.stem, "n_id": len(own.id), "convention": CONVENTION, "seed": "-",
        "backbone": "-", "precision": str(own.id.penultimate.dtype), "recipe": "-", "benchmark": False, "commit": provenance.commit(),
        "versions": provenance.versions(), "device": "-",
    }  # fmt: skip
    for name in own.ood:
        features = own.features(f"ood_{name}")
        scores.add(name, features, shared | {"ood_set": name, "n_ood": len(features)})
    return scores


def main() -> None:
    arguments = parser().parse_args()
    if arguments.batch_size < 1:
        raise UserError(f"batch-size must be >= 1, got {arguments.batch_size}")
    if arguments.bootstrap and arguments.bootstrap < 100:
        raise UserError(f"bootstrap must be 0 or >= 100, got {arguments.bootstrap}")
    if (arguments.checkpoint is None) == (arguments.features is None):
        raise UserError("give a checkpoint, or --features FILE, and not both")
    started = time.monotonic()
    scores = score_checkpoint(arguments) if arguments.features is None else score_arrays(arguments)
    if scores is None:
        return
    seconds = round(time.monotonic() - started, 1)
    out = arguments.out or (arguments.checkpoint or arguments.features).with_name("results.csv")
    write_rows(out, [row | {"seconds": seconds} for row in scores.rows])
    if arguments.save_scores:
        save_scores(arguments.save_scores, scores.raw)
    print(tables.show(scores.rows))
    print(f"\nID accuracy {100 * scores.accuracy:.2f} %. Rows with their provenance: {out}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
