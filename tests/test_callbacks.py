"""Callbacks: what they hear, ask for and change; each in the registry, in YAML and over a resumed run."""

import contextlib
import csv
import itertools
import json
import math
import pickle
import signal
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jlayers as jl
import jlayers.config
from jlayers import callbacks, optimizers
from jlayers.train.callbacks import Change, LambdaCallback, Moment, Probe, Run, registry
from jlayers.train.listeners import step_for

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype(np.float32)
Y = (X[:, :1] * 2).astype(np.float32)
FIT = {"batch_size": 8, "epochs": 6, "validation_split": 0.25}  # 5 steps in an epoch, the last one of 4 rows


@pytest.fixture(scope="module")
def trainer():
    return jl.compile(jl.Dense(1), jl.optimizers.sgd(0.05), "mse", metrics=["mae"])


def same(left, right):
    states = [jax.tree.map(np.asarray, one[0]) for one in (left, right)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert left[1] == right[1]


# ---------------------------------------------------------------------------------- the registry, YAML


@pytest.mark.slow
def test_every_callback_is_documented_and_in_the_schema():
    assert len(registry) >= 11
    schema = jlayers.config.json_schema()
    for name in registry:
        cls = registry[name]
        assert getattr(callbacks, name) is cls
        assert ">>> " in cls.__doc__
        assert f"callback.{name}" in schema["$defs"]


def test_a_callback_is_a_value():
    made = callbacks.ReduceLROnPlateau("loss", 0.5, patience=3)
    assert repr(made) == "ReduceLROnPlateau(monitor='loss', factor=0.5, patience=3)"
    assert made.spec == pickle.loads(pickle.dumps(made)).spec
    assert repr(
        callbacks.get({"ReduceLROnPlateau": {"monitor": "loss", "factor": 0.5, "patience": 3}})
    ) == repr(made)
    assert callbacks.get(made) is made
    assert not hasattr(jl.Callback(), "monitor")
    assert repr(jl.Callback()).startswith("<")


YAML = """\
data: digits
model: {Sequential: [Flatten, {Dense: 10}]}
loss: {sparse_categorical_crossentropy: {from_logits: true}}
training:
  epochs: 1
  validation: 0.1
  callbacks:
"""


def loaded(text, *overrides):
    lines = "".join(f"    - {line}\n" for line in text.split("\n"))
    return jlayers.config.loads(YAML + lines, overrides)


def test_yaml_names_callbacks():
    schedule = "{exponential_decay: {init_value: 0.1, transition_steps: 1, decay_rate: 0.5}}"
    text = (
        f"TerminateOnNaN\nReduceLROnPlateau: {{factor: 0.5}}\nLearningRateScheduler: {{schedule: {schedule}}}"
    )
    experiment = loaded(text)
    made = experiment.settings.training.callbacks
    names = ["TerminateOnNaN", "ReduceLROnPlateau", "LearningRateScheduler"]
    assert [type(c).__name__ for c in made] == names
    assert made[2].schedule(2) == pytest.approx(0.025)
    assert experiment.to_data()["training"]["callbacks"][1] == {"ReduceLROnPlateau": {"factor": 0.5}}
    experiment.check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EarlyStoping", "8: training.callbacks.0: unknown callback 'EarlyStoping': did you mean"),
        ("CSVLogger: {file: a}", "takes no 'file' (received file='a')"),
        ("ReduceLROnPlateau: {factor: 2.0}", "factor: ReduceLROnPlateau: expected a factor above 0 and"),
        ("ReduceLROnPlateau: {monitor: val_los}", "monitor: ReduceLROnPlateau watches 'val_los'"),
        ("EarlyStopping: {monitor: acuracy}", "EarlyStopping watches 'acuracy'"),
        ("SwapEMAWeights", "expected a trainer that keeps an average of the weights"),
        ("CSVLogger: {filename: ../../a}", "filename: expected a relative path inside of the run's folder"),
        ("CSVLogger: {filename: /tmp/a}", "filename: expected a relative path inside of the run's folder"),
        ("JSONLinesLogger: {filename: '~/a'}", "expected a relative path inside of the run's folder"),
        ("TensorBoard: {log_dir: ../a}", "log_dir: expected a relative path inside of the run's folder"),
        ("LambdaCallback: {on_step: print}", "takes a Python object, which YAML cannot hold"),
        ("LearningRateScheduler: {schedule: os.system}", "unknown schedule 'os.system'"),
        ("ModelCheckpoint", "write training.checkpoint"),
    ],
)  # fmt: skip
def test_yaml_refuses_before_training(text, message):
    with pytest.raises(jlayers.config.ConfigError) as error:
        loaded(text).check()
    assert message in str(error.value)


