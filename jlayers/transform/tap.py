"""The outputs of layers inside a layer, beside its own."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.core.errors import about, concerning, refused
from jlayers.core.layer import Layer, LayerLike, Wiring, layer
from jlayers.core.notes import current_path, observe
from jlayers.core.pair import Pair
from jlayers.core.tree import match_layers
from jlayers.core.wiring import as_layer

__all__ = ["Tap"]


@layer
def Tap(layer: LayerLike, at: str | Sequence[str]):
    """A layer that gives, beside its output, the outputs of layers inside it.

    For perceptual losses, feature pyramids, and to look inside a model. Outputs that are not used are not
    computed in a compiled program. Parameters and state: those of the layer, under the same paths, so that
    its weights fit.

    Shapes: the output is a pair `(output, inner)`, where `inner` is a dict with the output of each tapped
    layer by its path; the second use of a shared layer is `"path@1"`.

    Args:
        layer: any layer with layers inside.
        at: paths of layers inside, with `*` within one name and `**` for any number of names.

    Raises:
        ValueError: a pattern that matches no layer inside; or, when the layer runs, a path inside a loop or a
            `Remat`, which gives only its output.

    >>> import jax, jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8, name="features"), jl.Dense(2))
    >>> tapped = jl.Tap(model, at="features")
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> (output, inner), state = tapped.apply(params, state, jax.numpy.ones((1, 4)))
    >>> output.shape, inner["features"].shape
    ((1, 2), (1, 8))
    """
    from jax.extend.core import get_opaque_trace_state  # which loads Pallas

    base = as_layer(layer, "Tap")
    if base.wiring is None:
        raise refused(ValueError, "expected a layer with layers inside", raised_by="Tap", layer=base)
    patterns = [at] if isinstance(at, str) else list(at)
    inside = [path for path, _ in base.walk() if path]
    with concerning(at=at):
        wanted = dict.fromkeys(path for pattern in patterns for path in match_layers(pattern, inside))
    inner = base.wiring

    def wire(children: Mapping[str, Layer]) -> Pair:
        pair = inner.wire(children)

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            seen: dict[str, Any] = {}
            uses: Counter[str] = Counter()
            prefix = current_path()
            traced_by = get_opaque_trace_state()

            def note(path: str, layer: Layer, params: Any, state: Any, inputs: Any, output: Any) -> None:
                path = path.removeprefix(prefix).lstrip("/")
                if path not in wanted:
                    return
                if get_opaque_trace_state() != traced_by:
                    raise _hidden(path)
                seen[f"{path}@{uses[path]}" if uses[path] else path] = output
                uses[path] += 1

            with observe(note):
                output, moved = pair.apply(params, *inputs, state=state, key=key, train=train)
            if missing := [path for path in wanted if path not in seen]:
                raise _hidden(missing[0])
            return (output, seen), moved

        return pair.wrap(apply=apply)

    return dataclasses.replace(Wiring(inner.children, wire), stacked=inner.stacked, repeats=inner.repeats)


def _hidden(path: str) -> ValueError:
    error = ValueError(
        f"Tap: expected layers whose outputs leave the layers around them, received at={path!r}, which "
        f"does not run or stands inside a loop or a Remat; tap the layer around it"
    )
    return about(error, at=path)
