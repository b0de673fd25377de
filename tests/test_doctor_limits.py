"""The doctor's limits: small experiments just on both sides of each, and healthy ones of many kinds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.experiments.doctor import Case, examine, trial
from jlayers.experiments.doctor import behind as behind_module
from jlayers.experiments.doctor import case as case_module
from jlayers.experiments.doctor import cost as cost_module
from jlayers.experiments.doctor import information as information_module
from jlayers.experiments.doctor.activations import MANY, check_activations
from jlayers.experiments.doctor.balance import check_balance
from jlayers.experiments.doctor.behind import behind_frozen
from jlayers.experiments.doctor.cost import check_cost
from jlayers.experiments.doctor.duplicates import check_duplicates
from jlayers.experiments.doctor.features import check_features, check_scale
from jlayers.experiments.doctor.frozen import check_frozen
from jlayers.experiments.doctor.gradients import EXPLODES, VANISHES, check_gradients, judge_sizes
from jlayers.experiments.doctor.information import check_information
from jlayers.experiments.doctor.labels import check_labels
from jlayers.experiments.doctor.loss import check_loss
from jlayers.experiments.doctor.overfit import check_overfit
from jlayers.experiments.doctor.picture import draw_rates
from jlayers.experiments.doctor.rate import Range

SOFTMAX = jl.Dense(3, activation="softmax", name="classes")


def case_of(*layers, shape=(6,), rows=64, loss="sparse_categorical_crossentropy", scale=1.0, **options):
    """A case of these layers on noise; the checks here do not train."""
    draw = np.random.default_rng(0)
    x = (scale * draw.normal(size=(rows, *shape))).astype(np.float32)
    trainer = jl.compile(jl.Sequential(*layers), jl.optimizers.adam(0.01), loss)
    return Case(trainer, x, draw.integers(0, 3, rows).astype(np.int32), **options)


def found(case):
    return [(f.check, f.where) for f in [*check_activations(case), *check_gradients(case)]]


# --------------------------------------------------------------------------------------- gradients


def dense(count, activation, units=8, **options):
    return [jl.Dense(units, activation=activation, **options) for _ in range(count)]


def normalized(count):
    return [layer for d in dense(count, "sigmoid") for layer in (d, jl.LayerNormalization())]


def residual(count):
    return [
        jl.Residual(jl.Sequential(jl.Dense(8, activation="tanh"), jl.Dense(8, kernel_initializer="zeros")))
        for _ in range(count)
    ]


HEALTHY = {
    "six sigmoids": lambda: case_of(*dense(6, "sigmoid"), SOFTMAX),
    "20 ReLUs with he_normal": lambda: case_of(
        *dense(20, "relu", 32, kernel_initializer="he_normal"), SOFTMAX
    ),
    "20 SELUs with lecun_normal": lambda: case_of(
        *dense(20, "selu", 16, kernel_initializer="lecun_normal"), SOFTMAX
    ),
    "20 orthogonal tanhs": lambda: case_of(*dense(20, "tanh", kernel_initializer="orthogonal"), SOFTMAX),
    "20 sigmoids, each normalized": lambda: case_of(*normalized(20), SOFTMAX),
    "12 residual blocks that begin as nothing": lambda: case_of(jl.Dense(8), *residual(12), SOFTMAX),
    "an LSTM over 300 steps": lambda: case_of(jl.LSTM(8), SOFTMAX, shape=(300, 4), rows=32),
    "two SimpleRNNs over 200 steps": lambda: case_of(
        jl.SimpleRNN(8, return_sequences=True), jl.SimpleRNN(8), SOFTMAX, shape=(200, 4), rows=32
    ),
    "convolutions with batch normalization": lambda: case_of(
        *(part for _ in range(4) for part in (jl.Conv2D(8, 3, padding="same"), jl.BatchNormalization(),
                                              jl.ReLU())),
        jl.GlobalAveragePooling2D(), SOFTMAX, shape=(8, 8, 3),
    ),
    "a transformer block": lambda: case_of(
        jl.TransformerEncoder(8, 16, num_heads=2), jl.TransformerEncoder(8, 16, num_heads=2),
        jl.GlobalAveragePooling1D(), SOFTMAX, shape=(10, 8),
    ),
}  # fmt: skip


QUICK = ("six sigmoids",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in HEALTHY]
)
def test_nothing_is_found_in_a_healthy_net(name):
    assert found(HEALTHY[name]()) == []


def test_twenty_sigmoids_let_the_gradient_vanish():
    (finding,) = check_gradients(case_of(*dense(20, "sigmoid"), SOFTMAX))
    assert (finding.where, finding.severity) == ("dense", "warning")
    assert "vanishes" in finding.message
    sizes = list(finding.values["sizes"].values())
    assert len(sizes) == 21
    assert sizes[0] < VANISHES * sizes[-1]


def test_a_recurrence_that_explodes():
    """Each step multiplies what comes back by 3, over 30 steps; the values themselves stay small."""
    orthogonal = jl.initializers.orthogonal(3.0)
    quiet = jl.initializers.random_normal(1e-8)
    first = jl.SimpleRNN(8, activation="linear", kernel_initializer=quiet, recurrent_initializer=orthogonal)
    case = case_of(jl.Dense(4), first, jl.Dense(4, kernel_initializer=quiet), SOFTMAX, shape=(30, 4), rows=32)
    assert [f.check for f in check_gradients(case)] == ["gradients"]


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ([0.9 * VANISHES, 1e-3, 1.0], "vanishes"),
        ([1.1 * VANISHES, 1e-3, 1.0], None),
        ([0.9 * VANISHES, 1e-9, 1.0], None),  # a small one in the middle is no way to the input
        ([0.9 * VANISHES, 1.0], None),  # two layers are not a chain
        ([1.1 * EXPLODES, 1e3, 1.0], "explodes"),
        ([0.9 * EXPLODES, 1e3, 1.0], None),
        ([1.0, 1e3, 0.0], None),  # the last layer gets none
    ],
)
def test_limits_of_gradients(sizes, word):
    made = judge_sizes({f"layer_{i}": size for i, size in enumerate(sizes)})
    assert [f"{word}" in f.message for f in made] == [True] * (word is not None)
    assert all(f.where == "layer_0" for f in made)


# ------------------------------------------------------------------------------------- activations


def with_params(case, **changes):
    """The case with other arrays in some places, such as `dense_bias`."""
    state = case.fresh
    params = jax.tree.map(jnp.asarray, state.params)
    for name, value in changes.items():
        layer, _, array = name.rpartition("_")
        params[layer][array] = jnp.asarray(value, jnp.float32)
    return dataclasses.replace(case, given=state.replace(params=params))


@pytest.mark.parametrize(
    ("units", "dead", "severity"),
    [
        (MANY, MANY - 1, "warning"),  # 94 %
        (20, 18, "warning"),
        (20, 17, None),
        (MANY - 1, MANY - 2, None),  # of few units many may be dead
        (4, 4, "error"),
        (1, 1, None),
    ],
)
def test_limits_of_dead_units(units, dead, severity):
    bias = np.where(np.arange(units) < dead, -100.0, 100.0)
    case = with_params(case_of(jl.Dense(units, activation="relu"), SOFTMAX), dense_bias=bias)
    made = check_activations(case)
    assert [f.severity for f in made] == [severity] * (severity is not None)
    if made:
        assert made[0].values == {"dead": dead, "units": units, "share": dead / units}


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize(("flat", "is_found"), [(6, True), (5, False)])
def test_limits_of_saturation(activation, flat, is_found):
    """Some of 8 units are driven far into the flat parts, and the others rest in the middle."""
    bias = np.where(np.arange(8) < flat, np.where(np.arange(8) % 2, 50.0, -50.0), 0.0)
    case = case_of(jl.Dense(8, activation=activation), SOFTMAX)
    case = with_params(case, dense_kernel=np.zeros((6, 8)), dense_bias=bias)
    made = check_activations(case)
    assert [f.check for f in made] == ["activations"] * is_found
    assert [f.values["share"] for f in made] == [flat / 8] * is_found


def test_the_last_layer_may_be_sure_of_itself():
    """A trained sigmoid or softmax at the end gives 0 and 1."""
    case = case_of(jl.Dense(1, activation="sigmoid", name="end"), loss="binary_crossentropy")
    case = dataclasses.replace(case, y=(case.y > 0).astype(np.float32)[:, None])
    assert check_activations(with_params(case, end_bias=[50.0])) == []


# ------------------------------------------------------------------------------------------- scale


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ([1.0, 1.0, 1.0], None),
        ([27.0, 27.0, 27.0], None),
        ([33.0, 33.0, 33.0], "not normalized"),
        ([0.0022, 0.0022, 0.0022], None),
        ([0.0018, 0.0018, 0.0018], "tiny"),
        ([0.1, 1.0, 9.5], None),
        ([0.1, 1.0, 10.5], "different scales"),
    ],
)
def test_limits_of_scale(sizes, word):
    case = case_of(jl.Dense(8, activation="relu"), SOFTMAX, shape=(3,))
    signs = np.sign(case.x)
    case = dataclasses.replace(case, x=(signs * np.array(sizes)).astype(np.float32))
    assert [f"{word}" in f.message for f in check_scale(case)] == [True] * (word is not None)


@pytest.mark.parametrize("first", [jl.BatchNormalization(), jl.LayerNormalization()], ids=["batch", "layer"])
def test_a_first_layer_that_normalizes_takes_any_scale(first):
    assert check_scale(case_of(first, jl.Dense(8), SOFTMAX, scale=1000.0)) == []


@pytest.mark.parametrize(("offset", "is_found"), [(0.0, True), (180.0, False)])
def test_targets_in_their_own_units_need_an_end_in_them(offset, is_found):
    """`jlayers init` writes such a Rescaling at the end."""
    end = jl.Rescaling(scale=1.0 if is_found else 20.0, offset=offset)
    case = case_of(jl.Dense(8, activation="relu"), jl.Dense(1), end, loss="mse")
    y = np.random.default_rng(1).normal(180, 20, (64, 1)).astype(np.float32)
    assert [f.where for f in check_scale(dataclasses.replace(case, y=y))] == ["y"] * is_found


# --------------------------------------------------------------------- data, loss and frozen layers


def clouds(rows=240, scale=4.0):
    """Three clouds that do not overlap."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, rows).astype(np.int32)
    return (scale * np.eye(3, 6)[y] + draw.normal(size=(rows, 6))).astype(np.float32), y


