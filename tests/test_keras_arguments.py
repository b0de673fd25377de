"""Every constructor beside Keras's of the same name: arguments, order, defaults; a table holds the rest."""

import inspect

import keras
import pytest
from keras_arguments import ADDED, EVERYWHERE, LEFT_OUT, OTHER_DEFAULT

import jlayers as jl
from jlayers.core.layer import layers
from jlayers.preprocessing import registry as preprocessors

OPTIONS = ("name", "trainable", "frozen", "precision")  # of every layer


def keras_classes():
    """Keras's layers of which we have one, or a preprocessor, of the same name."""
    found = {}
    for name in sorted(dir(keras.layers)):
        member = getattr(keras.layers, name)
        table = layers if name in layers else preprocessors
        known = name in table and table[name].__module__.startswith("jlayers.")
        if known and inspect.isclass(member) and issubclass(member, keras.layers.Layer):
            found[name] = member
    return found


KERAS = keras_classes()


def arguments_of(constructor):
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(constructor).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in named and p.name not in ("self", *OPTIONS)}


@pytest.mark.parametrize("name", KERAS)
def test_arguments_are_those_of_keras(name):
    theirs, ours = arguments_of(KERAS[name].__init__), arguments_of(getattr(jl, name))
    left_out = {a for a in theirs if a in EVERYWHERE and a not in ours} | LEFT_OUT.get(name, {}).keys()
    assert theirs.keys() - ours.keys() == left_out, "give it the argument, or the table the reason"
    assert ours.keys() - theirs.keys() <= ADDED.keys(), "an argument that Keras lacks needs a reason"
    assert [a for a in theirs if a in ours] == [a for a in ours if a in theirs], "the order"
    differing = {a for a in ours.keys() & theirs.keys() if ours[a] != theirs[a]}
    assert differing == OTHER_DEFAULT.get(name, {}).keys(), "the defaults"


def test_the_tables_hold_nothing_outdated():
    known = {argument for cls in KERAS.values() for argument in arguments_of(cls.__init__)}
    base = {"dtype", "autocast"}  # of `Layer`, which the layers hand on
    assert EVERYWHERE.keys() <= known | base
    assert LEFT_OUT.keys() | OTHER_DEFAULT.keys() <= KERAS.keys()
    ours = {argument for name in KERAS for argument in arguments_of(getattr(jl, name))}
    assert ADDED.keys() <= ours
    for table in (EVERYWHERE, ADDED, *LEFT_OUT.values(), *OTHER_DEFAULT.values()):
        assert all(isinstance(reason, str) and reason for reason in table.values())
