"""What the tests of several processes run: a few steps of each method. As a script it is started by torchrun.

torchrun --nproc-per-node 2 tests/common/distributed_runs.py OUT
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timm.models.resnetv2 import ResNetV2

from common.backbones import build
from common.backbones.bodies import TimmBody
from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.data import load
from common.data.jigsaw import with_jigsaw
from common.objectives import METHODS
from common.objectives.cross_entropy import CrossEntropy
from common.objectives.mixup import Mixup
from common.scorers.arrays import Features
from common.scoring import cache as feature_cache
from common.scoring.features import extract
from common.training import distributed
from common.training.augment import Augmentation
from common.training.engine import fit
from common.training.objective import accuracy
from common.training.recipe import TrainRecipe
from dfb.finetune import DFB, DFBRecipe, other_masks
from lbf.finetune import LBF, LBFRecipe

CPU = torch.device("cpu")
STEPS = {
    "steps": 5,
    "batch_size": 24,
    "bn": "frozen",
    "precision": "float32",
    "lr": 0.02,
}  # the last batch of 56 images is of 8


def network(classes: int, name: str = "resnet8"):
    torch.manual_seed(0)
    model = build(name, classes, image_size=48)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that some locations are background and others not
    return model


def group_norm(classes: int):
    """BiT's kind of network (pre-activation, GroupNorm, standardised weights), one small block a stage: no batch norm to freeze. Smooth, with
    average pooling: maxima that tie and ReLU's corners on flat images turn rounding into other gradients, in one process too."""
    torch.manual_seed(0)
    net = ResNetV2(
        layers=(1, 1), channels=(128, 256), stem_chs=32, num_classes=0, stem_type="fixed", act_layer=torch.nn.SiLU
    )
    net.stem.pool = torch.nn.AvgPool2d(2)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= 8  # standardised, so the network stays the same; gradients of usual size
    model = Classifier("small BiT", TimmBody(net), net.num_features, classes, lambda body: [])
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return model


class Body(CrossEntropy):
    """A method that leaves the classifier's head out: cross-entropy of the map's first channels."""

    uses_head = False

    def forward(self, model, batch, clock):
        logits = model.pool(model.feature_map(batch.flat))[:, : model.classes]
        loss = distributed.over_batch(torch.nn.functional.cross_entropy(logits, batch.labels), len(logits))
        return loss, {"train_accuracy": accuracy(logits, batch.labels)}


BASELINES = {
    "logitnorm": {"tau": 1.0},
    "ssd+": {"sync_bn": False, "warmup_epochs": 0, "tau": 0.5, "scale": False},
    "cider": {"sync_bn": False, "warmup_epochs": 0, "alpha": 0.5},
    # All draws around all vectors: near ties among the farthest, rounding would choose others.
    "npos": {"sync_bn": False, "alpha": 0.5, "outliers_from": 1, "queue": 6, "neighbours": 3, "boundary": 6, "picks": 6, "draws": 9, "keep": 9},
    "tagfog": {"sync_bn": False, "warmup_epochs": 0, "warmup_lr": 0.0, "copies": 1, "width": 16},
    "dml-centre": {"centre_begins": (0.0, 0.5)},
    "csi": {"sync_bn": False, "warmup_epochs": 0, "warmup_lr": 0.0, "lr": 0.2, "steps": 4, "tau": 0.5, "scale": False},
    "csi-linear": {"lr": 1.0},
    "vos": {"outliers_from": 1, "queue": 2, "draws": 50, "select": 2},
}  # fmt: skip


def baseline(name: str, changes: dict) -> tuple:
    model, kind = network(8, "rotated:resnet8" if name == "csi-linear" else "resnet8"), METHODS[name].objective
    recipe = kind.Recipe(**STEPS | {"drop_last": False} | changes)
    torch.manual_seed(1)
    objective = kind(recipe)
    objective.build(model)
    return model, objective, recipe


