"""The same random weights for an application here and in Keras, found by the names of layer and variable."""

from __future__ import annotations

import hashlib
import zlib

import jax
import numpy as np

import jlayers as jl
from jlayers.core.tree import flatten

SMALL = {"InceptionV3": 75, "Xception": 71}  # the least size, where it is not 32
STATISTICS = {"mean": (0.485, 0.456, 0.406), "variance": (0.229**2, 0.224**2, 0.225**2), "count": 0}


def drawn(path, shape):
    """Weights of a trained network's size, which depend on the path only."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    last = path.rpartition("/")[2]
    if last == "gamma":  # small, so that rounding does not grow from block to block
        return rng.uniform(0.2, 0.6, shape).astype(np.float32)
    if last == "moving_variance":
        return rng.uniform(0.6, 1.2, shape).astype(np.float32)
    fan_in = np.prod(shape[:-1]) if len(shape) == 2 or shape[-1] > 1 else np.prod(shape[:2])
    if len(shape) == 4 and path.split("/")[-2].endswith(("depthwise", "dwconv", "dwconv2")):
        fan_in = np.prod(shape[:2])
    scale = 0.1 if len(shape) < 2 else np.sqrt(2 / fan_in)
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def images(size, count=2):
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def specs(model, shape):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, "float32"))


def filled(model, shape):
    """Drawn parameters and state."""

    def fill(tree, path):
        if hasattr(tree, "shape"):
            return drawn(path, tree.shape)
        return {k: fill(v, f"{path}/{k}".lstrip("/")) for k, v in tree.items()}

    return tuple(fill(tree, "") for tree in specs(model, shape))


def forms(model, shape):
    """Shapes of all weights by path."""
    params, state = specs(model, shape)
    return {path: tuple(leaf.shape) for tree in (params, state) for path, leaf in flatten(tree).items()}


def digest(forms):
    """The number of weights, and a hash of their paths and shapes."""
    count = sum(int(np.prod(shape)) for shape in forms.values())
    text = "\n".join(f"{path} {tuple(shape)}" for path, shape in sorted(forms.items()))
    return {"count": count, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def output(model, x):
    params, state = filled(model, x.shape)
    run = jax.jit(lambda params, state, x: model.apply(params, state, x)[0])
    return np.asarray(run(params, state, x))


def ours(name, **arguments):
    return getattr(jl.applications, name)(**arguments)


# ------------------------------------------------------------------------------------------- Keras


def keras_model(name, **arguments):
    import keras

    keras.backend.clear_session()  # so that names are numbered from the start
    return getattr(keras.applications, name)(weights=None, **arguments)


def keras_variables(layer, path=""):
    """Pairs of a path as it is here and a variable, without those that are not weights here."""
    for inner in layer.layers:
        inside = f"{path}/{inner.name}".lstrip("/")
        if hasattr(inner, "layers"):
            yield from keras_variables(inner, inside)
            continue
        kind = type(inner).__name__
        for variable in inner.variables:
            if kind == "Normalization" or "seed_generator" in variable.path:
                continue
            name = "gamma" if kind == "LayerScale" else variable.name
            yield f"{inside}/{name}", variable


def keras_forms(model):
    return {path: tuple(variable.shape) for path, variable in keras_variables(model)}


def keras_output(model, x):
    for path, variable in keras_variables(model):
        variable.assign(drawn(path, tuple(variable.shape)))
    for layer in model.layers:
        if type(layer).__name__ == "Normalization" and layer.variables:
            for variable in layer.variables:
                variable.assign(np.broadcast_to(STATISTICS[variable.name], variable.shape))
            layer.finalize_state()
    weights = [[v.value for v in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    run = jax.jit(lambda weights, x: model.stateless_call(*weights, x, training=False)[0])
    return np.asarray(run(weights, x))