def cloud_case(*layers, x=None, y=None, **options):
    data = clouds()
    case = case_of(*(layers or (jl.Dense(8, activation="relu"), SOFTMAX)), **options)
    return dataclasses.replace(case, x=data[0] if x is None else x, y=data[1] if y is None else y)


@pytest.mark.parametrize(("copies", "severity"), [(0, None), (8, "warning"), (30, "error")])
def test_held_out_samples_that_were_trained_on(copies, severity):
    x, y = clouds()
    other, labels = 1 + x[:40], y[:40]
    held_out = {"test": (np.concatenate([x[:copies], other[copies:]]), labels)}
    made = check_duplicates(cloud_case(held_out=held_out))
    assert [(f.severity, f.where, f.values["count"]) for f in made] == [(severity, "test", copies)] * (
        copies > 0
    )


@pytest.mark.parametrize(
    ("end", "from_logits", "is_found"),
    [("softmax", True, True), ("softmax", False, False), (None, True, False), (None, False, True)],
)
def test_a_loss_for_logits_and_one_for_probabilities(end, from_logits, is_found):
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    case = cloud_case(jl.Dense(3, activation=end, name="end"), loss=loss)
    assert [(f.check, f.where) for f in check_loss(case)] == [("loss", "end")] * is_found


def test_a_softmax_of_ones_own_under_a_loss_for_logits():
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    (found,) = check_loss(cloud_case(jl.Dense(3), jl.Lambda(lambda x: jax.nn.softmax(x)), loss=loss))
    assert "expects logits, and the model gives probabilities" in found.message


