"""What fine-tuning did to the features: heat maps of local norms, histograms of pooled norms, training curves.

    python -m lbf.figures RUN/pretrained RUN/control RUN/lbf --out FIGURES

Each argument is the folder of a finished, evaluated run; the sets are those of its results.csv.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.checkpoint import weights_digest
from common.cli import commands, flags
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import digest, from_arguments
from common.data.specs import is_control
from common.metrics import auroc
from common.results import pictures
from common.results.lines import set_title
from common.results.rows import read_rows
from common.results.style import BLUE, CYCLE, HEAT, ORANGE, STYLES, figure_files, plt, save
from common.scoring.features import batches
from common.scoring.network import Inference, Network
from common.training.log import read_log
from common.training.seeds import generator
from lbf.loss import local_norms

VERSION = 3  # raised when the same networks and images give other figures
LOGGED = ("epoch", "ce", "lff", "selected_share", "norm_selected", "norm_others")


@dataclass(frozen=True)
class Run:
    """A run's folder and its network, under the name that figures give it."""

    name: str
    folder: Path
    network: Network

    @torch.no_grad()
    def maps(self, images) -> Float[np.ndarray, "images rows cols"]:
        """Norm of every location's feature vector."""
        how, device = self.network.how, self.network.device
        parts = [
            local_norms(self.network.model.feature_map(pixels)).cpu()
            for _, pixels in batches(images, how.batch_size, device, not how.quiet)
        ]
        return torch.cat(parts).numpy()

    def pooled(self, images) -> Float[Tensor, "images channels"]:
        return torch.from_numpy(self.network.features(images).penultimate)


def open_run(folder: Path, how: Inference) -> Run:
    network = Network.open(folder / "checkpoint.pt", how)
    method, recipe = network.facts["method"], network.facts["recipe"]
    named = {
        "control": "control (no penalty)",
        "LBF": "LBF, true background" if recipe.get("locations") == "truth" else "LBF",
    }
    return Run(named.get(method, method), folder, network)


def heat_maps(runs: list[Run], sets: dict[str, Any], each: int = 2) -> plt.Figure:
    """Local norms over images, chosen by a seed and not by eye (LBF Fig. 7). One colour scale a network, 0 to the 99th percentile of
    its ID norms: a scale of its own for each image would hide the drop that the paper claims."""
    id_images = next(iter(sets.values()))
    scales = [float(np.percentile(run.maps(id_images), 99)) for run in runs]
    rows, cols = 1 + len(runs), each * len(sets)
    figure, axes = plt.subplots(rows, cols, figsize=(1.05 * cols + 1.6, 1.2 * rows), squeeze=False)
    for group, (name, images) in enumerate(sets.items()):
        chosen = images.subset(torch.randperm(len(images), generator=generator(0, "heat maps"))[:each])
        block = axes[:, group * each : group * each + len(chosen)]
        block[0, 0].set_title(name, fontsize=8, loc="left")
        _draw_set(block, chosen, runs, scales)
    for axis in axes.flat:
        pictures.blank(axis)
        axis.spines[:].set_visible(False)
    for axis, text in zip(axes[:, 0], ["image", *(run.name for run in runs)]):
        axis.set_ylabel(text.replace(", ", ",\n"), fontsize=8)
    for line, scale in enumerate(scales, 1):
        colours = plt.cm.ScalarMappable(plt.Normalize(0, scale), HEAT)
        figure.colorbar(colours, ax=axes[line, :], pad=0.005, aspect=12, label="norm, own scale")
    return figure


def _draw_set(block: np.ndarray, images, runs: list[Run], scales: list[float]) -> None:
    """One set's images in the first row, their local norms below; the true outline of the object where it is known."""
    for axis, picture in zip(block[0], images.pixels):
        pictures.show(axis, picture)
    size = images.size_px[0]
    over_image = {"interpolation": "bilinear", "extent": (-0.5, size - 0.5, size - 0.5, -0.5)}
    for line, (run, scale) in enumerate(zip(runs, scales), 1):
        for k, norms in enumerate(run.maps(images)):
            block[line, k].imshow(norms, cmap=HEAT, vmin=0, vmax=scale, **over_image)
            if images.masks is not None:
                pictures.outline(block[line, k], images.masks[k], "white", 0.8)


