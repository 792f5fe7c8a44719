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

from common import checkpoint, data
from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.data.transforms import transform_from_facts
from common.metrics import auroc
from common.results.rows import read_rows
from common.results.style import BLUE, CYCLE, HEAT, ORANGE, STYLES, plt, save
from common.results.tables import averaged, base_name, title
from common.training.distributed import device_of
from common.training.seeds import generator
from lbf.loss import local_norms


@dataclass(frozen=True)
class Network:
    """A run with its network on the device."""

    name: str
    folder: Path
    model: Any
    facts: dict[str, Any]
    device: torch.device

    @torch.no_grad()
    def maps(self, images) -> Float[np.ndarray, "images rows cols"]:
        """Norm of every location's feature vector."""
        parts = [
            local_norms(self.model.feature_map(pixels.to(self.device).float() / 255)).cpu()
            for pixels in images.batches(250)
        ]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def pooled_norms(self, images) -> Float[np.ndarray, " images"]:
        parts = [
            self.model.pool(self.model.feature_map(pixels.to(self.device).float() / 255)).norm(dim=1).cpu()
            for pixels in images.batches(250)
        ]
        return torch.cat(parts).numpy()


def open_run(folder: Path, device: torch.device) -> Network:
    model, facts = checkpoint.load(folder / "checkpoint.pt")
    name = {"pre-trained": "pre-trained", "control": "control (no penalty)"}.get(facts["method"], facts["method"])
    return Network(name, folder, model.to(device), facts, device)


def heat_maps(networks: list[Network], sets: dict[str, Any], each: int = 2) -> plt.Figure:
    """Local norms over images, chosen by a seed and not by eye (LBF Fig. 7). One colour scale a network, 0 to the 99th percentile of
    its ID norms: a scale of its own for each image would hide the drop that the paper claims."""
    id_images = next(iter(sets.values()))
    scales = [float(np.percentile(network.maps(id_images), 99)) for network in networks]
    chosen = [
        (name, images.subset(torch.randperm(len(images), generator=generator(0, "heat maps"))[:each]))
        for name, images in sets.items()
    ]
    rows, cols = 1 + len(networks), each * len(chosen)
    figure, axes = plt.subplots(rows, cols, figsize=(1.05 * cols + 1.6, 1.2 * rows), squeeze=False)
    for group, (name, images) in enumerate(chosen):
        block = axes[:, group * each : group * each + len(images)]
        block[0, 0].set_title(name, fontsize=8, loc="left")
        _draw_set(block, images, networks, scales)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for axis, text in zip(axes[:, 0], ["image", *(network.name for network in networks)]):
        axis.set_ylabel(text, fontsize=8)
    for line, scale in enumerate(scales, 1):
        colours = plt.cm.ScalarMappable(plt.Normalize(0, scale), HEAT)
        figure.colorbar(colours, ax=axes[line, :], pad=0.005, aspect=12, label="norm")
    return figure


def _draw_set(block: np.ndarray, images, networks: list[Network], scales: list[float]) -> None:
    """One set's images in the first row, their local norms below; the true outline of the object where it is known."""
    pixels, size = images.pixels.cpu().permute(0, 2, 3, 1).numpy(), images.size_px[0]
    for k, picture in enumerate(pixels):
        block[0, k].imshow(picture)
    for line, (network, scale) in enumerate(zip(networks, scales), 1):
        for k, map_ in enumerate(network.maps(images)):
            block[line, k].imshow(
                map_,
                cmap=HEAT,
                vmin=0,
                vmax=scale,
                interpolation="bilinear",
                extent=(-0.5, size - 0.5, size - 0.5, -0.5),
            )
            if images.masks is not None and images.masks[k].any():
                block[line, k].contour(images.masks[k].cpu().numpy(), levels=[0.5], colors="white", linewidths=0.8)