def test_outputs_of_another_shape_than_the_targets_are_told_once():
    report = examine(cloud_case(jl.RepeatVector(2), jl.Dense(3, activation="softmax")))
    (found,) = report.findings
    assert found.check == "loss"
    assert "fit the targets and the loss" in found.advice


@pytest.mark.parametrize(("wrong", "is_found"), [(24, True), (4, False)])
def test_labels_that_their_neighbors_contradict(wrong, is_found):
    _, y = clouds()
    y[:wrong] = (y[:wrong] + 1) % 3
    made = check_labels(cloud_case(y=y))
    assert ["labels look wrong" in f.message for f in made] == [True] * is_found


@pytest.mark.parametrize(("rarest", "is_found"), [(2, True), (20, False)])
def test_a_class_that_is_rare(rarest, is_found):
    y = np.repeat(np.arange(3, dtype=np.int32), [110, 110, rarest])
    np.random.default_rng(0).shuffle(y)
    made = check_balance(cloud_case(x=clouds(len(y))[0], y=y))
    assert [f.severity for f in made] == ["warning" if is_found else "note"]


@pytest.mark.parametrize("is_found", [True, False])
def test_a_column_that_never_varies(is_found):
    x, _ = clouds()
    x[:, 4] = 1.5 if is_found else x[:, 4]
    assert [f.where for f in check_features(cloud_case(x=x))] == ["x[..., 4]"] * is_found