def test_yaml_needs_validation_data_for_what_watches_them():
    with pytest.raises(
        jlayers.config.ConfigError, match="ReduceLROnPlateau watches 'val_loss', which needs data"
    ):
        loaded("ReduceLROnPlateau", "training.validation=0.0")


def test_what_is_no_callback_is_refused(trainer):
    for value, kind, message in [
        (callbacks.CSVLogger, TypeError, "call it first"),
        (3, TypeError, "expected a jl.Callback or a function"),
        ("CSVLoger", KeyError, "did you mean 'CSVLogger'"),
        ({"ReduceLROnPlateau": {"patiense": 3}}, TypeError, "did you mean 'patience'"),
    ]:
        with pytest.raises(kind, match=message):
            jl.fit(trainer, X, Y, callbacks=[value], **FIT)
    with pytest.raises(AttributeError, match="did you mean 'CSVLogger'"):
        callbacks.CSVLoger  # noqa: B018


# ------------------------------------------------------------------------------------------- events


def test_events_come_in_their_order(trainer):
    heard = []
    names = ["on_fit_begin", "on_epoch_begin", "on_step", "on_validation_end", "on_epoch_end", "on_fit_end"]
    listener = LambdaCallback(**{n: lambda *a, n=n: heard.append(n) for n in names}, every=2)
    jl.fit(trainer, X, Y, callbacks=[listener], **{**FIT, "epochs": 2})
    epoch = ["on_epoch_begin", "on_step", "on_step", "on_validation_end", "on_epoch_end"]
    second = ["on_epoch_begin", "on_step", "on_step", "on_step", "on_validation_end", "on_epoch_end"]
    assert heard == ["on_fit_begin", *epoch, *second, "on_fit_end"]


def test_any_event_may_stop(trainer):
    for event, epochs in [
        ("on_step", 0),
        ("on_validation_end", 1),
        ("on_epoch_end", 1),
        ("on_epoch_begin", 0),
    ]:
        answer = LambdaCallback(**{event: lambda *a: Change(stop=True)})
        state, history = jl.fit(trainer, X, Y, callbacks=[answer], **FIT)
        assert len(history["loss"]) == epochs, event
        assert int(state.step) == {"on_step": 1, "on_epoch_begin": 0}.get(event, 5)


def test_a_callback_changes_nothing_by_accident(trainer):
    whole = jl.fit(trainer, X, Y, **FIT)

    def meddle(epoch, logs, state):
        state.params["kernel"] = None
        logs["loss"] = 0.0  # a dict of its own

    seen = []
    after = LambdaCallback(on_epoch_end=lambda epoch, logs, state: seen.append(logs["loss"]))
    same(whole, jl.fit(trainer, X, Y, callbacks=[meddle, after], **FIT))
    assert seen == whole[1]["loss"]
    faster = LambdaCallback(on_epoch_end=lambda *a: Change(rate_factor=2.0))
    with pytest.raises(TypeError, match="write changes_rate = True"):
        jl.fit(trainer, X, Y, callbacks=[faster], **FIT)
    for factor in (-1.0, math.nan, math.inf):
        wrong = LambdaCallback(on_epoch_end=lambda *a, f=factor: Change(rate_factor=f), changes_rate=True)
        with pytest.raises(ValueError, match="expected a finite rate_factor of at least 0"):
            jl.fit(trainer, X, Y, callbacks=[wrong], **FIT)


