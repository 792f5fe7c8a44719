import os
import subprocess
import sys

from common.results.style import plt, save


def test_a_figure_is_written_twice_with_the_same_bytes_each_time_and_closed(tmp_path):
    written = []
    for folder in ("one", "two"):
        figure, axis = plt.subplots()
        axis.plot([1, 2])
        assert save(figure, tmp_path / folder / "curve") == tmp_path / folder / "curve.png"
        assert not plt.fignum_exists(figure.number)
        written.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert written[0] == written[1] and set(written[0]) == {"curve.png", "curve.pdf"}
    assert written[0]["curve.png"].startswith(b"\x89PNG") and written[0]["curve.pdf"].startswith(b"%PDF")


def test_a_notebooks_backend_does_not_break_a_figure(tmp_path):
    code = f"from pathlib import Path; from common.results.style import plt, save; save(plt.figure(), Path({str(tmp_path / 'f')!r}))"
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | backend)
    assert (tmp_path / "f.png").exists()