@pytest.mark.parametrize(("name", "is_found"), [("classes", True), ("base", False)])
def test_a_frozen_head_is_found_and_a_frozen_base_is_not(name, is_found):
    case = cloud_case(jl.Dense(8, activation="relu", name="base"), SOFTMAX)
    frozen = jl.compile(jl.freeze(case.trainer.model, name), "adam", "sparse_categorical_crossentropy")
    case = dataclasses.replace(case, trainer=frozen)
    assert [f.where for f in check_frozen(case)] == ["classes"] * is_found


# ------------------------------------------------------------------------------- checks that train

LEARNS = Range({1.0: np.linspace(1.1, 0.5, 50)}, 1.1, 0.01)


def test_targets_in_another_order_than_their_inputs(monkeypatch):
    """Neighbors and a linear model look; what the model says after a short training stands in here."""
    x, y = clouds(300)
    monkeypatch.setattr(information_module, "_by_model", lambda *_: (0.0, 0.02))
    assert check_information(cloud_case(x=x, y=y), LEARNS) == []
    shuffled = np.random.default_rng(1).permutation(y)
    (found,) = check_information(cloud_case(x=x, y=shuffled), LEARNS)
    assert set(found.values) == {"nearest neighbors", "a linear model", "the model"}
    monkeypatch.setattr(information_module, "_by_model", lambda *_: (0.5, 0.02))
    assert check_information(cloud_case(x=x, y=shuffled), LEARNS) == []


@pytest.mark.parametrize(
    ("units", "cut", "severity"), [(64, False, "note"), (64, True, "warning"), (1, True, "note")]
)
def test_one_batch_learned_by_heart(units, cut, severity):
    """A model that learns, one whose gradient is cut off, and one that is too small to learn so much."""
    last = [jl.Lambda(jax.lax.stop_gradient)] if cut else []
    case = cloud_case(jl.Dense(units, activation="relu"), *last, SOFTMAX)
    blind = dataclasses.replace(case, x=np.zeros_like(case.x)) if cut else case
    (found,) = check_overfit(blind, LEARNS)
    assert found.severity == severity


# -------------------------------------------------------------------------------------------- cost


def test_memory_and_time_of_a_step_are_those_of_its_arrays(monkeypatch):
    """256 x 256 weights with Adam's two averages; the step needs them, their gradients and little more."""
    case = case_of(jl.Dense(256, activation="relu"), SOFTMAX, shape=(256,), batch_size=16, epochs=3)
    (note,) = check_cost(case)
    arrays = 4 * (256 * 256 + 256 + 256 * 3 + 3)
    values = note.values
    assert 3 * arrays <= values["state_bytes"] <= 3 * arrays + 1000
    assert values["state_bytes"] < values["step_bytes"] < 3 * values["state_bytes"]
    assert values["steps"] == 3 * 4
    assert values["seconds"] == pytest.approx(12 * values["step_seconds"])
    forward = 2 * 16 * (256 * 256 + 256 * 3)
    assert 2 * forward < values["step_flops"] < 4 * forward  # and back, where the inputs need no gradient
    for there, severity in ((values["step_bytes"] - 1, "error"), (values["step_bytes"], "note")):
        monkeypatch.setattr(cost_module, "_memory", lambda device, there=there: there)
        (finding,) = check_cost(case)
        assert finding.severity == severity


def test_a_step_that_is_too_slow_is_told(monkeypatch):
    """A time is predicted, and no short trainings are begun that would take it."""
    monkeypatch.setattr(trial.Trials, "_seconds_of_a_step", lambda self: 0.5)
    case = case_of(jl.Dense(4, activation="relu"), SOFTMAX, epochs=3)
    report = examine(case)
    assert set(report.skipped) == {"information", "rate", "overfit"}
    (text,) = set(report.skipped.values())
    assert text == (
        "a step takes 0.5 s, and 20 of them at each of 10 learning rates would take 100 s: allow that many "
        "seconds"
    )
    (note,) = [note for note in report.notes if note.check == "cost"]
    assert note.values["seconds"] == 0.5 * 3 * 2