# ------------------------------------------------------------------------------- the learning rate


def of_keras(values, **arguments):
    """The rates that Keras's callback sets for a series of losses."""
    import keras

    class Optimizer:
        learning_rate = 1.0

    class Model:
        optimizer = Optimizer()

    theirs = keras.callbacks.ReduceLROnPlateau("loss", mode="min", **arguments)
    theirs.set_model(Model())
    theirs.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        theirs.on_epoch_end(epoch, {"loss": value})
        rates.append(float(theirs.model.optimizer.learning_rate))
    return rates


PLATEAUS = [
    ([3, 2, 2, 2, 2, 2, 2], {"patience": 2, "factor": 0.5}),
    ([3, 2, 2, 2, 2, 2, 2, 2, 2], {"patience": 1, "factor": 0.5, "cooldown": 2}),
    ([3, 2.95, 2.9, 2.85, 2.8], {"patience": 1, "min_delta": 0.1}),
    ([2, 2, 2, 2, 2, 2], {"patience": 1, "factor": 0.3, "min_lr": 0.2}),
    ([1, 2, 0.5, 2, 0.4, 3, 3], {"patience": 2, "factor": 0.5}),
    ([2, 2, 2], {"patience": 0, "factor": 0.5}),
]


@pytest.mark.parametrize(("values", "arguments"), PLATEAUS)
def test_the_plateau_is_that_of_keras(values, arguments):
    mine = callbacks.ReduceLROnPlateau("loss", **arguments)
    unit = jl.compile(jl.Dense(1), jl.optimizers.sgd(1.0), "mse")
    state = unit.init(jax.random.key(0), (1, 4)).replace(rate_factor=jnp.float32(1))
    mine.on_fit_begin(Run(0, len(values), None, {"loss": "min"}, trainer=unit))
    rates = []
    for epoch, value in enumerate(values):
        change = mine.on_epoch_end(epoch, {"loss": value}, state)
        state = state if change is None else state.replace(rate_factor=jnp.float32(change.rate_factor))
        rates.append(float(state.rate_factor))
    np.testing.assert_allclose(rates, of_keras(values, **arguments), rtol=1e-6)


NAMES = [
    name
    for name in optimizers.registry
    if optimizers.registry[name].__name__ not in ("chain", "multi_optimizer")
]
WITH_RATE = [
    n
    for n in NAMES
    if n not in optimizers.entries.TRANSFORMATIONS and optimizers.learning_rates(optimizers.registry.build(n))
]


@pytest.mark.parametrize("name", WITH_RATE)
def test_a_multiplied_rate_is_that_rate(name):
    with optimizers.base.lenient():
        made = optimizers.registry.build(name)
        params = {"w": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)}
        gradients = {"w": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)}
        _, state = jax.jit(made.update)(gradients, made.init(params), params)
        rate = optimizers.learning_rates(made)["learning_rate"]
        other = optimizers.registry.build(name, {**made.spec.arguments, "learning_rate": rate / 4})

        @jax.jit
        def both(factor):
            changed = optimizers.with_rate_factor(made, factor)
            return changed.update(gradients, state, params), other.update(gradients, state, params)

        mine, theirs = both(jnp.float32(0.25))
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7), mine, theirs)