def methods(images) -> dict:
    """Name -> (network, objective, recipe)."""
    plain = TrainRecipe(**STEPS, drop_last=False, jitter=True)
    lbf = {"batch": LBFRecipe(**STEPS, mu=0.1, drop_last=False)}
    lbf |= {"image": replace(lbf["batch"], reduction="image"), "random": replace(lbf["batch"], locations="random")}
    lbf["masks"] = replace(lbf["batch"], locations="truth", crop="resized", jitter=True)
    dense = DFBRecipe(**STEPS, warmup_steps=0)
    masks = other_masks(images, "truth")
    return {
        "plain": (network(8), CrossEntropy(), plain),
        "mixup": (network(8), Mixup(1.0), plain),
        "body": (network(8), Body(), plain),
        "batch norm": (network(8), CrossEntropy(), replace(plain, bn="train", steps=1)),
        **{
            f"lbf-{name}": (network(8), LBF(recipe, network(8), masks if name == "masks" else None), recipe)
            for name, recipe in lbf.items()
        },
        "dense": (network(9), DFB(dense, masks), dense),
        **{name: baseline(name, changes) for name, changes in BASELINES.items()},
        "lbf-group-norm": (group_norm(8), LBF(lbf["batch"], group_norm(8)), lbf["batch"]),
        "dense-group-norm": (group_norm(9), DFB(dense, masks), dense),
    }


class Draws(CrossEntropy):
    """Keeps what a layer that draws, such as dropout, would draw first."""

    def forward(self, model, batch, clock):
        self.drawn = float(torch.rand(()))
        return super().forward(model, batch, clock)


class LastProcessFails(CrossEntropy):
    """The loss of the last process alone is not finite, and that in the last step: no later step can show it to the others."""

    def forward(self, model, batch, clock):
        loss, logs = super().forward(model, batch, clock)
        fails = clock.step == 1 and distributed.rank() == distributed.world() - 1
        return (loss * float("nan") if fails else loss), logs


def rows_augmented(images, out: Path) -> list[int]:
    """How many images this process augments at each step."""
    counted, apply = [], Augmentation.apply

    def counting(how, pixels, draws, masks=None):
        counted.append(len(pixels))
        return apply(how, pixels, draws, masks)

    Augmentation.apply = counting
    refused = refusal(images, out, CrossEntropy(), steps=3, drop_last=False)
    Augmentation.apply = apply
    assert not refused, refused
    return counted


def refusal(images, out: Path, objective: CrossEntropy, **changes) -> str:
    try:
        fit(
            network(8),
            objective,
            images,
            TrainRecipe(**STEPS | {"steps": 2} | changes),
            run=out,
            seed=0,
            device=CPU,
            progress=False,
        )
    except UserError as error:
        return str(error)
    return ""


def mapped_features(images, folder: Path) -> tuple[Features, list[int]]:
    """Written to disk by all processes, stopped before the third batch and taken up again; and the rows that this process passed each time."""
    model, passed = network(8), [0]
    feature_cache.STRIDE_BYTES = 1

    def count(_, inputs):
        if len(passed) == 1 and passed[0] == 20:
            raise KeyboardInterrupt
        passed[-1] += len(inputs[0])

    cache = feature_cache.FeatureCache(folder, large_bytes=0)
    model.normalise.register_forward_pre_hook(count)
    try:
        cache.get(model, images, (), batch_size=10, progress=False)
    except KeyboardInterrupt:
        passed.append(0)
    return cache.get(model, images, (), batch_size=10, progress=False), passed


def main(out: Path) -> None:
    distributed.start(CPU)
    torch.set_num_threads(1)
    images = load("shapes", "train", root=Path("."), limit=56)
    jigsawed = with_jigsaw(images.subset(torch.arange(28)), 4, 1, 0)
    for name, (model, objective, recipe) in methods(images).items():
        start = {key: value.clone() for key, value in model.state_dict().items()}
        seen = jigsawed if name == "tagfog" else images
        fit(model, objective, seen, recipe, run=out / name, seed=0, device=CPU, progress=False)
        if distributed.is_main():
            gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
            torch.save(
                {"start": start, "end": model.state_dict(), "gradients of the last step": gradients},
                out / name / "tensors.pt",
            )
    features = extract(network(8), images, ["jigsaw_block_norms"], batch_size=20, progress=False)
    said = {
        "spoiled": refusal(images, out / "spoiled", LastProcessFails()),
        "sync_bn": refusal(images, out / "sync_bn", CrossEntropy(), sync_bn=True),
    }
    draws = Draws()
    said["draws"] = (
        refusal(images, out / "draws", draws)
        or distributed.gather({"drawn": np.array([draws.drawn])})["drawn"].tolist()
    )
    counted = np.array([rows_augmented(images, out / "counted")])
    said["augmented"] = distributed.gather({"rows": counted})["rows"].tolist()
    mapped, said["passed"] = mapped_features(images, out / "cache")
    if distributed.is_main():
        (out / "said.json").write_text(json.dumps(said))
        arrays = {
            "penultimate": features.penultimate,
            "jigsaw": features.extras["jigsaw_block_norms"],
            "mapped": mapped.penultimate,
            "logits": mapped.logits,
        }
        torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, out / "features.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
