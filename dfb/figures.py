"""What the networks look at, and what the two scores say: attention maps, masks against truth, histograms of S_h and S_b.

    python -m dfb.figures DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --masks MASKS --ood svhn textures --out FIGURES

Images are chosen by a seed and not by eye.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cam import CamRecipe, class_attention
from common.checkpoint import weights_digest
from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.recipes import from_arguments
from common.cli.steps import add_step_arguments, making
from common.data.images import Images
from common.data.masks import StoredMasks, read_masks
from common.results.style import BLUE, HEAT, ORANGE, figure_files, plt, save
from common.scoring.network import Inference, Network
from common.scoring.sets import Line, Scored, ood_names, score_sets
from common.training.seeds import generator
from dfb.dense import dense_logits
from dfb.evaluate import DFBNetwork, open_pair
from dfb.score import BackgroundOnly, ForegroundOnly

VERSION = 1  # raised when the same networks, masks and images give other figures
SHOWN = {Line("", "S_h", "energy"): ForegroundOnly("energy"), Line("", "S_b", "plus"): BackgroundOnly("plus")}


def chosen(images: Any, count: int, use: str) -> tuple[Tensor, Tensor]:
    """`count` rows drawn by a fixed seed, and their images in [0, 1]."""
    rows = torch.randperm(len(images), generator=generator(0, use))[:count].sort().values
    return rows, torch.cat(list(images.whole_batches(rows, count))).cpu().float() / 255


@torch.no_grad()
def maps_of(
    vanilla: Classifier, model: Classifier, images: Float[Tensor, "batch 3 height width"]
) -> list[Float[Tensor, "batch height width"]]:
    """Vanilla attention of the predicted class; the DFB network's largest foreground logit and its background logit, pixel by pixel (paper, Fig. 1)."""
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    attention, _ = class_attention(vanilla, images, labels, CamRecipe(cam_class="predicted"))
    dense = dense_logits(model, images)
    return [attention.cpu(), dense[:, :-1].amax(1).cpu(), dense[:, -1].cpu()]