def test_rates_of_chains_groups_schedules_and_optimizers_from_outside():
    half = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": 2}}
    group = optimizers.get(
        [
            {"clip_by_global_norm": {"max_norm": 1e9}},
            optimizers.multi_optimizer(
                {"a": {"sgd": {"learning_rate": half}}, "**/c": {"sgd": {"learning_rate": 0.5}}}, "sgd"
            ),
        ]
    )
    assert list(optimizers.learning_rates(group)) == ["learning_rate_a", "learning_rate_c", "learning_rate"]
    params = {"a": jnp.float32(0), "b": {"c": jnp.float32(0)}, "d": jnp.float32(0)}
    ones = jax.tree.map(jnp.ones_like, params)
    with optimizers.base.lenient():
        _, state = group.update(ones, group.init(params), params)
        rates = optimizers.rates_at(group, state, jnp.float32(0.5))
        updates, _ = optimizers.with_rate_factor(group, jnp.float32(0.5)).update(ones, state, params)
    assert {n: float(r) for n, r in rates.items()} == {
        "learning_rate_a": 0.25,
        "learning_rate_c": 0.25,
        "learning_rate": pytest.approx(0.005),
    }
    assert [float(u) for u in jax.tree.leaves(updates)] == [-0.25, -0.25, pytest.approx(-0.005)]
    outside = optax.chain(optax.scale_by_adam(), optax.scale(-0.5))
    assert optimizers.learning_rates(outside) == {}
    with optimizers.base.lenient():
        halved = optimizers.with_rate_factor(outside, jnp.float32(0.5))
        updates, _ = halved.update(ones, outside.init(params), params)
    assert float(updates["d"]) == pytest.approx(-0.25, rel=1e-4)


def test_a_change_of_the_rate_compiles_nothing_and_is_exact(trainer):
    """Two epochs at 0.05 and two at 0.025: the state of two fits by two trainers."""
    halved = LambdaCallback(
        on_epoch_end=lambda e, logs, s: Change(rate_factor=0.5) if e == 1 else None, changes_rate=True
    )
    options = {**FIT, "epochs": 4}
    state, _ = jl.fit(trainer, X, Y, callbacks=[halved], **options)
    before = trainer.train_step.compilations
    again, _ = jl.fit(trainer, X, Y, callbacks=[halved], **options)
    assert trainer.train_step.compilations == before
    first, _ = jl.fit(trainer, X, Y, **{**FIT, "epochs": 2})
    slow = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.025), "mse", metrics=["mae"])
    second, _ = jl.fit(slow, X, Y, state=first, **{**FIT, "epochs": 2})
    jax.tree.map(np.testing.assert_array_equal, state.params, second.params)
    jax.tree.map(np.testing.assert_array_equal, state.params, again.params)


def test_without_a_change_the_bits_are_those_without_the_callback(trainer):
    quiet = callbacks.ReduceLROnPlateau("loss", patience=99)
    (plain, history), (other, logs) = (jl.fit(trainer, X, Y, callbacks=c, **FIT) for c in ([], [quiet]))
    assert history == logs
    jax.tree.map(np.testing.assert_array_equal, plain.params, other.params)
    assert plain.rate_factor is None
    assert trainer.adopt(other).rate_factor is None


def test_the_scheduler_sets_the_rate_of_each_epoch(trainer):
    asked = []

    def schedule(epoch, rate):
        asked.append((epoch, round(rate, 6)))
        return 0.04 / (epoch + 1)

    given = [callbacks.LearningRateScheduler(schedule), "LearningRateMonitor"]
    _, history = jl.fit(trainer, X, Y, callbacks=given, **{**FIT, "epochs": 3})
    assert asked == [(0, 0.05), (1, 0.04), (2, 0.02)]
    np.testing.assert_allclose(history["learning_rate"], [0.04, 0.02, 0.04 / 3], rtol=1e-6)
    scheduled = jl.compile(
        jl.Dense(1), {"sgd": {"learning_rate": {"constant_schedule": {"value": 0.1}}}}, "mse"
    )
    for given in (
        callbacks.LearningRateScheduler(lambda e: 0.1),
        callbacks.ReduceLROnPlateau("loss", min_lr=1e-4),
    ):
        with pytest.raises(ValueError, match="whose learning rate is one number"):
            jl.fit(scheduled, X, Y, callbacks=[given])
    with pytest.raises(ValueError, match="expected a finite learning rate of at least 0 from the schedule"):
        jl.fit(trainer, X, Y, callbacks=[callbacks.LearningRateScheduler(lambda epoch: -1.0)])
    outside = jl.compile(jl.Dense(1), optax.sgd(0.1), "mse")
    with pytest.raises(ValueError, match=r"LearningRateMonitor: expected an optimizer of jl\.optimizers"):
        jl.fit(outside, X, Y, callbacks=["LearningRateMonitor"])


