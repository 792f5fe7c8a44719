"""What every trained baseline must hold, on images of 16 pixels: each entry of METHODS that is asked for by name."""

import json
from dataclasses import replace

import pytest
import torch
from small import CPU, NAMES, ORDERED, batch_of, clock, images_of, made

from common.checkpoint import load, load_objective_state, weights_digest
from common.data.images import Images
from common.objectives import METHODS
from common.scorers import SCORERS, scorer
from common.training.engine import fit, make_optimizer
from common.training.recipe import BaselineRecipe

NO_CODE = ("dml-focal", "dml-centre")  # whose authors have published no recipe
PUBLIC = [("tagfog", "imagenet100")]  # recipes for ImageNet-100 that are the authors'


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize(
    "labels", [torch.arange(12), torch.zeros(5, dtype=torch.int64), torch.ones(1, dtype=torch.int64)]
)
def test_loss_and_gradients_are_finite_whatever_the_classes_in_a_batch(name, classes, labels):
    model, objective, _ = made(name, classes)
    images = images_of(labels % classes, classes)
    objective.prepare(model, images_of(torch.arange(2 * classes) % classes, classes))
    for step in range(3):
        loss, logs = objective(model.train(), batch_of(images, objective.views), clock(step))
        loss.backward()
        numbers = [
            loss,
            *logs.values(),
            *(p.grad for p in (*model.parameters(), *objective.parameters()) if p.grad is not None),
        ]
        assert all(number.isfinite().all() for number in numbers) and loss.shape == () and loss.requires_grad
        assert not any(number.requires_grad for number in logs.values())


def test_the_order_of_a_batch_does_not_count(name):
    labels = torch.arange(16) % 4
    orders = [torch.arange(16), torch.randperm(16, generator=torch.Generator().manual_seed(3))]
    if name in ORDERED:
        orders[1] = torch.arange(16).view(4, 4).flip(1).flatten()  # of one class the same, between classes another
    losses = []
    for order in orders:
        model, objective, _ = made(name)
        images = images_of(labels, 4)
        objective.prepare(model, images)
        batch = batch_of(Images("made", images.pixels[order], labels[order], classes=images.classes), objective.views)
        losses.append(objective(model.train(), batch, clock())[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_batch_that_stays_the_same_is_learnt(name):
    model, objective, recipe = made(name)
    images = images_of(torch.arange(16) % 4, 4)
    objective.prepare(model, images)
    optimizer, losses = make_optimizer(model, objective, recipe), []
    for step in range(25):
        loss, _ = objective(model.train(), batch_of(images, objective.views), clock(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    objective.finish(model.eval(), images)
    right = (model(images.pixels.float() / 255).argmax(1) == images.labels).float().mean()
    assert losses[-1] < 0.7 * losses[0] and right == 1, (losses[0], losses[-1], right)


def test_killed_and_resumed_ends_with_the_tensors_and_the_state_of_an_undisturbed_run(name, tmp_path):
    images = images_of(torch.arange(56) % 4, 4)

    def run(folder: str, dies_at: int | None = None) -> torch.nn.Module:
        model, objective, recipe = made(name)

        def die(_, inputs):
            if inputs[2].step == dies_at:
                raise KeyboardInterrupt

        objective.register_forward_pre_hook(die)
        how = {"run": tmp_path / folder, "seed": 0, "device": CPU, "progress": False, "save_every_s": 0.0}
        return fit(model, objective, images, recipe, **how)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("killed", dies_at=4)
    assert (
        weights_digest(run("killed"))
        == weights_digest(whole)
        == weights_digest(load(tmp_path / "killed/checkpoint.pt")[0])
    )
    states = [load_objective_state(tmp_path / folder / "checkpoint.pt") for folder in ("whole", "killed")]
    assert states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )
    logs = [
        [json.loads(line) | {"seconds": 0} for line in (tmp_path / f / "log.jsonl").open()] for f in ("whole", "killed")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 2


def test_presets_say_whose_values_they_have_and_what_the_network_is_scored_with(name):
    presets = METHODS[name].presets
    assert {"cifar10", "cifar10-short", "cifar100", "cifar100-short", "imagenet100", "shapes"} <= presets.keys()
    for key, preset in presets.items():
        assert (
            isinstance(preset.recipe, BaselineRecipe) and scorer(preset.score) and preset.score.split(":")[0] in SCORERS
        )
        short = key.endswith("-short")
        authors = (key.startswith("cifar") and name not in NO_CODE) or (name, key) in PUBLIC
        assert preset.recipe.origin == ("short" if short else "authors" if authors else "ours")
        if short:
            long = presets[key[:-6]].recipe
            assert preset.recipe.epochs < 200 and replace(preset.recipe, origin=long.origin) != long
