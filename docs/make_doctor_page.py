"""Writes `docs/doctor.md`: what the doctor says of experiments that are broken, and of some that are not.

    python docs/make_doctor_page.py

`tests/test_doctor.py` runs the same experiments; by default on fewer samples, with `--full` as they are here.
"""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jlayers as jl
from jlayers import config
from jlayers.experiments.doctor import Report, doctor_experiment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = HERE / "doctor.md"


@dataclasses.dataclass(frozen=True)
class Sick:
    """A broken experiment: what is wrong with it, and the check that should find it."""

    name: str
    check: str
    report: Callable[[], Report]


def digits(rows: int | None = None) -> tuple[Any, Any]:
    """Training and validation data: the handwritten digits, or the first `rows` of them."""
    data = jl.data.digits()
    if rows is None:
        train, held_out = jl.data.hold_out(data.train[0], data.train[1], 0.15, seed=0)
        assert held_out is not None
        return train, held_out
    (x, y), rest = data.train, rows // 5
    return (x[:rows], y[:rows]), (x[rows : rows + rest], y[rows : rows + rest])


def network(units: int = 128, **options: Any) -> jl.Layer:
    """The network of configs/digits_mlp.yaml."""
    return jl.Sequential([
        jl.Flatten(),
        jl.Dense(units, activation="relu", **options),
        jl.Dropout(0.3),
        jl.Dense(units // 2, activation="relu", **options),
        jl.Dropout(0.3),
        jl.Dense(10, activation="softmax", name="classes"),
    ])  # fmt: skip


def broken(rows: int | None = None, units: int = 128, rate: float = 0.002, epochs: int = 60) -> list[Sick]:
    """The broken experiments: each is the digits' network with one thing changed."""
    (x, y), (x_val, y_val) = digits(rows)
    loss = "sparse_categorical_crossentropy"
    one = y == 3

    def ask(
        model: jl.Layer | None = None,
        train: Any = (x, y),
        validation: Any = (x_val, y_val),
        rate: float = rate,
        loss: Any = loss,
    ) -> Report:
        trainer = jl.compile(model or network(units), jl.optimizers.adam(rate), loss, ["accuracy"])
        return jl.doctor(trainer, *train, validation_data=validation, epochs=epochs)

    def table(constant: bool) -> Any:
        """Rows and columns of their means, as in a table of measurements."""
        columns = x.reshape(len(x), 8, 8).mean(1) * 4
        columns[:, 5] = 1.5
        return columns[:, : 8 if constant else 5]

    def with_nan() -> Any:
        other = x.copy()
        other[17, 3, 4, 0] = np.nan
        return other

    draw = np.random.default_rng(0)
    leaked = np.concatenate([x_val, x[:20]]), np.concatenate([y_val, y[:20]])
    small = jl.Sequential(jl.Dense(units, activation="relu"), jl.Dense(10, activation="softmax"))
    custom = jl.Sequential([*[*network(units).children.values()][:-1], jl.Dense(10), jl.Lambda(_softmax)])
    logits = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    return [
        Sick("labels from 1 to 10", "labels", lambda: ask(train=(x, y + 1), validation=(x_val, y_val + 1))),
        Sick("learning rate 100 times too high", "rate", lambda: ask(rate=100 * rate)),
        Sick("learning rate 100 times too low", "rate", lambda: ask(rate=rate / 100)),
        Sick(
            "dead ReLUs: biases that begin at -10",
            "activations",
            lambda: ask(network(units, bias_initializer=jl.initializers.constant(-10.0))),
        ),
        Sick(
            "pixels from 0 to 255, not normalized",
            "scale",
            lambda: ask(train=(255 * x, y), validation=(255 * x_val, y_val)),
        ),
        Sick("20 training samples in the validation data", "duplicates", lambda: ask(validation=leaked)),
        Sick(
            "a column of a table that never varies",
            "features",
            lambda: ask(small, train=(table(True), y), validation=None),
        ),
        Sick(
            "the head frozen instead of the base", "frozen", lambda: ask(jl.freeze(network(units), "classes"))
        ),
        Sick("one NaN in the data", "values", lambda: ask(train=(with_nan(), y))),
        Sick("a softmax under a loss for logits", "loss", lambda: ask(loss=logits)),
        Sick("a custom softmax under a loss for logits", "loss", lambda: ask(custom, loss=logits)),
        Sick(
            "targets in another order than their inputs",
            "information",
            lambda: ask(train=(x, draw.permutation(y))),
        ),
        Sick("a tenth of the labels wrong", "labels", lambda: ask(train=(x, _wrong(y, 0.1)))),
        Sick("one class 60 times rarer than the others", "balance", lambda: ask(train=_rare(x, y, one))),
    ]


def _softmax(x: Any) -> Any:
    import jax

    return jax.nn.softmax(x)


def _wrong(y: np.ndarray, share: float) -> np.ndarray:
    draw = np.random.default_rng(0)
    other = (y + draw.integers(1, 10, len(y))) % 10
    return np.where(draw.random(len(y)) < share, other, y).astype(y.dtype)


def _rare(x: np.ndarray, y: np.ndarray, one: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = ~one
    keep[np.flatnonzero(one)[: max(1, one.sum() // 60)]] = True
    return x[keep], y[keep]


# ------------------------------------------------------------------------------------ healthy ones


def _config(name: str) -> Report:
    return doctor_experiment(config.load(ROOT / "configs" / f"{name}.yaml"))


def _vowels() -> Report:
    import optax

    example = runpy.run_path(str(ROOT / "examples" / "lstm_vowels.py"))
    model = jl.Sequential(jl.LSTM(128), jl.Dropout(0.5), jl.Dense(9, activation="softmax"))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, 540))
    )
    trainer = jl.compile(model, optimizer, "sparse_categorical_crossentropy")
    held_out = example["load"]("test")
    return jl.doctor(trainer, *example["load"]("train"), validation_data=held_out, batch_size=30, epochs=60)


def measurements() -> Report:
    """A table of 30 measurements of cells, normalized in the model."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    train, held_out = jl.data.hold_out(x.astype(np.float32), y.astype(np.int32), 0.2, seed=0)
    first = jl.adapt(jl.Normalization(), train[0])
    model = jl.Sequential(first, jl.Dense(32, activation="relu"), jl.Dense(1, activation="sigmoid"))
    trainer = jl.compile(model, "adam", "binary_crossentropy")
    return jl.doctor(trainer, *train, validation_data=held_out, epochs=20)


def healthy() -> dict[str, Callable[[], Report]]:
    """Experiments in which nothing is to be found."""
    shipped = ("digits_mlp", "digits_cnn", "topics_text", "wine_table")
    others = ("digits_augmented", "frozen_features", "two_inputs")
    return {
        **{f"configs/{name}.yaml": lambda name=name: _config(name) for name in (*shipped, *others)},
        "examples/lstm_vowels.py": _vowels,
        "a table of measurements (breast cancer), normalized": measurements,
    }


HEAD = """# The doctor

`jlayers doctor FILE` looks for faults in an experiment before it is trained, and `jlayers doctor RUN` after
it has failed. `jl.doctor(trainer, x, y, validation_data=...)` does the same in Python. Each finding says what
to change. The doctor itself changes nothing and writes nothing into the run.

```
jlayers doctor configs/digits_mlp.yaml
jlayers doctor configs/digits_mlp.yaml --set optimizer.adam.learning_rate=0.2 --plot rates.png
jlayers doctor runs/digits_mlp-1 --json
```

The exit code is 0 if nothing was found and 3 if something was; 2 means that the file itself is wrong.
Notes, such as the predicted memory and time, do not count as findings.

## What it looks at

| Check | Finds |
| --- | --- |
| `values` | NaN and infinity in the data, by row and column |
| `duplicates` | training samples among the held-out ones, more than coincidence explains |
| `loss` | logits under a loss for probabilities and the reverse, by the last activation or by values |
| `labels` | class numbers out of range or counted from 1, equal samples with different labels, wrong labels |
| `balance` | rare classes, classes that training lacks, constant targets, batches of one class |
| `features` | columns that never vary |
| `scale` | inputs and targets that are not normalized, features of wildly different size |
| `frozen` | a frozen head with fresh weights; a frozen base is fine |
| `activations` | dead units; sigmoid and tanh in their flat parts |
| `gradients` | layers that get none; gradients that vanish or explode toward the input; the first NaN |
| `information` | targets that do not depend on the inputs |
| `rate` | a learning rate that is too high or too low, by ten short trainings; suggestion, plot |
| `overfit` | a model that cannot memorize one batch |
| `cost` | memory and time: XLA's analysis of the compiled step, and a few measured steps |
| `nan` | for a failed run: the layer and the value where the first NaN appears |
| `model` | whatever the library itself refuses, in its own words |

A check is skipped if it would only report an earlier error again; the report says so.

**A failed run.** The doctor runs the failed step again from a copy of the last checkpoint (or from the start
if there is none). It looks layer by layer for the first output that is not finite although its inputs are,
then at the loss, then at the gradients.

**Learning rates.** Ten short trainings of up to 100 steps start from the same weights and use the same
batches, at 0.001 to 1000 times the rate. The rate is too high if a tenth of it or less gets clearly further
in so few steps, which favor high rates. It is too low if all steps of the training get no further than a
few steps at ten times the rate or more. A schedule is held at its highest value.

**Large models.** A model that needs many operations per sample is checked with fewer samples, and no check
trains longer than `--seconds` (10 by default). If a step is too slow for short trainings, the report
says how many seconds they would take. With `cache_features`, the checks that train start behind the
frozen layers, as the training does, on the features of up to 2,000 samples.

**Shuffled targets.** The alarm claims that no predictor finds anything. So three are tried, on samples that
they have not learned from: nearest neighbors, ridge regression, and the model after a short training. The
alarm is given only if none correlates with the targets more than chance does (one in 1,000 for each), and
if, at that confidence, none can explain 5 % of their variance. With too few samples for this, there is no
alarm.
In 20 random draws each of 100 to 1,000 digits, texts, vowels, cell measurements, diabetes patients and
irises, the first two predictors always found something in the true targets. With shuffled targets they
found nothing in 80 of 80 draws of digits, 39 of 40 of vowels and 58 of 60 of texts. Tables with a single
yes-or-no target need about 400 samples (19 of 20 draws).

## How well it does

Made by `python docs/make_doctor_page.py`; do not edit the tables by hand. Each broken experiment is
`configs/digits_mlp.yaml` with one thing changed; all use real data.

| Broken experiment | Found by | What it says |
| --- | --- | --- |
"""


def page() -> str:
    lines = [HEAD.rstrip("\n")]
    for sick in broken():
        report = sick.report()
        first = report.findings[0] if report.findings else None
        others = list(dict.fromkeys(f.check for f in report.findings if f.check != sick.check))
        checks = f"`{first.check}`" if first else "nothing"
        checks += f", also {', '.join(f'`{other}`' for other in others)}" if others else ""
        lines.append(f"| {sick.name} | {checks} | {first.message if first else ''} |")
    lines += ["", "| Healthy experiment | Findings |", "| --- | --- |"]
    for name, ask in healthy().items():
        found = ask().findings
        lines.append(f"| {name} | {'; '.join(f.check for f in found) or 'none'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
