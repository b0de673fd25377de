"""Training in half precision, and the loss scale that float16 needs: steps not taken leave no trace."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.config import loads
from jlayers.core.tree import flatten
from jlayers.runs import Run, evaluate_run, predict_run, train_run
from jlayers.train.scaling import FLOOR, LossScale, loss_scaling

RNG = np.random.default_rng(0)
Y = (np.arange(96) % 3).astype(np.int32)
X = (0.3 * RNG.normal(size=(96, 6, 6, 1)) + np.eye(6)[2 * Y][:, :, None, None]).astype(np.float32)
LOSS = "sparse_categorical_crossentropy"


def network():
    return jl.Sequential(
        jl.Conv2D(4, 3, kernel_regularizer="l2"),
        jl.BatchNormalization(),
        jl.Activation("relu"),
        jl.GlobalAveragePooling2D(),
        jl.Dense(3, activation="softmax", name="head"),
    )


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize(
    ("precision", "param", "scales"),
    [
        ("mixed_bfloat16", jnp.float32, False),
        ("bfloat16", jnp.bfloat16, False),
        ("mixed_float16", jnp.float32, True),
        ("float16", jnp.float16, True),
        ({"**": "mixed_float16", "conv2d": "bfloat16"}, None, True),
    ],
    ids=str,
)
def test_training_learns_in_half_precision(precision, param, scales):
    half = jl.with_precision(network(), precision)
    optimizer = {"sgd": {"learning_rate": 0.3, "momentum": 0.9}}
    trainer = jl.compile(half, optimizer, LOSS, metrics=["accuracy"])
    state, history = jl.fit(trainer, X, Y, batch_size=32, epochs=12, validation_data=(X, Y))
    assert trainer.train_step.compilations == 1
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.9
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert np.all(np.isfinite([*history.values()]))
    assert (state.loss_scale is not None) == scales
    if param is not None:
        held = jax.tree.leaves((state.params, state.opt_state[0].trace))
        assert {leaf.dtype for leaf in held} == {jnp.dtype(param)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.state)} == {jnp.dtype("float32")}
    assert jl.predict(trainer, state, X[:2]).dtype == jnp.dtype("bfloat16" if not scales else "float16")


def test_losses_and_metrics_see_predictions_in_float32():
    seen = []

    def watched(y_true, y_pred):
        seen.append(y_pred.dtype)
        return jnp.mean((y_pred - y_true) ** 2, axis=-1)

    half = jl.Dense(1, precision="mixed_bfloat16")
    trainer = jl.compile(half, "sgd", watched, metrics=[watched])
    x = np.ones((4, 2), np.float32)
    jl.fit(trainer, x, x[:, :1], validation_data=(x, x[:, :1]))
    assert set(seen) == {jnp.dtype("float32")}
    assert len(seen) >= 4


def test_freezing_and_precision_train_together():
    half = jl.freeze(jl.with_precision(network(), "mixed_float16"), "conv2d", "batch_normalization")
    trainer = jl.compile(half, "adam", LOSS)
    start = trainer.init(jax.random.key(0), X[:32])
    state, _ = jl.fit(trainer, X, Y, state=start)
    for name in ("conv2d", "batch_normalization"):
        same(state.params[name], start.params[name])
    same(state.state, start.state)
    assert np.any(np.asarray(state.params["head"]["kernel"] != start.params["head"]["kernel"]))


# ---------------------------------------------------------------------------------------- loss scaling


def test_what_scales_the_loss():
    float32, half = network(), jl.with_precision(network(), {"head": "mixed_float16"})
    assert (loss_scaling([float32], "auto"), loss_scaling([half], "auto"), loss_scaling([half], None)) == (
        None,
        "dynamic",
        None,
    )
    assert (loss_scaling([float32], "dynamic"), loss_scaling([float32], 8)) == ("dynamic", 8.0)
    for wrong in ("dynamical", 0, -1.0, True, np.inf):
        with pytest.raises(
            ValueError, match=r"expected 'auto', 'dynamic', None or a number above 0, received"
        ):
            jl.compile(float32, "sgd", LOSS, loss_scale=wrong)


def test_the_scale_is_halved_doubled_and_bounded():
    @jax.jit
    def run(scale, goods):
        return jax.lax.scan(lambda scale, good: (scale.after(good), scale.after(good).scale), scale, goods)[1]

    start = LossScale.start()
    assert (float(start.scale), int(start.good_steps)) == (2.0**15, 0)
    goods = np.ones(6001, bool)
    goods[1000] = False  # counts anew
    scales = np.asarray(run(start, goods))
    assert scales[[999, 1000, 2999, 3000, 4999, 5000]].tolist() == [2**n for n in (15, 14, 14, 15, 15, 16)]
    assert float(run(start, np.zeros(6001, bool))[-1]) == FLOOR / 2
    high = LossScale(jnp.float32(2.0**127), jnp.int32(1999))
    assert float(high.after(jnp.array(True)).scale) == 2.0**127  # twice as much would be infinite


def steps(model, optimizer="adam", **options):
    trainer = jl.compile(model, optimizer, "mse", metrics=["mae"], **options)
    return trainer, trainer.init(jax.random.key(0), (4, 2))


def test_a_step_that_overflows_moves_nothing_but_the_scale():
    net = jl.Sequential(jl.BatchNormalization(), jl.Dense(1), precision="mixed_float16")
    trainer, state = steps(net)
    x = RNG.uniform(-0.5, 0.5, size=(4, 2)).astype(np.float32)
    good, far = (x, x[:, :1]), (x, x[:, :1] * 1e5)  # far: the loss is finite, float16 gradients are not
    state, _ = trainer.train_step(state, good)
    before = jax.tree.map(jnp.copy, state)
    state, logs = trainer.train_step(state, far)
    same(
        (state.params, state.state, state.opt_state, state.key),
        (before.params, before.state, before.opt_state, before.key),
    )
    assert int(state.step) == int(before.step) + 1
    assert (float(logs["loss_scale"]), float(state.loss_scale.scale)) == (2.0**14, 2.0**14)
    assert float(logs["loss"]) > 1e7  # the batch counts in the metrics: its loss is a number
    held = jax.tree.map(jnp.copy, state.metrics)
    state, logs = trainer.train_step(state, (x * 1e30, x[:, :1]))  # infinite in float16: counts nowhere
    same(state.metrics, held)
    assert float(logs["loss_scale"]) == 2.0**13
    assert np.isfinite(float(logs["loss"]))
    state, _ = trainer.train_step(state, good)
    assert np.any(np.asarray(state.params["dense"]["kernel"] != before.params["dense"]["kernel"]))
    assert trainer.train_step.compilations == 1


def test_one_overflow_does_not_end_a_run_and_an_endless_one_does():
    x = RNG.uniform(-0.5, 0.5, size=(64, 2)).astype(np.float32)
    y = x[:, :1].copy()
    trainer, _ = steps(jl.Dense(1, precision="mixed_float16"), "sgd")
    x[3] = 1e30
    state, history = jl.fit(trainer, x, y, batch_size=4)
    assert np.isfinite(history["loss"][0])
    assert float(state.loss_scale.scale) == 2.0**14
    with pytest.raises(
        FloatingPointError, match=r"overflowed float16 even at a loss scale of 1 in epoch 1.*mixed_bfloat16"
    ) as caught:
        jl.fit(trainer, np.ones((128, 2), np.float32), np.full((128, 1), 1e9, np.float32), batch_size=4)
    assert caught.value.history == {"loss": [], "mae": []}
    with pytest.raises(FloatingPointError, match=r"the loss was not finite in any batch in epoch 1"):
        jl.fit(trainer, np.full((8, 2), 1e30, np.float32), y[:8], batch_size=4)


def test_small_gradients_survive_by_the_scale_alone():
    """A gradient of 2e-8 is 0 in float16; scaled by 2**15 it is 7e-4."""
    x, y = np.full((4, 2), 1e-4, np.float32), np.full((4, 1), 1e-4, np.float32)
    zeros = {"kernel_initializer": "zeros", "use_bias": False, "precision": "mixed_float16"}
    moved = {}
    for scale in ("auto", None, 2.0**15):
        trainer, state = steps(jl.Dense(1, **zeros), {"sgd": {"learning_rate": 1.0}}, loss_scale=scale)
        moved[scale] = np.asarray(trainer.train_step(state, (x, y))[0].params["kernel"])
    np.testing.assert_allclose(moved["auto"], 2e-8, rtol=1e-2)
    np.testing.assert_array_equal(moved["auto"], moved[2.0**15])
    assert np.all(np.abs(moved[None] - 2e-8) > 1e-8)


def test_a_run_goes_on_bit_for_bit():
    net = jl.Sequential(jl.Dense(8), jl.Dropout(0.2), jl.Dense(1), precision="mixed_float16")
    x = RNG.uniform(-0.5, 0.5, size=(32, 2)).astype(np.float32)
    x[5] = 1e30  # a step is left out in each epoch
    y = x[:, 1:].copy()
    y[5] = 0
    trainer, _ = steps(net)
    whole, history = jl.fit(trainer, x, y, batch_size=8, epochs=3)
    first, _ = jl.fit(trainer, x, y, batch_size=8)
    kept = pickle.loads(pickle.dumps(jax.device_get(first)))
    kept = jax.tree.map(jnp.asarray, kept)
    resumed, rest = jl.fit(trainer, x, y, batch_size=8, epochs=2, state=kept)
    same(resumed, whole)
    assert rest["loss"] == history["loss"][1:]
    assert float(whole.loss_scale.scale) == 2.0**12


def test_a_state_without_a_scale_is_refused_and_adopted():
    half, state = steps(jl.Dense(1, precision="mixed_float16"))
    plain, bare = steps(jl.Dense(1))
    x = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"received loss_scale=None; .* trainer.adopt\(state\)"):
        jl.fit(half, x, x[:, :1], state=bare)
    with pytest.raises(ValueError, match="loss_scale=None"):
        half.train_step(bare, (x, x[:, :1]))
    adopted, _ = jl.fit(half, x, x[:, :1], state=half.adopt(bare))
    assert adopted.loss_scale is not None
    assert plain.adopt(state).loss_scale is None


def test_without_float16_the_step_is_the_one_without_scaling():
    x = np.ones((4, 2), np.float32)
    text = {}
    for name, net, scale in (
        ("plain", jl.Dense(1), None),
        ("auto", jl.Dense(1), "auto"),
        ("policy", jl.Dense(1, precision="float32"), "auto"),
        ("dynamic", jl.Dense(1), "dynamic"),
    ):
        trainer, state = steps(net, loss_scale=scale)
        text[name] = trainer.train_step.lower(state, (x, x[:, :1])).as_text()
    assert text["plain"] == text["auto"] == text["policy"]
    assert text["dynamic"] != text["plain"]


def test_given_weights_take_the_dtype_of_the_policy():
    float32 = jl.Dense(3)
    params, state = float32.init(jax.random.key(0), (1, 2))
    half = jl.compile(jl.with_precision(float32, "bfloat16"), "sgd", "mse")
    started = half.init(jax.random.key(0), (1, 2), params=params, state=state)
    assert {leaf.dtype for leaf in jax.tree.leaves(started.params)} == {jnp.dtype("bfloat16")}


def test_a_run_keeps_its_precision(tmp_path):
    np.savez(tmp_path / "data.npz", x=X[:, :, :, 0], y=Y)
    experiment = loads(
        """
data: {npz: {path: data.npz, test_fraction: 0.25}}
model: {Sequential: [Flatten, {Dense: {units: 3, activation: softmax, name: head}}]}
precision: {"**": bfloat16, head: {Policy: {param: bfloat16, compute: bfloat16, output: float32}}}
loss: sparse_categorical_crossentropy
training: {epochs: 1}
""",
        base=tmp_path,
    )
    run = Run.create(tmp_path / "run", experiment.to_data())
    results = train_run(experiment, run)
    assert evaluate_run(run)[0] == results["test"]
    assert predict_run(run, X[:2, :, :, 0]).dtype == jnp.float32
    params = jax.eval_shape(lambda: experiment.model.init(jax.random.key(0), run.features()))[0]
    assert {str(leaf.dtype) for leaf in flatten(params).values()} == {"bfloat16"}
