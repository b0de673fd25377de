"""Facts that were published with an application: image size, accuracy, where its weights are."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Literal

from jlayers.core.errors import about, refused
from jlayers.core.layer import Layer
from jlayers.core.spelling import nearest

__all__ = ["Mode", "Published", "WeightsFile", "costs", "published", "weights_file"]

Mode = Literal["caffe", "tf", "torch", "lite", "none"]


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A file of weights.

    Attributes:
        url: its address.
        hash: MD5 (32 digits) or SHA-256 (64 digits) of its bytes; None if none was published.
    """

    url: str
    hash: str | None

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class Published:
    """Facts about an application.

    Attributes:
        size: height and width of the images that it was trained on; for text the length of a sequence.
        mode: how `preprocess_input` scales images.
        top1: accuracy on ImageNet's validation images, in percent, as its authors or Keras report it for the
            default arguments.
        weights: from the arguments of a call to the file with weights for it; None if there is no official
            one. It raises ValueError for arguments for which none were published.
    """

    size: int
    mode: Mode
    top1: float | None = None
    weights: Callable[[Mapping[str, Any]], WeightsFile] | None = None


@functools.cache
def costs() -> Mapping[str, Mapping[str, int]]:
    """Parameters, and FLOPs of one forward pass at the published size, of every application by name.

    They were counted by `docs/make_applications_page.py`, since counting takes seconds for each.

    >>> import jlayers as jl
    >>> jl.applications.costs()["VGG16"]["parameters"]
    138357544
    """
    text = files("jlayers.applications").joinpath("costs.json").read_text(encoding="utf-8")
    return json.loads(text)


_known: dict[str, Published] = {}


def publish(name: str, facts: Published) -> None:
    _known[name] = facts


def published(model: Layer | str) -> Published:
    """The facts about an application, from a layer or from its name.

    Raises:
        ValueError: the layer is not an application.

    >>> import jlayers as jl
    >>> facts = jl.applications.published(jl.applications.VGG16())
    >>> facts.size, facts.top1
    (224, 71.3)
    """
    name = model if isinstance(model, str) else model.spec.name
    name = name if name.startswith("applications.") else f"applications.{name}"
    if name not in _known:
        raise refused(
            ValueError,
            "expected an application of jl.applications",
            instead=nearest(name, _known),
            model=model,
        )
    return _known[name]


def weights_file(model: Layer) -> WeightsFile:
    """The official file of ImageNet weights for exactly this application with these arguments.

    Raises:
        ValueError: the layer is not an application, or no weights were published for these arguments.

    >>> import jlayers as jl
    >>> jl.applications.weights_file(jl.applications.VGG16(include_top=False)).name
    'vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    facts, arguments = published(model), model.spec.arguments
    name = model.spec.name
    if facts.weights is None:
        raise ValueError(
            f"{name}: no official weights are known for it; pass a file of weights instead of 'imagenet'"
        )
    if arguments.get("include_top", True) and arguments.get("classes", 1000) != 1000:
        error = ValueError(
            f"{name}: expected classes=1000, as the published weights have with their classifier, "
            f"received classes={arguments['classes']}; take the model with include_top=False and put your "
            f"own on it"
        )
        raise about(error, classes=arguments["classes"])
    return facts.weights(arguments)


def pair_of_files(base: str, name: str, hashes: tuple[str | None, str | None], notop: str = "_notop") -> Any:
    """Weights of a model whose two files, with and without classifier, have almost one name."""
    both = (WeightsFile(f"{base}{name}.h5", hashes[0]), WeightsFile(f"{base}{name}{notop}.h5", hashes[1]))
    return lambda arguments: both[0 if arguments["include_top"] else 1]


def square_size(input_shape: Any, sizes: tuple[int, ...]) -> int:
    """The size of square images if weights were published for it, else 224, whose weights fit any size."""
    rows, columns = (None, None) if input_shape is None else input_shape[:2]
    return rows if rows == columns and rows in sizes else 224
