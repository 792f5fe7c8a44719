"""ID and OOD features of the vanilla and of the DFB network side by side (DFB Fig. 5).

    python -m dfb.tsne DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood textures --out FIGURES

The number in each title is the AUROC of the distance to the tenth nearest ID training feature (KNN, vectors of length 1): t-SNE's distances mean nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from common import checkpoint, data
from common.cli import flags
from common.cli.errors import command
from common.data.transforms import transform_from_facts
from common.metrics import auroc
from common.results.style import BLACK, plt, save
from common.results.tables import title
from common.results.tsne import Group, draw, embed
from common.scorers import SCORERS
from common.scorers.arrays import Head
from common.scoring.features import extract
from common.training.distributed import device_of


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
    device, figure = device_of(arguments), plt.figure(figsize=(9.5, 4.9))
    axes = figure.subplots(1, 2)
    for axis, path, name in ((axes[0], arguments.vanilla, "vanilla"), (axes[1], arguments.checkpoint, "DFB")):
        model, facts = checkpoint.load_finished(path)
        data.check_ood(arguments.ood, facts["id_set"])
        transform = transform_from_facts(facts)
        seen = {}
        for use, set_name, split, count in (
            ("train", facts["id_set"], "train", 1000),
            ("id", facts["id_set"], "test", arguments.limit),
            ("ood", arguments.ood, "test", max(1, arguments.limit // 2)),
        ):
            images = data.load(set_name, split, root=arguments.data, transform=transform, limit=count)
            seen[use] = extract(model, images, (), device=device, progress=not arguments.quiet)
        score = replace(SCORERS["knn"], k=min(10, len(seen["train"]))).fit(seen["train"], Head.of(model))
        value = auroc(score(seen["id"]), score(seen["ood"]))
        groups = [
            Group(f"ID {title(facts['id_set'])}, by class", seen["id"].penultimate, "", "o", seen["id"].labels),
            Group(f"OOD {title(arguments.ood)}", seen["ood"].penultimate, BLACK, "x"),
        ]
        draw(axis, groups, embed(groups), f"{name}, {model.name}, seed {facts['seed']}; KNN AUROC {100 * value:.1f} %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    print(save(figure, arguments.out / "t-sne-dfb"))


if __name__ == "__main__":
    command(main)
