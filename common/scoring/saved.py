"""A detector in one file: safetensors, what it says of itself as JSON in the header, and a SHA-256 of all of it. No pickle, no code."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.backbones import build
from common.cli.arrays import in_short
from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.cli.tensors import Damaged
from common.scorers import SCORERS, Scorer
from common.scorers.arrays import BASIC, Features
from common.scoring.features import Network
from common.scoring.foreign import Foreign, noise, replace_weights
from common.scoring.head import alike
from common.scoring.named import rebuild

FORMAT = "ood-backgrounds detector 1"
WHAT = "a detector saved by this suite"
SAME = 1e-3  # share of the largest logit by which a network may answer otherwise than where it was saved
ORIGIN = ("kind", "name", "output_stride", "facts", "stats", "head")  # what a network is made again from
PARTS: dict[str, type | tuple[type, ...]] = {
    "network": dict, "classes": list, "transform": dict, "scorer": dict, "fitted": dict, "calibrated": (dict, type(None)), "versions": str,
}  # fmt: skip


def write(path: Path, tensors: dict[str, Tensor], said: dict[str, Any]) -> None:
    """Write a detector atomically; `said` is plain values."""
    from safetensors.torch import save_file

    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, expected the name of a file")
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    text = json.dumps(said, sort_keys=True)
    header = {"format": FORMAT, "said": text, "sha256": _digest(tensors, text)}
    write_atomically(path, lambda part: save_file(tensors, part, header))


def read(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by name, on the CPU, and what the detector says of itself.

    Raises UserError where nothing is there, and Damaged for a file that is cut, changed or foreign.
    """
    from safetensors import safe_open

    if not os.path.exists(path):
        raise UserError(f"no detector at {path}")
    if os.path.isdir(path):
        raise Damaged(f"{path} is a folder; expected {WHAT}")
    if not os.path.isfile(path):
        raise Damaged(f"{path} is a device, a pipe or a socket; expected {WHAT}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                found = f", got {header['format']!r}" if "format" in header else ""
                raise Damaged(f"{path} is not {WHAT} (expected format {FORMAT!r}{found})")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except UserError:
        raise
    except Exception as error:  # SafetensorError is no more than an Exception
        raise Damaged(f"{path} is not {WHAT}: {in_short(error)}") from error
    if header.get("sha256") != _digest(tensors, header.get("said", "")):
        raise Damaged(f"{path} is damaged: it is not what was saved (the SHA-256 differs)")
    return tensors, _checked(json.loads(header["said"]), path)


def _checked(said: dict[str, Any], path: Path | str) -> dict[str, Any]:
    for name, kind in PARTS.items():
        if not isinstance(said.get(name), kind):
            raise Damaged(f"{path} is not whole: its part {name!r} is missing or of another kind")
    return said


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(f"{FORMAT}\0{text}\0".encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


# --- the parts of a detector, to and from tensors and plain values ---


def inner(network: Network) -> nn.Module:
    """The module whose weights are saved."""
    return network.net if isinstance(network, Foreign) else network


def tensors(network: Network, train: Mapping[str, np.ndarray], size_px: int) -> dict[str, Tensor]:
    """Weights, training features, and the logits of two images of noise, by which the network is known again."""
    state = inner(network).state_dict()
    if odd := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{network.name} keeps more than tensors in its state ({odd[0]}), which cannot be saved")
    found = {f"network.{name}": value for name, value in state.items()}
    found |= {f"train.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in train.items()}
    return found | {"probe": _answer(network, size_px)}


def words_of(scorer: Scorer) -> dict[str, Any]:
    """A score's class and hyper-parameters as plain values."""
    base = next((name for name, known in SCORERS.items() if type(known) is type(scorer)), None)
    if base is None:
        raise UserError(f"only scores of common.scorers.SCORERS can be saved, {type(scorer).__name__} is none")
    return {"base": base, "options": dataclasses.asdict(scorer)}


def scorer_of(said: dict[str, Any]) -> Scorer:
    kept = said["scorer"]
    return dataclasses.replace(SCORERS[kept["base"]], **kept["options"])


def train(found: dict[str, Tensor]) -> Features | None:
    """The training features, None where the score looks at none."""
    arrays = {name: value.numpy() for name, value in _below(found, "train.").items()}
    basic = [arrays.pop(name, None) for name in (*BASIC, "labels")]
    return None if basic[0] is None else Features(*basic, arrays)


def network(path: Path | str, found: dict[str, Tensor], said: dict[str, Any], net: nn.Module | None) -> Network:
    """The saved network: built, made by name, or of the `net` that is given. Raises UserError where it does not answer as it did."""
    origin, classes, size_px = said["network"], len(said["classes"]), said["transform"]["size_px"]
    if net is None and origin["kind"] == "module":
        raise UserError(f"{path} is of a {origin['name']}: Detector.load(path, net), net one of that architecture")
    weights = _below(found, "network.")
    try:
        if origin["kind"] == "checkpoint":
            made = build(origin["name"], classes, output_stride=origin["output_stride"]).eval()
            replace_weights(made, weights)
        else:
            net = rebuild(origin["name"], classes) if origin["kind"] == "name" else net
            stats = tuple(map(tuple, origin["stats"]))
            made = Foreign(net, origin["name"], classes, size_px, stats, origin["head"], weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    there, here = found["probe"], _answer(made, size_px)
    if there.shape != here.shape or not alike(here, there, SAME):
        raise UserError(f"{path}: the network does not answer as it did when it was saved; is it another architecture?")
    return made


@torch.no_grad()
def _answer(network: Network, size_px: int) -> Tensor:
    place = network.head.weight.device
    return network(noise(size_px).to(place)).cpu()


def _below(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
