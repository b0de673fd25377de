"""Every configuration that ships fits the JSON Schema and its data, and trains a few steps."""

import json
import pathlib

import jsonschema
import pytest

from jlayers import config
from jlayers.cli import main
from jlayers.config.reader import read_file

FILES = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(config.json_schema())


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_fits_the_schema(path, validator):
    validator.validate(read_file(path).data)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_trains_and_is_evaluated_exactly(path, tmp_path, monkeypatch, capsys, pytestconfig):
    if path.stem == "transfer" and not pytestconfig.getoption("--full"):
        pytest.skip("its network takes long to compile; the example trains it, too")
    monkeypatch.chdir(tmp_path)
    few = ["--set", "training.epochs=1", "--set", "training.batch_size=256"]
    assert main(["train", str(path), *few]) == 0
    run = tmp_path / "runs" / f"{path.stem}-1"
    results = json.loads((run / "results.json").read_text())
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.strip().splitlines())
    assert {name: float(value) for name, value in printed.items()} == results["test"]


def test_the_schedules_last_as_long_as_the_training():
    """A schedule counts steps: those of the training that the file asks for."""
    for path in FILES:
        made = config.load(path)
        text = json.dumps(made.to_data()["optimizer"])
        if '"decay_steps": ' not in text:
            continue
        training = made.settings.training
        rows = made.data.sizes[0] - round(training.validation * made.data.sizes[0])
        steps = training.epochs * -(-rows // training.batch_size)
        assert f'"decay_steps": {steps}' in text, f"{path.name}: {steps} steps"
