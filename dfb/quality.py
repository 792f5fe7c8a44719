"""What better masks buy: ID accuracy and the background score against the masks' IoU with the truth, a point a network.

    python -m dfb.quality OUT/seed-*/*/results.csv --masks OUT/seed-*/*/masks/manifest.json --out FIGURES

The masks must have been made with --score-against truth. A network trained on the true masks stands at 100 %, one without any background (the control) where everything is called foreground.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.cli import commands
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import digest
from common.data.masks import read_manifest
from common.results.columns import content
from common.results.lines import averaged, set_title
from common.results.rows import read_rows
from common.results.style import CYCLE, figure_files, plt, save

VERSION = 1  # raised when the same rows give another figure
JOINED, ALONE, BACKGROUND = " +", ", S_h alone", "background alone"  # how methods end, whatever the network is called
SCORERS = ("msp", "energy", "vim")


class Point(NamedTuple):
    """A network. `auroc`: of S_b alone (large = ID), by OOD set; `gain`: DFB + minus S_h alone, by scorer, mean over averaged sets. All in [0, 1]."""

    masks: str
    iou: float
    seed: str
    accuracy: float
    auroc: dict[str, float]
    gain: dict[str, float]


def points(rows: Sequence[dict[str, Any]], manifests: Sequence[dict[str, Any]]) -> list[Point]:
    """A point a network of dfb.finetune, in order of IoU. Raises UserError for one whose masks are not among the manifests, or not scored."""
    names = named(manifests)
    networks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["method"].endswith((JOINED, ALONE, BACKGROUND)):
            networks.setdefault(row["checkpoint_sha256"], []).append(row)
    found = [_point(own, manifests, names) for own in networks.values()]
    return sorted(found, key=lambda point: (point.iou, point.seed))


def named(manifests: Sequence[dict[str, Any]]) -> dict[str, str]:
    """By identity, what sets the recipe of masks apart from the others here; "pseudo-masks" where nothing does."""
    recipes = [manifest["recipe"] for manifest in manifests]
    fields = (
        [name for name in recipes[0] if any(recipe.get(name) != recipes[0][name] for recipe in recipes)]
        if recipes
        else []
    )
    said = lambda recipe: [f"{name} {recipe[name]}" for name in fields if recipe[name] not in (None, "none")]  # noqa: E731
    return {
        manifest["identity"]: ", ".join(said(manifest["recipe"])).replace("_", " ") or "pseudo-masks"
        for manifest in manifests
    }


def _point(rows: list[dict[str, Any]], manifests: Sequence[dict[str, Any]], names: dict[str, str]) -> Point:
    recipe = content(rows[0]["recipe"])
    masks, iou = _masks_of(recipe if isinstance(recipe, dict) else {}, manifests, names)
    value = {(row["method"], row["scorer"], row["ood_set"]): float(row["auroc"]) for row in rows}
    alone = {method: method.removesuffix(ALONE) + JOINED for method, *_ in value if method.endswith(ALONE)}
    gain: dict[str, list[float]] = {}
    for (method, scorer, ood), auroc in value.items():
        if method in alone and averaged(ood) and (joined := value.get((alone[method], scorer, ood))) is not None:
            gain.setdefault(scorer, []).append(joined - auroc)
    background = {
        ood: auroc for (method, sign, ood), auroc in value.items() if method.endswith(BACKGROUND) and sign == "+"
    }
    means = {scorer: float(np.mean(differences)) for scorer, differences in gain.items()}
    return Point(masks, iou, str(rows[0]["seed"]), float(rows[0]["id_accuracy"]), background, means)


def _masks_of(recipe: dict[str, Any], manifests: Sequence[dict[str, Any]], names: dict[str, str]) -> tuple[str, float]:
    truths = [manifest["counts"].get("against_truth") for manifest in manifests]
    if recipe.get("pixel_labels") == "truth":
        return "true masks", 1.0
    if recipe.get("pixel_labels") == "foreground":
        if share := next((truth["true_share"] for truth in truths if truth), None):
            return "all foreground", share  # of all pixels those of the object are right
        raise UserError(
            "no masks were scored against the truth (dfb.masks --score-against truth), so the control has no IoU"
        )
    of = recipe.get("masks_sha256", "")
    for manifest, truth in zip(manifests, truths, strict=True):
        if manifest["identity"] == of:
            if not truth:
                raise UserError(f"masks {of[:12]} were not scored against the truth: dfb.masks --score-against truth")
            return names[of], truth["iou"]
    raise UserError(
        f"no manifest of the masks {of[:12] or '(none)'} that a network of the results was trained on; give it to --masks"
    )


def draw(found: Sequence[Point]) -> plt.Figure:
    """ID accuracy, S_b alone, and what it adds, against IoU; one marker a network, its masks named in the first panel."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.6))
    panels[0].scatter([100 * p.iou for p in found], [100 * p.accuracy for p in found], color=CYCLE[0])
    for name in dict.fromkeys(point.masks for point in found):
        own = [point for point in found if point.masks == name]
        place = 100 * np.mean([p.iou for p in own]), 100 * min(p.accuracy for p in own)
        panels[0].annotate(name, place, xytext=(0, -9), textcoords="offset points", fontsize=6.5, ha="center")
    for colour, ood in zip(CYCLE, dict.fromkeys(name for point in found for name in point.auroc)):
        own = [point for point in found if ood in point.auroc]
        panels[1].plot(
            [100 * p.iou for p in own], [100 * p.auroc[ood] for p in own], "o", color=colour, label=set_title(ood)
        )
    for colour, scorer in zip(CYCLE, SCORERS):
        own = [point for point in found if scorer in point.gain]
        panels[2].plot([100 * p.iou for p in own], [100 * p.gain[scorer] for p in own], "o", color=colour, label=scorer)
    panels[2].axhline(0, color="black", linewidth=0.8)
    titles = "ID accuracy (%)", "S_b alone: AUROC (%)", "DFB + minus S_h alone: AUROC (points)"
    for panel, title in zip(panels, titles):
        panel.set(xlabel="masks' IoU with the truth (%)", title=title)
        panel.margins(x=0.15, y=0.15)
    panels[1].set_ylim(-4, 104)
    for panel in panels[1:]:
        panel.legend(fontsize=7)
    return figure


