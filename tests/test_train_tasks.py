"""Tasks: what they say, what composes around them, and one record of options for all who take them."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jlayers as jl
from jlayers.config import loads
from jlayers.config.schema import Settings
from jlayers.train.options import Options

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5], [3.0]]) + 0.7).astype(np.float32)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def close(a, b, rtol=1e-5):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=rtol, atol=1e-6), a, b)


# ---------------------------------------------------------------------------------------------- options


def test_each_option_is_in_compile_in_the_trainer_and_in_yaml():
    options = {field.name: field.default for field in dataclasses.fields(Options)}
    parameters = inspect.signature(jl.compile).parameters
    assert list(parameters) == ["model", *options]
    assert {name: parameters[name].default for name in options} == options
    trainer = jl.compile(jl.Dense(1), loss="mse")
    assert all(hasattr(trainer, name) for name in options)
    assert set(options) <= {field.name for field in dataclasses.fields(Settings)}
    for name in options:
        assert f"{name}:" in inspect.getdoc(jl.compile)
        assert f"{name}:" in inspect.getdoc(Settings)


def test_each_option_reaches_the_trainer_from_yaml():
    given = {
        "optimizer": ("sgd", "sgd"),
        "loss": ("mse", "mse"),
        "metrics": (["mae"], ["mae"]),
        "loss_weights": ([2.0], [2.0]),
        "weighted_metrics": (["mse"], ["mse"]),
        "augment": ("MixUp", jl.MixUp()),
        "loss_scale": (8.0, 8.0),
        "accumulate": (2, 2),
        "ema": (0.5, 0.5),
        "unfreeze": ("{3: [dense]}", {3: ["dense"]}),
    }
    assert given.keys() == {field.name for field in dataclasses.fields(Options)}
    text = "\n".join(f"{name}: {value}" for name, (value, _) in given.items())
    model = "model: {Sequential: [Flatten, Dense: {units: 10, trainable: false}]}"
    trainer = loads(f"data: digits\n{model}\n{text}").compile()
    for name, (_, expected) in given.items():
        assert repr(getattr(trainer, name)).startswith(repr(expected).rstrip("()'").lstrip("'")) or (
            repr(expected).strip("'[]") in repr(getattr(trainer, name))
        )


# ------------------------------------------------------------------------------------------------ tasks


def square(call, batch, key):
    return jnp.square(call("model", batch.x) - batch.y).mean()


def test_a_task_with_a_square_is_the_supervised_one():
    options = {"kernel_regularizer": jl.l2(0.1), "kernel_constraint": "non_neg"}
    make = lambda: jl.Sequential(jl.Dense(3, "tanh", **options), jl.BatchNormalization(), jl.Dense(1))  # noqa: E731
    model = make()
    supervised = jl.compile(model, jl.optimizers.sgd(0.1), "mse", ["mae"])
    task = jl.compile(jl.Task({"model": model}, square), jl.optimizers.sgd(0.1))
    start = supervised.init(jax.random.key(0), X)
    one, history = jl.fit(supervised, X, Y, batch_size=8, epochs=2, state=start)
    begin = task.init(jax.random.key(0), X, Y, params={"model": start.params}, state={"model": start.state})
    two, logs = jl.fit(task, X, Y, batch_size=8, epochs=2, state=begin, validation_data=(X, Y))
    close(one.params, two.params["model"])
    close(one.state, two.state["model"])
    np.testing.assert_allclose(history["loss"], logs["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        jl.evaluate(supervised, one, X, Y)["loss"],
        jl.evaluate(task, two, X, Y, batch_size=7)["loss"],
        rtol=1e-5,
    )
    close(jl.predict(supervised, one, X), jl.predict(model, two.part("model"), X))


def test_parts_and_metrics_bear_their_names_whatever_their_order():
    def loss(call, batch, key):
        y = call("model", batch.x)
        parts = {"zeta": jnp.mean(y), "alpha": jnp.mean(y) + 1, "mid": jnp.mean(y) + 2}
        return jl.Loss(jnp.square(y - batch.y).mean(), parts, outputs=y)

    task = jl.compile(jl.Task({"model": jl.Dense(1)}, loss), jl.optimizers.sgd(0.0), metrics=["mae"])
    for steps in (1, 2):
        state, history = jl.fit(task, X, Y, batch_size=8, validation_data=(X, Y), steps_per_call=steps)
        names = ["loss", "zeta", "alpha", "mid", "mae"]
        assert list(history) == [*names, *(f"val_{name}" for name in names)]
        y = jl.predict(jl.Dense(1), state.part("model"), X)
        expected = [np.square(y - Y).mean(), y.mean(), y.mean() + 1, y.mean() + 2, np.abs(y - Y).mean()]
        for prefix in ("", "val_"):
            np.testing.assert_allclose([history[prefix + n][0] for n in names], expected, rtol=1e-4)


def test_two_tasks_take_turns_and_train_what_is_theirs():
    first, second = jl.Dense(1, use_bias=False), jl.Dense(1, use_bias=False)
    models = {"a": first, "b": second}

    def push(call, batch, key):
        return (call("a", batch.x) * call("b", batch.x)).mean()

    tasks = {"one": jl.Task(models, push, trains="a"), "two": jl.Task(models, push, trains="b")}
    trainer = jl.compile(tasks, {"one": jl.optimizers.sgd(0.1), "two": jl.optimizers.sgd(0.3, momentum=0.9)})
    state = trainer.init(jax.random.key(0), X)
    a, b = (np.asarray(state.params[name]["kernel"]) for name in "ab")
    second_moment = X.T @ X / len(X)
    assert set(state.opt_state) == {"one", "two"}
    assert len(jax.tree.leaves(state.opt_state["two"])) == 1
    state, logs = trainer.train_step(state, (X,))
    expected_a = a - 0.1 * second_moment @ b
    expected_b = b - 0.3 * second_moment @ expected_a  # the second turn sees what the first has done
    close(state.params["a"]["kernel"], expected_a)
    close(state.params["b"]["kernel"], expected_b)
    assert set(logs) == {"loss", "one_loss", "two_loss"}
    np.testing.assert_allclose(logs["two_loss"], expected_a.T @ second_moment @ b, rtol=1e-4)
    _, history = jl.fit(trainer, X, epochs=2, validation_data=X, batch_size=8)
    assert list(history)[:3] == ["loss", "one_loss", "two_loss"]
    assert "val_two_loss" in history


def test_a_frozen_teacher_stays_and_has_no_optimizer_state():
    def imitate(call, batch, key):
        return jnp.square(call("student", batch.x) - call("teacher", batch.x)).mean()

    teacher = jl.Sequential(jl.Dense(3), jl.BatchNormalization(), jl.Dropout(0.5), jl.Dense(1))
    task = jl.Task({"teacher": jl.freeze(teacher), "student": jl.Dense(1)}, imitate)
    trainer = jl.compile(task, "adam")
    state = trainer.init(jax.random.key(0), X)
    before = bits(state.part("teacher"))
    state, history = jl.fit(trainer, X, epochs=3, state=state)
    assert bits(state.part("teacher")) == before
    assert history["loss"][-1] < history["loss"][0]
    assert {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} == {(), (4, 1), (1,)}


def test_a_class_may_say_what_a_task_is():
    class Line(jl.Task):
        def init(self, key, batch):
            return {"slope": jnp.zeros(())}, {}

        def loss(self, params, state, batch, key, train):
            error = params["slope"] * batch.x - batch.y
            return self.with_extras(jl.Loss(jnp.square(error).mean()), params, state, batch), state

    x = np.linspace(1, 2, 8, dtype=np.float32)[:, None]
    state, _ = jl.fit(jl.compile(Line(), jl.optimizers.sgd(0.2)), x, 3 * x, epochs=40)
    np.testing.assert_allclose(state.params["slope"], 3.0, rtol=1e-3)


def test_values_of_layers_are_in_the_logs():
    @jl.layer
    def Watched():
        def init(key, x):
            return {}, {"aux_metrics": {"size": jnp.zeros(())}}

        def apply(params, x, *, state):
            return x, {"aux_metrics": {"size": jnp.abs(x).mean()}}

        return init, apply

    one = jl.compile(jl.Sequential(Watched(), jl.Dense(1)), jl.optimizers.sgd(0.0), "mse", ["mae"])
    _, history = jl.fit(one, X, Y, batch_size=8, validation_data=(X, Y))
    assert list(history)[:3] == ["loss", "size", "mae"]
    np.testing.assert_allclose([history["size"], history["val_size"]], [[np.abs(X).mean()]] * 2, rtol=1e-5)
    two = jl.compile(jl.Sequential(Watched(), jl.Dense(1), Watched()), "sgd", "mse")
    _, history = jl.fit(two, X, Y)
    assert set(history) == {"loss", "watched_size", "watched_1_size"}


def test_dicts_of_outputs_keep_their_targets_and_metrics():
    i = jl.Input((4,))
    model = jl.Model(i, {"z": jl.Dense(1, name="z")(i), "a": jl.Dense(2, name="a")(i)})
    trainer = jl.compile(
        model, jl.optimizers.sgd(0.0), {"z": "mse", "a": "mae"}, {"a": ["mse"], "z": ["mae"]}
    )
    two = np.concatenate([Y, Y + 5], 1)
    for steps in (1, 3):
        state, history = jl.fit(
            trainer,
            X,
            {"a": two, "z": Y},
            batch_size=8,
            steps_per_call=steps,
            validation_data=(X, {"z": Y, "a": two}),
        )
        y = jl.predict(trainer, state, X)
        expected = {
            "z_loss": np.square(y["z"] - Y).mean(),
            "a_loss": np.abs(y["a"] - two).mean(),
            "z_mae": np.abs(y["z"] - Y).mean(),
            "a_mse": np.square(y["a"] - two).mean(),
        }
        for key, value in expected.items():
            np.testing.assert_allclose([history[key][0], history[f"val_{key}"][0]], [value] * 2, rtol=1e-4)


def test_losses_and_metrics_of_layers_inside():
    model = jl.Sequential(jl.Dense(3, name="code"), jl.Dense(1, name="head"))
    code = RNG.normal(size=(20, 3)).astype(np.float32)
    trainer = jl.compile(
        model,
        jl.optimizers.sgd(0.0),
        {"output": "mse", "code": "mae"},
        {"code": ["mse"], "output": ["mae"]},
        loss_weights={"code": 0.5},
    )
    state, history = jl.fit(trainer, X, {"output": Y, "code": code}, batch_size=8, epochs=1)
    code_params = jax.device_get(state.params["code"])
    inside = X @ code_params["kernel"] + code_params["bias"]
    y = jl.predict(trainer, state, X)
    expected = {
        "output_loss": np.square(y - Y).mean(),
        "code_loss": np.abs(inside - code).mean(),
        "output_mae": np.abs(y - Y).mean(),
        "code_mse": np.square(inside - code).mean(),
    }
    for key, value in expected.items():
        np.testing.assert_allclose(history[key], [value], rtol=1e-4)
    np.testing.assert_allclose(
        history["loss"], [expected["output_loss"] + 0.5 * expected["code_loss"]], rtol=1e-4
    )
    gradient = jl.compile(model, jl.optimizers.sgd(0.1), {"code": "mse"})
    moved, _ = jl.fit(gradient, X, {"code": code}, state=gradient.init(jax.random.key(0), X))
    start = gradient.init(jax.random.key(0), X)
    assert bits(moved.params["head"]) == bits(start.params["head"])
    assert bits(moved.params["code"]) != bits(start.params["code"])


# --------------------------------------------------------------------------------- gradients and updates


@pytest.mark.parametrize("rows", [20, 18, 17, 3])
def test_micro_batches_give_the_gradient_of_the_whole(rows):
    model = jl.Sequential(jl.Dense(3, "tanh", kernel_regularizer="l2"), jl.Dense(1))
    weight = np.linspace(0.5, 2, rows, dtype=np.float32)
    moved = {}
    for parts in (1, 4):
        trainer = jl.compile(model, jl.optimizers.sgd(0.5), "mse", ["mae"], accumulate=parts)
        state = trainer.init(jax.random.key(0), X)
        moved[parts] = trainer.train_step(state, (X[:rows], Y[:rows], weight))
    close(moved[1][0].params, moved[4][0].params)
    close(moved[1][1], moved[4][1])


def test_micro_batches_of_masked_sequences_weigh_what_is_real():
    ids = np.array([[1, 2, 3, 4], [1, 0, 0, 0], [2, 2, 0, 0], [3, 1, 1, 0]])
    y = (ids % 3).astype(np.int32)
    model = jl.Sequential(jl.Embedding(7, 4, mask_zero=True), jl.Dense(3, "softmax"))
    moved = {}
    for parts in (1, 2, 4):
        trainer = jl.compile(
            model, jl.optimizers.sgd(0.5), "sparse_categorical_crossentropy", accumulate=parts
        )
        state = trainer.init(jax.random.key(0), ids)
        moved[parts] = trainer.train_step(state, (ids, y))
    for parts in (2, 4):
        close(moved[1][0].params, moved[parts][0].params)
        close(moved[1][1], moved[parts][1])


@pytest.mark.slow
def test_micro_batches_weigh_each_output_by_what_it_counts():
    ids = np.array([[1, 2, 3, 4], [1, 0, 0, 0], [2, 2, 0, 0], [3, 1, 1, 0], [5, 5, 5, 0]])
    words, size = (ids % 3).astype(np.int32), ids.sum(1, keepdims=True).astype(np.float32)
    words[:2, 0] = 2
    inputs = jl.Input((4,), dtype="int32")
    code = jl.Embedding(7, 4, mask_zero=True)(inputs)
    tagged = jl.Dense(3, "softmax", name="words")(code)
    model = jl.Model(
        inputs,
        {
            "words": tagged,
            "size": jl.Dense(1, kernel_regularizer="l2", name="size")(jl.GlobalAveragePooling1D()(code)),
            "kind": jl.Dense(2, "softmax", name="kind")(jl.GlobalMaxPooling1D()(code)),
        },
    )
    losses = {
        "words": jl.losses.SparseCategoricalCrossentropy(ignore_class=2),
        "size": "mse",
        "kind": jl.losses.SparseCategoricalCrossentropy(ignore_class=0),
    }
    y = {"words": words, "size": size, "kind": np.array([0, 1, 0, 0, 1], np.int32)}
    weight = {
        "words": np.linspace(1, 2, 5, dtype=np.float32),
        "size": np.linspace(0, 1, 5, dtype=np.float32),
        "kind": np.array([1, 2, 1, 1, 3], np.float32),
    }
    moved = {}
    for parts in (1, 2, 3, 5):
        trainer = jl.compile(
            model, jl.optimizers.sgd(0.5), losses, accumulate=parts, loss_weights={"words": 2.0}
        )
        moved[parts] = trainer.train_step(trainer.init(jax.random.key(0), ids), (ids, y, weight))
    for parts in (2, 3, 5):
        close(moved[1][0].params, moved[parts][0].params)
        close(moved[1][1], moved[parts][1])


def test_micro_batches_draw_each_for_itself_and_keep_float32_sums():
    half = jl.with_precision(jl.Sequential(jl.Dropout(0.5), jl.Dense(1)), "float16")
    trainer = jl.compile(half, "sgd", "mse", accumulate=5)
    state, history = jl.fit(trainer, X, Y, batch_size=10, epochs=2)
    again, same = jl.fit(trainer, X, Y, batch_size=10, epochs=2)
    assert history == same
    assert bits(state) == bits(again)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float16")}
    step, batch = trainer.train_step, jl.Batch(X[:10], Y[:10])
    text = str(step.one.trace(step.prepare(state, batch).flat, state.key_data, batch).jaxpr)
    assert "scan" in text
    assert "f32[4,1]" in text


def test_micro_batches_and_a_dynamic_scale_and_clipping():
    chain = [{"clip_by_global_norm": {"max_norm": 0.1}}, {"sgd": {"learning_rate": 1.0}}]
    for parts in (1, 4):
        trainer = jl.compile(jl.Dense(1), chain, "mse", loss_scale="dynamic", accumulate=parts)
        state = trainer.init(jax.random.key(0), X)
        before = jax.device_get(state.params)
        state, logs = trainer.train_step(state, (X, Y))
        step = jax.tree.map(lambda a, b: np.asarray(a) - b, state.params, before)
        np.testing.assert_allclose(float(optax.tree.norm(step)), 0.1, rtol=1e-4)
        assert float(logs["loss_scale"]) == 2.0**15


def test_optax_multi_steps_is_an_optimizer():
    trainer = jl.compile(jl.Dense(1), optax.MultiSteps(optax.sgd(0.1), 2), "mse")
    state = trainer.init(jax.random.key(0), X)
    before = bits(state.params)
    state, _ = trainer.train_step(state, (X, Y))
    assert bits(state.params) == before
    state, _ = trainer.train_step(state, (X, Y))
    assert bits(state.params) != before


# ----------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: jl.compile(jl.Task({"model": jl.Dense(1)}, square), loss="mse"),
            ValueError,
            "a task says itself",
        ),
        (lambda: jl.compile({}, "adam"), TypeError, "or tasks"),
        (lambda: jl.compile({"a": jl.Dense(1)}, "adam"), TypeError, "or tasks"),
        (lambda: jl.Task({"model": jl.Dense(1)}, square, trains="modle"), ValueError, "did you mean 'model'"),
        (lambda: jl.Task({"model": jl.Dense(1)}, 3), TypeError, "loss=3"),
        (lambda: jl.compile(jl.Dense(1), loss="mse", accumulate=0), ValueError, "accumulate=0"),
        (lambda: jl.compile(jl.Dense(1), loss="mse", ema=1.0), ValueError, r"ema=1\.0"),
        (
            lambda: jl.fit(jl.compile(jl.Task({"model": jl.Dense(1)}, lambda c, b, k: c("model", b.x))), X),
            ValueError,
            r"scalar loss .*float32\(20, 1\)",
        ),
        (
            lambda: jl.fit(jl.compile(jl.Task({"model": jl.Dense(1)}, square), metrics=["mae"]), X, Y),
            ValueError,
            "Loss has outputs",
        ),
        (
            lambda: jl.predict(jl.compile(jl.Task({"model": jl.Dense(1)}, square)), ({}, {}), X),
            TypeError,
            r"state\.part\('decoder'\)",
        ),
    ],
)
def test_errors_teach(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_validation_of_a_model_that_samples_in_inference():
    @jl.layer
    def Jitter():
        """Adds noise in training and in inference."""

        def apply(params, x, *, key):
            return x + jax.random.normal(jl.need_key(key), x.shape, x.dtype)

        return jl.no_params, apply

    x = np.ones((8, 2), np.float32)
    trainer = jl.compile(jl.Sequential(Jitter(), jl.Dense(1)), "sgd", "mse")
    runs = [jl.fit(trainer, x, x[:, :1], epochs=2, validation_data=(x, x[:, :1]))[1] for _ in range(2)]
    assert runs[0] == runs[1]
    assert np.isfinite(runs[0]["val_loss"]).all()
