"""Which constructor arguments of Keras's layers ours leave out, and why: data for a test and for the docs.

`EVERYWHERE` holds for each layer that has the argument in Keras; `LEFT_OUT` and `OTHER_DEFAULT` by layer.
Where a name is in neither table, Keras's layer and ours have the argument with one default, in one order.
"""

_SEED = "randomness is explicit: the key comes with the call, `apply(..., key=key)`"
_LORA = "a wrapper in its place: `jl.LoRA(layer, rank)`, around any layer or whole model with kernels"
_QUANTIZED = "storage of weights in few bits is no concern of a layer's constructor"

EVERYWHERE = {
    "seed": _SEED,
    "dtype": "`precision=` in its place: a policy of the layer, the model, or some of its paths",
    "autocast": "part of a policy: `precision=` says in what dtype is computed",
    "lora_rank": _LORA,
    "lora_alpha": _LORA,
    "quantization_config": _QUANTIZED,
    "gptq_unpacked_column_size": _QUANTIZED,
    "sparse": "arrays are dense; `jax.experimental.sparse` has no gradients by all our operations",
    "flash_attention": "the kernel is chosen by platform and shape inside the traced program",
    "use_cudnn": "the kernel is chosen by platform and shape inside the traced program",
    "synchronized": "a jitted step takes its statistics over the global batch, wherever that is sharded",
}

LEFT_OUT = {
    "Bidirectional": {
        "weights": "parameters are an argument of `apply`, never held by a layer",
    },
    "Embedding": {
        "weights": "parameters are an argument of `apply`, never held by a layer",
    },
    "InputLayer": {
        "batch_size": "shapes in a graph leave the batch out; it is known when the data are",
        "batch_shape": "shapes in a graph leave the batch out; it is known when the data are",
        "ragged": "JAX has no ragged arrays: pad, and give a mask",
        "input_tensor": "a node of a graph holds a shape and no values",
        "optional": "what a model is called on is fixed by its graph",
    },
    "IntegerLookup": {
        "vocabulary_dtype": "numbers are looked up by their value, whatever their dtype",
    },
    "Lambda": {
        "output_shape": "read off a trace of the function",
        "mask": "a function that has to do with masks is written as a layer: `@jl.layer`",
    },
    "Pipeline": {
        "layers": "as in `Sequential`: one after the other, or one list",
    },
    "TextVectorization": {
        "ragged": "JAX has no ragged arrays: texts are filled up to one length",
    },
}

OTHER_DEFAULT = {
    "CategoryEncoding": {"num_tokens": "Keras's None is an error as soon as the layer is made"},
    "InputLayer": {
        "shape": "an input without a shape would have to be given one of Keras's other arguments",
        "dtype": "Keras's None means its global `floatx`; there is no global state here",
    },
    "PReLU": {"alpha_initializer": "the same initializer, spelled as everywhere else"},
    "ZeroPadding3D": {"padding": "the same padding, one number per axis"},
}

# What Keras's call takes beside arrays, or what Keras lacks, is an argument of our constructors.
ADDED = {
    "activity_regularizer": "an argument of every layer in Keras, by `**kwargs`",
    "cache_length": "room for the keys and values of the positions so far: decoding step by step",
    "data_format": "of every image layer in Keras, by `**kwargs`",
    "position_embedding": "of queries and keys, such as `RotaryEmbedding()`",
    "return_attention_scores": "of the call in Keras; a call here takes arrays alone",
    "use_causal_mask": "of the call in Keras; a call here takes arrays alone",
    "zero_output_for_mask": "of every recurrent layer in Keras, by `**kwargs`",
}
