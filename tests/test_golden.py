"""Reprs, and paths, shapes and dtypes of parameters and state, are those that were recorded."""

import json

import pytest
from golden import FILE, golden
from test_conformance import ROWS

RECORDED = {entry["repr"]: entry for entry in json.loads(FILE.read_text())}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].spec.name)
def test_a_layer_keeps_its_golden_form(row):
    layer = row[0]
    assert repr(layer) in RECORDED, "record the new row: python tests/golden.py"
    assert golden(*row) == RECORDED[repr(layer)]


def test_nothing_recorded_is_lost():
    assert RECORDED.keys() <= {repr(row[0]) for row in ROWS}
