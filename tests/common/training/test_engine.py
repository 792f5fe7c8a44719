"""The engine on a tiny task: the generated benchmark's first images and the smallest network."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from common.backbones import build
from common.checkpoint import load, load_finished, load_objective_state, load_training, save, weights_digest
from common.cli.device import resolve_precision
from common.cli.errors import UserError
from common.data import shapes
from common.data.transforms import Transform, transform_from_facts
from common.objectives.cross_entropy import CrossEntropy
from common.training.engine import fit
from common.training.objective import Objective
from common.training.recipe import TrainRecipe

CPU = torch.device("cpu")
RECIPE = TrainRecipe(epochs=2, batch_size=16, lr=0.05, precision="float32", drops=(0.5,))


@pytest.fixture(scope="module")
def images():
    return shapes.load("shapes", "train", limit=56)  # 3 whole batches of 16 and a rest


def start():
    torch.manual_seed(0)
    return build("resnet8", 8)


def train(run, images, recipe=RECIPE, objective=None, seed=0, **options):
    return fit(
        start(), objective or CrossEntropy(), images, recipe, run=run, seed=seed, device=CPU, progress=False, **options
    )


def test_a_run_writes_recipe_log_and_checkpoint(tmp_path, images):
    model = train(tmp_path, images, facts={"id_set": "shapes"})
    saved, facts = load(tmp_path / "checkpoint.pt")
    assert (
        weights_digest(saved) == weights_digest(model)
        and facts["finished"]
        and facts["train_data_sha256"] == images.digest
    )
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["lr"] == 0.05
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1] and [line["steps"] for line in lines] == [3, 6]
    assert [line["lr"] for line in lines] == pytest.approx([0.05, 0.005])


def test_a_finished_run_has_every_fact_that_readers_need_without_being_told(tmp_path, images):
    train(tmp_path, images, replace(RECIPE, steps=1), seed=4)
    facts = load_finished(tmp_path / "checkpoint.pt")[1]
    assert (facts["method"], facts["id_set"], facts["seed"]) == ("CrossEntropy", "shapes", 4)
    assert (
        facts["classes"] == list(images.classes)
        and transform_from_facts(facts).facts() == Transform(48, "none").facts()
    )
    with pytest.raises(UserError, match="checkpoint.pt: the fact classes must be list"):
        train(tmp_path / "no", images, facts={"classes": "circle"})
    assert not (tmp_path / "no").exists()


class Killed(Exception):
    pass


class StopsAt(CrossEntropy):
    """Cross-entropy with a state of its own, killed once before a given step."""

    def __init__(self, step):
        super().__init__()
        self.step = step
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, model, batch, clock):
        if clock.step == self.step:
            self.step = None
            raise Killed
        self.seen += batch.images.mean()
        return super().forward(model, batch, clock)


@pytest.mark.parametrize("step", [1, 3, 4])  # within an epoch, between two, within the second
@pytest.mark.parametrize("backbone", ["resnet8"])
def test_killed_and_resumed_ends_with_the_tensors_of_an_undisturbed_run(tmp_path, images, step, backbone):
    recipe = replace(RECIPE, jitter=True)
    whole = train(tmp_path / "whole", images, recipe, StopsAt(None))
    objective = StopsAt(step)
    with pytest.raises(Killed):
        train(tmp_path / "killed", images, recipe, objective, save_every_s=0.0)
    assert load_training(tmp_path / "killed" / "checkpoint.pt")["step"] == step
    assert load(tmp_path / "killed" / "checkpoint.pt")[1]["threads"] == [torch.get_num_threads()]
    again = StopsAt(None)
    resumed = train(tmp_path / "killed", images, recipe, again, save_every_s=0.0)
    assert weights_digest(resumed) == weights_digest(whole)
    seen = [load_objective_state(tmp_path / name / "checkpoint.pt")["seen"] for name in ("whole", "killed")]
    assert torch.equal(*seen) and seen[0] > 0
    numbers = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (tmp_path / name / "log.jsonl").open()
        ]
        for name in ("whole", "killed")
    ]
    assert numbers[0] == numbers[1]


def test_going_on_with_another_number_of_threads_is_said_and_noted(tmp_path, images, capsys, monkeypatch):
    recipe = replace(RECIPE, steps=2)
    with pytest.raises(Killed):
        train(tmp_path, images, recipe, StopsAt(1), save_every_s=0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    train(tmp_path, images, recipe, StopsAt(None))
    assert "threads so far, now with 99; it ends with other bits" in capsys.readouterr().err
    assert load(tmp_path / "checkpoint.pt")[1]["threads"][1:] == [99]


def test_dropout_is_resumed_too(tmp_path, images):
    class Dropped(StopsAt):
        def forward(self, model, batch, clock):
            model.body.layer3.relu = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
            return super().forward(model, batch, clock)

    whole = train(tmp_path / "whole", images, objective=Dropped(None))
    with pytest.raises(Killed):
        train(tmp_path / "killed", images, objective=Dropped(2), save_every_s=0.0)
    assert weights_digest(train(tmp_path / "killed", images, objective=Dropped(None))) == weights_digest(whole)


def test_a_finished_run_is_not_trained_again_and_the_folder_of_another_is_refused(tmp_path, images, capsys):
    first = weights_digest(train(tmp_path, images))
    assert weights_digest(train(tmp_path, images)) == first and "finished already" in capsys.readouterr().err
    with pytest.raises(UserError, match="is another run's: recipe, seed, data or start weights differ"):
        train(tmp_path, images, replace(RECIPE, lr=0.01))
    assert weights_digest(load(tmp_path / "checkpoint.pt")[0]) == first
    assert weights_digest(train(tmp_path / "other", images, replace(RECIPE, lr=0.01))) != first


def test_another_seed_gives_another_order_and_the_same_seed_the_same_run(tmp_path, images):
    runs = [weights_digest(train(tmp_path / str(i), images, seed=seed)) for i, seed in enumerate((0, 0, 1))]
    assert runs[0] == runs[1] != runs[2]


def test_a_loss_that_is_not_finite_stops_with_step_and_rate(tmp_path, images):
    class Breaks(CrossEntropy):
        def forward(self, model, batch, clock):
            loss, logs = super().forward(model, batch, clock)
            return (loss * float("nan") if clock.step == 4 else loss), logs

    with pytest.raises(UserError, match=r"not finite at step 4 \(epoch 1\), learning rate 0.005"):
        train(tmp_path, images, objective=Breaks())
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_damaged_checkpoint_is_set_aside_each_time_and_the_run_trained_anew(tmp_path, images, capsys):
    for number, left in enumerate((b"half a file", b"", b"other half"), start=1):
        (tmp_path / "checkpoint.pt").write_bytes(left)
        train(tmp_path, images, replace(RECIPE, epochs=1))
        assert f"it is kept as checkpoint.pt.damaged.{number}; training from the start" in capsys.readouterr().err
        assert (tmp_path / f"checkpoint.pt.damaged.{number}").read_bytes() == left
        assert load(tmp_path / "checkpoint.pt")[1]["finished"]


def killed(run, images) -> bytes:
    """What stands there of a run that was killed after its first step."""
    with pytest.raises(Killed):
        train(run, images, objective=StopsAt(1), save_every_s=0.0)
    return (run / "checkpoint.pt").read_bytes()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError("no room")])
def test_a_checkpoint_that_cannot_be_read_just_now_is_left_alone(tmp_path, images, monkeypatch, error):
    before = killed(tmp_path, images)

    def broken(*_, **__):
        raise error

    with monkeypatch.context() as patch, pytest.raises(UserError, match=f"{tmp_path}.*{error.args[-1]}"):
        patch.setattr(torch, "load", broken)
        train(tmp_path, images, objective=StopsAt(None))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "recipe.json"]


SPOILED = {
    "momentum": lambda state: state["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(3)),
    "groups": lambda state: state["optimizer"]["param_groups"].clear(),
    "step": lambda state: state.update(step=6),
    "log": lambda state: state.pop("log"),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_state_that_does_not_fit_is_set_aside_and_nothing_trained_from_half_of_it(tmp_path, images, spoil):
    killed(tmp_path, images)
    path = tmp_path / "checkpoint.pt"
    model, facts = load(path)
    state, own = load_training(path), load_objective_state(path)
    spoil(state)
    save(path, model, training=state, objective=own, **{k: v for k, v in facts.items() if k != "finished"})
    with pytest.raises(UserError, match="kept as checkpoint.pt.damaged.1; type the same command again to train from"):
        train(tmp_path, images, objective=StopsAt(None))
    again = train(tmp_path, images, objective=StopsAt(None))
    assert weights_digest(again) == weights_digest(train(tmp_path / "whole", images, objective=StopsAt(None)))


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_scale(tmp_path, images):
    before, after = start(), train(tmp_path, images, replace(RECIPE, bn="frozen"))
    assert torch.equal(before.body.stem[1].running_mean, after.body.stem[1].running_mean)
    assert not torch.equal(before.body.stem[1].weight, after.body.stem[1].weight)


def test_a_head_that_is_not_used_is_not_decayed(tmp_path, images):
    class Headless(Objective):
        uses_head = False

        def forward(self, model, batch, clock):
            return model.pool(model.feature_map(batch.flat)).square().mean(), {}

    before, after = start(), train(tmp_path, images, objective=Headless())
    assert torch.equal(before.head.weight, after.head.weight) and not torch.equal(
        before.body.stem[0].weight, after.body.stem[0].weight
    )


def test_an_objective_with_two_views_a_head_and_prototypes_fits(tmp_path, images):
    """The shape of CIDER: two views, a trained projection, prototypes that change and are saved."""

    class Prototypes(Objective):
        views, uses_head = 2, False

        def __init__(self):
            super().__init__()
            self.project = nn.Linear(128, 8)
            self.register_buffer("prototypes", torch.zeros(8, 8))

        def prepare(self, model, images):
            self.prototypes.fill_(0.1)

        def forward(self, model, batch, clock):
            z = nn.functional.normalize(self.project(model.pool(model.feature_map(batch.flat))), dim=1)
            assert z.shape == (32, 8) and not torch.equal(batch.images[0], batch.images[1])
            labels = batch.labels.repeat(self.views)
            with torch.no_grad():
                self.prototypes.mul_(0.9).index_add_(0, labels, z, alpha=0.1)
            return nn.functional.cross_entropy(z @ self.prototypes.clone().T, labels), {}

    objective = Prototypes()
    weight = objective.project.weight.clone()
    train(tmp_path, images, objective=objective)
    assert not torch.equal(weight, objective.project.weight) and (objective.prototypes != 0.1).any()
    kept, again = load_objective_state(tmp_path / "checkpoint.pt"), Prototypes()
    train(tmp_path, images, objective=again)  # finished already
    for name, tensor in objective.state_dict().items():
        assert torch.equal(kept[name], tensor) and torch.equal(again.state_dict()[name], tensor)


def test_the_last_word_is_the_objectives_and_stays_in_the_finished_checkpoint(tmp_path, images):
    class Says(StopsAt):
        def finish(self, model, images):
            assert not model.training and len(images) == 56
            model.head.weight.data.fill_(self.seen)

    with pytest.raises(Killed):
        train(tmp_path, images, objective=Says(4), save_every_s=0.0)
    model = train(tmp_path, images, objective=Says(None))
    saved = load(tmp_path / "checkpoint.pt")[0]
    seen = load_objective_state(tmp_path / "checkpoint.pt")["seen"]
    assert (saved.head.weight == seen).all() and (model.head.weight == seen).all() and seen > 1
    again = train(tmp_path, images, objective=Says(None))  # finished already
    assert (again.head.weight == seen).all()


@pytest.mark.parametrize(
    "recipe, factors",
    [
        (TrainRecipe(drops=(0.5,)), {0: 1, 49: 1, 50: 0.1, 99: 0.1}),
        (
            TrainRecipe(drops=(0.3, 0.6, 0.9), warmup_steps=10),
            {0: 0, 5: 0.5, 10: 1, 29: 1, 30: 0.1, 60: 0.01, 90: 0.001},
        ),
        (TrainRecipe(schedule="cosine"), {0: 1, 50: 0.5, 99: 0.000247}),
        (TrainRecipe(schedule="one-cycle"), {0: 0.04, 24: 1, 25: 1, 62: 0.506667, 99: 0.013333}),
    ],
)
def test_the_schedule_has_its_values(recipe, factors):
    assert {step: recipe.factor(step, 100) for step in factors} == pytest.approx(factors, abs=1e-6)


def test_lbf_fine_tuning_falls_at_epoch_15_of_30():
    steps = [TrainRecipe(drops=(0.5,)).factor(epoch * 390, 30 * 390) for epoch in (14, 15)]
    assert steps == pytest.approx([1, 0.1])


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("epochs", 0, "epochs must be >= 1, got 0"),
        ("lr", float("nan"), "lr must be >= 0, got nan"),
        ("momentum", 1.5, r"momentum must be in \[0, 1\], got 1.5"),
        ("schedule", "magic", "schedule must be one of step, cosine, one-cycle, got 'magic'"),
        ("drops", (0.5, 2.0), r"drops must be in \[0, 1\], got 2.0"),
    ],
)
def test_a_recipe_out_of_range_is_named(field, value, said):
    with pytest.raises(UserError, match=said):
        replace(RECIPE, **{field: value})


def test_a_batch_larger_than_the_set_is_named(tmp_path, images):
    with pytest.raises(UserError, match="batch_size must be at most the number of training images, 56, got 64"):
        train(tmp_path, images, replace(RECIPE, batch_size=64))
    assert not list(tmp_path.iterdir())


def test_precision_is_settled_before_training():
    assert resolve_precision("float32", CPU) == "float32" and resolve_precision("auto", CPU) in ("float32", "bf16")
