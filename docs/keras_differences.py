"""How our namesakes differ from Keras on purpose, and why some of Keras's names are absent.

Data for `make_keras_page.py`. Arguments that are left out are in `tests/keras_arguments.py`; what holds for
many layers is said at the top of the page. What is in none of them is the same.
"""

ATTENTION = (
    "the inputs are `query[, value[, key[, mask]]]`, with one mask `(batch, target, source)` in place of "
    "Keras's masks of query and value; where it leaves nothing to attend to, "
)
ONE_HEAD = ATTENTION + "the output is 0, in Keras as if there were no mask"
HEADS = ATTENTION + "the heads give 0, in Keras the mean of all values, or 0, by the path that it takes"
WINDOWS = "ends of windows are whole numbers; Keras rounds them in float32 and gives NaN for some sizes"
AND = "the output is real where all inputs are, and an input without a mask is real everywhere; in Keras "
MERGED = AND + "where any input is, and the mask is lost if one input has none"
TURNED = "`go_backwards` turns the mask round with the outputs, which Keras leaves as it was"
UNROLLED = TURNED + "; before the first real step `unroll=True` gives the initial state, in Keras zeros"
CONVOLVED = "takes a mask `(batch, time)`, with which Keras fails on most shapes; " + TURNED
DOCUMENTED = "as Keras documents it; Keras 3.15 itself "
FROM_ZERO = "draws from (-number, number) where `factor` is a single number"
PAIR = "called on `(images, labels)` and not on a dict"
IN_A_MODEL = (
    "'multi_hot' and 'count' refuse `(batch,)` in a model, of which Keras makes one vector for the whole "
    "batch"
)
ONE_SAMPLE = "'multi_hot' and 'count' refuse `(batch,)`, of which Keras makes one vector for the whole batch"
HOST = (
    "a function on the host, called on lists and NumPy arrays, not a layer of a model; numbers are int32, "
    "in Keras int64"
)
LOOKUP = HOST + "; without a vocabulary it raises, where Keras takes all that comes for unknown"
FOCAL = "logits stay in log space, so that large ones keep their value and their gradient"
SIGNS = "a target of 0 is -1; in Keras only if all targets of the batch are 0 or 1"

