"""Scores of two networks (DML+): what the second says of an image, beside the features of the first."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import checkpoint
from common.cli.errors import UserError
from common.scorers.arrays import Features
from common.scorers.base import Scorer
from common.scoring.network import Network
from common.scoring.sets import Line, Scored

NEED = "second_norm"  # length of the second network's penultimate features, an image
METHOD = "DML+"  # what rows of both call it


class Pair(Network):
    """The first network, and each image's length of features under a second one, which sees the same pixels."""

    second: Network

    def beside(self, path: Path, second_path: Path) -> "Pair":
        """With the network of the finished checkpoint `second_path`; `path`: the first's. Raises UserError unless they are of dml-focal and
        dml-centre, of the same images and classes."""
        self.second = Network.open(second_path, self.how)
        for role, where, facts in (("direction", path, self.facts), ("length", second_path, self.second.facts)):
            if facts["recipe"].get("role") != role:
                wanted = "dml-focal first and dml-centre as --second"
                raise UserError(f"{where} is of {facts['method']}; a pair is of {wanted}")
        for what in ("id_set", "classes", "limit", "train_data_sha256", "transform"):
            if self.facts[what] != self.second.facts[what]:
                raise UserError(f"{second_path} has another {what} than {path}; a pair is of the same images")
        return self

    def features(self, images: Any, needs: Iterable[str] = ()) -> Features:
        needs = set(needs)
        found = super().features(images, needs - {NEED})
        if NEED not in needs:
            return found
        norm = np.linalg.norm(self.second.features(images).penultimate, axis=1)
        return replace(found, extras=found.extras | {NEED: norm})

    def able(self, scorers: dict[Line, Scorer], refused: dict[Line, str] | None) -> dict[Line, Scorer]:
        """All must be scores of two networks: rows of others would seem to depend on the second. Raises UserError."""
        if other := [line.scorer for line, scorer in scorers.items() if NEED not in scorer.needs]:
            raise UserError(f"--second is for dml+ alone; score {other[0]} without it")
        return scorers

    def identity(self, ood: Iterable[str], lines: Iterable[Line], repeats: int) -> dict[str, Any]:
        return super().identity(ood, lines, repeats) | {"second": checkpoint.weights_digest(self.second.saved)}

    def with_provenance(self, scored: Scored, protocol: str = "own") -> Scored:
        """The second network's recipe and digest stand in `upstream`."""
        made, own = super().with_provenance(scored, protocol), self.second
        said = own.facts["recipe"] | {
            "backbone": own.model.name,
            "weights_sha256": checkpoint.weights_digest(own.saved),
        }
        of = lambda columns: json.loads(columns["upstream"]) | {"second": said | checkpoint.upstream(own.facts)}  # noqa: E731
        columns = {name: c | {"upstream": json.dumps(of(c), sort_keys=True)} for name, c in made.columns.items()}
        return replace(made, columns=columns)
