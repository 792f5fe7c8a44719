"""Every trained baseline at a small size: networks, images of 16 pixels, batches."""

import torch

from common.backbones import build
from common.data.images import Images
from common.objectives import METHODS
from common.training.objective import Batch, Clock

CPU = torch.device("cpu")
PLAIN = {"lr": 0.05, "weight_decay": 0.0, "schedule": "step", "precision": "float32", "warmup_epochs": 0}
PLAIN |= {"lr_end": 0.0, "warmup_lr": 0.0, "batch_size": 16, "epochs": 2}
OWN = {"logitnorm": {"tau": 0.5}, "vos": {"outliers_from": 0, "queue": 4, "draws": 50, "select": 2}}
OWN["npos"] = {"outliers_from": 0, "queue": 6, "neighbours": 3, "boundary": 4, "draws": 9, "keep": 3}
OWN["tagfog"] = {"width": 16}
OWN["dml-focal"] = {"lr": 0.01}  # its cosines times 40 move features faster than running statistics follow
OWN["dml-centre"] = {"centre_begins": (0.0, 0.5), "centre_weights": (0.01, 0.02)}
OWN |= {"csi": {"lr": 5.0, "tau": 0.2}, "csi-linear": {"lr": 20.0, "momentum": 0.9}}
NETWORKS = {"csi-linear": "rotated:resnet8"}
ORDERED = ("cider", "npos")  # their prototypes take up image after image
NAMES = [name for name, method in METHODS.items() if method.by_name]


def made(name: str, classes: int = 4):
    """(network, objective, recipe), the same each time."""
    method = METHODS[name]
    recipe = method.objective.Recipe(**PLAIN | OWN.get(name, {}))
    torch.manual_seed(0)
    model, objective = build(NETWORKS.get(name, "resnet8"), classes, image_size=16), method.objective(recipe)
    objective.build(model)
    return model, objective, recipe


def images_of(labels: torch.Tensor, classes: int) -> Images:
    """A colour a class, noise, and a dark edge above, so that turned images can be told."""
    drawn = torch.Generator().manual_seed(1)
    colours = torch.randint(40, 216, (classes, 3, 1, 1), generator=drawn)
    pixels = colours[labels] + torch.randint(-40, 40, (len(labels), 3, 16, 16), generator=drawn)
    pixels[:, :, :4] //= 8
    return Images("made", pixels.to(torch.uint8), labels, classes=tuple(map(str, range(classes))))


def batch_of(images: Images, views: int) -> Batch:
    pixels = images.pixels.float() / 255
    return Batch(torch.stack(4 * [pixels, pixels.flip(3)])[:views], images.labels, torch.arange(len(images)))


def clock(step: int = 0) -> Clock:
    return Clock(0, 1, step, 1, torch.Generator().manual_seed(step))