def norm_histograms(networks: list[Network], sets: dict[str, Any]) -> tuple[plt.Figure, list[dict[str, Any]]]:
    """Norm of the pooled features, ID against each OOD set, a row a network (LBF Fig. 5), and the numbers in it."""
    id_name, *ood = sets
    figure, axes = plt.subplots(
        len(networks), len(ood), figsize=(2.5 * len(ood) + 0.5, 1.9 * len(networks)), squeeze=False, sharex="col"
    )
    numbers = []
    for line, network in enumerate(networks):
        id_norms = network.pooled_norms(sets[id_name])
        for column, name in enumerate(ood):
            norms, axis = network.pooled_norms(sets[name]), axes[line, column]
            bins = np.histogram_bin_edges(np.concatenate([id_norms, norms]), 40)
            axis.hist(id_norms, bins, density=True, color=BLUE, alpha=0.6, label=f"ID {id_name}")
            axis.hist(norms, bins, density=True, histtype="step", linewidth=1.6, color=ORANGE, label="OOD")
            row = {
                "network": network.name, "ood_set": name, "n_id": len(id_norms), "n_ood": len(norms), "mean_id": float(id_norms.mean()),
                "mean_ood": float(norms.mean()), "ratio": float(norms.mean() / id_norms.mean()), "auroc_of_norm": auroc(id_norms, norms),
            }  # fmt: skip
            numbers.append(row)
            axis.set_title(
                f"{name}\nOOD/ID {row['ratio']:.2f}, AUROC of the norm {100 * row['auroc_of_norm']:.1f}", fontsize=8
            )
            axis.set_yticks([])
        axes[line, 0].set_ylabel(f"{network.name}\ndensity", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("norm of the pooled features")
    axes[0, 0].legend(fontsize=7)
    return figure, numbers


def training_curves(networks: list[Network]) -> plt.Figure | None:
    """What fine-tuning logged, epoch by epoch; None where no run logged a selection."""
    logs = {n.name: [json.loads(line) for line in (n.folder / "log.jsonl").read_text().splitlines()] for n in networks}
    logs = {name: lines for name, lines in logs.items() if "selected_share" in lines[0]}
    if not logs:
        return None
    panels = (
        ("cross-entropy", {"ce": ""}, 1), ("penalty before lambda (Eq. 6)", {"lff": ""}, 1), ("selected locations (percent)", {"selected_share": ""}, 100),
        ("mean norm of locations", {"norm_selected": ", selected", "norm_others": ", others"}, 1),
    )  # fmt: skip
    figure, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 2.6))
    for axis, (label, keys, unit) in zip(axes, panels):
        for (name, lines), colour in zip(logs.items(), CYCLE):
            for (key, said), style in zip(keys.items(), STYLES):
                values = [np.nan if line[key] is None else unit * line[key] for line in lines]
                axis.plot(
                    [line["epoch"] + 1 for line in lines], values, style, marker=".", color=colour, label=name + said
                )
        axis.set(xlabel="epoch of fine-tuning", title=label)
        axis.title.set_fontsize(9)
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        axis.set_ylim(0, 1.35 * axis.get_ylim()[1])  # room for the legend
        axis.legend(fontsize=6.5, loc="upper right", ncols=len(keys))
    return figure


def load_sets(network: Network, arguments: argparse.Namespace) -> dict[str, Any]:
    """ID test set first, then the OOD sets the run was scored on, control columns left out."""
    id_set, transform = network.facts["id_set"], transform_from_facts(network.facts)
    names = dict.fromkeys(
        row["ood_set"]
        for row in read_rows([network.folder / "results.csv"])
        if averaged(row["ood_set"]) or base_name(row["ood_set"]) == "shapes-backgrounds"
    )
    load = lambda name: data.load(name, "test", root=arguments.data, transform=transform, limit=arguments.limit)  # noqa: E731
    return {title(name).rstrip("*"): load(name) for name in (id_set, *names)}


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m lbf.figures", description=__doc__, formatter_class=flags.formatter)
    made.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folders of finished, evaluated runs, the pre-trained one first",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for PNG, PDF and the numbers drawn"
    )
    made.add_argument("--limit", type=int, default=1000, metavar="N", help="at most N images of each set [1000]")
    flags.add_data_argument(made)
    flags.add_device_argument(made)
    arguments = made.parse_args()
    device = device_of(arguments)
    networks = [open_run(folder, device) for folder in arguments.runs]
    if len({network.facts["id_set"] for network in networks}) > 1:
        raise UserError(f"the runs have different ID sets: {', '.join(sorted({n.facts['id_set'] for n in networks}))}")
    sets = load_sets(networks[0], arguments)
    written = [save(heat_maps(networks, sets), arguments.out / "heat_maps")]
    figure, numbers = norm_histograms(networks, sets)
    written.append(save(figure, arguments.out / "norms"))
    write_atomically(arguments.out / "norms.json", lambda part: part.write_text(json.dumps(numbers, indent=1) + "\n"))
    if (curves := training_curves(networks)) is not None:
        written.append(save(curves, arguments.out / "curves"))
    for path in written:
        print(path)


if __name__ == "__main__":
    command(main)
