"""Slips of users of Keras, Flax and PyTorch: each error names what to write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl

DATA, LABELS = np.ones((4, 3), np.float32), np.zeros(4, np.int32)
MODEL = jl.Sequential(jl.Input((3,)), jl.Dense(2, activation="softmax"))
KEY = jax.random.key(0)
PARAMS, STATE = MODEL.init(KEY, DATA)
TRAINER = jl.compile(MODEL, optimizer="adam", loss="sparse_categorical_crossentropy")
IDS = jnp.array([[1, 2, 0]])
WORDS = jl.Embedding(9, 4, mask_zero=True)
MASKED = WORDS.apply(*WORDS.init(KEY, IDS), IDS)[0]
VECTOR, STEPS = jl.Input((3,)), jl.Input((5, 4))
H, C = jl.Input((4,)), jl.Input((4,))


@jl.layer
def Astray():
    """A container whose route calls a child that it does not have."""
    return jl.routed({"a": jl.Dense(2)}, lambda call, x: call("b", x))


def graphs_of_two_calls():
    return jl.Model(jl.graph(MODEL).inputs, jl.graph(MODEL)["dense"])


def set_trainable():
    MODEL.trainable = False


KERAS = [
    (lambda: jl.evaluate(TRAINER, DATA, LABELS), "as the second argument"),
    (lambda: jl.predict(MODEL, PARAMS, DATA), r"a pair \(params, model_state\)"),
    (lambda: VECTOR + MASKED, r"jl\.Lambda\(function\)"),
    (lambda: MASKED + MASKED, r"would lose the mask; write jl\.Add\(\)"),
    (lambda: MASKED * 2, r"x\.values"),
    (lambda: MASKED[:, 0], r"x\.values"),
    (lambda: np.argmax(MASKED), r"x\.values"),
    (graphs_of_two_calls, "each call of jl.graph makes new nodes, so call it once"),
    (lambda: MODEL(VECTOR, training=False), r"jl\.Inference\(layer\)\(x\)"),
    (lambda: jl.LSTM(4)(STEPS, [H, C]), r"one by one, received 2 in a list; .*layer\(x, h, c\)"),
    (lambda: jl.LSTM(4)(STEPS, initial_state=[H, C]), r"layer\(x, h, c\)"),
    (lambda: jl.LSTMCell(4).init(KEY, (2, 4), [(2, 4), (2, 4)]), r"one by one, received 2 in a list"),
    (lambda: jl.TextVectorization().adapt(["a"]), r"write jl\.adapt\(it, data\)"),
    (lambda: jl.Normalization().adapt(DATA), r"write jl\.adapt\(layer, data\)"),
    (lambda: jl.Input((1,), dtype="string"), r"jl\.TextVectorization\(\)"),
    (lambda: jl.layers.StringLookup, r"write jl\.StringLookup: it is not a layer but a preprocessor"),
    (lambda: jl.layers.TextVectorization, r"write jl\.TextVectorization"),
    (lambda: MODEL.fit(DATA, LABELS), r"jl\.fit\(jl\.compile\(model, optimizer, loss\), x, y\)"),
    (lambda: MODEL.layers, r"write model\.children"),
    (lambda: MODEL.output, r"jl\.graph\(model\)"),
    (lambda: MODEL.count_params(), r"jl\.summary\(model\)\.params"),
    (lambda: MODEL.get_config(), r"layer\.to_data\(\)"),
    (lambda: MODEL.trainable_variables, "weights are values beside a layer"),
    (set_trainable, r"write jl\.freeze\(model, pattern\)"),
    (lambda: jl.Dense(2, input_shape=(3,)), r"put jl\.Input\(shape\) at the head"),
    (lambda: jl.Dense(2, input_dim=3), r"put jl\.Input\(shape\) at the head"),
    (lambda: jl.Dropout(0.5, seed=1), "give the key to the call"),
    (lambda: jl.Dense(2)(DATA), r"layer\.apply\(params, state, x\)"),
    (lambda: jl.Dense(2, 4), "expected an activation by name"),
    (lambda: jl.Dense(2, activation=jl.ReLU), r"expected an activation, received the constructor ReLU; call"),
    (lambda: jl.keras, r"jl\.Dense and the other layers"),
    (lambda: jl.Sequential(jl.Dense), r"call it: Dense\(\.\.\.\)"),
    (lambda: jl.Sequential().add(jl.Dense(2)), "at least one layer"),
    (lambda: jl.fit(TRAINER, DATA, LABELS, verbose=0), r"write callbacks=\[jl\.ProgressBar\(\)\]"),
    (lambda: jl.fit(TRAINER, DATA, LABELS, batch=2), "did you mean 'batch_size'"),
    (lambda: jl.fit(TRAINER, DATA, LABELS, 32), r"arguments by position \(trainer, x, y\).*batch_size="),
    (lambda: jl.fit(TRAINER, DATA, LABELS, initial_epoch=2), "write state=state"),
    (lambda: jl.fit(TRAINER, DATA, LABELS, validation_freq=2), "leave it out"),
    (lambda: jl.fit(TRAINER), r"write jl\.fit\(trainer, x, y\)"),
    (lambda: jl.fit(MODEL, DATA, LABELS), r"received a Layer; write jl\.fit\(trainer, x, y\)"),
    (lambda: jl.fit(TRAINER, DATA, LABELS, shuffle="batch"), "shuffle to be True or False"),
    (lambda: jl.fit(TRAINER, DATA, LABELS, state=(PARAMS, STATE)), r"trainer\.init\(key, x, params=params"),
    (lambda: jl.fit(TRAINER, {"a": DATA}, LABELS), r"expected one array, received \{a: float32"),
    (lambda: jl.predict(TRAINER, DATA), r"write jl\.predict\(trainer, state, x\)"),
    (lambda: jl.predict(TRAINER, (PARAMS, STATE), DATA, verbose=0), "nothing is printed"),
    (lambda: jl.evaluate(TRAINER, (PARAMS, STATE)), r"write jl\.evaluate\(trainer, state, x, y\)"),
    (lambda: jl.evaluate(TRAINER, (PARAMS, STATE), DATA, return_dict=True), "the result is a dict"),
    (lambda: jl.compile(MODEL, loss="mse", learning_rate=1), r"jl\.optimizers\.adam\(learning_rate\)"),
    (lambda: jl.compile(MODEL, loss="mse", run_eagerly=True), r"jax\.disable_jit\(\)"),
    (lambda: jl.compile(MODEL, "mse", "adam"), "the optimizer before the loss"),
    (lambda: jl.compile(MODEL, loss=jl.losses.MeanSquaredError), r"call it: MeanSquaredError\(\.\.\.\)"),
    (lambda: jl.compile(MODEL, jl.optimizers.Adam, "mse"), r"call it: adam\(\.\.\.\)"),
    (lambda: jl.optimizers.Adam(lr=0.1), "write learning_rate=0.1"),
    (lambda: jl.Input(batch_shape=(None, 3)), "without the batch dimension"),
    (lambda: jl.Model(inputs=VECTOR), r"write jl\.Model\(inputs, outputs\)"),
    (lambda: jl.losses.mean_squared_error, r"write jl\.losses\.MeanSquaredError\(\)"),
    (lambda: jl.losses.CategoricalCrosentropy, "did you mean 'CategoricalCrossentropy'"),
    (lambda: jl.metrics.F1, r"write jl\.metrics\.F1Score\(\)"),
    (lambda: jl.optimizers.schedules.CosineDecay, r"write jl\.optimizers\.cosine_decay_schedule"),
    (lambda: jl.initializers.HeNorml, "did you mean 'HeNormal'"),
    (lambda: jl.layers.Sequential, r"write jl\.Sequential"),
    (lambda: jl.models, r"jl\.Sequential and jl\.Model"),
    (lambda: jl.utils, r"jl\.data, which has to_categorical"),
    (lambda: TRAINER.fit(DATA, LABELS), r"write jl\.fit\(trainer, x, y\)"),
    (lambda: TRAINER.init(KEY, DATA).weights, r"write state\.params"),
    (lambda: MODEL.save("model"), r"write jl\.save\(path, model, params, state\)"),
    (lambda: jl.save("model", MODEL), r"write jl\.save\(path, model, params, state\)"),
    (lambda: jl.summary(TRAINER), r"expected a layer as model, received a Trainer"),
    (lambda: jl.reset_state(MODEL), "expected the state of a model as a dict"),
    (lambda: jnp.sum(MASKED), r"x\.values"),
    (lambda: jax.nn.relu(MASKED), r"x\.values"),
    (lambda: MASKED.shape, r"received '\.shape' on masked values.*x\.values"),
    (lambda: MASKED.mean(1), r"x\.values"),
    (lambda: MASKED == 1, r"x\.values"),
    (lambda: len(MASKED), r"x\.values"),
]
FLAX = [
    (lambda: MODEL.apply(PARAMS, DATA), r"params, state = layer\.init\(key, x\)"),
    (lambda: MODEL.apply({"params": PARAMS}, DATA), r"y, state = layer\.apply\(params, state, x\)"),
    (lambda: MODEL.apply({"params": PARAMS}, {}, DATA), "expected a parameter or state named 'kernel'"),
    (lambda: MODEL.init(DATA), r"write layer\.init\(jax\.random\.key\(seed\), x\)"),
    (lambda: MODEL.init(0, DATA), r"write layer\.init\(jax\.random\.key\(seed\), x\)"),
    (lambda: MODEL.apply(PARAMS, STATE, DATA, rngs={"dropout": KEY}), "write key=key"),
    (lambda: MODEL.apply(PARAMS, STATE, DATA, deterministic=True), "write train=False"),
    (lambda: MODEL.apply(PARAMS, STATE, DATA, mutable=["batch_stats"]), "what moved is always returned"),
    (lambda: jl.freeze(MODEL).apply(PARAMS, STATE, DATA, training=True), "write train=True"),
    (lambda: jl.with_precision(MODEL, "float32").apply(PARAMS, STATE, DATA, rng=KEY), "write key=key"),
    (lambda: jl.BatchNormalization(use_running_average=True), r"layer\.apply\(\.\.\., train=True\)"),
    (lambda: jl.Dense(features=3), r"write units=\.\.\."),
    (lambda: jl.Conv2D(features=3, kernel_size=3), r"write filters=\.\.\."),
    (lambda: jl.Dense(3, kernel_init="zeros"), r"write kernel_initializer=\.\.\."),
    (lambda: jl.LayerNorm, r"write jl\.LayerNormalization\(\)"),
    (lambda: jl.Embed, r"write jl\.Embedding"),
    (lambda: jl.Module, r"a function under @jl\.layer"),
    (lambda: jl.nn.Dense, r"jl\.Dense and the other layers"),
    (lambda: MODEL.tabulate(KEY, DATA), r"jl\.summary\(model, shape\)"),
    (lambda: MODEL.bind(PARAMS), r"layer\.apply\(params, state, x\)"),
    (lambda: type("Mine", (jl.Layer,), {}), r"a function under @jl\.layer"),
    (lambda: jl.routed([jl.Dense(2)], lambda call, x: x), "expected the layers by name"),
    (lambda: Astray().init(KEY, (1, 3)), "the route calls 'b', which is not a child: valid: a"),
    (lambda: jl.BatchNorm, r"write jl\.BatchNormalization\(\)"),
    (lambda: jl.RMSNorm, r"write jl\.RMSNormalization\(\)"),
    (lambda: jl.MultiHeadDotProductAttention, r"write jl\.MultiHeadAttention"),
    (lambda: jl.compact, r"a function under @jl\.layer"),
    (lambda: jl.Rngs, r"write jax\.random\.key\(seed\)"),
    (lambda: MODEL.variables, "weights are values beside a layer"),
    (lambda: jnp.tanh(VECTOR), r"jl\.Activation\('tanh'\)\(node\)"),
    (lambda: MODEL.init(), r"write layer\.init\(jax\.random\.key\(seed\), x\)"),
    (lambda: MODEL.apply(), r"params, state = layer\.init\(key, x\)"),
    (lambda: TRAINER.init(KEY, DATA).apply_gradients(), r"trainer\.train_step\(state, jl\.Batch\(x, y\)\)"),
]
TORCH = [
    (lambda: jl.Linear, r"write jl\.Dense\(units\)"),
    (lambda: jl.Conv2d, "did you mean 'Conv2D'"),
    (lambda: jl.BatchNorm2d, r"write jl\.BatchNormalization\(\)"),
    (lambda: jl.ModuleList, r"jl\.Sequential"),
    (lambda: jl.CrossEntropyLoss, "loss='sparse_categorical_crossentropy'"),
    (lambda: jl.Dense(in_features=3, out_features=2), r"put jl\.Input\(shape\) at the head"),
    (lambda: jl.Dense(out_features=2), r"write units=\.\.\."),
    (lambda: jl.Dense(2, bias=False), r"write use_bias=\.\.\."),
    (lambda: jl.Dropout(p=0.5), r"write rate=\.\.\."),
    (lambda: jl.Embedding(num_embeddings=3, embedding_dim=2), r"write input_dim=\.\.\."),
    (lambda: jl.LSTM(4, batch_first=True), "the batch comes first"),
    (lambda: jl.LSTM(hidden_size=4), r"write units=\.\.\."),
    (lambda: jl.LayerNormalization(eps=1e-5), r"write epsilon=\.\.\."),
    (lambda: jl.Conv2D(3, 3, stride=2), "did you mean 'strides'"),
    (lambda: jl.Conv2D(3, 3, dilation=2), r"write dilation_rate=\.\.\."),
    (lambda: jl.ReLU(inplace=True), "arrays are values"),
    (lambda: jl.Dense(2, device="cuda"), "runs where its arrays are"),
    (lambda: MODEL.parameters(), "weights are values beside a layer"),
    (lambda: MODEL.state_dict(), "weights are values beside a layer"),
    (lambda: MODEL.load_state_dict({}), "weights are values beside a layer"),
    (lambda: MODEL.eval(), r"layer\.apply\(params, state, x\)"),
    (lambda: MODEL.train(), r"train=True"),
    (lambda: MODEL.forward(DATA), r"layer\.apply\(params, state, x\)"),
    (lambda: MODEL.to("cuda"), r"jax\.device_put"),
    (lambda: MODEL.zero_grad(), r"jax\.grad"),
    (lambda: MODEL[0], r"model\.children\[name\]"),
    (lambda: jl.Sequential(jl.Dense(2), jax.nn.relu), r"jl\.Activation\(function\)"),
    (lambda: VECTOR > 0, r"jl\.Lambda\(function\)"),
    (lambda: VECTOR.relu(), r"received \.relu of .*jl\.Activation\('tanh'\)\(node\)"),
    (lambda: MODEL.register_buffer("a", DATA), r"init returns \(params, state\)"),
    (lambda: jl.Task(MODEL, lambda call, batch, key: 0), r"write jl\.Task\(\{'model': model\}, loss\)"),
    (lambda: jl.losses.CrossEntropy, r"jl\.losses\.SparseCategoricalCrossentropy\(from_logits=True\)"),
    (lambda: jl.losses.BCEWithLogitsLoss, r"jl\.losses\.BinaryCrossentropy\(from_logits=True\)"),
    (lambda: jl.optim, r"jl\.optimizers"),
    (lambda: jl.no_grad, r"gradients are taken by jl\.fit and jax\.grad only"),
    (lambda: jl.data.DataLoader, r"any loader in place of x"),
]
SLIPS = [
    (name, *slip) for name, slips in (("keras", KERAS), ("flax", FLAX), ("torch", TORCH)) for slip in slips
]


@pytest.mark.parametrize(
    ("act", "text"), [slip[1:] for slip in SLIPS], ids=[f"{name}-{text[:30]}" for name, _, text in SLIPS]
)
def test_a_slip_is_told_what_to_write(act, text):
    with pytest.raises((TypeError, ValueError, AttributeError, KeyError), match=text):
        act()


def test_there_are_thirty_slips_of_each():
    assert min(map(len, (KERAS, FLAX, TORCH))) >= 30


def test_keras_has_input_among_its_layers():
    assert jl.layers.Input is jl.Input
    assert jl.layers.Pipeline is jl.Sequential


def test_a_batch_of_one_is_added_to_each_sample():
    total, _ = jl.Add().apply({}, {}, jnp.ones((3, 2, 4)), jnp.ones((1, 2, 4)))
    assert total.shape == (3, 2, 4)
    np.testing.assert_array_equal(total, 2)
