"""A detector to take along: one network, one score, one threshold, and no out-of-distribution image anywhere.

d = Detector.from_module(net, classes=names, size_px=224, mean=mean, std=std, scorer="vim")
d.fit("data/train")                                # in-distribution images that the network was trained on
d.calibrate("data/held-out", accept=0.95)          # in-distribution images that it was not
for name, score, accepted in d.predict("inbox"):   # larger = more in-distribution
    ...
"""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from common import checkpoint
from common.cli import provenance
from common.cli.device import pick_device
from common.cli.errors import UserError
from common.data.transforms import Transform, transform_from_facts
from common.metrics import threshold_at_tpr
from common.scorers import Scorer, canonical, scorer
from common.scorers.arrays import BASIC, Features, Head
from common.scorers.base import Score
from common.scoring import exported, saved
from common.scoring.features import Network, batches, check_needs, one_batch
from common.scoring.foreign import Foreign
from common.scoring.given import images_of
from common.scoring.in_torch import in_torch
from common.scoring.named import named_network

Numbers = int | float | Sequence[int | float]


class Fitted(NamedTuple):
    """The score as a function, and the training features that it was made of (None where it looks at none)."""

    score: Score
    train: Features | None
    said: dict[str, Any]


class Detector:
    """A network, a score fitted to it, and a threshold. Made by `from_checkpoint`, `from_module`, `from_name` or `load`.

    Images may be a data set's name, a folder, an image file or a list of them, a uint8 array N x H x W x 3 (all brought to the network's size), or
    a float tensor N x 3 x H x W in [0, 1] of that size. Several threads may score at once. Wrong use raises UserError that says what to do.
    `batch_size` images pass at once; another size, or another device, may change the last bits of a score. `data`: folder of the sets.
    """

    def __init__(
        self, network: Network, origin: dict[str, Any], classes: Sequence[str], transform: Transform, score: str | Scorer,
        device: Any = "auto", name: str = "",
    ):  # fmt: skip
        self.device = pick_device(str(device))
        self.network, self._origin = network.to(self.device).eval(), origin
        self.classes, self.transform = tuple(classes), transform
        self.scorer = scorer(score) if isinstance(score, str) else score
        self.scorer_name = name or (score if isinstance(score, str) else type(score).__name__)
        self.batch_size, self.progress, self.data = 250, False, Path(os.environ.get("OOD_DATA", "data"))
        self._fitted: Fitted | None = None
        self._calibrated: dict[str, Any] | None = None
        check_needs(network, (*self.scorer.needs, *self.scorer.train_needs))

    @classmethod
    @torch.inference_mode(False)
    def from_checkpoint(cls, path: Path | str, scorer: str | Scorer = "energy", *, device: str = "auto") -> "Detector":
        """Of a finished checkpoint of this suite; scores are those of `common.evaluate`."""
        model, facts = checkpoint.load_finished(path)
        if facts["extra_classes"]:
            raise UserError(f"{path} has a background class; score it with python -m dfb.evaluate")
        origin = {"kind": "checkpoint", "name": model.name, "output_stride": model.output_stride, "facts": facts}
        chosen = canonical(scorer, facts["id_set"]) if isinstance(scorer, str) else scorer
        name = scorer if isinstance(scorer, str) else ""
        return cls(model, origin, facts["classes"], transform_from_facts(facts), chosen, device, name)

    @classmethod
    @torch.inference_mode(False)
    def from_module(
        cls, net: nn.Module, *, classes: Sequence[str], size_px: int = 224, mean: Numbers | None = None, std: Numbers | None = None,
        scorer: str | Scorer = "energy", head: str | None = None, transform: Transform | None = None, device: str = "auto",
        name: str = "",
    ) -> "Detector":  # fmt: skip
        """Of any network that ends in a linear layer, which is copied as it is now.

        `classes`: a name an output, in their order. `mean`, `std`: what its training subtracted from images in [0, 1] and divided by, three numbers
        each or one. `head`: the name of its last linear layer, where it is not to be looked for. `transform`: how images reach `size_px` [shorter side
        to it, then the centre]. `name`: as in `from_name`, where the network is one that can be made again by it.
        """
        names = _class_names(classes)
        transform = transform or Transform(size_px)
        stats = (_three("mean", mean), _three("std", std))
        called = name or f"{type(net).__module__}.{type(net).__qualname__}"
        network = Foreign(net, called, len(names), transform.size_px, stats, head)
        origin = {
            "kind": "name" if name else "module",
            "name": called,
            "stats": [list(one) for one in stats],
            "head": network.reading.head,
        }
        return cls(network, origin, names, transform, scorer, device)

    @classmethod
    def from_name(
        cls, name: str, *, classes: Sequence[str], scorer: str | Scorer = "energy", device: str = "auto"
    ) -> "Detector":
        """Of `timm:NAME@FILE` or `torchvision:NAME@FILE`, prepared as its library prepares images; without @FILE weights are fetched."""
        found = named_network(name, len(_class_names(classes)))
        how = {"mean": found.stats[0], "std": found.stats[1], "transform": found.transform, "name": found.name}
        return cls.from_module(found.net, classes=classes, scorer=scorer, device=device, **how)

    @torch.inference_mode(False)
    def fit(self, train_images: Any = None, *, labels: Any = None, limit: int | None = None) -> "Detector":
        """Learn what the score needs of in-distribution training images; forgets an earlier threshold.

        `labels`: of arrays, tensors and files, a number in 0..K-1 each, for scores that need them; folders are labelled by their class folders, which
        must bear the names in `classes`. `limit`: at most so many of a set or folder, classes as equal as can be. Without images: those that a
        checkpoint was trained on, and none for scores that look at none.
        """
        needs, facts = self.scorer.train_needs, self._origin.get("facts", {})
        if train_images is None and needs:
            train_images = facts.get("id_set")
        if train_images is None and needs:
            raise UserError(f"{self.scorer_name} needs in-distribution training images: fit(train_images)")
        if isinstance(train_images, str) and train_images == facts.get("id_set"):
            limit = facts["limit"] if limit is None else limit
        train, said = None, {"images": "none", "count": 0, "sha256": ""}
        if train_images is not None:
            classes = self.classes if "labels" in needs else None
            how = {"split": "train", "labels": labels, "classes": classes, "limit": limit}
            images = images_of(train_images, self.transform, root=self.data, **how)
            if "labels" in needs and images.labels is None:
                raise UserError(
                    f"{self.scorer_name} needs the class of each training image, and {images.name} has none:"
                    " give class folders, or fit(images, labels=...)"
                )
            said = {"images": images.name, "count": len(images), "sha256": images.digest}
            train = self._features(images, needs) if needs else None
        self._fitted, self._calibrated = Fitted(self.scorer.fit(train, Head.of(self.network)), train, said), None
        return self

    @torch.inference_mode(False)
    def calibrate(self, held_out_id_images: Any, accept: float = 0.95) -> "Detector":
        """Set the threshold so that at least a share `accept` of these in-distribution images is accepted: the rule of FPR95 (common.metrics).

        They must be new to the network, or it will accept fewer of others. `facts["calibrated"]` has the share and its 95 % Clopper-Pearson interval.
        """
        from scipy.stats import binomtest  # slow to import

        if not 0 < accept <= 1:
            raise UserError(f"accept must be in (0, 1], got {accept}")
        fitted = self._need_fitted()
        images = images_of(held_out_id_images, self.transform, root=self.data)
        if images.digest == fitted.said["sha256"]:
            warnings.warn("the images held out are those of the fit: of new ones fewer will be accepted", stacklevel=2)
        scores = fitted.score(self._features(images, self.scorer.needs))
        threshold = threshold_at_tpr(scores, accept)
        accepted = int((scores >= threshold).sum())
        interval = binomtest(accepted, len(scores)).proportion_ci(0.95, "exact")
        self._calibrated = {
            "threshold": threshold, "accept": float(accept), "accepted": accepted / len(scores), "low": float(interval.low),
            "high": float(interval.high), "images": images.name, "count": len(scores), "sha256": images.digest,
        }  # fmt: skip
        return self

    def score(self, images: Any) -> Float[np.ndarray, " images"]:
        """One number an image, larger = more in-distribution, float64, in the order given (of a folder: sorted by path)."""
        return self.judge(images)[1]

    def predict(self, images: Any) -> np.recarray:
        """One (class, score, accepted) an image: rows to loop over, columns by name, as found["class"], found["score"], found["accepted"]."""
        if self._calibrated is None:
            raise UserError("there is no threshold yet: calibrate(held_out_id_images), then predict")
        threshold = self._calibrated["threshold"]
        numbers, scores = self.judge(images)
        names = np.array(self.classes)[numbers]
        kinds = [("class", names.dtype), ("score", np.float64), ("accepted", np.bool_)]
        return np.rec.fromarrays([names, scores, scores >= threshold], dtype=kinds)

    @torch.inference_mode(False)
    def judge(self, images: Any) -> tuple[Int[np.ndarray, " images"], Float[np.ndarray, " images"]]:
        """The number of each image's class by the network, and its score."""
        fitted = self._need_fitted()
        features = self._features(images_of(images, self.transform, root=self.data, identify=False), self.scorer.needs)
        return features.logits.argmax(1), fitted.score(features)

    @property
    def threshold(self) -> float | None:
        """An image is accepted iff its score is at least this; None before `calibrate`."""
        return self._calibrated and self._calibrated["threshold"]

    def _need_fitted(self) -> Fitted:
        if self._fitted is None:
            more = "" if self.scorer.train_needs else f" ({self.scorer_name} looks at no training image: fit() will do)"
            raise UserError(f"the detector is not fitted yet: fit(train_images) first{more}")
        return self._fitted

    def _features(self, images: Any, needs: Sequence[str]) -> Features:
        """As `features.extract`, in this process alone whatever group it is in."""
        makers = check_needs(self.network, needs)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*BASIC, *makers)}
        with torch.inference_mode(not any(need.startswith("odin") for need in needs)):  # ODIN's step is a gradient
            for start, batch in batches(images, self.batch_size, self.device, self.progress):
                for name, values in one_batch(self.network, batch, start, makers).items():
                    parts[name].append(values.cpu().numpy())
        arrays = {name: np.concatenate(rows) for name, rows in parts.items()}
        labels = None if images.labels is None else images.labels.cpu().numpy()
        return Features(arrays.pop("penultimate"), arrays.pop("logits"), labels, arrays)

    @property
    def facts(self) -> dict[str, Any]:
        """What this detector is of, as plain values: network, digest of its weights, classes, transform, score, fit, threshold, versions."""
        network = {key: value for key, value in self._origin.items() if key != "facts"}
        if isinstance(self.network, Foreign):
            network |= dataclasses.asdict(self.network.reading)
        return {
            "network": network | {"weights_sha256": checkpoint.weights_digest(saved.inner(self.network))}, "classes": list(self.classes),
            "transform": self.transform.facts(), "scorer": {"name": self.scorer_name, "settings": repr(self.scorer)},
            "fitted": self._fitted and self._fitted.said, "calibrated": self._calibrated, "versions": provenance.versions(),
        }  # fmt: skip

    def __repr__(self) -> str:
        words = [self._origin["name"], repr(self.scorer), f"{len(self.classes)} classes"]
        words.append(f"fitted on {self._fitted.said['count']:,} images" if self._fitted else "not fitted")
        if said := self._calibrated:
            share = f"{100 * said['accepted']:.1f} % ({100 * said['low']:.1f} to {100 * said['high']:.1f})"
            words.append(f"accepts {share} of {said['count']:,} held-out images, at scores >= {said['threshold']:g}")
        return f"Detector({', '.join(words)})" if self._calibrated else f"Detector({', '.join(words)}, not calibrated)"

    def save(self, path: Path | str) -> None:
        """One file: the network's weights, the training features that the score was fitted on, and what `facts` says."""
        fitted, facts = self._need_fitted(), self.facts
        train = {} if fitted.train is None else fitted.train.arrays
        said = {"network": facts["network"] | self._origin, "scorer": facts["scorer"] | saved.words_of(self.scorer)}
        saved.write(Path(path), saved.tensors(self.network, train, self.transform.size_px), facts | said)

    @torch.inference_mode(False)
    def export(self, path: Path | str) -> None:
        """As an ONNX model (common.scoring.exported). Raises UserError for a score or a network that has none, and on another device than a CPU."""
        if self.device.type != "cpu":
            raise UserError(f'the detector is on {self.device}; Detector.load(path, device="cpu") can be exported')
        form = in_torch(self.scorer, self.scorer_name, self._need_fitted().train, Head.of(self.network))
        exported.write(Path(path), exported.Graph(self.network, form, self.threshold), self.facts, self.judge)

    @classmethod
    @torch.inference_mode(False)
    def load(cls, path: Path | str, net: nn.Module | None = None, *, device: str = "auto") -> "Detector":
        """A saved detector, fitted anew on the features in it, which gives the same scores. `net`: for one made by `from_module` without a name, a
        network of the same architecture; its weights do not matter, those of the file are put into a copy.

        Raises UserError for a file that is damaged, and where the network does not answer as it did when it was saved.
        """
        tensors, said = saved.read(path)
        transform = Transform(**said["transform"])
        network = saved.network(path, tensors, said, net)
        made = cls(
            network, said["network"], said["classes"], transform, saved.scorer_of(said), device, said["scorer"]["name"]
        )
        made._origin = {key: said["network"][key] for key in saved.ORIGIN if key in said["network"]}
        train = saved.train(tensors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a poor fit it was warned when it was made
            made._fitted = Fitted(made.scorer.fit(train, Head.of(network)), train, said["fitted"])
        made._calibrated = said["calibrated"]
        return made


def _class_names(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise UserError(
            f"classes must be the names of the network's classes in the order of its outputs, got {classes!r}"
        )
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        said = f"{twice!r} twice" if twice is not None else f"{len(names)}"
        raise UserError(f"classes must be two different names or more, got {said}")
    return names


def _three(what: str, given: Numbers | None) -> tuple[float, float, float]:
    """Of mean or std, which nobody may forget."""
    if given is None:
        raise UserError(f"{what} is missing: mean and std of its training, or 0 and 1 for a network that takes [0, 1]")
    numbers = (
        np.broadcast_to(np.asarray(given, np.float64), 3) if np.size(given) == 1 else np.asarray(given, np.float64)
    )
    good = numbers.shape == (3,) and np.isfinite(numbers).all() and (what == "mean" or (numbers > 0).all())
    if not good:
        raise UserError(f"{what} must be one number or three{' above 0' * (what == 'std')}, got {given!r}")
    return tuple(numbers.tolist())
