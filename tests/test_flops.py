"""FLOPs: by hand, against the compiler where there is no loop, and with honest caveats where unknown."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlayers.inspect.flops import FlopCount, flop_count, flops


def compiled_flops(function, *args):
    """What the compiler counts, transcendental functions included."""
    analysis = jax.jit(function).lower(*args).compile().cost_analysis()
    return analysis["flops"] + analysis.get("transcendentals", 0)


def conv(strides=(1, 1), padding="SAME", **kwargs):
    return lambda x, w: jax.lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **kwargs
    )


def test_matrix_product():
    assert flops(jnp.dot, (8, 100), (100, 10)) == 2 * 8 * 100 * 10


def test_batched_matrix_product():
    def attend(q, k):
        return jnp.einsum("bqhd,bkhd->bhqk", q, k)

    assert flops(attend, (2, 5, 3, 4), (2, 7, 3, 4)) == 2 * (2 * 3 * 5 * 7) * 4


def test_dense_with_bias_and_relu_by_hand():
    def dense(x, w, b):
        return jax.nn.relu(x @ w + b[None])

    assert flops(dense, (8, 100), (100, 10), (10,)) == 2 * 8 * 100 * 10 + 8 * 10 + 8 * 10


def test_valid_convolution_by_hand():
    count = flops(conv(padding="VALID"), (2, 28, 28, 3), (3, 3, 3, 16))
    assert count == 2 * (2 * 26 * 26 * 16) * (3 * 3 * 3)


@pytest.mark.parametrize(
    ("kernel", "kwargs"),
    [
        ((3, 3, 4, 8), {}),
        ((3, 2, 4, 8), {"strides": (2, 3)}),
        ((3, 3, 4, 8), {"strides": (2, 1), "padding": ((0, 3), (2, 1))}),
        ((3, 3, 4, 8), {"padding": "VALID"}),
        ((3, 3, 4, 8), {"rhs_dilation": (2, 3)}),
        ((3, 3, 4, 8), {"lhs_dilation": (2, 2), "padding": ((2, 1), (2, 2))}),
        ((3, 3, 4, 8), {"lhs_dilation": (3, 2), "rhs_dilation": (2, 1), "padding": ((2, 1), (2, 2))}),
        ((3, 3, 2, 8), {"feature_group_count": 2}),
        ((3, 3, 1, 12), {"feature_group_count": 4}),
        ((3, 3, 4, 8), {"batch_group_count": 2}),
        ((3, 3, 4, 8), {"padding": ((-1, 0), (0, -2))}),
    ],
)
def test_convolution_counts_what_the_compiler_counts(kernel, kwargs):
    x, w = jnp.ones((2, 9, 11, 4)), jnp.ones(kernel)
    lowered = jax.jit(conv(**kwargs)).lower(x, w)  # before the compiler rewrites it as a matrix product
    assert flops(conv(**kwargs), x, w) == lowered.cost_analysis()["flops"]


def test_convolution_counts_real_pairs_only():
    """Against a loop over every output position and kernel element."""
    size, kernel, stride, before, spread, dilation = 7, 3, 2, 2, 2, 2

    def function(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (stride,), ((before, 3),), (spread,), (dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        )

    out = jax.eval_shape(function, jnp.ones((1, size, 1)), jnp.ones((kernel, 1, 1))).shape[1]
    real = np.zeros(((size - 1) * spread + 1 + 100,), int)
    real[: (size - 1) * spread + 1 : spread] = 1
    pairs = 0
    for o, k in itertools.product(range(out), range(kernel)):
        place = o * stride + k * dilation - before
        pairs += place >= 0 and real[place]
    assert flops(function, (1, size, 1), (kernel, 1, 1)) == 2 * pairs


def test_convolution_gradients_cost_twice_the_forward_pass():
    def loss(x, w):
        return conv(padding="VALID")(x, w).sum()

    forward = flops(conv(padding="VALID"), (4, 12, 12, 8), (3, 3, 8, 8))
    both = flops(jax.grad(loss, (0, 1)), (4, 12, 12, 8), (3, 3, 8, 8))
    assert both == pytest.approx(3 * forward, rel=0.01)


@pytest.mark.parametrize("kind", ["max", "add"])
def test_pooling_counts_what_the_compiler_counts(kind):
    start, fold = {"max": (-jnp.inf, jax.lax.max), "add": (0.0, jax.lax.add)}[kind]

    def pool(x):
        return jax.lax.reduce_window(x, start, fold, (1, 3, 2, 1), (1, 2, 2, 1), "SAME")

    x = jnp.ones((2, 10, 10, 3))
    assert flops(pool, x) == compiled_flops(pool, x) == 2 * 5 * 5 * 3 * 5


def test_whole_network_is_within_two_percent_of_the_compiler():
    def network(x, w1, b1, w2, b2):
        x = jax.nn.relu(conv()(x, w1) + b1[None, None, None])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return jax.nn.softmax(x.reshape(x.shape[0], -1) @ w2 + b2[None])

    shapes = [(8, 12, 12, 3), (3, 3, 3, 16), (16,), (6 * 6 * 16, 10), (10,)]
    args = [jnp.ones(shape) for shape in shapes]
    assert flops(network, *args) == pytest.approx(compiled_flops(network, *args), rel=0.02)


def test_scan_counts_every_step_and_the_compiler_does_not():
    def run(w, xs):
        return jax.lax.scan(lambda h, x: (h @ w + x, h.sum()), xs[0], xs)[0]

    args = jnp.ones((16, 16)), jnp.ones((50, 4, 16))
    step = 2 * 4 * 16 * 16 + 4 * 16 + (4 * 16 - 1)
    assert flops(run, *args) == 50 * step
    assert compiled_flops(run, *args) < 10 * step


def test_nested_scans_multiply():
    def inner(x):
        return jax.lax.fori_loop(0, 3, lambda i, x: x * 2.0, x)

    def outer(x):
        return jax.lax.fori_loop(0, 5, lambda i, x: inner(x), x)

    assert flop_count(outer, (7,)) == FlopCount(3 * 5 * 7)


def test_while_of_unknown_length_says_so():
    count = flop_count(lambda x: jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x), (10,))
    assert count.total == 10 + 9 + 1
    assert "number of rounds is not known" in count.caveats[0]


def test_while_over_whole_numbers_only_is_exact():
    def function(n):
        return jax.lax.while_loop(lambda n: n > 0, lambda n: n - 1, n)

    assert flop_count(function, jnp.int32(5)) == FlopCount(0)


def test_branches_count_the_dearest():
    def function(p, x):
        return jax.lax.cond(p, lambda x: x @ x, lambda x: x + 1, x)

    assert flops(function, jnp.bool_(True), (6, 6)) == 2 * 6**3


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.custom_vjp(f),
        lambda f: jax.custom_jvp(f),
        lambda f: jax.jit(jax.checkpoint(jax.jit(f))),
    ],
    ids=["jit", "checkpoint", "custom_vjp", "custom_jvp", "nested"],
)
def test_calls_are_entered(wrap):
    function = wrap(lambda x: x @ x)
    if hasattr(function, "defvjp"):
        function.defvjp(lambda x: (x @ x, x), lambda x, g: (g,))
    elif hasattr(function, "defjvp"):
        function.defjvp(lambda x, t: (x[0] @ x[0], t[0]))
    assert flop_count(function, (6, 6)) == FlopCount(2 * 6**3)


def test_a_function_called_twice_counts_twice():
    square = jax.jit(lambda x: x @ x)
    assert flops(lambda x: square(square(x)), (6, 6)) == 2 * 2 * 6**3


def test_shard_map_counts_all_shards():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    function = jax.shard_map(lambda x: x * x, mesh=mesh, in_specs=spec, out_specs=spec)
    assert flops(function, (6, 6)) == 36


def test_moving_casting_and_whole_numbers_are_free():
    def function(x, n):
        y = jnp.concatenate([x.T, x.astype(jnp.bfloat16).astype(x.dtype)])[::-1].reshape(-1)
        return jnp.where(y[None] == y[None], y[None], y[None])[0][n + n]

    assert flops(function, (4, 4), jnp.arange(3)) == 32  # the comparison


def test_random_bits_are_free_and_their_use_is_not():
    count = flop_count(lambda key: jax.random.uniform(key, (100,)), jax.random.key(0))
    assert 0 < count.total <= 500
    assert not count.caveats


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (lambda x: x**2, ((3, 4),), 12),
        (lambda x: x**-7, ((3,),), 3 * 5),
        (lambda x: x.sum(), ((3, 4),), 11),
        (lambda x: x.max(axis=1), ((3, 4),), 9),
        (lambda x: jnp.argmax(x, axis=1), ((3, 4),), 9),
        (lambda x: jnp.cumsum(x, axis=1), ((3, 4),), 12),
        (lambda x: jnp.tanh(jnp.exp(x)), ((3, 4),), 24),
        (lambda x: jax.lax.clamp(0.0, x, 1.0), ((3, 4),), 24),
        (lambda x, u: x.at[jnp.array([0, 1])].add(u), ((5, 4), (2, 4)), 8),
        (lambda x: jax.scipy.linalg.cholesky(x), ((6, 6),), 6**3 // 3),
        (lambda x: jnp.fft.fft(x), ((8,),), 5 * 8 * 3),
        (lambda x: jnp.fft.rfft(x), ((8,),), 5 * 8 * 3 // 2),
        (lambda x: jax.lax.reduce(x, 1.0, lambda a, b: a * b + a, (0,)), ((5, 2),), 2 * 4 * 2),
    ],
)
def test_single_operations(function, args, expected):
    assert flops(function, *args) == expected


def test_a_foreign_kernel_is_named():
    def function(x):
        return jax.pure_callback(lambda x: np.asarray(x), x, x)

    (caveat,) = flop_count(function, (3,)).caveats
    assert caveat == "pure_callback: its operations are not known, counted as none"


def test_common_functions_need_no_caveat():
    for function in (
        jax.nn.gelu,
        jax.nn.softmax,
        jax.nn.log_softmax,
        jax.nn.selu,
        jnp.sort,
        jnp.var,
        jnp.linalg.norm,
        jax.nn.silu,
    ):
        assert not flop_count(function, (4, 5)).caveats, function
    for function in (jax.grad(lambda x: jax.nn.gelu(x).var()), jax.grad(lambda x: jax.nn.softmax(x)[0, 0])):
        assert not flop_count(function, (4, 5)).caveats


def test_shape_structs_and_pytrees_are_taken():
    spec = jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)
    assert flops(lambda p: p["a"] + p["b"], {"a": spec, "b": spec}) == 12
    assert int(flop_count(lambda x: x + x, spec)) == 12
