"""Score a checkpoint's ID test set and OOD sets, and say how well they separate.

    python -m common.evaluate RUN/checkpoint.pt --ood isun cifar100 --scorers msp energy react

    python -m common.evaluate --features mine.npz --scorers all

One pass over each set serves every score. Rows go to a CSV with their provenance; the table goes to the screen. With --features the arrays
of any network are scored; python -c "help('common.scoring.own_arrays')" says which arrays the file holds.
"""

import argparse
import csv
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import checkpoint, data
from common.cli import flags, provenance
from common.results import tables
from common.training import distributed
from common.cli.errors import UserError, command
from common.scoring.cache import FeatureCache
from common.scoring.features import Features, Head
from common.metrics import auroc, bootstrap, fpr_at_tpr, summary
from common.scoring.own_arrays import OwnArrays
from common.scorers import METHODS, canonical, scorer

COLUMNS = (
    "method", "scorer", "id_set", "ood_set", "n_id", "n_ood", "fpr95", "auroc", "aupr_in", "aupr_out", "id_accuracy", "convention",
    "seed", "backbone", "precision", "checkpoint_sha256", "train_data_sha256", "id_data_sha256", "ood_data_sha256", "recipe", "options",
    "benchmark", "commit", "versions", "device", "seconds",
)
INTERVALS = ("fpr95_low", "fpr95_high", "auroc_low", "auroc_high")  # with --bootstrap only  # fmt: skip
CONVENTION = "ID positive; FPR95 at ceil(0.95 n_id) accepted, ties accepted; AUPR is average precision"
DEFAULT_SCORERS = ("msp", "maxlogit", "energy", "react")
PAPER_SCORERS = (  # the post-hoc rows of both papers' tables
    "msp", "maxlogit", "odin", "odin-dfb", "mahalanobis", "energy", "vim", "klm", "dice", "react", "dice+react", "featurenorm", "line", "masf",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m common.evaluate", description=__doc__, formatter_class=flags.formatter)
    made.add_argument("checkpoint", type=Path, nargs="?", default=None, help="a finished checkpoint.pt")
    made.add_argument("--features", type=Path, default=None, metavar="FILE", help="an .npz of your own arrays instead of a checkpoint")
    made.add_argument("--method", default=None, metavar="NAME", help="name of the method column [the checkpoint's own]")
    add_scoring_arguments(made)
    return made


def add_scoring_arguments(made: argparse.ArgumentParser) -> None:
    """Flags of every command that scores: sets, scorers, where results go, how images pass."""
    made.add_argument("--ood", nargs="+", metavar="SET", default=None, help="OOD sets (python -m common.data list) [for shapes: its own four; else required]")
    made.add_argument("--scorers", nargs="+", metavar="NAME", default=list(DEFAULT_SCORERS), help=f"scores, options as knn:k=50; all; papers: those of both papers' tables [{' '.join(DEFAULT_SCORERS)}]")
    made.add_argument("--bootstrap", type=int, default=0, metavar="N", help="95%% intervals of FPR95 and AUROC from N redraws of the test images, into the CSV [none]")
    made.add_argument("--out", type=Path, default=None, metavar="FILE", help="CSV of rows [results.csv beside the checkpoint]")
    made.add_argument("--cache", type=Path, default=None, metavar="DIR", help="keep features there, keyed by content; a set of more than 2 GiB is memory-mapped from there [not kept]")
    made.add_argument("--save-scores", type=Path, default=None, metavar="FILE", help="raw scores as .npz, one array a scorer and set")
    made.add_argument("--batch-size", type=int, default=250, metavar="N", help="images a pass [250]")
    made.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of the network's body [float32]")
    made.add_argument("--limit", type=int, default=None, metavar="N", help="at most N images of each test set, for trying things out [all]")
    flags.add_data_argument(made)
    flags.add_device_argument(made)


def ood_names(given: list[str] | None, id_set: str) -> list[str]:
    """The OOD sets to score. Raises UserError for one that cannot be OOD here, or where none is given and the ID set has none of its own."""
    if given is None:
        if not id_set.startswith("shapes"):
            raise UserError(f"--ood is required for {id_set}; known sets: python -m common.data list")
        options = id_set.partition(":")[1] + id_set.partition(":")[2]
        given = [name + options for name in ("shapes-objects", "shapes-textures", "shapes-noise", "shapes-backgrounds")]
    for name in given:
        data.check_ood(name, id_set)
    return given


class Scored:
    """A checkpoint with its scorers fitted: features of any set in, scores out."""

    def __init__(self, model, facts: dict[str, Any], names: list[str], arguments: argparse.Namespace):
        self.model, self.facts, self.arguments = model, facts, arguments
        self.device = flags.device_of(arguments)
        self.model.bf16 = arguments.precision == "bf16"
        self.model.to(self.device)
        self.scorers = {name: canonical(name, facts["id_set"]) for name in names}
        self.transform = flags.transform_from_facts(facts)
        self.cache = FeatureCache(arguments.cache)

    def load(self, name: str, split: str, limit: int | None):
        return data.load(name, split, root=self.arguments.data, transform=self.transform, limit=limit)

    def features(self, images, needs: set[str]) -> Features:
        return self.cache.get(
            self.model, images, sorted(needs), batch_size=self.arguments.batch_size, device=self.device, progress=not self.arguments.quiet
        )

    def train_features(self) -> Features | None:
        """Of the ID training images, which are passed through the network only if some scorer needs them."""
        needs = {need for scorer in self.scorers.values() for need in scorer.train_needs}
        return self.features(self.load(self.facts["id_set"], "train", self.facts["limit"]), needs) if needs else None

    def fit(self) -> dict[str, Any]:
        """Every scorer fitted on the ID training images."""
        return self.fit_on(self.train_features())

    def fit_on(self, train: Features | None) -> dict[str, Any]:
        head = Head.of(self.model)
        return {name: scorer.fit(train, head) for name, scorer in self.scorers.items()}

    @property
    def needs(self) -> set[str]:
        return {need for scorer in self.scorers.values() for need in scorer.needs}


def scorer_names(given: list[str]) -> list[str]:
    """`all` (one setting a method) and `papers` spelled out."""
    if given == ["all"]:
        return list(METHODS)
    return list(PAPER_SCORERS) if given == ["papers"] else given


class Scores:
    """Rows and raw scores of one network, an OOD set at a time."""

    def __init__(self, functions: dict[str, Any], id_features: Features, options: dict[str, str], bootstrap: int):
        self.functions, self.options, self.bootstrap = functions, options, bootstrap
        self.id = {name: function(id_features) for name, function in functions.items()}
        self.raw: dict[str, np.ndarray] = {f"{name}/id": values for name, values in self.id.items()}
        labelled = id_features.labels is not None
        self.accuracy = float((id_features.logits.argmax(1) == id_features.labels).mean()) if labelled else float("nan")
        self.rows: list[dict[str, Any]] = []

    def add(self, set_name: str, features: Features, facts: dict[str, Any]) -> None:
        """Score one OOD set; `facts` are the columns its rows have in common."""
        for name, function in self.functions.items():
            scores = self.raw[f"{name}/{set_name}"] = function(features)
            row = facts | {"scorer": name, "options": self.options[name], "id_accuracy": self.accuracy} | summary(self.id[name], scores)
            self.rows.append(row | self._intervals(self.id[name], scores))

    def _intervals(self, id_scores: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        if not self.bootstrap:
            return {}
        fpr, area = bootstrap(id_scores, scores, fpr_at_tpr, self.bootstrap), bootstrap(id_scores, scores, auroc, self.bootstrap)
        return dict(zip(INTERVALS, (*fpr, *area)))


def score_checkpoint(arguments: argparse.Namespace) -> Scores | None:
    """Every row of one checkpoint. Over several processes all pass their share of the images, and rank 0 alone scores; the others get None."""
    model, facts = checkpoint.load_finished(arguments.checkpoint)
    if facts.get("extra_classes"):
        raise UserError(f"{arguments.checkpoint} has a background class; score it with python -m dfb.evaluate")
    names = ood_names(arguments.ood, facts["id_set"])
    scored = Scored(model, facts, scorer_names(arguments.scorers), arguments)
    sets = [scored.load(name, "test", arguments.limit) for name in names]  # missing data is named before any pass
    id_images = scored.load(facts["id_set"], "test", arguments.limit)
    train, id_features, *ood = [scored.train_features(), *(scored.features(images, scored.needs) for images in (id_images, *sets))]
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
    inside = {need for made in scorers.values() for need in (*made.needs, *made.train_needs)} - {"penultimate", "logits", "labels"}
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


def row_facts(scored: Scored, id_images, accuracy: float, method: str | None) -> dict[str, Any]:
    """What all rows of one network have in common."""
    facts = scored.facts
    return {
        "method": method or facts["method"], "id_set": facts["id_set"], "n_id": len(id_images), "id_accuracy": accuracy,
        "convention": CONVENTION, "seed": facts["seed"], "backbone": scored.model.name,
        "precision": "bf16" if scored.model.bf16 else "float32",
        "checkpoint_sha256": checkpoint.weights_digest(scored.model), "train_data_sha256": facts["train_data_sha256"],
        "id_data_sha256": id_images.digest, "recipe": json.dumps(facts["recipe"], sort_keys=True), "commit": provenance.commit(),
        "versions": provenance.versions(), "device": provenance.hardware(scored.device),
    }  # fmt: skip


def set_facts(name: str, images) -> dict[str, Any]:
    """What all rows of one OOD set have in common."""
    return {"ood_set": name, "n_ood": len(images), "ood_data_sha256": images.digest, "benchmark": images.facts.get("benchmark", False)}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """All digits, one row a line, written whole or not at all. A row that lacks a part of its provenance is refused."""
    text = io.StringIO()
    columns = (*COLUMNS, *INTERVALS) if any("auroc_low" in row for row in rows) else COLUMNS
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise UserError(f"a row of results lacks {', '.join(missing)}; it is not written")
        writer.writerow(row)
    checkpoint.write_atomically(path, lambda part: part.write_text(text.getvalue()))


def save_scores(path: Path, raw: dict[str, np.ndarray]) -> None:
    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **raw)

    checkpoint.write_atomically(path, write)


if __name__ == "__main__":
    command(main)
