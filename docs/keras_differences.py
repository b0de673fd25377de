"""How our namesakes differ from Keras on purpose, and why some of Keras's names are absent.

Data for `make_keras_page.py`. Arguments that are left out are in `tests/keras_arguments.py`; what is in
neither table is the same. Names of `NOT_YET` no longer count once they are registered.
"""

ATTENTION = (
    "the inputs are `query[, value[, key[, mask]]]`, with one mask `(batch, target, source)` in place of "
    "Keras's masks of query and value; where it leaves nothing to attend to, "
)
WINDOWS = "ends of windows are whole numbers; Keras rounds them in float32 and gives NaN for some sizes"
ONE_MASK = ATTENTION + "the heads give 0, in Keras the mean of all values"

# By the registry's kind, by Keras's name.
DIFFERS = {
    "layer": {
        "AdaptiveAveragePooling1D": WINDOWS,
        "AdaptiveAveragePooling2D": WINDOWS,
        "AdaptiveAveragePooling3D": WINDOWS,
        "AdaptiveMaxPooling1D": WINDOWS,
        "AdaptiveMaxPooling2D": WINDOWS,
        "AdaptiveMaxPooling3D": WINDOWS,
        "AdditiveAttention": ATTENTION + "the output is 0, in Keras as if there were no mask",
        "AlphaDropout": "a rate of 1 gives zeros, where Keras divides by zero",
        "Attention": ATTENTION + "the output is 0, in Keras as if there were no mask",
        "Embedding": (
            "a negative number is out of range, where Keras counts it from the end; `fit`, `evaluate` and "
            "`predict` refuse numbers out of range, a compiled function gives NaN"
        ),
        "GaussianDropout": "a rate of 1 is refused, where Keras divides by zero",
        "GroupQueryAttention": ONE_MASK,
        "Lambda": "a file names a registered function and never holds code",
        "MultiHeadAttention": ONE_MASK,
        "SpectralNormalization": (
            "the kernel is divided in every mode and never overwritten, so that inference needs no training "
            "step before it; training decides whether the singular vector moves"
        ),
    },
    "activation": {
        "sparsemax": "rows sum to 1; in Keras 3.15 not always",
        "threshold": "both options have defaults",
    },
}

NO_CLASS = "a base class to inherit from; here "
OTHER_FRAMEWORK = "runs another framework inside; a program here is JAX alone"

ABSENT = {
    "layer": {
        "FlaxLayer": OTHER_FRAMEWORK + ", and a Flax module's `init` and `apply` make a pair for `@jl.layer`",
        "InputSpec": "layers check rank and sizes themselves; shapes come from a trace",
        "JaxLayer": "a pair of functions is what a layer is: write `@jl.layer`",
        "MaxNumBoundingBoxes": "boxes of detection are no kind of data here",
        "Pipeline": "write `jl.Sequential`",
        "TFSMLayer": OTHER_FRAMEWORK,
        "TorchModuleWrapper": OTHER_FRAMEWORK,
        "Wrapper": NO_CLASS + "`jlayers.wiring.routed` makes a layer of other layers",
    },
    "initializer": {"Initializer": NO_CLASS + "a function `f(key, shape, dtype)`"},
    "regularizer": {"Regularizer": NO_CLASS + "a function of the parameter"},
    "constraint": {"Constraint": NO_CLASS + "a function of the parameter"},
    "loss": {"Loss": NO_CLASS + "a function `f(y_true, y_pred)` that gives a value per sample"},
    "metric": {
        "Mean": "the mean of a function's values per sample is that function, given as a metric",
        "MeanMetricWrapper": "a function that gives a value per sample is a metric as it is",
        "Metric": NO_CLASS + "three functions: `jl.metrics.Metric(init, update, result)`",
        "Sum": "part of other metrics in Keras; write three functions",
    },
    "optimizer": {
        "Ftrl": "Optax has none; any `optax.GradientTransformation` of your own can be passed",
        "LossScaleOptimizer": "scaling the loss is no optimizer's concern",
        "MultiOptimizer": "pass `optax.partition`",
        "Muon": "pass `optax.contrib.muon`",
        "Optimizer": NO_CLASS + "any `optax.GradientTransformation`",
        "OptimizerMap": "pass `optax.partition`",
        "ScheduleFreeAdamW": "pass `optax.contrib.schedule_free_adamw`",
    },
}

# fmt: off
NOT_YET = {
    "layer": [
        "AugMix", "AutoContrast", "CategoryEncoding", "CenterCrop",
        "ContrastLimitedAdaptiveHistogramEqualization", "CutMix", "Discretization", "Equalization",
        "HashedCrossing", "Hashing", "IntegerLookup", "Masking", "MelSpectrogram", "MixUp", "Normalization",
        "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast",
        "RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur",
        "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization",
        "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation",
        "RandomZoom", "Rescaling", "Resizing", "ReversibleEmbedding", "STFTSpectrogram", "Solarization",
        "StringLookup", "TextVectorization",
    ],
    "initializer": ["STFT"],
}
# fmt: on
