"""The page that compares us with Keras is up to date, and says something of each of Keras's names."""

import runpy
from pathlib import Path

import keras
import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def maker():
    return runpy.run_path(str(DOCS / "make_keras_page.py"))


def test_the_page_is_up_to_date(maker):
    written = (DOCS / "keras.md").read_text(encoding="utf-8")
    assert written == maker["page"](), "run: python docs/make_keras_page.py"


def test_every_name_of_keras_layers_has_a_state(maker):
    text = maker["page"]()
    classes = [name for name, value in vars(keras.layers).items() if isinstance(value, type)]
    assert len(classes) > 160
    assert [name for name in classes if f"`{name}`" not in text] == []


def test_what_is_said_to_be_absent_is_absent(maker):
    states = maker["STATES"]

    def there(kind, names):
        kinds = maker["LAYER"] if kind == "layer" else (kind,)
        return [name for name in names if maker["registered"](name, *kinds)]

    for kind, names in states["ABSENT"].items():
        assert there(kind, names) == [], "docs/keras_differences.py says why there are none"
    for kind, names in states["DIFFERS"].items():
        assert there(kind, names) == list(names), "docs/keras_differences.py says how they differ"


def test_a_name_or_an_argument_without_a_reason_is_an_error(maker):
    with pytest.raises(KeyError, match=r"say in docs/keras_differences\.py why there is no layer Brandnew"):
        maker["why_absent"]("layer", "Brandnew")
    with pytest.raises(KeyError, match=r"say in tests/keras_arguments\.py why Dense has no brandnew"):
        maker["why_left_out"]("Dense", "brandnew")
