"""The sections of a configuration file as dataclasses, from which all checking is derived."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from jlayers.config.derive import Record
from jlayers.config.signatures import precise
from jlayers.config.sweep import Sweep
from jlayers.config.types import WeightsSourceType
from jlayers.core.errors import about, refused
from jlayers.core.layer import LayerLike
from jlayers.core.policy import PrecisionLike
from jlayers.data.dataset import DatasetLike
from jlayers.losses import LossLike
from jlayers.metrics import MetricLike
from jlayers.optimizers import OptimizerLike
from jlayers.preprocessing import PreprocessorLike
from jlayers.saving.loading import Weights
from jlayers.train.callbacks import CallbackLike, EarlyStopping
from jlayers.train.callbacks.profile import Profile
from jlayers.train.checkpoint import Plan
from jlayers.train.feed import StepsPerCall
from jlayers.train.scaling import LossScaleLike

__all__ = ["Settings", "Training"]


def _require(condition: bool, expected: str, **received: Any) -> None:
    if not condition:
        raise refused(ValueError, f"expected {expected}", **received)


@dataclasses.dataclass(frozen=True)
class Training:
    """The length of the training, and its data.

    Attributes:
        epochs: passes over the training data.
        batch_size: samples in a step.
        shuffle: whether the samples are drawn in a new order in each epoch.
        validation: the part of the training data that is kept back to watch the training by; drawn at
            random, of each class with labels.
        class_weight: factors by class name or number, a list with one for each class, or `balanced`; a class
            without a factor has 1.
        early_stopping: when to stop before the last epoch.
        callbacks: what listens to the training, such as a logger; see `jlayers list callbacks`. Files that
            they write are in the folder `logs` of the run.
        profile: the steps to profile, such as `{steps: [100, 110]}`.
        steps_per_call: steps in one dispatch; `auto` takes many where a step is so small that this pays.
        cache_features: whether what frozen layers at the beginning of the model give is computed once per
            sample and kept: true for memory, or a folder on a disk.
        checkpoint: when to keep a checkpoint, from which `jlayers train --resume RUN` can continue; without
            this section there are none.
    """

    epochs: int = 10
    batch_size: int = 32
    shuffle: bool = True
    validation: float = 0.0
    class_weight: dict[str, float] | list[float] | Literal["balanced"] | None = None
    early_stopping: Annotated[EarlyStopping, Record(EarlyStopping)] | None = None
    callbacks: list[CallbackLike] = dataclasses.field(default_factory=list)
    profile: Annotated[Profile, Record(Profile)] | None = None
    steps_per_call: StepsPerCall = "auto"
    cache_features: bool | os.PathLike[str] = False
    checkpoint: Annotated[Plan, Record(Plan)] | None = None

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "1 epoch or more", epochs=self.epochs)
        _require(self.batch_size >= 1, "1 sample or more", batch_size=self.batch_size)
        _require(0 <= self.validation < 1, "a fraction in [0, 1)", validation=self.validation)
        if self.steps_per_call != "auto":
            _require(self.steps_per_call >= 1, "1 step or more", steps_per_call=self.steps_per_call)
        for place, callback in enumerate((*self.callbacks, self.early_stopping)):
            monitor = getattr(callback, "monitor", None)
            if monitor is None or not monitor.startswith("val_") or self.validation:
                continue
            error = ValueError(
                f"{type(callback).__name__} watches {monitor!r}, which needs data to validate on: set "
                f"training.validation to a fraction such as 0.1"
            )
            if callback is self.early_stopping:
                raise about(error, early_stopping=callback)
            raise about(error, place, callbacks=self.callbacks)
        best = None if self.checkpoint is None else self.checkpoint.best
        if best is not None and best.startswith("val_") and not self.validation:
            error = ValueError(
                f"the best checkpoint is asked for by {best!r}, which needs data to validate on: set "
                f"training.validation to a fraction such as 0.1"
            )
            raise about(error, "best", checkpoint=self.checkpoint)


@dataclasses.dataclass(frozen=True)
class Settings:
    """An experiment: everything that decides its result.

    Attributes:
        data: where the samples come from; see `jlayers list datasets`.
        preprocess: what makes inputs into numbers, by the input's name (a column of a CSV file, or `x` for
            data of one array); see `jlayers list preprocessors`, or a layer without weights. It learns from
            the training part, and a run keeps what it learned.
        model: one layer; see `jlayers list layers`. `Sequential` holds a list of layers, `Model` a graph.
        loss: what is minimized; see `jlayers list losses`. For a model of several outputs, a list of losses
            or a mapping by output.
        optimizer: how; see `jlayers list optimizers`. A list is a chain, such as clipping before adam.
        metrics: what is reported besides the loss, as a list; see `jlayers list metrics`. For a model of
            several outputs, a mapping of such lists by output.
        loss_weights: factors of the outputs' losses, as a list or by output.
        weighted_metrics: like `metrics`, with sample weights.
        augment: a layer that changes the inputs and the targets of each batch of training together, such as
            `MixUp`. Layers that change only the inputs go into the model.
        loss_scale: factor of the loss while its gradient is taken, for float16: `auto`, `dynamic`, a number,
            or null for none.
        accumulate: micro-batches that each batch is cut into, to save memory.
        ema: the decay of a moving average of the weights, such as 0.999; null for none.
        weights: what the model starts from besides fresh weights: a list of sources, each for a part of the
            model, such as `{source: imagenet, to: base}`; see `jl.Weights`.
        freeze: patterns of paths of layers that are not trained, such as `encoder/**`.
        unfreeze: patterns of frozen layers that are trained later, by the number of epochs after which that
            begins, such as `{3: [encoder/block5*], 6: [encoder/**]}`.
        precision: the dtypes of parameters and of computation: a policy such as `mixed_bfloat16`, or a
            mapping from patterns of paths to policies; see `jlayers list policies`.
        seed: seed of the weights, of dropout and of the order of the samples.
        seeds: how many seeds are trained at a time, in one program: `seed`, `seed + 1` and so on. The samples
            to validate on follow from `seed` for all of them, and so do preprocessors.
        training: how long to train, and on what.
        sweep: other values to try, for `jlayers sweep FILE`.
    """

    data: DatasetLike
    model: LayerLike
    loss: LossLike | list[LossLike | None] | dict[str, LossLike | None]
    preprocess: dict[str, PreprocessorLike | LayerLike] = dataclasses.field(default_factory=dict)
    optimizer: OptimizerLike | list[OptimizerLike] = "adam"
    metrics: list[MetricLike] | dict[str, list[MetricLike]] = dataclasses.field(default_factory=list)
    loss_weights: list[float] | dict[str, float] | None = None
    weighted_metrics: list[MetricLike] | dict[str, list[MetricLike]] = dataclasses.field(default_factory=list)
    augment: LayerLike | None = None
    loss_scale: LossScaleLike = "auto"
    accumulate: int = 1
    ema: float | None = None
    weights: list[Annotated[Weights, Record(Weights)]] = dataclasses.field(default_factory=list)
    freeze: list[str] = dataclasses.field(default_factory=list)
    unfreeze: dict[str, list[str]] | None = None
    precision: PrecisionLike | None = None
    seed: int = 0
    seeds: int = 1
    training: Training = dataclasses.field(default_factory=Training)
    sweep: Annotated[Sweep, Record(Sweep)] | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**32, "a seed in [0, 2**32)", seed=self.seed)
        _require(1 <= self.seeds <= 2**32 - self.seed, "1 seed or more, all below 2**32", seeds=self.seeds)
        if self.seeds > 1:
            _require(self.unfreeze is None, "1 seed beside unfreeze", seeds=self.seeds)
            _require(not self.training.cache_features, "1 seed beside cache_features", seeds=self.seeds)
        if self.unfreeze is not None:
            epochs = all(str(number).isdecimal() for number in self.unfreeze)
            _require(epochs, "numbers of epochs as the keys of unfreeze", unfreeze=self.unfreeze)


def graph_node(
    input: list[int | None] | None = None,
    dtype: str | None = None,
    layer: LayerLike | None = None,
    shared: str | None = None,
    inputs: Any = None,
) -> dict[str, Any]:
    """A node of a graph: an input, a layer, or a further use of an earlier layer.

    Args:
        input: the shape of an input, without the batch dimension; null for a dimension that may vary.
        dtype: dtype of an input; float32 if not given.
        layer: the layer that the node applies.
        shared: the node whose layer, with its weights, is used again.
        inputs: the names of the nodes that the layer reads; `lstm[1]` is output 1 of the node lstm.
    """
    given = {"input": input, "dtype": dtype, "layer": layer, "shared": shared, "inputs": inputs}
    return {name: value for name, value in given.items() if value is not None}


precise("Weights", "source", Annotated[Any, WeightsSourceType()])
precise("Model", "nodes", Mapping[str, Annotated[dict[str, Any], Record(graph_node)]])
