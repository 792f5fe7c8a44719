"""NPOS's outliers and step. Prototypes: test_cider.py; as a method: test_contract.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from small import batch_of, clock, images_of, made

from common.cli.errors import UserError
from common.objectives import METHODS
from common.objectives.cider import updated
from common.objectives.contrastive import compactness_loss, dispersion_loss
from common.objectives.npos import NPOSRecipe, around, boundary_outliers, farness

F64 = torch.float64
TINY = NPOSRecipe(queue=5, neighbours=3, boundary=3, picks=2, draws=4, keep=2)
QUEUE = torch.tensor([[4, -1], [4, 1], [3, 1], [0, 2], [1, 3]], dtype=F64)
DRAWS = torch.tensor([[0.5, 0], [-1, 0.5], [0, -0.5], [1, 1]], dtype=F64)


def searched(queue, draws, which, recipe):
    """As it is written in the public code: a search tree, rows repeated point by point, distances squared."""
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    queue, draws = queue.numpy(), draws.numpy()
    tree, length = cKDTree(unit(queue)), len(draws)
    kth = lambda rows: tree.query(unit(rows), k=[recipe.neighbours])[0][:, 0] ** 2  # noqa: E731
    edge = np.argsort(-kth(queue), kind="stable")[: recipe.boundary][which.numpy()]
    target = np.concatenate([np.repeat(queue[[i]], length, axis=0) for i in edge]) + np.tile(draws, (len(edge), 1))
    far = kth(target)
    # Rows of `target` go point by point. The public code has the other shape here, and takes its columns for points.
    shaped = far.reshape(length, -1) if recipe.selection == "as_published" else far.reshape(-1, length).T
    rows = np.argsort(-shaped, axis=0, kind="stable")[: recipe.keep]
    return torch.from_numpy(target[np.concatenate([i * length + rows[:, i] for i in range(len(edge))])])


def test_outliers_around_two_points_of_a_boundary_have_their_worked_places():
    """Numbers by numpy and scipy's search tree, written before this function was run on them."""
    far = farness(QUEUE, QUEUE, 3).tolist()  # half the squared distance to the third of a class, itself the first
    assert far == pytest.approx([0.156339, 0.117647, 0.156339, 0.683772, 0.4], abs=1e-6)
    which = torch.tensor([1, 0])  # the second farthest, (1, 3), and the farthest, (0, 2)
    candidates = torch.cat([QUEUE[[4]] + DRAWS, QUEUE[[3]] + DRAWS])
    expected = [0.292893, 0.683772, 0.354058, 0.292893, 0.463125, 1.058722, 0.683772, 0.4]
    assert farness(candidates, QUEUE, 3).tolist() == pytest.approx(expected, abs=1e-6)
    assert around(QUEUE, DRAWS, which, TINY).tolist() == [[0, 3.5], [1, 2.5], [-1, 2.5], [0, 1.5]]
    published = around(QUEUE, DRAWS, which, replace(TINY, selection="as_published"))
    assert published.tolist() == [[2, 4], [1, 2.5], [0, 1.5], [0.5, 2]]


@pytest.mark.parametrize("selection", ["farthest", "as_published"])
def test_outliers_are_those_of_a_search_tree_and_repeated_rows(selection):
    drawn = torch.Generator().manual_seed(0)
    recipe = NPOSRecipe(queue=60, neighbours=20, boundary=15, picks=3, draws=30, keep=7, selection=selection)
    queue = torch.randn(60, 6, dtype=F64, generator=drawn) + 1
    draws = 0.5 * torch.randn(30, 6, dtype=F64, generator=drawn)
    which = torch.tensor([4, 0, 11])
    got = around(queue, draws, which, recipe)
    assert torch.allclose(got, searched(queue, draws, which, recipe), rtol=0, atol=1e-12) and got.shape == (21, 6)
    other = around(queue, draws, which, replace(recipe, selection="farthest"))
    assert torch.equal(got, other) == (selection == "farthest")


def test_the_published_selection_is_no_farther_than_chance():
    drawn = torch.Generator().manual_seed(1)
    recipe = NPOSRecipe(queue=200, neighbours=50, boundary=40, draws=600, keep=200)
    queue, draws = torch.randn(200, 8, generator=drawn) + 1, 2 * torch.randn(600, 8, generator=drawn)
    kept = [
        around(queue, draws, torch.tensor([0, 1]), replace(recipe, selection=s)) for s in ("farthest", "as_published")
    ]
    all_of_them = around(queue, draws, torch.tensor([0, 1]), replace(recipe, keep=600))
    right, published, overall = (farness(rows, queue, 50).mean().item() for rows in (*kept, all_of_them))
    assert right > 1.1 * overall and published == pytest.approx(overall, rel=0.03)


