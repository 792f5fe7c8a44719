"""ID and OOD features of the vanilla and of the DFB network side by side (DFB Fig. 5).

    python -m dfb.tsne DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood textures --out FIGURES

The number in each title is the AUROC of the distance to the tenth nearest ID training feature (KNN, vectors of length 1): t-SNE's distances mean nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from common import data
from common.checkpoint import weights_digest
from common.cli import commands, flags
from common.cli.errors import command
from common.cli.recipes import from_arguments, ranged
from common.results.lines import set_title
from common.results.style import BLACK, figure_files, plt, save
from common.results.tsne import Group, side_by_side
from common.scorers import SCORERS
from common.scorers.arrays import Head
from common.scoring.network import Inference, Network
from common.scoring.sets import Line, Scored, score_sets
from dfb.evaluate import add_pair_arguments

VERSION = 1  # raised when the same networks and images give another figure
TRAIN_IMAGES, NEIGHBOURS = 1000, 10


def images_of(network: Network, ood: str) -> list:
    """At most 1,000 ID training images, `limit` ID test images and half as many OOD images."""
    data.check_ood(ood, network.id_set)
    name, limit = network.id_set, network.how.limit
    wanted = ((name, "train", TRAIN_IMAGES), (name, "test", limit), (ood, "test", max(1, limit // 2)))
    return [network.load(*one) for one in wanted]


def features_of(network: Network, images: list, ood: str) -> Scored:
    train, id_features, outside = map(network.features, images)
    return Scored(train, Head.of(network.model), id_features, {ood: outside})


def knn_auroc(scored: Scored) -> float:
    knn = replace(SCORERS["knn"], k=min(NEIGHBOURS, len(scored.train)))
    (row,) = score_sets(scored, scored.fit({Line("", "knn", repr(knn)): knn})).rows
    return row["auroc"]


def figure_of(networks: dict[str, Network], images: list[list], ood: str) -> plt.Figure:
    """A panel a network; `images`: of each, what `images_of` gives."""
    panels = []
    for (name, network), of in zip(networks.items(), images):
        scored, seed = features_of(network, of, ood), network.facts["seed"]
        groups = [
            Group(f"ID {set_title(network.id_set)}, by class", scored.id.penultimate, "", "o", scored.id.labels),
            Group(f"OOD {set_title(ood)}", scored.ood[ood].penultimate, BLACK, "x"),
        ]
        head = f"{name}, {network.model.name}, seed {seed}; KNN AUROC {100 * knn_auroc(scored):.1f} %"
        panels.append((head, groups))
    return side_by_side(panels)


def parser() -> argparse.ArgumentParser:
    made = commands.parser("dfb.tsne", __doc__, flags.add_data_argument, flags.add_device_argument)
    add_pair_arguments(made, "the stage-1 checkpoint", required=True)
    made.add_argument("--ood", required=True, metavar="SET", help="the OOD set; the paper's is textures")
    made.add_argument(
        "--limit", type=ranged(int, low=2), default=1000, metavar="N", help="at most N ID and N/2 OOD images [1000]"
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for t-sne-dfb.png and .pdf")
    return made


def main() -> None:
    arguments = parser().parse_args()
    paths, ood, out = [arguments.vanilla, arguments.checkpoint], arguments.ood, arguments.out / "t-sne-dfb"
    with commands.step_of(arguments, figure_files(out), paths) as step:
        how = from_arguments(arguments, Inference())
        networks = {name: Network.open(path, how) for name, path in zip(("vanilla", "DFB"), paths)}
        images = [images_of(network, ood) for network in networks.values()]
        made_of = {
            "networks": [(weights_digest(network.saved), network.facts["seed"]) for network in networks.values()],
            "data": [[one.digest for one in of] for of in images],
        }
        if not step.is_done({"command": "dfb.tsne", "version": VERSION, "ood": ood} | made_of):
            save(figure_of(networks, images, ood), out)
    print(out.with_suffix(".png"))


if __name__ == "__main__":
    command(main, alone=True)
