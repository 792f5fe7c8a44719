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

from common.cam import CamRecipe, class_attention
from common.checkpoint import weights_digest
from common.cli import commands, flags
from common.cli.errors import UserError, command
from common.cli.recipes import from_arguments
from common.data.images import Images
from common.data.masks import StoredMasks, read_masks
from common.results import pictures
from common.results.style import BLUE, HEAT, ORANGE, figure_files, plt, save
from common.scoring.network import Inference, Network
from common.scoring.sets import Line, Scored, ood_names, score_sets
from common.training.seeds import generator
from dfb.dense import dense_logits
from dfb.evaluate import DFBNetwork, add_pair_arguments, open_pair
from dfb.score import BackgroundOnly, ForegroundOnly

VERSION = 2  # raised when the same networks, masks and images give other figures
SHOWN = {Line("", "S_h", "energy"): ForegroundOnly("energy"), Line("", "S_b", "plus"): BackgroundOnly("plus")}


def chosen(images: Any, count: int, use: str) -> tuple[Tensor, Tensor]:
    """`count` rows drawn by a fixed seed, and their images in [0, 1]."""
    rows = torch.randperm(len(images), generator=generator(0, use))[:count].sort().values
    return rows, torch.cat(list(images.whole_batches(rows, count))).cpu().float() / 255


@torch.no_grad()
def maps_of(network: DFBNetwork, vanilla: Network, name: str) -> tuple[Tensor, Float[Tensor, "kinds height width"]]:
    """An image of the set, and at its size the vanilla attention of the predicted class (on the same image as that network was trained to see
    it), the DFB network's largest foreground logit and its background logit, pixel by pixel (paper, Fig. 1)."""
    seen = [
        chosen(one.test_images([name])[name], 1, f"attention {name}")[1].to(one.device) for one in (network, vanilla)
    ]
    labels = torch.zeros(1, dtype=torch.int64, device=vanilla.device)
    size = tuple(seen[0].shape[-2:])
    attention, _ = class_attention(vanilla.model, seen[1], labels, CamRecipe(cam_class="predicted"), size)
    dense = dense_logits(network.saved, seen[0])
    return seen[0][0], torch.cat([attention, dense[:, :-1].amax(1), dense[:, -1]]).cpu()


def attention_figure(network: DFBNetwork, vanilla: Network, names: list[str]) -> plt.Figure:
    """One image a set; each kind of map has one colour scale over all sets."""
    titles = ("image", "vanilla: predicted class", "DFB: best foreground logit", "DFB: background logit")
    figure, axes = plt.subplots(len(names), 4, figsize=(7.6, 1.9 * len(names)), squeeze=False)
    found = []
    for name, (axis, *_) in zip(names, axes):
        image, maps = maps_of(network, vanilla, name)
        found.append(maps)
        pictures.show(axis, image)
        axis.set_ylabel(name, fontsize=8)
    low, high = torch.stack(found).movedim(1, 0).flatten(1).aminmax(dim=1)
    for maps, (_, *line) in zip(found, axes):
        for kind, axis in enumerate(line):
            axis.imshow(maps[kind].numpy(), cmap=HEAT, vmin=float(low[kind]), vmax=float(high[kind]))
            pictures.blank(axis)
    for axis, text in zip(axes[0], titles):
        axis.set_title(text, fontsize=8)
    return figure


def masks_figure(images: Any, masks: StoredMasks, count: int = 8) -> plt.Figure:
    """Training images, their pseudo-masks as outlines, and the true ones below where the set has them."""
    rows, floats = chosen(images, count, "masks")
    layers = [("pseudo-mask", masks.rows(rows), ORANGE)]
    if isinstance(images, Images) and images.masks is not None:
        layers.append(("truth", images.masks[rows], BLUE))
    figure, axes = plt.subplots(len(layers), count, figsize=(1.15 * count, 1.25 * len(layers)), squeeze=False)
    for line, (name, outline, colour) in zip(axes, layers):
        line[0].set_ylabel(name, fontsize=8)
        for axis, picture, mask in zip(line, floats, outline):
            pictures.show(axis, picture)
            pictures.outline(axis, mask, colour, 1.5)
    return figure