def norm_histograms(runs: list[Run], sets: dict[str, Any]) -> tuple[plt.Figure, list[dict[str, Any]]]:
    """Norm of the pooled features, ID against each OOD set, a row a network (LBF Fig. 5), and the numbers in it: among them the share of the ID
    features' entries that are exactly 0."""
    id_name, *ood = sets
    size = (2.5 * len(ood) + 0.5, 1.9 * len(runs))
    figure, axes = plt.subplots(len(runs), len(ood), figsize=size, squeeze=False, sharex="col")
    numbers = []
    for line, run in enumerate(runs):
        inside = run.pooled(sets[id_name])
        id_norms, zeros = inside.norm(dim=1).numpy(), float((inside == 0).double().mean())
        for column, name in enumerate(ood):
            norms, axis = run.pooled(sets[name]).norm(dim=1).numpy(), axes[line, column]
            bins = np.histogram_bin_edges(np.concatenate([id_norms, norms]), 40)
            axis.hist(id_norms, bins, density=True, color=BLUE, alpha=0.6, label=f"ID {id_name}")
            axis.hist(norms, bins, density=True, histtype="step", linewidth=1.6, color=ORANGE, label="OOD")
            row = {
                "network": run.name, "ood_set": name, "n_id": len(id_norms), "n_ood": len(norms), "mean_id": float(id_norms.mean()),
                "mean_ood": float(norms.mean()), "ratio": float(norms.mean() / id_norms.mean()), "auroc_of_norm": auroc(id_norms, norms),
                "id_zero_share": zeros,
            }  # fmt: skip
            numbers.append(row)
            said = f"OOD/ID {row['ratio']:.2f}, AUROC of the norm {100 * row['auroc_of_norm']:.1f}"
            axis.set_title(f"{name}\n{said}", fontsize=8)
            axis.set_yticks([])
        # Where many entries are exactly 0, ReAct's 90th percentile cuts class evidence.
        axes[line, 0].set_ylabel(f"{run.name}\n{100 * zeros:.1f} % of ID entries are 0\ndensity", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("norm of the pooled features")
    axes[0, 0].legend(fontsize=7)
    return figure, numbers


def selection_logs(runs: list[Run]) -> dict[str, list[dict[str, Any]]]:
    """What fine-tuning logged, epoch by epoch, of the runs that logged a selection."""
    paths = {run.name: run.folder / "log.jsonl" for run in runs}
    chosen = {name: path for name, path in paths.items() if "selected_share" in (read_log(path) or [{}])[0]}
    return {
        name: [{key: line[key] for key in LOGGED} for line in read_log(path, LOGGED)] for name, path in chosen.items()
    }


def training_curves(logs: dict[str, list[dict[str, Any]]]) -> plt.Figure:
    panels = (
        ("cross-entropy", ("ce",), 1), ("penalty before lambda (Eq. 6)", ("lff",), 1), ("selected locations (percent)", ("selected_share",), 100),
        ("mean norm of locations", ("norm_selected", "norm_others"), 1),
    )  # fmt: skip
    figure, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 2.6))
    for axis, (label, keys, unit) in zip(axes, panels):
        for (name, lines), colour in zip(logs.items(), CYCLE):
            for key, style in zip(keys, STYLES):
                epochs = [line["epoch"] + 1 for line in lines]
                values = [np.nan if line[key] is None else unit * line[key] for line in lines]
                axis.plot(epochs, values, style, marker=".", color=colour, label=name)
        axis.set(xlabel="epoch of fine-tuning", title=label)
        axis.title.set_fontsize(9)
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        axis.set_ylim(0, 1.35 * axis.get_ylim()[1])  # room for the legend
    axes[0].legend(fontsize=6.5, loc="upper right")  # the colours hold in every panel
    lines = [plt.Line2D([], [], color="black", linestyle=style) for style in STYLES[:2]]
    axes[-1].legend(lines, ["selected", "others"], fontsize=6.5, loc="upper right", ncols=2)
    return figure


def load_sets(run: Run) -> dict[str, Any]:
    """ID test set first, then the OOD sets the run was scored on, control columns left out."""
    scored, network = dict.fromkeys(row["ood_set"] for row in read_rows([run.folder / "results.csv"])), run.network
    names = [name for name in scored if not is_control(name)]
    return {set_title(n).rstrip("*"): network.load(n, limit=network.how.limit) for n in (network.id_set, *names)}


def parser() -> argparse.ArgumentParser:
    made = commands.parser("lbf.figures", __doc__, flags.add_data_argument, flags.add_device_argument)
    runs = "folders of finished, evaluated runs, the pre-trained one first"
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=runs)
    out = "folder for PNG, PDF and the numbers drawn"
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    flags.add_limit_argument(made, 1000)
    return made


def write_figures(runs: list[Run], sets: dict[str, Any], logs: dict[str, list[dict[str, Any]]], out: Path) -> None:
    save(heat_maps(runs, sets), out / "heat_maps")
    figure, numbers = norm_histograms(runs, sets)
    save(figure, out / "norms")
    write_atomically(out / "norms.json", lambda part: part.write_text(json.dumps(numbers, indent=1) + "\n"))
    if logs:
        save(training_curves(logs), out / "curves")


def main() -> None:
    arguments = parser().parse_args()
    folders, out = arguments.runs, arguments.out
    outputs = [*figure_files(out / "heat_maps"), *figure_files(out / "norms"), out / "norms.json"]
    inputs = [folder / name for folder in folders for name in ("checkpoint.pt", "log.jsonl")]
    with commands.step_of(arguments, outputs, [*inputs, folders[0] / "results.csv"]) as step:
        runs = [open_run(folder, from_arguments(arguments, Inference())) for folder in folders]
        if len(ids := {run.network.id_set for run in runs}) > 1:
            raise UserError(f"the runs have different ID sets: {', '.join(sorted(ids))}")
        sets, logs = load_sets(runs[0]), selection_logs(runs)
        step.outputs += figure_files(out / "curves") if logs else []
        networks = [(run.name, weights_digest(run.network.saved)) for run in runs]
        data = [(name, images.digest) for name, images in sets.items()]
        made_of = {"networks": networks, "data": data, "logs": digest(logs)}
        if not step.is_done({"command": "lbf.figures", "version": VERSION} | made_of):
            write_figures(runs, sets, logs, out)
    print(*(path for path in step.outputs if path.suffix == ".png"), sep="\n")


if __name__ == "__main__":
    command(main, alone=True)
