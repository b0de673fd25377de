"""Experiments as data: strict YAML to checked settings to objects. Nothing in a file can run code.

```yaml
data: digits
model:
  Sequential:
    - Flatten
    - Dense: {units: 10, activation: softmax}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
optimizer: {adam: {learning_rate: 0.003}}
training: {epochs: 10}
```

Something with a name (a layer, a loss, a schedule, ...) is written as its name, as
`{name: {argument: value}}`, or, to give only its first argument, as `{name: value}`. Arguments are those of
the Python constructor.
"""

from jlayers.config.errors import ConfigError, Problem
from jlayers.config.experiment import Experiment, load, loads
from jlayers.config.jsonschema import json_schema
from jlayers.config.schema import Settings, Training

__all__ = [
    "ConfigError",
    "Experiment",
    "Problem",
    "Settings",
    "Training",
    "json_schema",
    "load",
    "loads",
]
