"""Each example runs as a user would run it, but briefly; what it promises of accuracy is not tested here."""

import importlib.util
from pathlib import Path

import jax
import pytest

import jlayers as jl

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
    "grain_resumed": ["--epochs", "2"],
    "image_folder": ["--epochs", "1"],
    "lora": ["--epochs", "1", "--size", "32"],
    "lstm_vowels": ["--epochs", "1"],
    "own_loop": ["--steps", "5"],
    "text_topics": ["--epochs", "1"],
    "transfer": ["--epochs", "1", "--fine-tuning", "0", "--size", "32"],
    "vae": ["--epochs", "2"],
    "two_inputs": ["--epochs", "1", "--pairs", "256"],
}


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORK = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/backend_compile_duration")


class Work(list):
    """The traces and compilations of JAX while it is entered."""

    def __enter__(self):
        self.on = True
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *error):
        self.on = False

    def _hear(self, event, seconds, **more):
        if self.on and event in WORK:
            self.append((event, more))


@pytest.fixture
def calls(monkeypatch):
    """The calls of `fit`, `evaluate` and `predict` that an example makes, to be made again."""
    made = []

    def record(name):
        function = getattr(jl, name)

        def recorded(*arguments, **options):
            result = function(*arguments, **options)
            options.pop("callbacks", None)
            if name == "fit":  # continues from its state, for a fresh one is traced
                options["state"] = result[0]
            made.append((function, arguments, options))
            return result

        monkeypatch.setattr(jl, name, recorded)

    for name in ("fit", "evaluate", "predict"):
        record(name)
    return made


def test_every_example_is_run():
    assert sorted(BRIEFLY) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BRIEFLY)
def test_example(name, calls, capsys, tmp_path):
    """The second time, nothing that it calls is traced or compiled."""
    picture = tmp_path / "graph.svg"
    more = ["--picture", str(picture)] if name == "two_inputs" else []
    results = load(name).main(BRIEFLY[name] + more)
    assert results
    assert all(value == value for value in results.values())  # no NaN
    assert capsys.readouterr().out
    assert picture.exists() == bool(more)
    assert results.get("compilations", 0) <= 2 * results.get("lengths", 0)
    with Work() as heard:
        jax.jit(lambda x: x + 1)(1.0)
    assert len(heard) == 2
    for function, arguments, options in calls:
        function(*arguments, **options)
    with Work() as heard:
        for function, arguments, options in calls:
            function(*arguments, **options)
    assert heard == []