# ----------------------------------------------------------------------------------------- probes


def test_norms_are_those_of_numpy():
    """The first step by hand: a dense layer, squared error."""
    trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.1), "mse")
    start = trainer.init(jax.random.key(0), X[:8])
    norms = callbacks.NormMonitor(updates=True)
    _, logs = jl.fit(trainer, X[:8], Y[:8], batch_size=8, state=start, callbacks=[norms])
    kernel, bias = (np.asarray(start.params[n], np.float64) for n in ("kernel", "bias"))
    error = X[:8] @ kernel + bias - Y[:8]
    gradients = [2 * X[:8].T @ error / 8, 2 * error.mean(0)]
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    after = [kernel - 0.1 * gradients[0], bias - 0.1 * gradients[1]]
    assert logs["gradient_norm"] == logs["gradient_norm_max"] == [pytest.approx(norm, rel=1e-6)]
    assert logs["update_norm"] == [pytest.approx(0.1 * norm, rel=1e-5)]
    assert logs["weight_norm"] == [pytest.approx(math.sqrt(sum((w**2).sum() for w in after)), rel=1e-6)]


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"loss_scale": "dynamic"}, {"ema": 0.9}], ids=str)
def test_probes_do_not_change_what_is_trained(options):
    made = jl.compile(jl.Dense(1), "adam", "mse", metrics=["mae"], **options)
    asks = [callbacks.NormMonitor(updates=True), callbacks.LearningRateMonitor()]
    short = {**FIT, "epochs": 2}
    (plain, history), (other, logs) = (jl.fit(made, X, Y, callbacks=c, **short) for c in ([], asks))
    jax.tree.map(np.testing.assert_array_equal, plain.params, other.params)
    assert {name: logs[name] for name in history} == history
    assert all(np.isfinite(logs["gradient_norm"]))
    assert made.step_with({"": ()}) is made.train_step
    assert step_for(asks, made) is step_for([callbacks.NormMonitor(updates=True), asks[1]], made)


def test_a_step_that_overflows_enters_no_norm():
    made = jl.compile(jl.Dense(1), "sgd", "mse", loss_scale="dynamic")
    state = made.init(jax.random.key(0), X)
    big = state.replace(loss_scale=type(state.loss_scale)(jnp.float32(2.0**127), jnp.int32(0)))
    _, logs = jl.fit(made, X, Y * 100, batch_size=8, state=big, callbacks=["NormMonitor"])
    assert math.isfinite(logs["gradient_norm"][0])


def test_probes_of_ones_own_and_of_several_tasks():
    def squared(call, batch, key):
        return jnp.square(call("net", batch.x)).mean()

    class Count(jl.Callback):
        def probes(self, update):
            return [Probe("count", _entries, over="last", better="max")]

    one = jl.Task({"net": jl.Dense(1)}, squared, trains="net")
    two = jl.Task({"net2": jl.Dense(2)}, lambda call, batch, key: call("net2", batch.x).sum(), trains="net2")
    made = jl.compile({"one": one, "two": two}, "sgd")
    _, history = jl.fit(made, X, callbacks=[Count(), "LearningRateMonitor"])
    assert (history["one_count"], history["two_count"]) == ([5.0], [10.0])
    assert history["two_learning_rate"] == [pytest.approx(0.01)]
    plain = jl.compile(jl.Dense(1), "sgd", "mse")

    class Taken(jl.Callback):
        def probes(self, update):
            return [Probe("loss", _entries)]

    class Vector(jl.Callback):
        def probes(self, update):
            return [Probe("kernel", lambda moment: moment.after["kernel"])]

    with pytest.raises(ValueError, match="expected another name for a probe than 'loss'"):
        jl.fit(plain, X, Y, callbacks=[Taken()])
    with pytest.raises(ValueError, match="expected a scalar from the probe 'kernel'"):
        jl.fit(plain, X, Y, callbacks=[Vector()])


