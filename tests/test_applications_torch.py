"""Networks that Keras lacks against PyTorch's libraries, and weights that PyTorch keeps in parts.

`tests/recorded/make_torch_applications.py` recorded what timm, torchvision, transformers and PyTorch gave.
"""

import applications_torch as theirs
import numpy as np
import pytest

import jlayers as jl

RECORDED = theirs.recorded()
FEW = {"EfficientNetLite0", "SqueezeNet"}  # the others with --full
LAYERS = [name for name in RECORDED if name.startswith(("weight_norm", "spectral_norm"))]
NETWORKS = [name for name in RECORDED if name not in LAYERS]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_those_of_pytorch(name, request):
    if name not in FEW and not request.config.option.full:
        pytest.skip("compared with --full")
    assert theirs.difference(name) <= 1e-4


IMAGE, SEQUENCE = [(2, 7, 6, 4)], [(2, 5, 3)]
MODULES = {
    "weight_norm": (jl.Conv2D(3, 3), IMAGE),
    "spectral_norm": (jl.Conv2D(3, (3, 2)), IMAGE),
    "spectral_norm_transposed": (jl.Conv2DTranspose(4, 3, strides=2), IMAGE),
    "spectral_norm_recurrent": (jl.LSTM(4, return_sequences=True), SEQUENCE),
    "spectral_norm_converged": (jl.Conv2D(3, (3, 2)), IMAGE),
    "weight_norm_both_ways": (jl.Bidirectional(jl.LSTM(4, return_sequences=True)), SEQUENCE),
    "spectral_norm_both_ways": (jl.Bidirectional(jl.LSTM(4, return_sequences=True)), SEQUENCE),
    "weight_norm_attention": (jl.MultiHeadAttention(2, 2), [(2, 5, 4), (2, 5, 4)]),
    "spectral_norm_attention": (jl.MultiHeadAttention(2, 2), [(2, 5, 4), (2, 5, 4)]),
}


KEPT = {"weight_norm": jl.WeightNormalization, "spectral_norm_converged": jl.SpectralNormalization}
CASES = [(name, False) for name in LAYERS] + [(name + age, True) for name in KEPT for age in ("", "_older")]


@pytest.mark.parametrize(("name", "kept"), CASES)
def test_weights_in_parts(name, kept):
    """Put together into a plain layer, or kept in parts by one that has them, too."""
    layer, shapes = MODULES[name.removesuffix("_older")]
    layer = KEPT[name.removesuffix("_older")](layer) if kept else layer
    inputs, expected = [theirs.images(shape) for shape in shapes], RECORDED[name]["output"]
    weights = theirs.weights_of(name, RECORDED[name]["weights"])
    params, state, report = jl.load_weights(layer, weights, inputs, strict=False)
    assert not report.extra
    assert {source for sources in report.sources.values() for source in sources} == set(weights)
    output = np.asarray(layer.apply(params, state, *inputs)[0])
    output = np.moveaxis(output, -1, 1) if output.ndim == 4 else output
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


def test_weights_in_parts_that_do_not_fit():
    weights = {"weight_orig": np.ones((3, 4), "f"), "weight_u": np.ones(5, "f"), "weight_v": np.ones(4, "f")}
    with pytest.raises(ValueError, match=r"missing params/kernel[\s\S]*unused weight_orig"):
        jl.load_weights(jl.Dense(3, use_bias=False), weights, (1, 4))
    nothing = {n: np.zeros_like(w) for n, w in weights.items()} | {"weight_u": np.zeros(3, "f")}
    params, _ = jl.load_weights(jl.Dense(3, use_bias=False), nothing, (1, 4))
    assert not np.asarray(params["kernel"]).any()


@pytest.mark.parametrize("layer", [jl.Conv2DTranspose(3, 2), jl.DepthwiseConv2D(2)])
def test_a_norm_of_another_matrix_is_refused(layer):
    weights = {"up.weight_orig": np.ones((3, 3, 2, 2)), "up.weight_u": np.ones(3), "up.weight_v": np.ones(12)}
    model = jl.Sequential(jl.Input((4, 4, 3)), jl.SpectralNormalization(layer, name="up"))
    with pytest.raises(
        ValueError, match="expected PyTorch's spectral_norm of a Linear or a Conv for 'up', rece"
    ):
        jl.load_weights(model, weights)
