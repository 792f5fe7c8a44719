"""A detector as an ONNX model: onnxruntime gives its logits, scores and answers; what cannot be one is refused, and nothing is written."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from common import data, detect
from common.cli.errors import UserError
from common.scorers import Head
from common.scoring import Detector, exported
from common.scoring.exported import FORMAT, Graph, answers, check
from common.scoring.in_torch import in_torch

PAGE = (Path(__file__).parents[3] / "docs" / "own_network.md").read_text()
NAMES = ["cat", "dög", "fox"]
PIXELS = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def opened():
    """opened(path) -> session of onnxruntime; without it the test is skipped."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    import onnxruntime

    return lambda path: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def foreign(net, scorer="energy"):
    how = {"classes": NAMES, "size_px": 32, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "device": "cpu"}
    return Detector.from_module(net, scorer=scorer, **how)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoints_detector_by_the_command(opened, finished, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = data.load("shapes", "test", root=tmp_path, limit=30).pixels.float() / 255
    Detector.from_checkpoint(finished("c.pt"), "react", device="cpu").fit().calibrate(images, 0.5).save("d.ood")
    said = typed(detect, "export", "d.ood", "d.onnx")
    assert said.code == 0 and said.err == "" and "48 x 48" in said.out and "accepted" in said.out, said.err
    d, session = Detector.load("d.ood", device="cpu"), opened("d.onnx")
    for batch in (images[:1], images):
        logits, scores, accepted = session.run(["logits", "score", "accepted"], {"images": batch.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, d.network(batch).numpy(), atol=1e-4)
        expected = d.predict(batch)
        assert np.abs(scores - expected["score"]).max() <= 1e-4 and scores.dtype == np.float64
        sure = np.abs(expected["score"] - d.threshold) > 1e-4  # the image that set the threshold is at it
        assert np.array_equal(accepted[sure], expected["accepted"][sure])
    assert sure.sum() >= 28 and 14 <= accepted.sum() <= 15
    kept = session.get_modelmeta().custom_metadata_map
    assert kept["format"] == FORMAT and json.loads(kept["classes"]) == list(d.classes)
    assert (
        float(kept["threshold"]) == d.threshold and json.loads(kept["mean"]) == [0.5] * 3 and kept["scorer"] == "react"
    )
    assert kept["weights_sha256"] == d.facts["network"]["weights_sha256"] and kept["size_px"] == "48"
    assert str(tmp_path).encode() not in (content := (tmp_path / "d.onnx").read_bytes()) and b".py" not in content
    code = re.search(r"## ONNX.*?```python\n(.*?)```", PAGE, re.S)[1]
    exec(code.replace("mine.onnx", "d.onnx"), on_the_page := {"images": images.numpy()})
    assert np.array_equal(on_the_page["score"], scores)
    assert "done already" in typed(detect, "export", "d.ood", "d.onnx").err


@pytest.mark.filterwarnings("ignore")
def test_a_foreign_networks_detector(opened, tmp_path):
    torch.manual_seed(0)
    small = {"img_size": 32, "embed_dim": 48, "depth": 1, "num_heads": 2}
    d = foreign(timm.create_model("vit_tiny_patch16_224", num_classes=3, **small).eval(), "knn:k=3").fit(PIXELS[:20])
    d.export(tmp_path / "d.onnx")
    session = opened(tmp_path / "d.onnx")
    assert [one.name for one in session.get_outputs()] == ["logits", "score"]
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    assert np.abs(session.run(["score"], {"images": PIXELS[18:].numpy()})[0] - d.score(PIXELS[18:])).max() <= 1e-4
    kept = session.get_modelmeta().custom_metadata_map
    assert kept["threshold"] == "null" and json.loads(kept["classes"]) == NAMES
    assert (
        json.loads(kept["std"]) == pytest.approx([0.4, 0.5, 0.6]) and kept["fit_sha256"] == d.facts["fitted"]["sha256"]
    )


@pytest.mark.filterwarnings("ignore")
def test_a_score_without_a_form_is_one_line_and_no_file(finished, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed(detect, "fit", finished("c.pt"), "--scorer", "mahalanobis", "--quiet", "--out", "d.ood").code == 0
    said = typed(detect, "export", "d.ood", "d.onnx")
    assert said.code == 2 and said.err.startswith("error: mahalanobis has no form outside of Python; these have: msp, ")
    assert said.err.count("\n") == 1 and not (tmp_path / "d.onnx").exists()


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x.mean((2, 3)).sort(dim=1, stable=True).values)


class OfTwo(Sorted):
    def forward(self, x):
        return self.fc(x.mean((2, 3)) * (1 if x.shape[0] > 2 else 2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "net, said",
    [
        (Sorted(), "Sorted cannot be exported to ONNX by torch .*: No ONNX function found"),
        (OfTwo(), "OfTwo answers otherwise as ONNX: its logits of 5"),
    ],
)
def test_a_network_that_is_another_as_a_graph_is_refused_and_what_stood_there_stands(opened, net, said, tmp_path):
    (tmp_path / "d.onnx").write_text("before")
    with pytest.raises(UserError, match=said):
        foreign(net).fit().export(tmp_path / "d.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["d.onnx"] and (tmp_path / "d.onnx").read_text() == "before"


def test_answers_of_onnxruntime_are_held_against_the_detectors():
    torch.manual_seed(0)
    d = foreign(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))).fit()
    scores = d.score(PIXELS)
    graph = Graph(d.network, in_torch(d.scorer, "energy", None, Head.of(d.network)), float(np.sort(scores)[9]))
    with torch.no_grad():
        right = [one.numpy() for one in graph(PIXELS)]
    assert right[2].sum() == 21  # the one at the threshold too, which float32 would not hold
    check(graph, right, PIXELS, scores)
    last = np.eye(30)[29] == 1
    for number, wrong in enumerate(
        (right[0] + last[:, None] * 2e-4, right[1] - last * 2e-4, right[2] ^ (scores == scores.max()))
    ):
        answers = [*right[:number], wrong, *right[number + 1 :]]
        with pytest.raises(UserError, match=f"answers otherwise as ONNX: its {graph.outputs[number]} of 30 images"):
            check(graph, answers, PIXELS, scores)
    with pytest.raises(UserError, match="its score"):
        check(graph, [right[0], right[1][:, None], right[2]], PIXELS, scores)
    with pytest.raises(UserError, match="its score"):
        check(graph, [right[0], np.where(last, np.nan, right[1]), right[2]], PIXELS, scores)


def test_without_the_libraries_they_are_named_and_too_much_is_refused(monkeypatch, tmp_path):
    d = foreign(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))
    with pytest.raises(UserError, match="not fitted yet"):
        d.export(tmp_path / "d.onnx")
    d.fit()
    monkeypatch.setattr(exported, "libraries", lambda: (None, None))
    monkeypatch.setattr(exported, "LARGEST_BYTES", 50)
    with pytest.raises(UserError, match="an ONNX file ends at"):
        d.export(tmp_path / "d.onnx")
    monkeypatch.undo()
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UserError, match="ONNX needs onnx: pip install onnx onnxscript onnxruntime"):
        d.export(tmp_path / "d.onnx")
    d.device = torch.device("cuda")
    with pytest.raises(UserError, match="the detector is on cuda"):
        d.export(tmp_path / "d.onnx")


def test_a_model_that_onnxruntime_cannot_run_is_one_line():
    """As one of a network in bfloat16."""
    runtime = pytest.importorskip("onnxruntime")
    d = foreign(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))
    with pytest.raises(UserError, match="Sequential: onnxruntime cannot run it as ONNX: "):
        answers(runtime, Graph(d.network, nn.Identity(), None), b"no model", [PIXELS])