def test_outliers_are_the_same_for_the_same_draws_and_lie_around_their_class():
    drawn = torch.Generator().manual_seed(0)
    recipe = NPOSRecipe(queue=30, neighbours=5, boundary=10, picks=3, draws=20, keep=4, spread=0.1)
    queues = torch.randn(4, 30, 5, generator=drawn) + 100 * torch.eye(5)[:4, None]
    first, again = (boundary_outliers(queues, recipe, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (4 * 3 * 4, 5)
    nearest = torch.cdist(first.view(4, 12, 5), queues).amin(2)
    assert 0 < nearest.max() < 1, "a tenth of a normal draw away from one of their own class"
    assert not torch.equal(first, boundary_outliers(queues, recipe, torch.Generator().manual_seed(6)))


def test_the_step_is_the_weighted_sum_of_its_three_losses_and_the_gradient_reaches_body_projection_and_psi():
    model, objective, recipe = made("npos")
    images = images_of(torch.arange(24) % 4, 4)
    objective.prepare(model, images)
    before, batch = objective.prototypes.clone(), batch_of(images, 2)
    loss, logs = objective(model.eval(), batch, clock())
    features = model.pool(model.feature_map(batch.flat))
    labels = batch.labels.repeat(2)
    after = updated(before, objective.project(features), labels, recipe.alpha, "sequential")
    odd = boundary_outliers(objective.queues.rows, recipe, clock().generator)
    said, true = objective.psi(torch.cat([features, odd]))[:, 0], torch.zeros(len(features) + len(odd))
    true[: len(features)] = 1
    told = F.binary_cross_entropy_with_logits(said, true)
    expected = 0.5 * dispersion_loss(after, 0.1) + 0.1 * told
    expected = expected + 0.1 / 0.07 * compactness_loss(objective.project(features), after.detach(), labels, 0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) and logs["outlier_loss"].item() == pytest.approx(
        told.item(), rel=1e-5
    )
    assert logs["psi_accuracy"][1] == 48 and logs["psi_accuracy_outliers"][1] == len(odd) == 4 * 2 * 3
    objective.telling(features, odd)[0].backward()
    for parameter in (next(model.body.parameters()), objective.psi[0].weight):
        assert parameter.grad.abs().max() > 1e-8
    held = objective.queues.rows[0].detach()
    assert all((features[labels == 0] == row).all(1).any() for row in held), "queues hold features of both views"


def test_without_full_queues_or_before_its_epoch_there_are_no_outliers_and_the_queues_stay():
    for changes in ({"queue": 20, "neighbours": 3, "boundary": 3}, {"outliers_from": 1}):
        model, objective, recipe = made("npos")
        objective.recipe = replace(recipe, **changes)
        objective.build(model)
        loss, logs = objective(model.eval(), batch_of(images_of(torch.arange(24) % 4, 4), 2), clock())
        loss.backward()
        assert "outlier_loss" not in logs and objective.psi[0].weight.grad is None
        assert int(objective.queues.count.sum()) == 48 and "queues.rows" in objective.state_dict()


@pytest.mark.parametrize("changes, said", [
    ({"neighbours": 1001}, "neighbours must be at most queue, 1000, got 1001"),
    ({"boundary": 1001}, "boundary must be at most queue, 1000, got 1001"),
    ({"picks": 201}, "picks must be at most boundary, 200, got 201"),
    ({"keep": 601}, "keep must be at most draws, 600, got 601"),
])  # fmt: skip
def test_more_than_there_are_is_refused(changes, said):
    with pytest.raises(UserError, match=f"^{said}$"):
        NPOSRecipe(**changes)


def test_presets_have_the_values_of_the_public_code():
    ten, hundred = (METHODS["npos"].presets[name] for name in ("cifar10", "cifar100"))
    r = ten.recipe
    assert (r.epochs, r.warmup_epochs, r.batch_size, r.lr, r.lr_end) == (500, 0, 256, 0.5, 5e-4)
    assert (r.momentum, r.nesterov, r.weight_decay, r.cosine_by, r.tau) == (0.9, True, 1e-4, "epoch", 0.1)
    assert (r.dispersion, r.weight, r.outlier_weight, r.outliers_from) == (0.5, 1, 0.1, 200)
    assert (r.queue, r.neighbours, r.boundary, r.picks, r.draws, r.spread, r.keep) == (1000, 300, 200, 2, 600, 0.1, 200)
    assert (r.selection, r.alpha, hundred.recipe.alpha, ten.score) == ("farthest", 0.95, 0.5, "knn:k=300")
