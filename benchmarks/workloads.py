"""What every library is given to do: the sizes of a model, and one batch to train it on.

A workload says nothing about how a model is built: each file of `benchmarks/peers/` does that in its
library's own way. All models end in `CLASSES` logits and are trained by the mean cross-entropy with integer
labels and `ADAM`. Batch normalization has `MOMENTUM` and `EPSILON` everywhere.

The data are made to be learnt: a pattern per class under noise, or tokens that come more often in one class.
A model that is set up badly shows in a loss that does not fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

CLASSES = 10
ADAM = {"learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
MOMENTUM, EPSILON = 0.9, 1e-5


@dataclass(frozen=True)
class Workload:
    """The sizes of a model and of its batch.

    Attributes:
        batch: samples per step.
        shape: of one sample, channels last.
    """

    kind: ClassVar[str]  # by which the peers know the model
    batch: int
    shape: tuple[int, ...]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch: images or rows of float32, and labels of int32."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, CLASSES, self.batch)
        patterns = rng.normal(size=(CLASSES, *self.shape))
        x = 0.3 * (patterns[y] + rng.normal(size=(self.batch, *self.shape)))
        return x.astype(np.float32), y.astype(np.int32)


@dataclass(frozen=True)
class Tokens(Workload):
    """`shape` is `(length,)`; half of the tokens are drawn from those of the sample's class."""

    vocabulary: int = 1000

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        y = rng.integers(0, CLASSES, self.batch)
        drawn = rng.integers(0, self.vocabulary, (self.batch, *self.shape))
        own = drawn // CLASSES * CLASSES + y[:, None]
        x = np.where(rng.random(drawn.shape) < 0.5, own % self.vocabulary, drawn)
        return x.astype(np.int32), y.astype(np.int32)


@dataclass(frozen=True)
class MLP(Workload):
    """Dense layers with ReLU."""

    kind: ClassVar[str] = "mlp"
    widths: tuple[int, ...] = (512, 512)


@dataclass(frozen=True)
class CNN(Workload):
    """Conv 3x3 without padding, ReLU, max-pool 2x2, flatten, dense, ReLU."""

    kind: ClassVar[str] = "cnn"
    filters: int = 32
    units: int = 128


@dataclass(frozen=True)
class ResNet(Workload):
    """He et al. (2016) for small images: three stages of basic blocks, `6 * blocks + 2` layers.

    Where a stage halves the image, the skip connection is a 1x1 convolution and a batch normalization.
    """

    kind: ClassVar[str] = "resnet"
    width: int = 16
    blocks: int = 3

    def plan(self) -> list[tuple[int, int]]:
        """Per block its channels and its stride."""
        stages = enumerate((self.width, 2 * self.width, 4 * self.width))
        return [
            (channels, 2 if stage and not block else 1)
            for stage, channels in stages
            for block in range(self.blocks)
        ]


@dataclass(frozen=True)
class MobileNet(Workload):
    """Sandler et al. (2018) for small images: inverted residual blocks around depthwise convolutions.

    `stages` are rows of the paper's table: expansion, channels, blocks, stride of the first block.
    """

    kind: ClassVar[str] = "mobilenet"
    stem: int = 16
    stages: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 2, 2),
        (6, 64, 2, 2),
    )
    head: int = 256

    def plan(self) -> list[tuple[int, int, int]]:
        """Per block its expansion, channels and stride."""
        return [
            (expansion, channels, 1 if block else stride)
            for expansion, channels, blocks, stride in self.stages
            for block in range(blocks)
        ]


@dataclass(frozen=True)
class LSTM(Tokens):
    """Embedding, LSTM, dense on its last output."""

    kind: ClassVar[str] = "lstm"
    features: int = 64
    units: int = 128


@dataclass(frozen=True)
class GRU(LSTM):
    """The same with a GRU."""

    kind: ClassVar[str] = "gru"


@dataclass(frozen=True)
class Transformer(Tokens):
    """Embeddings of tokens and positions, encoder blocks that normalize first, a mean over positions.

    Layer normalization has `EPSILON`, the network inside a block a ReLU; nothing is dropped.
    """

    kind: ClassVar[str] = "transformer"
    features: int = 128
    heads: int = 4
    hidden: int = 512
    layers: int = 4


WORKLOADS: dict[str, Workload] = {
    "cnn": CNN(128, (28, 28, 1)),
    "mlp": MLP(128, (784,)),
    "resnet20": ResNet(64, (32, 32, 3)),
    "mobilenet": MobileNet(32, (32, 32, 3)),
    "lstm": LSTM(32, (100,)),
    "gru": GRU(32, (100,)),
    "transformer": Transformer(16, (128,)),
    "tiny_mlp": MLP(32, (64,), widths=(32,)),
}

# In a library's recurrent cell, rows of biases (of `units` each) more or fewer than in Keras's and ours.
BIAS_ROWS = {
    ("torch", "lstm"): 4,  # a second bias, of the recurrent product
    ("linen", "gru"): -2,  # no recurrent bias but that of the candidate
    ("nnx", "gru"): -3,  # no recurrent bias
    ("equinox", "gru"): -2,
    ("haiku", "gru"): -3,  # no recurrent bias
}


def expected_parameters(library: str, workload: Workload, ours: int) -> int:
    """How many parameters a library's model must have where jlayers' has `ours`."""
    return ours + BIAS_ROWS.get((library, workload.kind), 0) * getattr(workload, "units", 0)


def sizes(workload: Workload) -> dict[str, Any]:
    """For the report: what a workload is."""
    return {"kind": workload.kind, **vars(workload)}
