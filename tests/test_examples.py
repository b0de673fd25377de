"""Each example runs as a user would run it, but briefly; what it promises of accuracy is not tested here."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
BRIEFLY = {
    "bucketing": ["--epochs", "2", "--buckets", "2"],
    "char_decoder": ["--epochs", "1"],
    "contrastive": ["--epochs", "1"],
    "custom_layer": ["--epochs", "1"],
    "digits_cnn": ["--epochs", "1"],
    "digits_mlp": ["--epochs", "2"],
    "distillation": ["--epochs", "1"],
    "gan": ["--epochs", "2"],
    "lstm_vowels": ["--epochs", "1"],
    "own_loop": ["--steps", "5"],
    "text_topics": ["--epochs", "1"],
    "vae": ["--epochs", "2"],
    "two_inputs": ["--epochs", "1", "--pairs", "256"],
}


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run():
    assert sorted(BRIEFLY) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", BRIEFLY)
def test_example(name, capsys, tmp_path):
    picture = tmp_path / "graph.svg"
    more = ["--picture", str(picture)] if name == "two_inputs" else []
    results = load(name).main(BRIEFLY[name] + more)
    assert results
    assert all(value == value for value in results.values())  # no NaN
    assert capsys.readouterr().out
    assert picture.exists() == bool(more)
    assert results.get("compilations", 0) <= 2 * results.get("lengths", 0)
