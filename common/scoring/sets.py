"""Sets times scorers gives rows: the one place where a network's images are scored."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from common import checkpoint, data
from common.cli import flags, provenance
from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.data.transforms import transform_from_facts
from common.metrics import CONVENTION, INTERVALS, auroc, bootstrap, fpr_at_tpr, summary
from common.scorers import ALL, canonical
from common.scorers.arrays import Features, Head
from common.scoring.cache import FeatureCache
from common.training.distributed import device_of

DEFAULT_SCORERS = ("msp", "maxlogit", "energy", "react")


PAPER_SCORERS = (  # the post-hoc rows of both papers' tables
    "msp", "maxlogit", "odin", "odin-dfb", "mahalanobis", "energy", "vim", "klm", "dice", "react", "dice+react", "featurenorm", "line", "masf",
)  # fmt: skip


def add_scoring_arguments(made: argparse.ArgumentParser) -> None:
    """Flags of every command that scores: sets, scorers, where results go, how images pass."""
    made.add_argument(
        "--ood",
        nargs="+",
        metavar="SET",
        default=None,
        help="OOD sets (python -m common.data list) [for shapes: its own four; else required]",
    )
    made.add_argument(
        "--scorers",
        nargs="+",
        metavar="NAME",
        default=list(DEFAULT_SCORERS),
        help=f"scores, options as knn:k=50; all; papers: those of both papers' tables [{' '.join(DEFAULT_SCORERS)}]",
    )
    made.add_argument(
        "--bootstrap",
        type=int,
        default=0,
        metavar="N",
        help="95%% intervals of FPR95 and AUROC from N redraws of the test images, into the CSV [none]",
    )
    made.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="CSV of rows [results.csv beside the checkpoint]"
    )
    made.add_argument(
        "--cache",
        type=Path,
        default=None,
        metavar="DIR",
        help="keep features there, keyed by content; a set of more than 2 GiB is memory-mapped from there [not kept]",
    )
    made.add_argument(
        "--save-scores", type=Path, default=None, metavar="FILE", help="raw scores as .npz, one array a scorer and set"
    )
    made.add_argument("--batch-size", type=int, default=250, metavar="N", help="images a pass [250]")
    made.add_argument(
        "--precision", choices=("float32", "bf16"), default="float32", help="of the network's body [float32]"
    )
    made.add_argument(
        "--limit",
        type=int,
        default=None,
        metavar="N",
        help="at most N images of each test set, for trying things out [all]",
    )
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
        self.device = device_of(arguments)
        self.model.bf16 = arguments.precision == "bf16"
        self.model.to(self.device)
        self.scorers = {name: canonical(name, facts["id_set"]) for name in names}
        self.transform = transform_from_facts(facts)
        self.cache = FeatureCache(arguments.cache)

    def load(self, name: str, split: str, limit: int | None):
        return data.load(name, split, root=self.arguments.data, transform=self.transform, limit=limit)

    def features(self, images, needs: set[str]) -> Features:
        return self.cache.get(
            self.model,
            images,
            sorted(needs),
            batch_size=self.arguments.batch_size,
            device=self.device,
            progress=not self.arguments.quiet,
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
        return list(ALL)
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
            row = (
                facts
                | {"scorer": name, "options": self.options[name], "id_accuracy": self.accuracy}
                | summary(self.id[name], scores)
            )
            self.rows.append(row | self._intervals(self.id[name], scores))

    def _intervals(self, id_scores: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        if not self.bootstrap:
            return {}
        fpr, area = (
            bootstrap(id_scores, scores, fpr_at_tpr, self.bootstrap),
            bootstrap(id_scores, scores, auroc, self.bootstrap),
        )
        return dict(zip(INTERVALS, (*fpr, *area)))


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
    return {
        "ood_set": name,
        "n_ood": len(images),
        "ood_data_sha256": images.digest,
        "benchmark": images.facts.get("benchmark", False),
    }


def save_scores(path: Path, raw: dict[str, np.ndarray]) -> None:
    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **raw)

    write_atomically(path, write)