def test_a_large_model_is_looked_at_with_fewer_samples(monkeypatch):
    case = case_of(jl.Dense(64), SOFTMAX, rows=600)
    work = 2 * (6 * 64 + 64 * 3)
    assert work < case.work < 2 * work
    assert len(case.some.x) == 512
    monkeypatch.setattr(case_module, "WORK", 40 * work)
    assert 20 <= len(dataclasses.replace(case).some.x) <= 40
    monkeypatch.setattr(case_module, "WORK", 0)
    assert len(dataclasses.replace(case).some.x) == case_module.LEAST


# --------------------------------------------------------------------------- behind frozen layers


def frozen_case(rows=200, head="softmax", rate=0.05, **options):
    """Clouds that a head can tell apart from what a frozen layer gives."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, rows).astype(np.int32)
    x = (2 * np.eye(3, 6)[y] + draw.normal(size=(rows, 6))).astype(np.float32)
    base = jl.Sequential(jl.Dense(64, activation="relu"), jl.Dense(16, activation="relu"), name="base")
    model = jl.freeze(jl.Sequential(base, jl.Dense(3, activation=head, name="head")), "base")
    trainer = jl.compile(model, jl.optimizers.adam(rate), "sparse_categorical_crossentropy")
    return Case(trainer, x, y, batch_size=20, epochs=20, **options)


def test_the_case_behind_frozen_layers_has_features_for_samples():
    whole, case = frozen_case(), frozen_case(cache_features=True)
    behind = behind_frozen(case)
    assert behind_frozen(whole) is whole
    assert {name: array.shape for name, array in behind.x.items()} == {"base": (200, 16)}
    assert behind.steps == whole.steps == 20 * 10


@pytest.mark.slow
def test_checks_that_train_see_features_where_the_training_does():
    whole, case = frozen_case(), frozen_case(cache_features=True)
    behind = behind_frozen(case)
    curves = []
    for one in (behind, whole):
        trials = trial.trials_of(one)
        curves.append(trials.train(trials.whole_batches(5), 1.0)[0])
    assert curves[0][0] == pytest.approx(curves[1][0], abs=0.3)  # other batches, the same weights
    report = examine(case)
    assert report.healthy, str(report)
    assert not report.skipped
    (note,) = [note for note in report.notes if note.check == "cost"]
    assert "200 steps on kept features, which take about" in note.message
    assert note.values["feature_rows"] == 200
    assert note.values["seconds"] >= note.values["feature_seconds"] > 0


def test_features_of_a_part_of_the_samples(monkeypatch):
    monkeypatch.setattr(behind_module, "ROWS", 50)
    behind = behind_frozen(frozen_case(cache_features=True))
    assert behind.rows == 40  # whole batches
    assert behind.steps == 200


@pytest.mark.slow
def test_what_is_wrong_behind_frozen_layers_is_found():
    assert "rate" in {f.check for f in examine(frozen_case(cache_features=True, rate=30.0)).findings}
    shuffled = frozen_case(rows=600, cache_features=True)
    y = np.random.default_rng(1).permutation(shuffled.y)
    report = examine(dataclasses.replace(shuffled, y=y))
    assert [f.check for f in report.findings] == ["information"]


def test_features_without_frozen_layers_are_refused_as_by_fit():
    case = case_of(jl.Dense(4, activation="relu"), SOFTMAX, cache_features=True)
    report = examine(case)
    assert [f.check for f in report.findings] == ["model"]
    assert "expected a model that begins with frozen layers" in report.findings[0].message


@pytest.mark.parametrize(("loss", "is_drawn"), [(0.5, True), (1.5, False)])
def test_no_rate_is_suggested_in_the_picture_where_none_learns_anything(loss, is_drawn, monkeypatch):
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, path: figures.append(self))
    losses = {factor: [1.5] * 10 + [loss] * 20 for factor in (0.1, 1.0, 10.0)}
    assert draw_rates("rates.png", {"rate": 0.01, "suggested": 0.1, "level": 1.1, "losses": losses})
    (legend,) = (axes.get_legend() for axes in figures[0].axes[:1])
    assert ("suggested" in [text.get_text() for text in legend.get_texts()]) == is_drawn
