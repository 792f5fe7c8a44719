import pytest

from dfb import temperature
from dfb.score import SIGNS


def test_a_panel_has_a_line_a_detector_and_sign_over_t_and_a_flat_one_of_the_vanilla_network():
    sets, scorers = ["places", "sun"], ["msp", "energy"]
    value = {name: 0.5 + 0.1 * k for k, name in enumerate((*SIGNS, *scorers, *sets))}
    rows = [
        {"scorer": scorer, "sign": sign, "T": T, "ood_set": name, "auroc": value[name] - T / 10 - value[sign] / 9}
        for name in sets for scorer in scorers for sign in SIGNS for T in (1.0, 2.5)
    ]  # fmt: skip
    figure = temperature.draw(rows, sets, {("energy", "sun"): 0.625}, "head")
    places, sun = figure.axes
    assert (places.get_title(), sun.get_title(), figure.get_suptitle()) == ("OOD Places", "OOD SUN", "head")
    assert len(places.lines) == len(scorers) * len(SIGNS) and len(sun.lines) == len(places.lines) + 1
    flat = next(line for line in sun.lines if line.get_label() == "energy, vanilla")
    assert list(flat.get_ydata()) == [62.5, 62.5]
    for axis, name in ((places, "places"), (sun, "sun")):
        lines = {line.get_label(): line for line in axis.lines}
        for sign in SIGNS:
            line = lines[f"energy, DFB {sign.replace('_', '-')}"]
            assert list(line.get_xdata()) == [1, 2.5]
            expected = [100 * (value[name] - T / 10 - value[sign] / 9) for T in (1, 2.5)]
            assert list(line.get_ydata()) == pytest.approx(expected)


def test_the_scan_covers_the_papers_temperature():
    assert 2.5 in temperature.T_GRID and min(temperature.T_GRID) == 1 and max(temperature.T_GRID) == 5
