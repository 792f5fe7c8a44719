"""A finished network and how images pass through it: names of sets in, features with their provenance out."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from common import checkpoint, data
from common.backbones.classifier import Classifier
from common.cli import provenance
from common.cli.device import pick_device
from common.cli.errors import UserError
from common.data.own import is_undivided
from common.data.transforms import Transform, transform_from_facts
from common.metrics import CONVENTION
from common.scorers.arrays import Features, Head
from common.scorers.base import Scorer
from common.scoring.cache import FeatureCache
from common.scoring.features import check_needs
from common.scoring.sets import Line, Scored, accuracy, kept
from common.training import distributed


@dataclass(frozen=True)
class Inference:
    """How images pass, each field as the flag of its name (common.cli.flags). `data`: folder of the sets; `limit`: images of each test set."""

    data: Path = Path("data")
    device: str = "auto"
    batch_size: int = 250
    precision: str = "float32"
    cache: Path | None = None
    limit: int | None = None
    quiet: bool = False
    on_corrupt: str = "stop"

    def __post_init__(self) -> None:
        if not self.batch_size >= 1:
            raise UserError(f"batch-size must be >= 1, got {self.batch_size}")


class Network:
    """A checkpoint's network on its device: the source of every feature that is scored. Creating one joins torchrun's group, where there is one.

    `transform`: what brings images to the network's size, if not the checkpoint's own.
    """

    def __init__(self, model: Classifier, facts: dict[str, Any], how: Inference, transform: Transform | None = None):
        self.device = distributed.start(pick_device(how.device))
        torch.backends.cudnn.benchmark = self.device.type == "cuda"
        self.model, self.facts, self.how = model.to(self.device).eval(), facts, how
        self.saved = self.model  # with all rows of its head; `model` may be a view of it
        self.model.bf16 = how.precision == "bf16"
        self.transform = transform or transform_from_facts(facts)
        self.cache = FeatureCache(how.cache)
        self._test: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path, how: Inference) -> "Network":
        """Of a finished checkpoint. Raises UserError for another file."""
        return cls(*checkpoint.load_finished(path), how)

    @property
    def id_set(self) -> str:
        return self.facts["id_set"]

    def load(self, name: str, split: str = "test", limit: int | None = None) -> Any:
        classes = self.facts["classes"] if name == self.id_set else None
        how = {"root": self.how.data, "transform": self.transform, "on_corrupt": self.how.on_corrupt}
        images = data.load(name, split, limit=limit, classes=classes, **how)
        if split == "test" and name == self.id_set:
            self.refuse_trained_on(images)
        return images

    def refuse_trained_on(self, images: Any) -> None:
        """Raise UserError where the ID test images are those that the network was trained on."""
        is_own = self.facts.get("train_data") == self.id_set and is_undivided(self.id_set)
        if is_own or images.digest == self.facts["train_data_sha256"]:
            said = "nothing new is left to score; it needs a test split: train/ and test/ in a folder, or two lists"
            raise UserError(f"{self.id_set}: its test images are those that the network was trained on: {said}")

    def test_images(self, ood: Iterable[str]) -> dict[str, Any]:
        """The test sets `ood` and then the ID set, by name; each is read once. Raises UserError where an OOD set is of the ID set's images."""
        names = (*ood, self.id_set)
        for name in (self.id_set, *ood):
            if name not in self._test:
                images = self.load(name, limit=self.how.limit)
                if name != self.id_set:
                    data.check_overlap(self._test[self.id_set], images)
                self._test[name] = images
        return {name: self._test[name] for name in names}

    def share_images(self, other: "Network") -> None:
        """Take the test sets that `other`, which has the same transform, has read or will read, and give it one's own."""
        self._test = other._test

    def identity(self, ood: Iterable[str], lines: Iterable[Line], repeats: int) -> dict[str, Any]:
        """What decides the rows of this network, as plain values (common.cli.steps). Reads the sets; raises UserError for data that is missing."""
        return {
            "weights": checkpoint.weights_digest(self.saved), "id_set": self.id_set, "limit": self.how.limit,
            "sets": {name: images.digest for name, images in self.test_images(ood).items()},
            "scorers": [list(line) for line in lines], "precision": self.how.precision, "bootstrap": repeats,
            "trained": {key: self.facts[key] for key in ("seed", "recipe", "train_data_sha256", "limit")},
        }  # fmt: skip

    def features(self, images: Any, needs: Iterable[str] = ()) -> Features:
        """One pass over a set. Over several processes each passes its share, and rank 0 alone gets all."""
        how = {"batch_size": self.how.batch_size, "device": self.device, "progress": not self.how.quiet}
        return self.cache.get(self.model, images, sorted(needs), **how)

    def able(self, scorers: dict[Line, Scorer], refused: dict[Line, str] | None) -> dict[Line, Scorer]:
        """Those whose features this network can give, the others into `refused`, as in `Scored.fit`."""
        check = lambda scorer: check_needs(self.model, (*scorer.needs, *scorer.train_needs))  # noqa: E731
        return {line: scorers[line] for line, _ in kept(scorers, check, refused)}

    def scored(self, ood: Iterable[str], scorers: Iterable[Scorer]) -> Scored | None:
        """All that `scorers` need of the ID training images (passed only if one looks at them), of the ID test set and of the sets `ood`.

        Over several processes all pass their share, and rank 0 alone scores: the others get None. Raises UserError for data that is missing,
        before any pass.
        """
        scorers = list(scorers)
        needs, train_needs = ({n for s in scorers for n in getattr(s, which)} for which in ("needs", "train_needs"))
        images = self.test_images(ood)
        training = self.load(self.id_set, "train", self.facts["limit"]) if train_needs else None
        train = self.features(training, train_needs) if train_needs else None
        id_features = self.features(images[self.id_set], needs)
        passed = {name: self.features(images[name], needs) for name in images if name != self.id_set}
        for name in passed:  # once more where images are streamed: now their pixels are known
            if not all(isinstance(images[side], data.Images) for side in (name, self.id_set)):
                data.check_overlap(images[self.id_set], images[name])
        head = Head.of(self.saved)
        return Scored(train, head, id_features, passed, images) if distributed.is_main() else None

    def with_provenance(self, scored: Scored, protocol: str = "own") -> Scored:
        """The same with the columns that say where its rows come from. `protocol`: how images reached the network's size."""
        id_images = scored.images[self.id_set]
        as_json = lambda content: json.dumps(content, sort_keys=True)  # noqa: E731
        shared = {
            "id_set": self.id_set, "protocol": protocol, "convention": CONVENTION, "seed": self.facts["seed"],
            "id_accuracy": accuracy(scored.id, self.model.classes), "backbone": self.model.name,
            "precision": "bf16" if self.model.bf16 else "float32", "checkpoint_sha256": checkpoint.weights_digest(self.saved),
            "train_data_sha256": self.facts["train_data_sha256"], "id_data_sha256": id_images.digest,
            "recipe": as_json(self.facts["recipe"]), "upstream": as_json(checkpoint.upstream(self.facts)),
            "limit": self.facts["limit"] or "all", "commit": provenance.commit(),
            "versions": provenance.versions(), "device": provenance.hardware(self.device),
        }  # fmt: skip
        own = {
            name: {"ood_data_sha256": images.digest, "benchmark": images.facts.get("benchmark", False)}
            for name, images in scored.images.items()
        }
        return replace(scored, columns={name: shared | own[name] for name in scored.ood})
