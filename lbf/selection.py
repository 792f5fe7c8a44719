"""Are the locations that LBF selects background? Measured where the truth is known: the generated benchmark's masks.

    python -m lbf.selection RUN/checkpoint.pt RUN2/checkpoint.pt

A location is true background if less than half of its cell of pixels is object. Precision is the share of selected locations that are
background, recall the share of background locations that are selected; a selection at random has the base rate as its precision.
"""

import argparse
from pathlib import Path

import torch

from common.checkpoint import weights_digest
from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.recipes import from_arguments
from common.cli.steps import add_step_arguments, making
from common.results.rows import write_csv
from common.results.tables import markdown
from common.scoring.features import batches
from common.scoring.network import Inference, Network
from lbf.locations import true_background
from lbf.loss import background_mask, local_norms

VERSION = 1  # raised when the same networks and images give other numbers


@torch.no_grad()
def measure(network: Network, images, delta: float) -> dict[str, float | None]:
    """Shares in [0, 1] over all locations of `images`, and mean local norms. None where nothing is selected."""
    if images.masks is None:
        raise UserError(f"{images.name} has no foreground masks; only the generated benchmark's truth is known")
    model, how, device, sums = network.model, network.how, network.device, torch.zeros(8, dtype=torch.float64)
    for start, pixels in batches(images, how.batch_size, device, not how.quiet):
        labels, masks = (rows[start : start + len(pixels)] for rows in (images.labels, images.masks))
        feature_map = model.feature_map(pixels)
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


def table(found: list[dict]) -> str:
    shares = {"selected_share": "selected", "base_rate": "base rate", "precision": "precision", "recall": "recall", "border_share": "at the border"}  # fmt: skip
    norms = {"norm_background": "norm on background", "norm_object": "norm on object"}
    body = [
        [row["run"], *(percent(row[name]) for name in shares), *(f"{row[name]:.2f}" for name in norms)] for row in found
    ]
    return markdown(["network", *shares.values(), *norms.values()], body)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m lbf.selection", description=__doc__, formatter_class=flags.formatter)
    made.add_argument(
        "checkpoints", nargs="+", type=Path, help="finished checkpoints trained on the generated benchmark"
    )
    made.add_argument(
        "--split", choices=("train", "test"), default="test", help="whose images, under the test transform [test]"
    )
    made.add_argument("--delta", type=float, help="share of probability, no unit; LBF Eq. 5 [1/K]")
    made.add_argument("--limit", type=int, metavar="N", help="at most N images [all]")
    made.add_argument("--out", type=Path, metavar="FILE", help="write a CSV there too")
    flags.add_data_argument(made)
    flags.add_device_argument(made)
    add_step_arguments(made)
    return made


def main() -> None:
    arguments = parser().parse_args()
    paths, split, out, given = arguments.checkpoints, arguments.split, arguments.out, arguments.delta
    how = from_arguments(arguments, Inference())
    with making([out] if out else [], paths, expect=arguments.expect, wait_s=arguments.wait) as step:
        networks = [Network.open(path, how) for path in paths]
        sets = [network.load(network.id_set, split, how.limit) for network in networks]
        deltas = [1 / network.model.classes if given is None else given for network in networks]
        facts = [
            {"run": path.parent.name, "split": split, "delta": delta, "images": len(images)}
            for path, delta, images in zip(paths, deltas, sets)
        ]
        digests = [(weights_digest(network.saved), images.digest) for network, images in zip(networks, sets)]
        identity = {"command": "lbf.selection", "version": VERSION, "networks": digests, "facts": facts}
        if step.is_done(identity):
            return
        found = [row | measure(*one, row["delta"]) for *one, row in zip(networks, sets, facts)]
        if out:
            write_csv(out, found)
        step.say(
            f"Locations selected by LBF Eq. 5 (p < {deltas[0]:g}) against the true background; percent, {len(sets[0])} {split} images\n"
        )
        step.say(table(found))


if __name__ == "__main__":
    command(main, alone=True)