def attention_figure(network: DFBNetwork, vanilla: Network, sets: dict[str, Any]) -> plt.Figure:
    """One image a set; each kind of map has one colour scale over all sets."""
    titles = ("image", "vanilla: predicted class", "DFB: best foreground logit", "DFB: background logit")
    pictures, found = [], []
    for name, images in sets.items():
        _, floats = chosen(images, 1, f"attention {name}")
        pictures.append(floats[0])
        found.append([m[0] for m in maps_of(vanilla.model, network.saved, floats.to(network.device))])
    figure, axes = plt.subplots(len(sets), 4, figsize=(7.6, 1.9 * len(sets)), squeeze=False)
    for row, name in enumerate(sets):
        axes[row, 0].imshow(pictures[row].permute(1, 2, 0).numpy())
        axes[row, 0].set_ylabel(name, fontsize=8)
        for kind in range(3):
            values = torch.stack([maps[kind] for maps in found])
            axes[row, kind + 1].imshow(
                found[row][kind].numpy(), cmap=HEAT, vmin=float(values.min()), vmax=float(values.max())
            )
    for axis, text in zip(axes[0], titles):
        axis.set_title(text, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    return figure


def masks_figure(images: Any, masks: StoredMasks, count: int = 8) -> plt.Figure:
    """Training images, their pseudo-masks as outlines, and the true ones below where the set has them."""
    rows, floats = chosen(images, count, "masks")
    layers = [("pseudo-mask", masks.rows(rows).cpu(), ORANGE)]
    if isinstance(images, Images) and images.masks is not None:
        layers.append(("truth", images.masks[rows].cpu(), BLUE))
    figure, axes = plt.subplots(len(layers), count, figsize=(1.15 * count, 1.25 * len(layers)), squeeze=False)
    for line, (name, outline, colour) in zip(axes, layers):
        line[0].set_ylabel(name, fontsize=8)
        for axis, picture, mask in zip(line, floats, outline):
            axis.imshow(picture.permute(1, 2, 0).numpy())
            if mask.any() and not mask.all():
                axis.contour(mask.float().numpy(), levels=[0.5], colors=[colour], linewidths=1.5)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
    return figure


def scores_figure(scored: Scored, id_name: str) -> plt.Figure:
    """Densities of S_h (logsumexp of the first K logits) and of S_b, ID against each other set (paper, Fig. 4). Neither axis is turned."""
    scores = score_sets(scored, scored.fit(SHOWN)).raw
    found = {name: [scores["", line.scorer, name] for line in SHOWN] for name in ("id", *scored.ood)}
    found[id_name] = found.pop("id")
    others = list(scored.ood)
    figure, axes = plt.subplots(len(others), 2, figsize=(7.2, 1.9 * len(others)), squeeze=False, sharex="col")
    for row, name in enumerate(others):
        for column, text in enumerate(("S_h: logsumexp of the first K logits", "S_b: background logit")):
            axis = axes[row, column]
            both = np.concatenate([found[id_name][column], found[name][column]])
            bins = np.linspace(*np.quantile(both, [0.002, 0.998]), 50)
            for label, colour in ((id_name, BLUE), (name, ORANGE)):
                axis.hist(
                    found[label][column],
                    bins,
                    density=True,
                    histtype="stepfilled",
                    alpha=0.55,
                    color=colour,
                    label=label,
                )
            axis.set_yticks([])
            if row == len(others) - 1:
                axis.set_xlabel(text)
        axes[row, 0].set_ylabel("density")
        axes[row, 1].legend(fontsize=7)
    return figure


def training_masks(network: Network, folder: Path) -> plt.Figure:
    """The figure of the masks in `folder`. Raises UserError where they are of other images than the network's training set."""
    masks = read_masks(folder)
    training = network.load(network.id_set, "train", masks.manifest["limit"])
    if training.digest != masks.manifest["data_sha256"]:
        raise UserError(f"{folder} holds masks of other images than {training.name}, {len(training)} images")
    return masks_figure(training, masks)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m dfb.figures", description=__doc__, formatter_class=flags.formatter)
    made.add_argument("checkpoint", type=Path, help="a finished checkpoint of dfb.finetune")
    made.add_argument("--vanilla", type=Path, required=True, metavar="FILE", help="the stage-1 checkpoint")
    made.add_argument("--masks", type=Path, metavar="DIR", help="the folder dfb.masks wrote [no figure of masks]")
    made.add_argument("--ood", nargs="+", metavar="SET", help="OOD sets [for shapes: its own four; else required]")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the figures")
    flags.add_limit_argument(made)
    flags.add_data_argument(made)
    flags.add_device_argument(made)
    add_step_arguments(made)
    return made


def main() -> None:
    arguments = parser().parse_args()
    path, vanilla_path, masks, how = (
        arguments.checkpoint, arguments.vanilla, arguments.masks, from_arguments(arguments, Inference()),
    )  # fmt: skip
    names = ["attention", "scores", *(["masks"] if masks else [])]
    outputs = [file for name in names for file in figure_files(arguments.out / name)]
    inputs = [path, vanilla_path, *([masks / "manifest.json"] if masks else [])]
    with making(outputs, inputs, expect=arguments.expect, wait_s=arguments.wait) as step:
        network, vanilla = open_pair(path, vanilla_path, how)
        ood = ood_names(arguments.ood, network.id_set)
        made_of = {
            "networks": [weights_digest(one.saved) for one in (network, vanilla)],
            "data": [(name, network.load(name, limit=how.limit).digest) for name in (network.id_set, *ood)],
            "masks": read_masks(masks).digest if masks else None,
        }
        if not step.is_done({"command": "dfb.figures", "version": VERSION} | made_of):
            scored = network.scored(ood, SHOWN.values())
            sets = {name: scored.images[name] for name in (network.id_set, *ood)}
            save(attention_figure(network, vanilla, sets), arguments.out / "attention")
            save(scores_figure(scored, network.id_set), arguments.out / "scores")
            if masks:
                save(training_masks(network, masks), arguments.out / "masks")
    print(*(arguments.out / f"{name}.png" for name in names), sep="\n")


if __name__ == "__main__":
    command(main, alone=True)
