"""What a detector costs beyond its network: seconds to score files of photographs, beside decoding them and passing them through the network alone.

    python experiments/benchmarks/detector.py --backbone resnet50
    python experiments/benchmarks/detector.py --folder PATH         # your own images, in class folders

The base is what anybody writes: Pillow and torchvision's transforms in a DataLoader, the network's forward pass, the largest logit. Beside it
stands `Detector.judge` of the same folder with each score, and the loop of `python -m common.detect score`, which decodes in threads. Each is
fitted before the clock runs. Without --folder, JPEGs of 500 x 375 pixels are generated for the time of the run.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from harness import at_least, beside, in_turn, parser, pick_device, report, synchroniser
from PIL import Image
from streaming import add_photograph_arguments, photographs, write_photographs
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli.errors import command
from common.data.folders import worker_count
from common.data.listing import all_files
from common.data.transforms import Transform
from common.scoring import Detector
from common.scoring.files import judged

BASE, COMMAND = "decoding and forward pass", "common.detect score"


class Photographs(Dataset):
    """Pixels of each file, 3 x size x size, by torchvision's transforms."""

    def __init__(self, paths: list[Path], transform: Transform):
        self.paths = paths
        self.steps = T.Compose([T.Resize(transform.short_px), T.CenterCrop(transform.size_px), T.PILToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.paths[row]) as image:
            return self.steps(image.convert("RGB"))


def plain_way(
    model: Classifier, paths: list[Path], transform: Transform, batch_size: int, device: torch.device
) -> Callable[[], int]:
    """Decoding in as many processes as the suite's, and the network, which normalises in its first layer."""
    loader = DataLoader(Photographs(paths, transform), batch_size, num_workers=worker_count())

    @torch.inference_mode()
    def run() -> int:
        return sum(len(model(pixels.to(device).float() / 255).argmax(1).cpu()) for pixels in loader)

    return run


def of_folder(detector: Detector, folder: Path) -> int:
    return len(detector.judge(folder)[1])


def of_files(detector: Detector, paths: list[Path]) -> int:
    return len(list(judged(detector, paths, stop=True)))


def detectors(
    model: Classifier, names: list[str], train: Path, transform: Transform, batch_size: int, device: torch.device
) -> dict[str, Detector]:
    """A fitted detector of the network for each score."""
    found = {}
    for name in names:
        classes = [f"class{k}" for k in range(model.classes)]
        how = {"mean": 0, "std": 1, "transform": transform, "scorer": name, "device": str(device)}
        one = Detector.from_module(model, classes=classes, **how)
        one.batch_size = batch_size
        found[name] = one.fit(train)
    return found


def main() -> None:
    made = parser(__file__, __doc__, rounds=3)
    add_photograph_arguments(made, 10_000)
    made.add_argument("--train", type=int, default=200, metavar="N", help="to fit on, generated, two classes [200]")
    made.add_argument("--image-size", type=int, default=224, metavar="PX", help="side the network gets [224]")
    made.add_argument("--backbone", default="resnet50", help="as for common.pretrain, new weights [resnet50]")
    made.add_argument("--batch-size", type=int, default=250, metavar="N", help="images a pass [250: Detector's]")
    scores = ["energy", "react", "mahalanobis", "knn:k=10"]
    made.add_argument("--scorers", nargs="+", default=scores, metavar="NAME", help=f"which scores [{' '.join(scores)}]")
    arguments = made.parse_args()
    size, batch = arguments.image_size, arguments.batch_size
    at_least(1, images=arguments.images, rounds=arguments.rounds, batch_size=batch)
    at_least(20, train=arguments.train)
    device, transform = pick_device(arguments.device), Transform(size, "resize-crop", round(size * 256 / 224))
    torch.manual_seed(0)
    model = build(arguments.backbone, 2, image_size=size).to(device).eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder, train = photographs(arguments, Path(scratch)), Path(scratch) / "train"
        write_photographs(train, arguments.train)
        paths = [file for _, file in all_files(folder)]
        fitted = detectors(model, arguments.scorers, train, transform, batch, device)
        ways = {BASE: plain_way(model, paths, transform, batch, device)}
        ways |= {f"Detector, {name}": partial(of_folder, one, folder) for name, one in fitted.items()}
        ways[f"{COMMAND}, {arguments.scorers[0]}"] = partial(of_files, fitted[arguments.scorers[0]], paths)
        found = in_turn(ways, arguments.rounds, settle=synchroniser(device), progress=not arguments.quiet)
    setting = f"{len(paths):,} images, {arguments.backbone}, {size} px, batch {batch}, {worker_count()} workers, {arguments.rounds} rounds"
    header = ["way", "median s", f"ratio to {BASE}", "range over rounds"]
    report(setting, device, (header, beside(found.seconds, BASE)))


if __name__ == "__main__":
    command(main)
