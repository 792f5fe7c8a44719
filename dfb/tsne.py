"""ID and OOD features of the vanilla and of the DFB network side by side (DFB Fig. 5).

    python -m dfb.tsne DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood textures --out FIGURES

The number in each title is the AUROC of the distance to the tenth nearest ID training feature (KNN, vectors of length 1): t-SNE's distances mean nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from common import data
from common.cli import flags
from common.cli.errors import command
from common.cli.recipes import from_arguments
from common.results.style import BLACK, plt, save
from common.results.tables import title
from common.results.tsne import Group, draw, embed
from common.scorers import SCORERS
from common.scorers.arrays import Head
from common.scoring.network import Inference, Network
from common.scoring.sets import Line, Scored, score_sets

TRAIN_IMAGES, NEIGHBOURS = 1000, 10


def features_of(network: Network, ood: str) -> Scored:
    """At most 1,000 ID training images, `limit` ID test images and half as many OOD images."""
    data.check_ood(ood, network.id_set)
    limit = network.how.limit
    train, id_features, outside = (
        network.features(network.load(name, split, count))
        for name, split, count in (
            (network.id_set, "train", TRAIN_IMAGES), (network.id_set, "test", limit), (ood, "test", max(1, limit // 2)),
        )
    )  # fmt: skip
    return Scored(train, Head.of(network.model), id_features, {ood: outside})


def knn_auroc(scored: Scored) -> float:
    knn = replace(SCORERS["knn"], k=min(NEIGHBOURS, len(scored.train)))
    (row,) = score_sets(scored, scored.fit({Line("", "knn", repr(knn)): knn})).rows
    return row["auroc"]


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m dfb.tsne", description=__doc__, formatter_class=flags.formatter)
    made.add_argument("checkpoint", type=Path, help="a finished checkpoint of dfb.finetune")
    made.add_argument("--vanilla", type=Path, required=True, metavar="FILE", help="the stage-1 checkpoint")
    made.add_argument("--ood", required=True, metavar="SET", help="the OOD set; the paper's is textures")
    made.add_argument("--limit", type=int, default=1000, metavar="N", help="at most N ID and N/2 OOD images [1000]")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for t-sne-dfb.png and .pdf")
    flags.add_data_argument(made)
    flags.add_device_argument(made)
    arguments = made.parse_args()
    how, figure = from_arguments(arguments, Inference()), plt.figure(figsize=(9.5, 4.9))
    axes = figure.subplots(1, 2)
    for axis, path, name in ((axes[0], arguments.vanilla, "vanilla"), (axes[1], arguments.checkpoint, "DFB")):
        network = Network.open(path, how)
        scored, seed = features_of(network, arguments.ood), network.facts["seed"]
        groups = [
            Group(f"ID {title(network.id_set)}, by class", scored.id.penultimate, "", "o", scored.id.labels),
            Group(f"OOD {title(arguments.ood)}", scored.ood[arguments.ood].penultimate, BLACK, "x"),
        ]
        head = f"{name}, {network.model.name}, seed {seed}; KNN AUROC {100 * knn_auroc(scored):.1f} %"
        draw(axis, groups, embed(groups), head)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    print(save(figure, arguments.out / "t-sne-dfb"))


if __name__ == "__main__":
    command(main, alone=True)
