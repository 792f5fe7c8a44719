"""Are the locations that LBF selects background? Measured where the truth is known: the generated benchmark's masks, or boxes on photographs.

    python -m lbf.selection RUN/checkpoint.pt RUN2/checkpoint.pt
    python -m lbf.selection RUN/checkpoint.pt --deltas 0.125 0.05 0.01 0.001 --out FILE.csv --figure FILE
    python -m lbf.selection CIFAR/checkpoint.pt --against tiny-imagenet-boxes

A location is true background if less than half of its cell of pixels is object; with boxes all within a box is object, so that precision is
bounded from above. Precision is the share of selected locations that are background, recall the share of background locations that are
selected; a selection at random has the base rate as its precision. "of the object" is the share of the object's locations that are selected.
Beside Eq. 5 stands the rule that takes as many locations of each image, those of lowest norm: an idea of this suite, not of the paper.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common.checkpoint import weights_digest
from common.cli import commands, flags
from common.cli.errors import UserError, command
from common.cli.recipes import from_arguments, ranged
from common.data import boxes
from common.results.rows import write_csv
from common.results.style import CYCLE, figure_files, plt, save
from common.results.tables import markdown
from common.scoring.network import Inference, Network
from lbf.locations import local_maps, lowest_like, true_background
from lbf.loss import background_mask, local_norms

VERSION = 2  # raised when the same networks and images give other numbers
AGAINST = ("truth", boxes.NAME)
COLUMNS = {
    "selected_share": "selected", "object_share": "of the object", "precision": "precision", "recall": "recall",
    "base_rate": "base rate", "border_share": "at the border", "low_norm_precision": "lowest norm: precision",
    "low_norm_object_share": "lowest norm: of the object",
}  # fmt: skip
NORMS = {"norm_background": "norm on background", "norm_object": "norm on object"}


@torch.no_grad()
def measure(network: Network, images, deltas: Sequence[float]) -> list[dict[str, float | None]]:
    """For each delta, shares in [0, 1] over all locations of `images`, and mean local norms. None where there is nothing to divide by."""
    if images.masks is None:
        raise UserError(
            f"{images.name} has no foreground masks; the generated benchmark (shapes) has, and CIFAR-10's classes have boxes: --against {boxes.NAME}"
        )
    sums = torch.zeros(len(deltas), 8, dtype=torch.float64)
    how = {"batch_size": network.how.batch_size, "progress": not network.how.quiet}
    for of, feature_map, labels in local_maps(network.model, images, **how):
        logits, norms = network.model.local_logits(feature_map), local_norms(feature_map).cpu()
        truth = true_background(images.masks[of].cpu(), *norms.shape[1:])
        for row, delta in zip(sums, deltas, strict=True):
            row += counted(background_mask(logits, labels, delta).cpu(), truth, norms)
    return [shares(*row.tolist()) for row in sums]


def counted(selected: torch.Tensor, truth: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Sums over a batch, each of images x rows x cols: what `shares` takes."""
    border = torch.ones_like(selected)
    border[:, 1:-1, 1:-1] = False
    lowest = lowest_like(selected, norms)
    of = (selected, selected & truth, selected & border, lowest & truth, truth, ~truth, norms * truth, norms * ~truth)
    return torch.stack([rows.sum().double() for rows in of])


def shares(chosen, both, border, low_both, background, objects, norm_background, norm_object) -> dict[str, Any]:
    """What counts say: `both` of the `chosen` locations are background, `low_both` of as many of lowest norm."""
    ratio = lambda part, whole: part / whole if whole else None  # noqa: E731
    return {
        "selected_share": ratio(chosen, background + objects), "object_share": ratio(chosen - both, objects),
        "precision": ratio(both, chosen), "recall": ratio(both, background), "base_rate": ratio(background, background + objects),
        "border_share": ratio(border, chosen), "low_norm_precision": ratio(low_both, chosen),
        "low_norm_object_share": ratio(chosen - low_both, objects),
        "norm_background": ratio(norm_background, background), "norm_object": ratio(norm_object, objects),
    }  # fmt: skip


def table(found: list[dict]) -> str:
    said = lambda value, scale, digits: "-" if value is None else f"{scale * value:.{digits}f}"  # noqa: E731
    body = [
        [
            row["run"],
            f"{row['delta']:g}",
            *(said(row[n], 100, 1) for n in COLUMNS),
            *(said(row[n], 1, 2) for n in NORMS),
        ]
        for row in found
    ]
    return markdown(["network", "delta", *COLUMNS.values(), *NORMS.values()], body)


