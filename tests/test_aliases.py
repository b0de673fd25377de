"""Keras's second names of layers are the same constructors, and files keep the first name."""

import keras
import pytest

import jlayers as jl
from jlayers.core.layer import layers

CLASSES = {name: value.__name__ for name, value in vars(keras.layers).items() if isinstance(value, type)}
KERAS = {alias: name for alias, name in CLASSES.items() if alias != name and name in CLASSES}


@pytest.mark.parametrize(("alias", "name"), KERAS.items())
def test_every_second_name_of_keras_is_the_same_constructor(alias, name):
    assert getattr(jl, alias) is getattr(jl, name)
    assert layers.find(alias) == name
    assert alias not in list(layers)


def test_there_are_no_others():
    names = {name for known in layers for name in layers.spellings(known)}
    assert {alias for alias in jl.layers.__all__ if alias not in list(layers)} == set(KERAS)
    assert set(KERAS) <= names
    made = layers.get({"Convolution2D": {"filters": 3, "kernel_size": 2}})
    assert made.to_data() == {"Conv2D": {"filters": 3, "kernel_size": 2}}
    assert repr(jl.AvgPool1D(3)) == "AveragePooling1D(3)"
