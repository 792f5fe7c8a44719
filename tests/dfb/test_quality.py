"""A network stands at the IoU of the masks that it was trained on."""

import json

import pytest
from result_rows import result_row

from common.cli.errors import UserError
from dfb.quality import draw, numbers, points

PLAIN = {"theta": 0.5, "refine": "none", "cam_shift": "none"}


def manifest(identity, iou, **changes):
    counts = {"against_truth": {"iou": iou, "true_share": 0.2}} if iou else {}
    return {"identity": identity, "recipe": PLAIN | changes, "counts": counts}


def network(name, masks, labels="pseudo", accuracy=0.9, alone=0.6, joined=0.7, background=0.8):
    common = {
        "recipe": json.dumps({"masks_sha256": masks, "pixel_labels": labels}),
        "checkpoint_sha256": f"{name}{masks}{labels}",
        "id_accuracy": accuracy,
    }
    aurocs = [
        (f"{name}, S_h alone", "msp", alone),
        (f"{name} +", "msp", joined),
        ("background alone" if name == "DFB" else f"{name}, background alone", "+", background),
    ]
    return [result_row(method=method, scorer=scorer, ood_set=ood, auroc=auroc + shift, **common) for method, scorer, auroc in aurocs
            for ood, shift in (("shapes-noise", 0.0), ("shapes-textures", 0.1), ("shapes-objects", -0.5))]  # fmt: skip


MANIFESTS = [manifest("a" * 20, 0.5), manifest("b" * 20, 0.9, refine="grabcut", cam_shift="half-stride")]


def test_each_network_is_at_its_masks_iou_and_the_control_where_all_is_foreground():
    rows = (
        network("DFB", "b" * 20, accuracy=0.97, joined=0.75)
        + network("DFB", "a" * 20)
        + network("DFB", "truth x", "truth")
    )
    found = points(rows + network("mine", "foreground x", "foreground") + [result_row(method="vanilla")], MANIFESTS)
    assert [(point.masks, point.iou) for point in found] == [
        ("all foreground", 0.2), ("pseudo-masks", 0.5), ("refine grabcut, cam shift half-stride", 0.9), ("true masks", 1.0)
    ]  # fmt: skip
    assert [point.accuracy for point in found] == [0.9, 0.9, 0.97, 0.9]
    assert found[0].auroc == pytest.approx({"shapes-noise": 0.8, "shapes-textures": 0.9, "shapes-objects": 0.3})
    assert [point.gain["msp"] for point in found] == pytest.approx([0.1, 0.1, 0.15, 0.1])
    lines = numbers(found).splitlines()
    assert len(lines) == 5 and lines[3].startswith('"refine grabcut, cam shift half-stride",0,0.9,0.97,')


def test_the_figure_has_every_network_in_every_panel():
    figure = draw(points(network("DFB", "a" * 20) + network("DFB", "b" * 20, accuracy=0.95), MANIFESTS))
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[50, 90], [90, 95]]
    assert [line.get_xydata().tolist() for line in figure.axes[1].get_lines()][0] == [[50, 80], [90, 80]]
    assert {text.get_text() for text in figure.axes[0].texts} == {
        "pseudo-masks",
        "refine grabcut, cam shift half-stride",
    }


@pytest.mark.parametrize(
    "rows, manifests, said",
    [
        (network("DFB", "c" * 20), MANIFESTS, "no manifest of the masks cccccccccccc "),
        (network("DFB", "a" * 20), [manifest("a" * 20, None)], "masks aaaaaaaaaaaa were not scored against the truth"),
        (network("DFB", "", "foreground"), [manifest("a" * 20, None)], "so the control has no IoU"),
    ],
)
def test_a_network_whose_masks_are_not_known_is_refused(rows, manifests, said):
    with pytest.raises(UserError, match=said):
        points(rows, manifests)