# By the registry's kind, by Keras's name.
DIFFERS = {
    "layer": {
        "AdaptiveAveragePooling1D": WINDOWS,
        "AdaptiveAveragePooling2D": WINDOWS,
        "AdaptiveAveragePooling3D": WINDOWS,
        "AdaptiveMaxPooling1D": WINDOWS,
        "AdaptiveMaxPooling2D": WINDOWS,
        "AdaptiveMaxPooling3D": WINDOWS,
        "Add": MERGED,
        "AdditiveAttention": ONE_HEAD,
        "AlphaDropout": "a rate of 1 gives zeros, where Keras divides by zero",
        "Attention": ONE_HEAD,
        "AugMix": "each image has its own chains; in Keras a batch has the same",
        "Average": MERGED,
        "BatchNormalization": (
            "a batch of nothing but padding moves no running statistics, in Keras towards 0; they stay "
            "float32 under the policies 'bfloat16' and 'float16'"
        ),
        "Bidirectional": "what the outputs hold in padding has no meaning; in Keras it is 0",
        "CategoryEncoding": (
            "a number out of range gives a vector of NaN, where Keras leaves it out; " + IN_A_MODEL
        ),
        "Concatenate": AND + "joined along the features, where any input is",
        "ContrastLimitedAdaptiveHistogramEqualization": (
            "whole numbers become float32, in Keras they stay and fractions are cut off"
        ),
        "ConvLSTM1D": CONVOLVED,
        "ConvLSTM2D": CONVOLVED,
        "ConvLSTM3D": CONVOLVED,
        "CutMix": (
            PAIR + "; labels change by the pixels that the box covers, in Keras by its area before rounding"
        ),
        "Discretization": IN_A_MODEL + "; what it learned is an argument",
        "Embedding": (
            "a negative number is out of range, where Keras counts it from the end; `fit`, `evaluate` and "
            "`predict` refuse numbers out of range, a compiled function gives NaN; fractions are refused, "
            "where Keras cuts them off"
        ),
        "Equalization": DOCUMENTED + "takes one histogram over the batch, and none in inference",
        "GRU": UNROLLED,
        "GaussianDropout": "a rate of 1 is refused, where Keras divides by zero",
        "GlobalAveragePooling1D": "a row of nothing but padding gives 0, in Keras NaN",
        "GlobalMaxPooling1D": "takes the greatest of the real steps; Keras ignores the mask",
        "GroupNormalization": "refuses a mask, for in Keras padding enters the statistics",
        "GroupQueryAttention": HEADS + "; `activity_regularizer` counts the output once, in Keras twice",
        "HashedCrossing": HOST,
        "Hashing": HOST + "; " + ONE_SAMPLE,
        "IntegerLookup": LOOKUP + "; the vocabulary is numbers, not a file of them",
        "LSTM": UNROLLED,
        "Lambda": "a file names a registered function and never holds code; a mask is refused, in Keras kept",
        "Maximum": MERGED,
        "MelSpectrogram": (
            "`top_db` counts from the greatest value of each signal, in Keras from that of the batch; six "
            "windows by name"
        ),
        "Minimum": MERGED,
        "MixUp": PAIR,
        "MultiHeadAttention": HEADS,
        "Multiply": MERGED,
        "Normalization": (
            "without statistics it raises, where Keras passes its input through; they are arguments, not "
            "weights"
        ),
        "Pipeline": "another name of `Sequential`; it augments where a call says `train=True`",
        "RNN": TURNED + "; before the first real step the output is 0, in Keras the first state",
        "RandAugment": "each image has its own choice; in Keras a batch has one",
        "RandomColorDegeneration": DOCUMENTED + FROM_ZERO,
        "RandomColorJitter": "as `RandomContrast` and `RandomSaturation`",
        "RandomContrast": (
            DOCUMENTED + "never lowers the contrast where `factor` is a single number, and sorts two"
        ),
        "RandomCrop": (
            DOCUMENTED + "returns images unchanged in inference, in another shape than in training, and "
            "distorts those that are too small; each image has its own window, in Keras a batch has one"
        ),
        "RandomElasticTransform": (
            "pixels move down and across by independent fields; in Keras 3.15 both are the same; each image "
            "has its own strength"
        ),
        "RandomFlip": (
            "'horizontal_and_vertical' draws each way by itself; Keras flips both ways or not at all"
        ),
        "RandomGaussianBlur": (
            "repeats the border outwards, where Keras puts zeros; each image has its own window; sigmas "
            "above 1 are taken, too"
        ),
        "RandomInvert": "respects the low end of `value_range`; Keras inverts as if it were 0",
        "RandomPerspective": "an image of one row or column stays, in Keras it becomes NaN",
        "RandomPosterization": "the upper number of bits is drawn, too; in Keras never",
        "RandomSaturation": DOCUMENTED + FROM_ZERO + ", and does not hold saturation to at most 1",
        "RandomSharpness": "repeats the border outwards; Keras puts zeros there, which draws a frame",
        "ReversibleEmbedding": (
            "the call has no `reverse=True`: vectors become logits, and whole numbers vectors; a negative "
            "number is out of range; logits of masked vectors are masked, in Keras not"
        ),
        "STFTSpectrogram": "six windows by name, or the values of any other; Keras takes SciPy's names",
        "SimpleRNN": UNROLLED + "; `activity_regularizer` counts, in Keras it is left unused",
        "Solarization": "the low ends of its factors, too, are parts of the range; in Keras pixel values",
        "SpectralNormalization": (
            "the kernel is divided in every mode and never overwritten, so that inference needs no training "
            "step before it; training decides whether the singular vector moves"
        ),
        "StringLookup": LOOKUP,
        "Subtract": MERGED,
        "TextVectorization": (
            LOOKUP + "; lower case and white space are Unicode's, in Keras ASCII's alone; functions for "
            "`standardize` and `split` are given one text"
        ),
    },
    "activation": {
        "sparsemax": "rows sum to 1; in Keras 3.15 not always",
        "threshold": "both options have defaults",
    },
    "initializer": {"STFT": "six windows by name, or the values of any other; Keras takes SciPy's names"},
    "loss": {
        "BinaryFocalCrossentropy": FOCAL,
        "CategoricalFocalCrossentropy": FOCAL,
        "CategoricalGeneralizedCrossEntropy": "a probability below 1e-7 counts as 1e-7",
        "Hinge": SIGNS,
        "SquaredHinge": SIGNS,
        "Tversky": (
            "`alpha` weighs false positives and `beta` false negatives, as in its paper; in Keras up to 3.15 "
            "the other way round"
        ),
    },
    "optimizer": {
        "Adam": "`epsilon_hat=1e-7` gives Keras's numbers; `eps` is added after the bias correction",
        "AdamW": "`epsilon_hat=1e-7, weight_decay=0.004` gives Keras's numbers",
        "Ftrl": "a parameter that has not met a gradient stays, in Keras it can become NaN",
        "MultiOptimizer": "patterns are of paths, such as `encoder/**`, and the last one that fits counts",
        "Muon": "the momentum is corrected for its start, and the step's scale is `consistent_rms`",
        "ScheduleFreeAdamW": (
            "the parameters to evaluate with are taken by `fit`, `evaluate` and `predict`; in step t of the "
            "warmup the rate is `(t - 1) / warmup_steps` of the whole, in Keras `t / warmup_steps`, and the "
            "average weighs steps by the square of their rates, in Keras all alike"
        ),
    },
    "metric": {
        "Accuracy": (
            "beside a binary cross-entropy of several columns `accuracy` is the binary one, in Keras that of "
            "the highest column"
        ),
        "PearsonCorrelation": "values without variance give 0",
        "SparseTopKCategoricalAccuracy": "has no `from_sorted_ids`: predictions are scores",
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
        "TFSMLayer": OTHER_FRAMEWORK,
        "TorchModuleWrapper": OTHER_FRAMEWORK,
        "Wrapper": NO_CLASS + "`jlayers.core.wiring.routed` makes a layer of other layers",
    },
    "initializer": {"Initializer": NO_CLASS + "a function `f(key, shape, dtype)`"},
    "regularizer": {"Regularizer": NO_CLASS + "a function of the parameter"},
    "constraint": {"Constraint": NO_CLASS + "a function of the parameter"},
    "loss": {
        "Loss": NO_CLASS + "a function `f(y_true, y_pred)` that gives a value per sample, or the record "
        "`jl.losses.Loss` around one"
    },
    "metric": {
        "Metric": NO_CLASS + "three functions: `jl.metrics.Metric(init, update, result)`",
    },
    "optimizer": {
        "LossScaleOptimizer": "the training step scales: `jl.compile(..., loss_scale=...)`",
        "Optimizer": NO_CLASS + "any `optax.GradientTransformation`",
        "OptimizerMap": "the patterns are a dict: `multi_optimizer({'encoder/**': 'adam'}, default='sgd')`",
    },
}
