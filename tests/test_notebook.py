"""docs/own_network.ipynb runs from its first cell to its last, as it stands."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from common.scoring.saved import read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "own_network.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(PAGE, as_version=4)


def code_of(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_what_it_has_printed_and_makes_a_detector_in_ten_lines(notebook):
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_of(notebook))
    [made] = [cell.source for cell in code_of(notebook) if "Detector.from_module" in cell.source]
    assert len([line for line in made.splitlines() if line.strip()]) <= 10 and "import Detector" in made
    assert "own_network.ipynb" in (PAGE.with_suffix(".md")).read_text()


def test_it_runs_and_its_detector_accepts_what_it_says(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    said = "".join(output.text for cell in code_of(notebook) for output in cell.outputs if output.name == "stdout")
    auroc, fpr, inside, outside = map(float, re.findall(r"(?:AUROC|FPR95|accepted:|held out,) ([0-9.]+)", said))
    calibrated = read(tmp_path / "mine.ood")[1]["calibrated"]
    assert inside == pytest.approx(calibrated["accepted"], abs=5e-4) and inside >= 0.95 and calibrated["count"] == 100
    assert outside == pytest.approx(fpr, abs=5e-4)  # one threshold, by two ways
    assert auroc > 0.6  # the network tells noise from objects