def numbers(found: Sequence[Point]) -> str:
    """The figure's numbers as CSV, shares in [0, 1]."""
    sets, scorers = (
        list(dict.fromkeys(s for p in found for s in p.auroc)),
        list(dict.fromkeys(s for p in found for s in p.gain)),
    )
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(
        ["masks", "seed", "iou", "id_accuracy", *(f"S_b {s}" for s in sets), *(f"gain {s}" for s in scorers)]
    )
    for point in found:
        values = [*(point.auroc.get(s) for s in sets), *(point.gain.get(s) for s in scorers)]
        lines.writerow([point.masks, point.seed, point.iou, point.accuracy, *values])
    return out.getvalue()


def main() -> None:
    made = commands.parser("dfb.quality", __doc__)
    made.add_argument("results", nargs="+", type=Path, help="CSV files of dfb.evaluate")
    made.add_argument(
        "--masks", nargs="+", type=Path, required=True, metavar="MANIFEST", help="manifest.json of their masks"
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for quality.png, .pdf and .csv")
    arguments = made.parse_args()
    out = arguments.out / "quality"
    table = out.with_suffix(".csv")
    with commands.step_of(arguments, [*figure_files(out), table], [*arguments.results, *arguments.masks]) as step:
        found = points(read_rows(arguments.results), [read_manifest(path) for path in arguments.masks])
        if not found:
            raise UserError(f"{arguments.results[0]} has no rows of a network of dfb.finetune")
        if not step.is_done({"command": "dfb.quality", "version": VERSION, "points": digest([list(p) for p in found])}):
            save(draw(found), out)
            write_atomically(table, lambda part: part.write_text(numbers(found)))
    print(out.with_suffix(".png"))


if __name__ == "__main__":
    command(main, alone=True)