def scores_figure(scored: Scored, id_name: str) -> plt.Figure:
    """Densities of S_h (logsumexp of the first K logits) and of S_b, ID against each other set (paper, Fig. 4). Neither axis is turned."""
    raw, count = score_sets(scored, scored.fit(SHOWN)).raw, len(scored.ood)
    figure, axes = plt.subplots(count, 2, figsize=(7.2, 1.9 * count), squeeze=False, sharex="col")
    for name, pair in zip(scored.ood, axes):
        for axis, line in zip(pair, SHOWN):
            inside, outside = (raw["", line.scorer, of] for of in ("id", name))
            bins = np.linspace(*np.quantile(np.concatenate([inside, outside]), [0.002, 0.998]), 50)
            # A fill and a line: of two fills one hides the other, and their overlap looks like a third set.
            axis.hist(inside, bins, density=True, color=BLUE, alpha=0.6, label=f"ID {id_name}")
            axis.hist(outside, bins, density=True, histtype="step", linewidth=1.6, color=ORANGE, label=f"OOD {name}")
            axis.set_yticks([])
        pair[0].set_ylabel("density")
        pair[1].legend(fontsize=7)
    axes[-1, 0].set_xlabel("S_h: logsumexp of the first K logits")
    axes[-1, 1].set_xlabel("S_b: background logit")
    return figure


def training_masks(network: Network, folder: Path) -> plt.Figure:
    """The figure of the masks in `folder`. Raises UserError where they are of other images than the network's training set."""
    masks = read_masks(folder)
    training = network.load(network.id_set, "train", masks.manifest["limit"])
    if training.digest != masks.manifest["data_sha256"]:
        raise UserError(f"{folder} holds masks of other images than {training.name}, {len(training)} images")
    return masks_figure(training, masks)


def parser() -> argparse.ArgumentParser:
    made = commands.parser("dfb.figures", __doc__, flags.add_data_argument, flags.add_device_argument)
    add_pair_arguments(made, "the stage-1 checkpoint", required=True)
    made.add_argument("--masks", type=Path, metavar="DIR", help="the folder dfb.masks wrote [no figure of masks]")
    made.add_argument("--ood", nargs="+", metavar="SET", help="OOD sets [for shapes: its own four; else required]")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the figures")
    flags.add_limit_argument(made)
    return made


def main() -> None:
    arguments = parser().parse_args()
    masks, how, out = arguments.masks, from_arguments(arguments, Inference()), arguments.out
    names = ["attention", "scores", *(["masks"] if masks else [])]
    outputs = [file for name in names for file in figure_files(out / name)]
    inputs = [arguments.checkpoint, arguments.vanilla, masks and masks / "manifest.json"]
    with commands.step_of(arguments, outputs, inputs) as step:
        network, vanilla = open_pair(arguments.checkpoint, arguments.vanilla, how)
        ood = ood_names(arguments.ood, network.id_set)
        made_of = {
            "networks": [weights_digest(one.saved) for one in (network, vanilla)],
            "data": [(name, images.digest) for name, images in network.test_images(ood).items()],
            "masks": read_masks(masks).digest if masks else None,
        }
        if not step.is_done({"command": "dfb.figures", "version": VERSION} | made_of):
            scored = network.scored(ood, SHOWN.values())
            save(attention_figure(network, vanilla, [network.id_set, *ood]), out / "attention")
            save(scores_figure(scored, network.id_set), out / "scores")
            if masks:
                save(training_masks(network, masks), out / "masks")
    print(*(out / f"{name}.png" for name in names), sep="\n")


if __name__ == "__main__":
    command(main, alone=True)
