"""Names of other libraries, and what stands for them here: errors of modules that lack a name."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jlayers.core.spelling import nearest

if TYPE_CHECKING:
    from jlayers.core.registry import Registry

__all__ = ["missing_name"]

_CROSS_ENTROPY = (
    "jl.losses.SparseCategoricalCrossentropy(from_logits=True) for class numbers, CategoricalCrossentropy "
    "for one-hot rows, BinaryCrossentropy for yes or no"
)
_ELSEWHERE = {
    "Linear": "jl.Dense(units)",
    "BatchNorm": "jl.BatchNormalization()",
    "BatchNorm1d": "jl.BatchNormalization()",
    "BatchNorm2d": "jl.BatchNormalization()",
    "BatchNorm3d": "jl.BatchNormalization()",
    "LayerNorm": "jl.LayerNormalization()",
    "RMSNorm": "jl.RMSNormalization()",
    "GroupNorm": "jl.GroupNormalization()",
    "Embed": "jl.Embedding(input_dim, output_dim)",
    "Conv": "jl.Conv1D, jl.Conv2D or jl.Conv3D",
    "ConvTranspose": "jl.Conv2DTranspose",
    "ConvTranspose1d": "jl.Conv1DTranspose",
    "ConvTranspose2d": "jl.Conv2DTranspose",
    "ConvTranspose3d": "jl.Conv3DTranspose",
    "MaxPool2d": "jl.MaxPooling2D(pool_size)",
    "AvgPool2d": "jl.AveragePooling2D(pool_size)",
    "AdaptiveAvgPool2d": "jl.AdaptiveAveragePooling2D(output_size)",
    "Dropout2d": "jl.SpatialDropout2D(rate)",
    "Upsample": "jl.UpSampling2D(size)",
    "CuDNNLSTM": "jl.LSTM(units)",
    "CuDNNGRU": "jl.GRU(units)",
    "MultiHeadDotProductAttention": "jl.MultiHeadAttention(num_heads, key_dim)",
    "MultiheadAttention": "jl.MultiHeadAttention(num_heads, key_dim)",
    "SelfAttention": "jl.MultiHeadAttention(num_heads, key_dim)(x, x)",
    "ModuleList": "a list of layers, or jl.Sequential",
    "Module": "a function under @jl.layer that returns a pair (init, apply)",
    "Layer": "a function under @jl.layer that returns a pair (init, apply)",
    "compact": "a function under @jl.layer that returns a pair (init, apply)",
    "nn": "jl.Dense and the other layers, and jl.activations",
    "keras": "jl.Dense and the other layers, and jl.activations",
    "functional": "jl.activations and jl.losses",
    "F": "jl.activations and jl.losses",
    "models": "jl.Sequential and jl.Model, right under jl",
    "callbacks": "jl.EarlyStopping and the other callbacks, right under jl",
    "utils": "jl.data, which has to_categorical, pad_sequences and windows",
    "to_categorical": "jl.data.to_categorical(labels, classes)",
    "pad_sequences": "jl.data.pad_sequences(sequences)",
    "datasets": "jl.data, or arrays from anywhere",
    "DataLoader": "jl.fit(trainer, x, y, batch_size=...), or any loader in place of x",
    "TensorDataset": "jl.fit(trainer, x, y, batch_size=...), or any loader in place of x",
    "train_test_split": "validation_split=0.2 in jl.fit, or jl.data.hold_out",
    "backend": "jax and jax.numpy",
    "random": "jax.random",
    "config": "jax.config, or a YAML file with jlayers train",
    "optim": "jl.optimizers",
    "no_grad": "leave it out: gradients are taken by jl.fit and jax.grad only",
    "GradientTape": "jax.grad of a function of params",
    "grad": "jax.grad of a function of params",
    "jit": "jax.jit",
    "device": "leave it out: a layer runs where its arrays are",
    "relu": "jl.ReLU(), or activation='relu' in a layer",
    "softmax": "jl.Softmax(), or activation='softmax' in a layer",
    "Adam": "optimizer='adam' in jl.compile",
    "SGD": "optimizer='sgd' in jl.compile",
    "lr_scheduler": "a schedule as the learning rate: jl.optimizers.cosine_decay_schedule(init_value, steps)",
    "StepLR": "jl.optimizers.exponential_decay(init_value, steps, rate, staircase=True)",
    "CosineDecay": "jl.optimizers.cosine_decay_schedule(init_value, decay_steps)",
    "CosineAnnealingLR": "jl.optimizers.cosine_decay_schedule(init_value, decay_steps)",
    "ExponentialDecay": "jl.optimizers.exponential_decay(init_value, transition_steps, decay_rate)",
    "PiecewiseConstantDecay": "jl.optimizers.piecewise_constant_schedule(init_value, boundaries_and_scales)",
    "LearningRateSchedule": "a function from the step to the rate, as learning_rate",
    "Rngs": "jax.random.key(seed)",
    "Tensor": "a JAX array",
    "tensor": "jax.numpy.asarray(x)",
    "Variable": "params, state = layer.init(key, x): weights are values beside a layer",
    "Parameter": "params, state = layer.init(key, x): weights are values beside a layer",
    "CrossEntropyLoss": "loss='sparse_categorical_crossentropy' in jl.compile, or " + _CROSS_ENTROPY,
    "MSELoss": "loss='mse' in jl.compile, or jl.losses.MeanSquaredError()",
    "L1Loss": "loss='mae' in jl.compile, or jl.losses.MeanAbsoluteError()",
    "SmoothL1Loss": "jl.losses.Huber()",
    "BCELoss": "loss='binary_crossentropy' in jl.compile, or jl.losses.BinaryCrossentropy()",
    "BCEWithLogitsLoss": "jl.losses.BinaryCrossentropy(from_logits=True)",
    "NLLLoss": "jl.losses.SparseCategoricalCrossentropy() of probabilities",
    "KLDivLoss": "jl.losses.KLDivergence()",
    **dict.fromkeys(
        (
            "CrossEntropy",
            "cross_entropy",
            "softmax_cross_entropy",
            "softmax_cross_entropy_with_integer_labels",
        ),
        _CROSS_ENTROPY,
    ),
    "sigmoid_binary_cross_entropy": "jl.losses.BinaryCrossentropy(from_logits=True)",
    "Reduction": "leave it out: a loss gives a value per sample, and the step takes their mean",
    "F1": "jl.metrics.F1Score()",
    "f1_score": "jl.metrics.F1Score()",
    "accuracy_score": "jl.metrics.Accuracy()",
    "roc_auc_score": "jl.metrics.AUC()",
    "ConfusionMatrix": "jl.metrics.MeanIoU and the counts of jl.metrics.TruePositives and its like",
    "load_model": "jl.load",
    "save_model": "jl.save",
    **dict.fromkeys(
        ("HashedCrossing", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization"),
        "jl.{name}: it is not a layer but a preprocessor, which is called on the host before the model",
    ),
}


def missing_name(
    module: str, name: str, known: Iterable[str], table: Registry | None = None
) -> AttributeError:
    """The error of a module that was asked for a name it does not have.

    Args:
        module: its name.
        name: what was asked for.
        known: what it has.
        table: the registry that the module fills: for a name that is known there, the error shows its
            constructor.
    """
    if name.startswith("_"):  # Python and its tools ask any object for some, and often
        return AttributeError(f"{module} has no {name!r}", name=name)
    short = module.replace("jlayers", "jl", 1)
    if table is not None and name in table and (found := table.find(name)) in known:
        instead = f"write {short}.{found}()"
    elif name in _ELSEWHERE:
        instead = _ELSEWHERE[name].format(name=name)
        instead = instead if instead.startswith("leave") else f"write {instead}"
    elif module != "jlayers" and name in sys.modules["jlayers"].__all__:
        instead = f"write jl.{name}"
    else:
        instead = nearest(name, known)
    return AttributeError(f"{module} has no {name!r}; {instead}", name=name)
