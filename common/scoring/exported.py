"""A detector as an ONNX model: normalisation, network, score and threshold in one file that needs neither Python nor this suite.

Input `images`: float32, batch x 3 x S x S, RGB in [0, 1], brought to S pixels as the metadata's `transform` says: that is not in the graph.
Outputs: `logits` float32, `score` float64 (larger = more in-distribution) and, where there is a threshold, `accepted`.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.cli.arrays import in_short
from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.scoring.features import Network
from common.scoring.foreign import Foreign, noise
from common.scoring.in_torch import exact

FORMAT = "ood-backgrounds onnx 1"
SAME = 1e-4  # by which logits and scores may differ from the detector's, as a share of the largest logit and of each score, or of 1 if that is less
LARGEST_BYTES = 2_000_000_000  # one protobuf message ends at 2 GiB


class Graph(nn.Module):
    """What the file holds. `threshold`: None where no image is accepted or refused."""

    def __init__(self, network: Network, form: nn.Module, threshold: float | None):
        super().__init__()
        self.network, self.form, self.threshold = network, form, threshold
        self.register_buffer("least", None if threshold is None else exact(threshold))
        self.eval()

    @property
    def outputs(self) -> list[str]:
        return ["logits", "score"] + ["accepted"] * (self.threshold is not None)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        h = network.read(images)[0] if isinstance(network, Foreign) else network.penultimate(images)
        logits = network.head(h)
        score = self.form(h, logits)
        return (logits, score) if self.threshold is None else (logits, score, score >= self.least)


def write(path: Path, graph: Graph, facts: dict[str, Any], judge: Callable[[Tensor], tuple[Any, Any]]) -> None:
    """Write the model, whole or not at all, after onnxruntime has given the detector's numbers with it (`SAME`), in batches of 1, 2 and 5.

    `facts`: what the detector says of itself; `judge`: its own answer to images. Raises UserError for a network that cannot be exported, or
    answers otherwise when it is.
    """
    onnx, runtime = libraries()
    if (size := sum(tensor.nbytes for tensor in graph.state_dict().values())) > LARGEST_BYTES:
        raise UserError(f"{path} would hold {size / 1e9:.1f} GB, and an ONNX file ends at {LARGEST_BYTES / 1e9:.0f}")
    size_px = facts["transform"]["size_px"]
    model = traced(graph, size_px)
    for node in model.graph.node:  # where in this machine's files each came from
        node.ClearField("metadata_props"), node.ClearField("doc_string")
    onnx.helper.set_model_props(model, metadata(graph, facts))
    content = model.SerializeToString()
    images = torch.cat([noise(size_px), 1 - noise(size_px), noise(size_px)[:1] / 2])
    batches = [images[:1], images[:2], images]
    for batch, answer in zip(batches, answers(runtime, graph, content, batches), strict=True):
        check(graph, answer, batch, judge(batch)[1])
    write_atomically(path, lambda part: part.write_bytes(content))


def libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter asks for it
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX needs {error.name}: pip install onnx onnxscript onnxruntime") from error
    return onnx, onnxruntime


def traced(graph: Graph, size_px: int) -> Any:
    """The ONNX model (a protobuf) of a graph, for any number of images a batch."""
    how = {"input_names": ["images"], "output_names": graph.outputs, "dynamic_shapes": {"images": {0: "batch"}}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(graph, (noise(size_px),), dynamo=True, verbose=False, **how).model_proto
    except Exception as error:  # torch raises many kinds
        cause = error
        while cause.__cause__ is not None:  # the outer ones say that something went wrong, and whom to tell
            cause = cause.__cause__
        said = f"{graph.network.name} cannot be exported to ONNX by torch {torch.__version__}: {in_short(cause)}"
        raise UserError(said) from error


def answers(runtime: Any, graph: Graph, content: bytes, batches: list[Tensor]) -> list[list[np.ndarray]]:
    """What onnxruntime makes of each batch. Raises UserError for a model that it cannot run, as one in bfloat16."""
    quiet = runtime.SessionOptions()
    quiet.log_severity_level = 4
    try:
        session = runtime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
        return [session.run(graph.outputs, {"images": batch.numpy()}) for batch in batches]
    except Exception as error:  # its own kinds, which have no base of their own
        raise UserError(f"{graph.network.name}: onnxruntime cannot run it as ONNX: {in_short(error)}") from error


def metadata(graph: Graph, facts: dict[str, Any]) -> dict[str, str]:
    """What the file says of itself; all that is no text is JSON."""
    stats = {name: getattr(graph.network.normalise, name).flatten().tolist() for name in ("mean", "std")}
    fitted, calibrated = facts["fitted"], facts["calibrated"] or {}
    said = {
        "format": FORMAT, "classes": facts["classes"], "size_px": facts["transform"]["size_px"], "transform": facts["transform"],
        "scorer": facts["scorer"]["name"], "settings": facts["scorer"]["settings"], "threshold": graph.threshold,
        "accept": calibrated.get("accept"), "weights_sha256": facts["network"]["weights_sha256"], "fit_sha256": fitted["sha256"],
        "calibration_sha256": calibrated.get("sha256", ""), "network": graph.network.name, "versions": facts["versions"],
        "input": "RGB in [0, 1], of size_px by transform, which is not in the graph; mean and std are",
    } | stats  # fmt: skip
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}


def check(graph: Graph, found: list[np.ndarray], images: Tensor, scores: Float[np.ndarray, " batch"]) -> None:
    """Raise UserError unless onnxruntime gives the network's logits, the detector's scores, and its yes or no."""
    with torch.no_grad():
        logits = graph(images)[0].numpy()
    unlike = [
        found[0].shape != logits.shape
        or not np.allclose(found[0], logits, rtol=0, atol=SAME * max(1, np.abs(logits).max()))
    ]
    near = SAME * np.maximum(1, np.abs(scores))
    unlike.append(found[1].shape != scores.shape or not (np.abs(found[1] - scores) <= near).all())
    if not any(unlike) and graph.threshold is not None:
        sure = np.abs(scores - graph.threshold) > near
        unlike.append((found[2] != (scores >= graph.threshold))[sure].any())
    if any(unlike):
        which = graph.outputs[unlike.index(True)]
        raise UserError(
            f"{graph.network.name} answers otherwise as ONNX: its {which} of {len(images)} images; nothing is written"
        )