def _entries(moment: Moment):
    return sum(leaf.size for leaf in jax.tree.leaves(moment.gradients))


# ---------------------------------------------------------------------------------- NaN, EMA


def growing(rate=1e3):
    return jl.compile(jl.Dense(1), jl.optimizers.sgd(rate), "mse")


def test_terminate_on_nan_ends_with_the_last_healthy_state():
    """Healthy for some epochs, then the rate explodes."""
    wild = LambdaCallback(
        on_epoch_end=lambda e, logs, s: Change(rate_factor=1e30) if e == 2 else None, changes_rate=True
    )
    made = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.05), "mse")
    quiet = callbacks.TerminateOnNaN()
    with pytest.warns(RuntimeWarning, match="the training ended: the loss became"):
        state, history = jl.fit(made, X, Y, callbacks=[wild, quiet], **FIT)
    assert len(history["loss"]) == 3
    assert (int(state.epoch), isinstance(quiet.error, FloatingPointError)) == (3, True)
    assert np.isfinite(state.params["kernel"]).all()
    with pytest.raises(FloatingPointError):
        jl.fit(made, X, Y, callbacks=[wild], **FIT)
    with pytest.warns(RuntimeWarning), pytest.raises(FloatingPointError):  # no epoch was healthy
        jl.fit(growing(1e30), X, Y, callbacks=[quiet], **FIT)


def test_every_callback_hears_of_an_error(trainer):
    heard = []

    class Listens(jl.Callback):
        def on_error(self, error):
            heard.append(error)
            raise KeyError("lost")

    def fails(epoch, logs, state):
        raise InterruptedError

    with pytest.raises(InterruptedError) as caught:
        jl.fit(trainer, X, Y, callbacks=[Listens(), fails, Listens()], **FIT)
    assert heard == [caught.value] * 2
    assert "Listens.on_error: KeyError" in caught.value.__notes__[0]


def test_swap_ema_gives_back_the_average():
    made = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.3), "mse", ema=0.5)
    plain, _ = jl.fit(made, X, Y, **FIT)
    swapped, _ = jl.fit(made, X, Y, callbacks=["SwapEMAWeights"], **FIT)
    np.testing.assert_array_equal(swapped.params["kernel"], plain.average["kernel"])
    stop = jl.EarlyStopping(
        "val_ema_loss", patience=9, restore_best_weights=True, mode="max"
    )  # the first epoch
    early, _ = jl.fit(made, X, Y, callbacks=["SwapEMAWeights", stop], **FIT)
    first, _ = jl.fit(made, X, Y, **{**FIT, "epochs": stop.best_epoch + 1})
    np.testing.assert_array_equal(early.params["kernel"], first.average["kernel"])


# -------------------------------------------------------------------------------------------- logs


def test_files_hold_the_history(trainer, tmp_path):
    log, lines = tmp_path / "a" / "log.csv", tmp_path / "log.jsonl"
    given = [callbacks.CSVLogger(str(log), separator=";"), callbacks.JSONLinesLogger(str(lines), every=2)]
    _, history = jl.fit(trainer, X, Y, callbacks=given, **FIT)
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(6)]
    assert [float(row["val_mae"]) for row in rows] == history["val_mae"]
    entries = [json.loads(line) for line in lines.read_text().splitlines()]
    epochs = [entry for entry in entries if "epoch" in entry]
    assert [entry["loss"] for entry in epochs] == history["loss"]
    assert [entry["step"] for entry in entries if "epoch" not in entry] == list(range(2, 31, 2))
    jl.fit(trainer, X, Y, callbacks=given, **{**FIT, "epochs": 1})
    assert len(log.read_text().splitlines()) == 2  # anew
    jl.fit(trainer, X, Y, callbacks=[callbacks.CSVLogger(str(log), ";", append=True)], **{**FIT, "epochs": 2})
    assert [line[0] for line in log.read_text().splitlines()] == ["e", "0", "0", "1"]
    for wrong in ({"separator": ""}, {"separator": "::"}, {"filename": ""}):
        with pytest.raises(ValueError, match="CSVLogger: expected"):
            callbacks.CSVLogger(**wrong)
    with pytest.raises(ValueError, match="which is a folder"):
        jl.fit(trainer, X, Y, callbacks=[callbacks.CSVLogger(str(tmp_path))])


