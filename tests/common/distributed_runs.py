"""What the tests of several processes run: a few steps of each method. As a script it is started by torchrun.

    torchrun --nproc-per-node 2 tests/common/distributed_runs.py OUT
"""

import json
import sys
from pathlib import Path

import torch

from common import distributed
from common.backbones import build
from common.data import load
from common.errors import UserError
from common.features import extract
from common.objective import CrossEntropy
from common.train import TrainRecipe, fit
from dfb.finetune import DFB, DFBRecipe, other_masks
from lbf.finetune import LBF, LBFRecipe

CPU = torch.device("cpu")
STEPS = {"steps": 5, "batch_size": 24, "bn": "frozen", "precision": "float32", "lr": 0.02}  # the last batch of 56 images is of 8


def network(classes: int):
    torch.manual_seed(0)
    model = build("resnet8", classes, image_size=48)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that some locations are background and others not
    return model


def methods(images) -> dict:
    """Name -> (network, objective, recipe)."""
    lbf, lbf_image = (LBFRecipe(**STEPS, mu=0.1, drop_last=False, reduction=reduction) for reduction in ("batch", "image"))
    dense = DFBRecipe(**STEPS, warmup_steps=0)
    masks = other_masks(images, "truth")
    return {
        "plain": (network(8), CrossEntropy(), TrainRecipe(**STEPS, drop_last=False, jitter=True)),
        "lbf": (network(8), LBF(lbf, network(8)), lbf),
        "lbf-image": (network(8), LBF(lbf_image, network(8)), lbf_image),
        "dense": (network(9), DFB(dense, masks), dense),
    }


class LastProcessFails(CrossEntropy):
    """The loss of the last process alone is not finite, and that in the last step: no later step can show it to the others."""

    def forward(self, model, batch, clock):
        loss, logs = super().forward(model, batch, clock)
        fails = clock.step == 1 and distributed.rank() == distributed.world() - 1
        return (loss * float("nan") if fails else loss), logs


def refusal(images, out: Path, objective: CrossEntropy, **changes) -> str:
    try:
        fit(network(8), objective, images, TrainRecipe(**STEPS | {"steps": 2} | changes), run=out, seed=0, device=CPU, progress=False)
    except UserError as error:
        return str(error)
    return ""


def main(out: Path) -> None:
    distributed.start(CPU)
    torch.set_num_threads(1)
    images = load("shapes", "train", root=Path("."), limit=56)
    for name, (model, objective, recipe) in methods(images).items():
        fit(model, objective, images, recipe, run=out / name, seed=0, device=CPU, progress=False)
    features = extract(network(8), images, ["jigsaw_block_norms"], batch_size=20, progress=False)
    said = {"spoiled": refusal(images, out / "spoiled", LastProcessFails()), "sync_bn": refusal(images, out / "sync_bn", CrossEntropy(), sync_bn=True)}
    if distributed.is_main():
        (out / "said.json").write_text(json.dumps(said))
        torch.save({"penultimate": torch.from_numpy(features.penultimate), "jigsaw": torch.from_numpy(features.extras["jigsaw_block_norms"])}, out / "features.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
