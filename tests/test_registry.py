"""Names, specs and data forms."""

import functools
import pickle

import numpy as np
import pytest

from jlayers.core.registry import Registry
from jlayers.core.spec import registries, to_data
from jlayers.core.spelling import nearest, snake_case


@pytest.fixture
def colors():
    registry = Registry("color")
    yield registry
    del registries["color"]


def paint_with(registry):
    @registry.factory("Crimson")
    def red(depth: float = 0.5):
        return lambda x: x * depth

    @registry.function()
    def green(x, shade: int = 1):
        return x + shade

    return red, green


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Dense", "dense"),
        ("Conv2D", "conv2d"),
        ("MaxPooling2D", "max_pooling2d"),
        ("BatchNormalization", "batch_normalization"),
        ("LSTM", "lstm"),
        ("SimpleRNN", "simple_rnn"),
        ("glorot_uniform", "glorot_uniform"),
    ],
)
def test_snake_case_is_keras_s(name, expected):
    from keras.src.utils.naming import to_snake_case

    assert to_snake_case(name) == expected
    assert snake_case(name) == expected


def test_nearest_names_the_close_ones_first():
    assert nearest("relU", ["relu", "selu", "tanh"]).startswith("did you mean 'relu'")
    assert nearest("zzz", ["relu", "tanh"]) == "valid: relu, tanh"


def test_a_factory_remembers_its_call(colors):
    red, _ = paint_with(colors)
    made = red(0.25)
    assert made(4.0) == 1.0
    assert repr(made) == "red(depth=0.25)"
    assert made.spec.to_data() == {"red": {"depth": 0.25}}
    assert red().spec.to_data() == "red"
    assert red(0.25).spec == made.spec
    assert red(0.5).spec != made.spec


def test_get_takes_names_data_objects_and_none(colors):
    _, green = paint_with(colors)
    assert colors.get(None) is None
    assert colors.get("red")(2.0) == 1.0
    assert colors.get("Crimson")(2.0) == 1.0
    assert colors.get({"red": {"depth": 2.0}})(2.0) == 4.0
    assert colors.get("green") is green
    assert colors.get({"green": {"shade": 3}})(1) == 4
    assert colors.get(abs) is abs


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("grene", KeyError, "unknown color 'grene': did you mean 'green'?"),
        (
            {"red": {"dept": 1}},
            TypeError,
            "red has no argument 'dept' (received dept=1): did you mean 'depth'?",
        ),
        ({"red": {}, "green": {}}, ValueError, "expected one color as {name: {argument: value}}"),
        (3, TypeError, "expected a color by name or as a function, received 3"),
        (dict, TypeError, "received the class <class 'dict'>: call it first"),
    ],
)
def test_wrong_values_teach(colors, value, error, text):
    paint_with(colors)
    with pytest.raises(error) as caught:
        colors.get(value)
    assert text in str(caught.value)


def test_members_are_items_and_no_attributes(colors):
    paint_with(colors)
    with pytest.raises(AttributeError, match=r"write \['green'\] for \.green"):
        colors.green  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'green'"):
        colors.gren  # noqa: B018


def test_a_name_is_taken_once(colors):
    paint_with(colors)

    def red(other: int = 1):
        return abs

    with pytest.raises(ValueError, match="the color name 'red' is taken"):
        colors.factory()(red)
    paint_with(colors)  # the same definition again, as when a module is reloaded


def test_an_alias_may_differ_in_case_alone(colors):
    @colors.factory("SGD")
    def sgd(rate: float = 0.1):
        return lambda x: x * rate

    assert colors.find("SGD") == colors.find("sgd") == "sgd"
    assert colors.spellings("sgd") == ["sgd", "SGD"]


def test_a_refused_name_leaves_nothing_behind(colors):
    paint_with(colors)

    def blue():
        return abs

    with pytest.raises(ValueError, match="the color name 'red' is taken"):
        colors.factory("azure", "red")(blue)
    assert "blue" not in colors
    assert "azure" not in colors


def test_an_object_of_another_kind_is_refused(colors):
    import jlayers as jl

    with pytest.raises(TypeError, match="expected a color, received the regularizer l2"):
        colors.get(jl.l2(0.1))


def test_configured_functions_pickle(colors):
    from jlayers import regularizers

    made = pickle.loads(pickle.dumps(regularizers.get({"l2": {"l2": 0.5}})))
    assert repr(made) == "l2(l2=0.5)"


def test_to_data_knows_registered_functions_and_refuses_others(colors):
    _, green = paint_with(colors)
    assert to_data(green) == "green"
    assert to_data(functools.partial(green, shade=2)) == {"green": {"shade": 2}}
    assert to_data((1, np.float32(0.5), {"a": [None, True]})) == [1, 0.5, {"a": [None, True]}]
    assert to_data(np.dtype("int32")) == "int32"
    with pytest.raises(TypeError, match=r"Dense\.activation cannot be written down"):
        to_data(lambda x: x, "Dense.activation")
