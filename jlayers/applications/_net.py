"""A network written down layer by layer: the table of a `Model`, made without a look at shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.core.node_table import model_from_table
from jlayers.core.registry import ActivationLike
from jlayers.layers import Dense, GlobalAveragePooling2D, GlobalMaxPooling2D

__all__ = [
    "ImageShape",
    "Net",
    "Pooling",
    "check_classes",
    "classifier",
    "image_net",
    "make_divisible",
    "pooled",
    "pooled_or_classified",
]

ImageShape = tuple[int | None, int | None, int]
Pooling = Literal["avg", "max"]


class Net:
    """Named nodes so far. Calling the net adds a layer and gives the name of its node.

    Layers without a name are numbered as Keras numbers them, in the order in which they are added. Since
    nothing is traced, a network of a thousand layers is made in milliseconds.

    Attributes:
        input: name of the input node.
    """

    def __init__(self, input_shape: Sequence[int | None], dtype: str = "float32", name: str = "input_layer"):
        self.input = name
        self.channels = input_shape[-1]
        self._nodes: dict[str, dict[str, Any]] = {}
        self._used: Counter[str] = Counter()
        self.add_input(name, input_shape, dtype)

    def add_input(self, name: str, shape: Sequence[int | None], dtype: str) -> str:
        self._nodes[name] = {"input": list(shape), "dtype": dtype}
        return name

    def __call__(self, layer: Layer, *inputs: str) -> str:
        name = layer.name
        if name is None:
            stem = layer.spec.stem
            name = f"{stem}_{self._used[stem]}" if self._used[stem] else stem
            self._used[stem] += 1
        assert name not in self._nodes, f"two layers are named {name!r}"
        self._nodes[name] = {"layer": layer, "inputs": list(inputs)}
        return name

    def chain(self, x: str, *layers: Layer) -> str:
        """Add layers one after the other, the first of them on `x`."""
        for layer in layers:
            x = self(layer, x)
        return x

    def model(self, output: Any, inputs: Any = None) -> Layer:
        """The model that leads from the input to `output`."""
        return model_from_table(self.input if inputs is None else inputs, self._nodes, output)


def image_net(input_shape: Sequence[int | None] | None, least: int = 32, default: int | None = None) -> Net:
    """A net on images, its shape checked.

    Args:
        input_shape: shape of an image; None for three channels and any size, or the size that is the default.
        least: the smallest height and width that the network can take.
        default: height and width where the network needs to know them.
    """
    shape = (default, default, 3) if input_shape is None else tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) or (n is None and i < 2) for i, n in enumerate(shape)):
        raise refused(
            ValueError, "expected height, width and channels, such as (224, 224, 3)", input_shape=input_shape
        )
    if any(n is not None and n < least for n in shape[:2]) or not shape[2] or shape[2] < 1:
        raise refused(
            ValueError,
            f"expected images of at least {least} by {least} and a channel",
            instead="resize them with jl.Resizing",
            input_shape=input_shape,
        )
    if default is not None and None in shape:
        raise refused(
            ValueError, "expected a known height and width, which this network needs", input_shape=input_shape
        )
    return Net(shape)


def pooled_or_classified(
    net: Net,
    x: str,
    include_top: bool,
    pooling: Pooling | None,
    classes: int,
    classifier_activation: ActivationLike | None,
    *before: Layer,
    named: bool = True,
    **options: Any,
) -> Layer:
    """The model with its end: classes over globally pooled features, or the features, pooled or not.

    Args:
        net: the network.
        x: its last node.
        include_top: with the classifier.
        pooling: pooling of the features, without it.
        classes: number of classes.
        classifier_activation: activation of the classifier.
        *before: layers between the pooling and the classifier.
        named: whether the pooling layers have names of their own.
        **options: of the classifier.
    """
    if include_top:
        x = net.chain(x, GlobalAveragePooling2D(name="avg_pool" if named else None), *before)
        return net.model(net(classifier(classes, classifier_activation, **options), x))
    return net.model(pooled(net, x, pooling, named))


def classifier(classes: int, activation: ActivationLike | None, **options: Any) -> Layer:
    check_classes(classes)
    return Dense(classes, activation=activation, name="predictions", **options)


def check_classes(classes: int) -> None:
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise refused(ValueError, "expected a number of classes of 1 or more", classes=classes)


def pooled(net: Net, x: str, pooling: Pooling | None, named: bool = True) -> str:
    """Features pooled over all positions, if that is asked for."""
    if pooling is None:
        return x
    if pooling not in ("avg", "max"):
        raise refused(ValueError, "expected 'avg', 'max' or None", pooling=pooling)
    make = GlobalAveragePooling2D if pooling == "avg" else GlobalMaxPooling2D
    return net(make(name=f"{pooling}_pool" if named else None), x)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """A number of channels rounded to a multiple of `divisor`, never down by more than a tenth.

    >>> make_divisible(32 * 0.35), make_divisible(17)
    (16, 16)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
