"""Calls of public functions that do not fit: errors that say what to write, in place of Python's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from jlayers.core.errors import about
from jlayers.core.shapes import describe
from jlayers.core.spelling import nearest

__all__ = ["taught"]

Function = TypeVar("Function", bound=Callable[..., Any])

# How a function is called: for calls that lack something or have too much.
_USES = {
    "Input": "jl.Input(shape), without the batch dimension",
    "Model": "jl.Model(inputs, outputs)",
    "adapt": "jl.adapt(layer, data)",
    "compile": "jl.compile(model, optimizer, loss, metrics)",
    "cut": "jl.cut(model, name)",
    "diff": "jl.diff(model, other) or, with weights, jl.diff((model, params), (other, other_params))",
    "draw": "jl.draw(model, file)",
    "evaluate": "jl.evaluate(trainer, state, x, y) with the state that jl.fit returns",
    "fit": "jl.fit(trainer, x, y)",
    "freeze": "jl.freeze(model, pattern)",
    "graph": "jl.graph(model)",
    "insert": "jl.insert(model, layer, after=name)",
    "load": "model, params, state = jl.load(path)",
    "load_exactly": "jl.load_weights(path, params, state), or jl.load_weights(model, path)",
    "predict": "jl.predict(trainer, state, x) with the state that jl.fit returns, or jl.predict(model, "
    "(params, model_state), x)",
    "replace_head": "jl.replace_head(model, layers, after=name)",
    "save": "jl.save(path, model, params, state)",
    "save_weights": "jl.save_weights(path, params, state)",
    "substitute": "jl.substitute(model, {pattern: function})",
    "summary": "jl.summary(model, shape)",
    "trainable_mask": "jl.trainable_mask(model, params)",
    "unfreeze": "jl.unfreeze(model, pattern)",
    "with_precision": "jl.with_precision(model, 'mixed_bfloat16')",
}

# What stands here for a keyword of other libraries: for any function, or for one.
_OPTIMIZER = "write it in the optimizer: jl.compile(model, jl.optimizers.adam(learning_rate), loss)"
_COMPILED = "it goes to jl.compile(model, optimizer, loss, metrics), whose result is fitted"
_FITTED = "it goes to jl.fit"
_LOADERS = "leave it out: a loader that is given as x has workers of its own"
_SILENT = "leave it out: nothing is printed"
_ANY_BATCH = "leave it out: a model takes batches of any size, and the shape has no batch dimension"
_KEYWORDS: Mapping[str, Mapping[str, str]] = {
    "": {"lr": _OPTIMIZER, "learning_rate": _OPTIMIZER, "training": "write train=True"},
    "fit": {
        "verbose": "write callbacks=[jl.ProgressBar()] to watch; without it nothing is printed",
        "initial_epoch": "write state=state: epochs continue counting in it",
        "validation_batch_size": "leave it out: the result does not depend on it",
        "validation_freq": "leave it out: validation follows each epoch",
        "key": "write seed=0: weights, order and dropout follow from it",
        "rng": "write seed=0: weights, order and dropout follow from it",
        "params": "write state=trainer.init(key, x, params=params)",
        "weights": "write params, rest, report = jl.load_weights(model, [jl.Weights(source, to=layer)], x, "
        "key=key) and state=trainer.init(key, x, params=params, state=rest)",
        **dict.fromkeys(("workers", "num_workers", "use_multiprocessing", "max_queue_size"), _LOADERS),
        **dict.fromkeys(("model", "optimizer", "loss", "metrics"), _COMPILED),
    },
    "evaluate": {
        "verbose": _SILENT,
        "callbacks": "leave it out: the result is a dict of numbers",
        "return_dict": "leave it out: the result is a dict",
        **dict.fromkeys(("metrics", "loss"), _COMPILED),
    },
    "predict": {
        "verbose": _SILENT,
        "callbacks": "leave it out: the result is an array",
        "steps": "leave it out: all of x is predicted, so give the part that is wanted",
        "y": "leave it out: predictions need no targets",
    },
    "compile": {
        "run_eagerly": "write with jax.disable_jit(): around the call",
        "jit_compile": "leave it out: steps are always compiled",
        "steps_per_execution": "write jl.fit(..., steps_per_call=...)",
        "auto_scale_loss": "write loss_scale='dynamic', or leave it out: float16 has it by itself",
        "from_logits": "write it in the loss: {'SparseCategoricalCrossentropy': {'from_logits': True}}",
        **dict.fromkeys(("epochs", "batch_size", "callbacks", "class_weight", "sample_weight"), _FITTED),
    },
    "Input": {
        "batch_shape": "write jl.Input(shape) without the batch dimension: a model takes any batch size",
        "batch_size": _ANY_BATCH,
        "batch_input_shape": _ANY_BATCH,
        "input_shape": "write jl.Input(shape)",
        "tensor": "a node has no values; to build on a model that there is, see jl.graph(model)",
        **dict.fromkeys(("sparse", "ragged"), "leave it out: arrays are dense, and padding has a jl.Masked"),
        "optional": "leave it out: each input is given",
    },
    "Model": {"training": "leave it out: layer.apply(params, state, x, train=True) says it"},
    "freeze": {"layers": "write jl.freeze(model, pattern, another): patterns of paths, by position"},
}


def taught(function: Function) -> Function:
    """Decorator: calls with arguments that the function lacks raise an error that says what to write.

    >>> import jlayers as jl
    >>> jl.Input(batch_shape=(None, 3))
    Traceback (most recent call last):
    TypeError: Input has no argument 'batch_shape' (received batch_shape=(None, 3)): write jl.Input(shape) ...
    """
    signature = inspect.signature(function)
    models = [p.name for p in signature.parameters.values() if p.annotation == "Layer"]

    @functools.wraps(function)
    def called(*args: Any, **keywords: Any) -> Any:
        try:
            bound = signature.bind(*args, **keywords)
        except TypeError as error:
            raise _misfit(function.__name__, signature, args, keywords, error) from None
        for name in models:
            if not hasattr(type(bound.arguments[name]), "walk"):  # as every layer has
                error = TypeError(
                    f"{function.__name__}: expected a layer as {name}, received "
                    f"{_short(bound.arguments[name])}; write {_use(function.__name__, signature)}"
                )
                raise about(error, **{name: bound.arguments[name]})
        return function(*args, **keywords)

    return cast(Any, called)


def _misfit(
    name: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
    error: TypeError,
) -> TypeError:
    known = signature.parameters
    for word, value in keywords.items():
        if word not in known:
            words = {**_KEYWORDS[""], **_KEYWORDS.get(name, {})}
            fix = words[word] if word in words else nearest(word, known)
            wrong = TypeError(f"{name} has no argument {word!r} (received {word}={_short(value)}): {fix}")
            return about(wrong, **{word: value})
    use = _use(name, signature)
    positional = [p.name for p in known.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    if len(args) > len(positional):
        more = _short(args[len(positional)])
        rest = [p.name for p in known.values() if p.kind == p.KEYWORD_ONLY]
        named = f"; what follows has a name, such as {rest[0]}=..." if rest else ""
        return TypeError(
            f"{name}: expected {len(positional)} arguments by position ({', '.join(positional)}), received "
            f"{len(args)}, the next one {more}; write {use}{named}"
        )
    return TypeError(f"{name}: {error}; write {use}")


def _use(name: str, signature: inspect.Signature) -> str:
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return _USES.get(name) or f"{name}{inspect.Signature(bare)}"


def _short(value: Any, most: int = 60) -> str:
    """The value, or its kind if that is long: models and states fill a page."""
    text = describe(value) if hasattr(value, "shape") else repr(value)
    return text if len(text) <= most else f"a {type(value).__name__}"