def test_tensorboard_has_both_curves(trainer, tmp_path):
    pytest.importorskip("tensorboardX")
    board = callbacks.TensorBoard(str(tmp_path), update_freq=2)
    _, history = jl.fit(trainer, X, Y, callbacks=[board], **FIT)
    assert scalars(tmp_path / "train")["loss"] == dict(zip(range(5, 31, 5), history["loss"], strict=True))
    assert list(scalars(tmp_path / "train")["batch_mae"]) == list(range(2, 31, 2))
    assert list(scalars(tmp_path / "validation")["mae"].values()) == history["val_mae"]


def scalars(folder):
    """Tags, steps and values of event files, read off their records."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in sorted(folder.iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 16 + size
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


# ------------------------------------------------------------------------------------------ resume


class End(jl.Callback):
    every = 1

    def __init__(self, at):
        self.at = at

    def on_step(self, step, logs, state):
        if step == self.at:
            raise InterruptedError


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_middle_of_its_patience(trainer, tmp_path):
    def listeners(folder):
        return [
            callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            callbacks.ReduceLROnPlateau("loss", 0.5, patience=2, min_delta=10.0, cooldown=1),
            callbacks.LearningRateMonitor(),
            callbacks.NormMonitor(),
            callbacks.CSVLogger(str(folder / "log.csv")),
            callbacks.JSONLinesLogger(str(folder / "log.jsonl"), every=2),
        ]

    monkey = pytest.MonkeyPatch()
    logs = {}
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    with monkey.context() as inside:
        inside.chdir(tmp_path / "whole")
        here = tmp_path.__class__(".")
        whole = jl.fit(trainer, X, Y, callbacks=listeners(here), checkpoints=tmp_path / "w", **FIT)
        inside.chdir(tmp_path / "parts")
        checkpoint = jl.Checkpoint(tmp_path / "p", every_steps=3)
        for at in (2, 7, 13, 16, 17, 24, 28):
            with pytest.raises(InterruptedError):
                jl.fit(trainer, X, Y, callbacks=[*listeners(here), End(at)], checkpoints=checkpoint, **FIT)
        parts = jl.fit(trainer, X, Y, callbacks=listeners(here), checkpoints=checkpoint, **FIT)
    same(whole, parts)
    assert len(set(whole[1]["learning_rate"])) > 3
    for name, file in itertools.product(("log.csv", "log.jsonl"), ("whole", "parts")):
        logs.setdefault(name, set()).add((tmp_path / file / name).read_text())
    assert all(len(texts) == 1 for texts in logs.values())


class Begun(jl.Callback):
    """Counts the epochs that have begun, by what it remembers or only in this process."""

    def __init__(self):
        self.epochs = []

    def on_epoch_begin(self, epoch):
        self.epochs.append(epoch)


class Remembered(Begun):
    def state(self):
        return {"epochs": self.epochs}

    def restore(self, state):
        self.epochs = state["epochs"]


class Press(jl.Callback):
    """Ctrl-C while the callbacks hear that an epoch begins; a checkpoint is made after all have heard it."""

    def on_epoch_begin(self, epoch):
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("usual_handlers")
def test_an_epoch_begins_once_for_a_callback_that_remembers(trainer, tmp_path):
    plan = jl.Checkpoint(tmp_path, every_steps=3, every_epochs=None)
    for ends in ([End(8)], [Press()], []):  # within epoch 1, and at the beginning of epoch 2
        remembered, fresh = Remembered(), Begun()
        with contextlib.suppress(InterruptedError, KeyboardInterrupt):
            jl.fit(trainer, X, Y, callbacks=[*ends, remembered, fresh], checkpoints=plan, **FIT)
    assert remembered.epochs == list(range(6))
    assert fresh.epochs == [2, 3, 4, 5]


def test_a_checkpoint_among_the_callbacks(trainer, tmp_path):
    whole = jl.fit(trainer, X, Y, **FIT)
    for epochs in (2, 6):
        kept = jl.fit(trainer, X, Y, callbacks=[jl.Checkpoint(tmp_path / "c")], **{**FIT, "epochs": epochs})
    same(whole, kept)
    with pytest.raises(ValueError, match="received two"):
        jl.fit(trainer, X, Y, callbacks=[jl.Checkpoint(tmp_path / "c")], checkpoints=tmp_path / "d", **FIT)


# -------------------------------------------------------------------------------- trackers, offline


def test_missing_extras_are_told_before_training(trainer, monkeypatch):
    for name, module, extra in [
        ("TensorBoard", "tensorboardX", "tensorboard"),
        ("MLflow", "mlflow", "mlflow"),
        ("WandB", "wandb", "wandb"),
    ]:
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(ImportError, match=rf"{name} needs {module}: pip install 'jlayers\[{extra}\]'"):
            jl.fit(trainer, X, Y, callbacks=[name], **FIT)


@pytest.mark.slow
def test_mlflow_keeps_a_run_offline(trainer, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    tracker = callbacks.MLflow("test", folder=str(tmp_path / "m"), every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InterruptedError):
            jl.fit(trainer, X, Y, callbacks=[tracker, End(8)], checkpoints=tmp_path / "c", **FIT)
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/m/mlflow.db")
        experiment = client.get_experiment_by_name("test").experiment_id
        assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
        _, history = jl.fit(trainer, X, Y, callbacks=[tracker], checkpoints=tmp_path / "c", **FIT)
        (run,) = client.search_runs([experiment])
        assert run.info.status == "FINISHED"
        assert run.data.params["optimizer"] == "sgd(learning_rate=0.05)"
        of = {name: client.get_metric_history(run.info.run_id, name) for name in ("loss", "val_loss")}
    losses = {metric.step: metric.value for metric in of["val_loss"]}
    assert losses == dict(zip(range(5, 31, 5), history["val_loss"], strict=True))
    # Once each: step 10 ends an epoch, and steps 6 to 8 were taken again after the checkpoint of step 5.
    assert sorted(metric.step for metric in of["loss"]) == sorted({*range(2, 31, 2), *range(5, 31, 5)})


@pytest.mark.slow
def test_wandb_keeps_a_run_offline(trainer, tmp_path):
    pytest.importorskip("wandb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracker = callbacks.WandB("test", folder=str(tmp_path), every=2)
        _, history = jl.fit(trainer, X, Y, callbacks=[tracker], **FIT)
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        (file,) = folder.glob("*.wandb")
        for _ in range(100):  # the process of wandb may write a moment later
            if found := logged(file):
                break
            time.sleep(0.1)

    assert [row["loss"] for row in found if "epoch" in row] == history["loss"]


def logged(file):
    """The rows of an offline run: records in the form of a LevelDB log, of one block here."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, rows = file.read_bytes(), 7, []
    assert len(content) < 2**15
    while at < len(content):
        size = int.from_bytes(content[at + 4 : at + 6], "little")
        record = Record.FromString(content[at + 7 : at + 7 + size])
        at += 7 + size
        if record.HasField("history"):
            items = record.history.item
            rows.append({(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in items})
    return rows
