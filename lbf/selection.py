"""Are the locations that LBF selects background? Measured where the truth is known: the generated benchmark's masks.

    python -m lbf.selection RUN/checkpoint.pt RUN2/checkpoint.pt

A location is true background if less than half of its cell of pixels is object. Precision is the share of selected locations that are
background, recall the share of background locations that are selected; a selection at random has the base rate as its precision.
"""

import argparse
import csv
import io
from pathlib import Path

import torch

from common import checkpoint, data
from common.backbones.classifier import Classifier
from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.data.transforms import transform_from_facts
from common.results.tables import markdown
from common.training.distributed import device_of
from lbf.locations import true_background
from lbf.loss import background_mask, local_norms

COLUMNS = (
    "run",
    "split",
    "delta",
    "images",
    "selected_share",
    "base_rate",
    "precision",
    "recall",
    "border_share",
    "norm_background",
    "norm_object",
)


@torch.no_grad()
def measure(
    model: Classifier, images, delta: float, device: torch.device, batch_size: int = 250
) -> dict[str, float | None]:
    """Shares in [0, 1] over all locations of `images`, and mean local norms. None where nothing is selected."""
    if images.masks is None:
        raise UserError(f"{images.name} has no foreground masks; only the generated benchmark's truth is known")
    sums = torch.zeros(8, dtype=torch.float64)
    rows = zip(images.pixels.split(batch_size), images.labels.split(batch_size), images.masks.split(batch_size))
    for pixels, labels, masks in rows:
        feature_map = model.feature_map(pixels.to(device).float() / 255)
        selected = background_mask(model.local_logits(feature_map), labels.to(device), delta).cpu()
        truth, norms = true_background(masks.cpu(), *selected.shape[1:]), local_norms(feature_map).cpu()
        border = torch.ones_like(selected)
        border[:, 1:-1, 1:-1] = False
        counts = [selected.sum(), truth.sum(), (selected & truth).sum(), (selected & border).sum(), selected.numel()]
        sums += torch.tensor(
            [float(x) for x in (*counts, (norms * truth).sum(), (norms * ~truth).sum(), (~truth).sum())],
            dtype=torch.float64,
        )
    chosen, background, both, border, total, norm_background, norm_object, objects = sums.tolist()
    return {
        "selected_share": chosen / total, "base_rate": background / total, "precision": both / chosen if chosen else None,
        "recall": both / background, "border_share": border / chosen if chosen else None,
        "norm_background": norm_background / background, "norm_object": norm_object / objects,
    }  # fmt: skip


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m lbf.selection", description=__doc__, formatter_class=flags.formatter)
    made.add_argument(
        "checkpoints", nargs="+", type=Path, help="finished checkpoints trained on the generated benchmark"
    )
    made.add_argument(
        "--split", choices=("train", "test"), default="test", help="whose images, under the test transform [test]"
    )
    made.add_argument("--delta", type=float, default=None, help="share of probability, no unit; LBF Eq. 5 [1/K]")
    made.add_argument("--limit", type=int, default=None, metavar="N", help="at most N images [all]")
    made.add_argument("--out", type=Path, default=None, metavar="FILE", help="write a CSV there too")
    flags.add_data_argument(made)
    flags.add_device_argument(made)
    arguments = made.parse_args()
    device, found = device_of(arguments), []
    for path in arguments.checkpoints:
        model, facts = checkpoint.load(path)
        images = data.load(
            facts["id_set"],
            arguments.split,
            root=arguments.data,
            transform=transform_from_facts(facts),
            limit=arguments.limit,
        )
        delta = 1 / model.classes if arguments.delta is None else arguments.delta
        numbers = measure(model.to(device), images, delta, device)
        found.append(
            {"run": path.parent.name, "split": arguments.split, "delta": delta, "images": len(images), **numbers}
        )
    print(
        f"Locations selected by LBF Eq. 5 (p < {found[0]['delta']:g}) against the true background; percent, {found[0]['images']} {arguments.split} images\n"
    )
    shares = ("selected_share", "base_rate", "precision", "recall", "border_share")
    body = [
        [
            row["run"],
            *(percent(row[name]) for name in shares),
            f"{row['norm_background']:.2f}",
            f"{row['norm_object']:.2f}",
        ]
        for row in found
    ]
    header = [
        "network",
        "selected",
        "base rate",
        "precision",
        "recall",
        "at the border",
        "norm on background",
        "norm on object",
    ]
    print(markdown(header, body))
    if arguments.out:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        write_atomically(arguments.out, lambda part: part.write_text(text.getvalue()))


if __name__ == "__main__":
    command(main)