def draw(found: list[list[dict]]) -> plt.Figure:
    """Precision and the object's share against delta; a colour a network, Eq. 5 solid, as many of lowest norm dashed."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4))
    names = (("precision", "low_norm_precision"), ("object_share", "low_norm_object_share"))
    for panel, pair, label in zip(panels, names, ("precision (%)", "selected, of the object's locations (%)")):
        for k, rows in enumerate(found):
            rows = sorted(rows, key=lambda row: row["delta"])
            for name, style, rule in zip(pair, ("o-", "s--"), ("Eq. 5", "as many of lowest norm")):
                there = [row for row in rows if row[name] is not None]
                at, values = [row["delta"] for row in there], [100 * row[name] for row in there]
                panel.plot(
                    at, values, style, color=CYCLE[k % len(CYCLE)], markersize=4, label=f"{rows[0]['run']}, {rule}"
                )
        panel.set_xscale("log")
        panel.set_xlabel("delta (probability)")
        panel.set_ylabel(label)
    for height in {100 * row["base_rate"] for rows in found for row in rows if row["base_rate"] is not None}:
        panels[0].axhline(height, color="grey", linewidth=0.8, linestyle=":")
    panels[0].set_title("dotted: base rate", fontsize=8)
    panels[1].legend(fontsize=7)
    return figure


def names_of(paths: Sequence[Path]) -> dict[Path, str]:
    """Each network by as many of its last folders as tell all apart, as in seed-0/lbf; by its path where folders do not."""
    for depth in range(1, 1 + max(len(path.parent.parts) for path in paths)):
        names = {path: "/".join(path.parent.parts[-depth:]) for path in paths}
        if len(set(names.values())) == len(names) and all(names.values()):
            return names
    return {path: str(path) for path in paths}


def parser() -> argparse.ArgumentParser:
    made = commands.parser("lbf.selection", __doc__, flags.add_data_argument, flags.add_device_argument)
    add = made.add_argument
    add("checkpoints", nargs="+", type=Path, help="finished checkpoints")
    split = "whose images, under the test transform, with --against truth [test]"
    add("--split", choices=("train", "test"), default=None, help=split)
    add(
        "--against", choices=AGAINST, default="truth", help="the set's own masks, or boxes (CIFAR-10's classes) [truth]"
    )
    deltas = "shares of probability, no unit, a line each; LBF Eq. 5 [1/K]"
    add("--deltas", "--delta", nargs="+", type=ranged(float, low=0), metavar="SHARE", help=deltas)
    flags.add_limit_argument(made)
    add("--out", type=Path, metavar="FILE", help="write a CSV there too")
    figure = "name of a figure without suffix: precision and the object's share against delta"
    add("--figure", type=Path, metavar="PATH", help=figure)
    return made


class Asked:
    """Networks and their images, which several may share, as they are needed: no two networks are held at once."""

    def __init__(self, paths: Sequence[Path], how: Inference, against: str, split: str, deltas: Sequence[float] | None):
        self.how, self.against, self.split, self.deltas = how, against, split, deltas
        self._names, self._sets = names_of(paths), {}

    def opened(self, path: Path) -> tuple[Network, Any, list[dict[str, Any]]]:
        """A network, its images, and what its rows begin with, one a delta."""
        network = Network.open(path, self.how)
        boxed, classes = self.against == boxes.NAME, tuple(network.facts["classes"])
        asked = (network.transform, classes) if boxed else (network.transform, network.id_set)
        if asked not in self._sets:
            limit, data = self.how.limit, self.how.data
            images = boxes.load_boxed(data, network.transform, classes, limit) if boxed else network.load(network.id_set, self.split, limit)  # fmt: skip
            self._sets[asked] = images
        images, deltas = self._sets[asked], self.deltas or (1 / network.model.classes,)
        row = {"run": self._names[path], "images_of": images.name, "split": "boxes" if boxed else self.split}
        return network, images, [row | {"delta": delta, "images": len(images)} for delta in dict.fromkeys(deltas)]

    def identity(self, path: Path) -> tuple[str, str, list[dict[str, Any]]]:
        network, images, rows = self.opened(path)
        return weights_digest(network.saved), images.digest, rows

    def found(self, path: Path) -> list[dict[str, Any]]:
        network, images, rows = self.opened(path)
        measured = measure(network, images, [row["delta"] for row in rows])
        return [row | numbers for row, numbers in zip(rows, measured, strict=True)]


def main() -> None:
    arguments = parser().parse_args()
    paths, against, split, out = arguments.checkpoints, arguments.against, arguments.split, arguments.out
    if split and against != "truth":
        raise UserError(f"--split goes with --against truth; {against} has one split, got --split {split}")
    asked = Asked(paths, from_arguments(arguments, Inference()), against, split or "test", arguments.deltas)
    drawn = figure_files(arguments.figure) if arguments.figure else []
    with commands.step_of(arguments, [*([out] if out else []), *drawn], paths) as step:
        identity = {"command": "lbf.selection", "version": VERSION, "against": against}
        if step.is_done(identity | {"networks": list(map(asked.identity, paths))}):
            return
        found = [asked.found(path) for path in paths]
        rows = [row for one in found for row in one]
        if out:
            write_csv(out, rows)
        if drawn:
            save(draw(found), arguments.figure)
        truth = "boxes" if against == boxes.NAME else "true background"
        step.say("Locations selected by LBF Eq. 5 (p < delta) against the {}; percent, {images} images ({images_of} {split})\n".format(truth, **rows[0]))  # fmt: skip
        step.say(table(rows))


if __name__ == "__main__":
    command(main, alone=True)
