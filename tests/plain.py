"""What layers compute, written in NumPy with plain loops: nothing of ours, nothing of JAX, no speed."""

from __future__ import annotations

import itertools
import math

import numpy as np


def windows(x, window, strides, dilation, padding, fill):
    """Pairs of an output position and the cells `(batch, *window, channels)` that its window sees.

    Cells outside of the data hold `fill`. `padding` is "valid", "same", to see the past only "causal", or a
    pair (before, after) for each axis.
    """
    sizes = x.shape[1:-1]
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    if padding == "valid":
        pads = [(0, 0) for _ in sizes]
    elif not isinstance(padding, str):
        pads = list(padding)
    elif padding == "causal":
        pads = [(r - 1, 0) for r in reach]
    else:
        out = [math.ceil(n / s) for n, s in zip(sizes, strides, strict=True)]
        total = [max((o - 1) * s + r - n, 0) for o, s, r, n in zip(out, strides, reach, sizes, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    counts = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, strides, strict=True)]
    for position in itertools.product(*map(range, counts)):
        starts = [p * s for p, s in zip(position, strides, strict=True)]
        cells = [slice(a, a + r, d) for a, r, d in zip(starts, reach, dilation, strict=True)]
        yield position, x[(slice(None), *cells, slice(None))]


def gathered(results):
    """An array `(batch, *positions, channels)` from pairs of a position and values `(batch, channels)`."""
    results = dict(results)
    last = max(results)
    first = next(iter(results.values()))
    y = np.zeros((first.shape[0], *(p + 1 for p in last), first.shape[1]))
    for position, values in results.items():
        y[(slice(None), *position)] = values
    return y


def convolution(x, kernel, bias, strides, dilation, padding, groups):
    rank = x.ndim - 2
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups

    def at(cells):
        y = np.zeros((x.shape[0], kernel.shape[-1]))
        for g in range(groups):
            own = kernel[..., g * outputs : (g + 1) * outputs]
            seen = cells[..., g * inputs : (g + 1) * inputs]
            y[:, g * outputs : (g + 1) * outputs] = np.tensordot(seen, own, axes=rank + 1)
        return y + bias

    seen = windows(x, kernel.shape[:rank], strides, dilation, padding, 0.0)
    return gathered((position, at(cells)) for position, cells in seen)


def transposed(x, kernel, bias, strides, dilation, cut, more):
    """Each cell of the data adds its window to the result, whose ends are then cut.

    The kernel is `(*window, filters, channels)`; `more` are positions at the end, to which nothing is added.
    """
    window, sizes = kernel.shape[:-2], x.shape[1:-1]
    axes = list(zip(sizes, window, strides, dilation, more, strict=True))
    whole = np.zeros(
        (len(x), *((n - 1) * s + (w - 1) * d + 1 + m for n, w, s, d, m in axes), kernel.shape[-2])
    )
    for position in np.ndindex(*sizes):
        for cell in np.ndindex(*window):
            at = tuple(p * s + c * d for p, s, c, d in zip(position, strides, cell, dilation, strict=True))
            whole[(slice(None), *at)] += x[(slice(None), *position)] @ kernel[cell].T
    kept = (slice(low, n - high) for n, (low, high) in zip(whole.shape[1:-1], cut, strict=True))
    return whole[(slice(None), *kept)] + bias


def depthwise(x, kernel, strides, padding):
    """Filter `m` of channel `c` gives channel `c * multiplier + m`."""
    rank, multiplier = x.ndim - 2, kernel.shape[-1]
    each = [
        convolution(x[..., [c]], kernel[..., [c], :], 0.0, strides, (1,) * rank, padding, 1)
        for c in range(x.shape[-1])
    ]
    assert all(y.shape[-1] == multiplier for y in each)
    return np.concatenate(each, axis=-1)


def pooling(x, window, strides, padding, kind):
    """Cells outside of the data do not count."""
    reduce = {"Max": np.nanmax, "Average": np.nanmean}[kind]
    over = tuple(range(1, x.ndim - 1))
    seen = windows(x, window, strides, (1,) * len(window), padding, np.nan)
    return gathered((position, reduce(cells, axis=over)) for position, cells in seen)


def standardized(x, axes, epsilon):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon)


def along(vector, rank, axes):
    """`vector` with its axes at `axes` of `rank` axes, the others 1."""
    return np.expand_dims(vector, [a for a in range(rank) if a not in axes])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(w, x, h):
    for x_t in np.swapaxes(x, 0, 1):
        h = np.tanh(x_t @ w["kernel"] + w.get("bias", 0.0) + h @ w["recurrent_kernel"])
        yield h, (h,)


def lstm(w, x, h, c):
    for x_t in np.swapaxes(x, 0, 1):
        z = x_t @ w["kernel"] + w.get("bias", 0.0) + h @ w["recurrent_kernel"]
        i, f, candidate, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        yield h, (h, c)


def gru(w, x, h, reset_after):
    """The reset gate works on the recurrent product, or on the state before it."""
    units = h.shape[1]
    bias = w.get("bias", np.zeros(3 * units))
    bias, second = bias if bias.ndim == 2 else (bias, np.zeros(3 * units))
    for x_t in np.swapaxes(x, 0, 1):
        z_x, r_x, h_x = np.split(x_t @ w["kernel"] + bias, 3, axis=1)
        z_h, r_h, h_h = np.split(h @ w["recurrent_kernel"] + second, 3, axis=1)
        z, r = sigmoid(z_x + z_h), sigmoid(r_x + r_h)
        if not reset_after:
            h_h = (r * h) @ w["recurrent_kernel"][:, 2 * units :]
        candidate = np.tanh(h_x + (r * h_h if reset_after else h_h))
        h = z * h + (1 - z) * candidate
        yield h, (h,)


def attention(query, key, value, allowed):
    """Each head by itself over `(batch, length, heads, size)`; `allowed(example, target, source)`.

    Heads of keys and values serve groups of query heads in order. Gives the output and the weights.
    """
    batch, targets, heads, size = query.shape
    sources, group = key.shape[1], heads // key.shape[2]
    weights = np.zeros((batch, heads, targets, sources))
    output = np.zeros((batch, targets, heads, value.shape[-1]))
    for b, n, t in itertools.product(range(batch), range(heads), range(targets)):
        for s in range(sources):
            if allowed(b, t, s):
                weights[b, n, t, s] = math.exp(query[b, t, n] @ key[b, s, n // group] / math.sqrt(size))
        total = weights[b, n, t].sum()
        weights[b, n, t] /= total if total else 1.0
        output[b, t, n] = weights[b, n, t] @ value[b, :, n // group]
    return output, weights
