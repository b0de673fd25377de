"""A configuration made into objects: the data, the model, and what trains it."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from jlayers.config.build import Builder
from jlayers.config.defaults import lay_over_defaults
from jlayers.config.derive import Entry
from jlayers.config.overrides import override
from jlayers.config.reader import Document, read_file, read_text
from jlayers.config.schema import Settings, Training
from jlayers.config.validate import validate
from jlayers.config.variables import put_in_variables
from jlayers.core.errors import concerning
from jlayers.core.layer import Layer
from jlayers.core.precision import with_precision
from jlayers.data import Dataset, hold_out, learn, transform
from jlayers.data.batches import Batch
from jlayers.data.class_weights import by_number, class_weights
from jlayers.optimizers import has_patterns, lenient
from jlayers.saving.checkpoints import require_orbax
from jlayers.saving.loading import load_weights
from jlayers.train.callbacks import Callback
from jlayers.train.state import inputs_of
from jlayers.transform.freeze import freeze

__all__ = ["Experiment", "experiment_of", "load", "loads"]


def load(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Experiment:
    """The experiment in a YAML file.

    Args:
        path: path of the file; paths inside are relative to its folder.
        overrides: such as `"training.epochs=3"`.

    Raises:
        ConfigError: everything that is wrong with it, each with file, line and path.
    """
    return experiment_of(read_file(path), overrides)


def loads(text: str, overrides: Iterable[str] = (), base: str | os.PathLike[str] = ".") -> Experiment:
    r"""The experiment in a text of YAML; see `load`.

    >>> import jlayers.config
    >>> experiment = jlayers.config.loads('''
    ... data: digits
    ... model: {Sequential: [Flatten, Dense: 10]}
    ... loss: {sparse_categorical_crossentropy: {from_logits: true}}
    ... ''')
    >>> experiment.model
    Sequential([Flatten(), Dense(10)])
    >>> jlayers.config.loads("data: digit\nmodel: {Dense: {unts: 3}}\nloss: mse\nseed: '1'")
    Traceback (most recent call last):
    jlayers.config.errors.ConfigError: <text>:1: data: unknown dataset 'digit': did you mean 'digits'?
    <text>:2: model.Dense: Dense needs 'units', which is missing
    <text>:2: model.Dense.unts: Dense takes no 'unts' (received unts=3): did you mean 'units'?
    <text>:4: seed: expected a whole number, received seed='1'
    """
    return experiment_of(read_text(text, base=pathlib.Path(base).absolute()), overrides)


def experiment_of(document: Document, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment in a document; see `load`."""
    lay_over_defaults(document, Settings)
    override(document, overrides, Settings)
    written = document.copy()
    put_in_variables(document)
    call = validate(document, Settings)
    builder = Builder(document)
    now = {k: v for k, v in call.arguments.items() if k != "data"}
    given = builder.each(now, ())
    with builder.located((), given):
        settings = Settings(data=call.arguments["data"], **given)
    model: Any = settings.model
    for place, pattern in enumerate(settings.freeze):
        with builder.located(("freeze", place)):
            model = freeze(model, pattern)
    with builder.located(("precision",)):
        if settings.precision is not None:
            model = with_precision(model, settings.precision)
    return Experiment(settings, model, call, builder, written)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment as a configuration describes it.

    Attributes:
        settings: the sections, with loss, metrics, optimizer and model as objects or names.
        model: with the layers frozen that the configuration freezes, in the precision that it sets.
        call: the validated configuration, for `to_data`.
        builder: knows the places of the parts in the file.
        written: the document with its defaults, and before values are put in the places of variables.
        learned: preprocessors that an earlier run has adapted, in place of those of the settings.
    """

    settings: Settings
    model: Layer
    call: Entry
    builder: Builder
    written: Document
    learned: Mapping[str, Any] | None = None

    def varied(self, overrides: Iterable[str]) -> Experiment:
        """The same experiment with some values replaced, as `--set` replaces them; equal data are read once.

        Raises:
            ConfigError: as `load`.
        """
        made = experiment_of(self.written.copy(), overrides)
        if "source" in vars(self) and made.call.arguments["data"] == self.call.arguments["data"]:
            vars(made)["source"] = self.source
        return made

    @functools.cached_property
    def source(self) -> Dataset:
        """The data as they are read, loaded when first asked for."""
        return self.builder.build(self.settings.data, ("data",))

    @functools.cached_property
    def preprocess(self) -> Mapping[str, Any]:
        """The preprocessors, adapted to what is trained on: neither to held-out nor to validation data."""
        return self.adapted() if self.learned is None else self.learned

    def adapted(self) -> Mapping[str, Any]:
        """The preprocessors of the settings, adapted to the data as they are now."""
        (x, _), _ = self._training_and_validation(self.source.train)
        with self.builder.located(("preprocess",)):
            return learn(self.settings.preprocess, x)

    def _training_and_validation(self, pair: tuple[Any, Any]) -> Any:
        """The samples to train on, and those kept back for validation, or None."""
        training = self.settings.training
        with self.builder.located(("training", "validation")):
            return hold_out(*pair, training.validation, self.settings.seed, "validation")

    @functools.cached_property
    def parts(self) -> tuple[Any, Any]:
        """`(x, y)` to train on and `(x, y)` to validate on, or None in its place."""
        return self._training_and_validation(self.data.train)

    @property
    def source_parts(self) -> tuple[Any, Any]:
        """The same parts as they are before preprocessing, for people to look at."""
        return self._training_and_validation(self.source.train)

    @functools.cached_property
    def class_weight(self) -> Any:
        """Factors by class number; checked against the targets that are trained on."""
        given, ((_, y), _) = self.settings.training.class_weight, self.parts
        if given is None:
            return None
        with self.builder.located(("training", "class_weight")):
            weights = by_number(given, self.data.class_names)
            class_weights(weights, y)
        return weights

    @functools.cached_property
    def data(self) -> Dataset:
        """The data as the model is given them."""
        source, preprocess = self.source, self.preprocess
        with self.builder.located(("preprocess",)):
            parts = [p and (transform(preprocess, p[0]), p[1]) for p in (source.train, source.test)]
        return dataclasses.replace(source, train=parts[0], test=parts[1])

    def check(self) -> None:
        """Look over what can be wrong before any work starts: data, parts, class weights, names."""
        self.class_weight  # noqa: B018  reads the data and splits them on the way
        if self.settings.training.checkpoint is not None:
            with self.builder.located(("training", "checkpoint")):
                require_orbax()
        if self.settings.seeds > 1:
            self._check_seeds()
        trainer = self.compile()
        optimizer = trainer.optimizer
        if not has_patterns(optimizer) and not self.listeners:
            return
        with self.located_layer():
            params, state = jax.eval_shape(lambda: self.model.init(jax.random.key(0), self.data.features))
        if has_patterns(optimizer):
            with self.builder.located(("optimizer",)), lenient():
                jax.eval_shape(optimizer.init, params)
        self._check_listeners(trainer, params, state)

    def _check_seeds(self) -> None:
        from jlayers.train.seeds.fit import check_in_memory, check_listens_to_epochs

        with self.builder.located(("seeds",)):
            check_in_memory(self.parts)
        for place, callback in self.listeners.items():
            with self.builder.located(place):
                check_listens_to_epochs(callback)

    @property
    def listeners(self) -> dict[tuple[Any, ...], Callback]:
        """The callbacks by their places in the file."""
        training = self.settings.training
        found: dict[tuple[Any, ...], Any] = {
            ("training", "callbacks", i): callback for i, callback in enumerate(training.callbacks)
        }
        own = {"early_stopping": training.early_stopping, "profile": training.profile}
        return found | {("training", name): c for name, c in own.items() if c is not None}

    def _check_listeners(self, trainer: Any, params: Any, state: Any) -> None:
        """Let each callback refuse a training that it cannot do its part in."""
        from jlayers.train.listeners import expected_run

        training, ((x, y), validation) = self.settings.training, self.parts
        batch = jax.tree.map(lambda a: a[: training.batch_size], Batch(x, y))
        steps = -(-len(jax.tree.leaves(x)[0]) // training.batch_size)
        callbacks = list(self.listeners.values())
        with self.located_layer():
            run = expected_run(
                trainer, callbacks, params, state, batch, validation is not None, training.epochs, steps
            )
        for place, callback in self.listeners.items():
            spec = callback.spec
            below = place if spec is None or "callbacks" not in place else (*place, spec.name)
            with self.builder.located(below, () if spec is None else spec.arguments):
                callback.place(".")
                callback.check(run)

    def compile(self) -> Any:
        """The `Trainer`: model, loss, optimizer and metrics together; see `jl.compile`."""
        return self._trainer

    @functools.cached_property
    def _trainer(self) -> Any:
        from jlayers import train
        from jlayers.train.options import Options

        names = [field.name for field in dataclasses.fields(Options)]
        options: dict[str, Any] = {name: getattr(self.settings, name) for name in names}
        if schedule := self.settings.unfreeze:
            options["unfreeze"] = {int(epochs): patterns for epochs, patterns in schedule.items()}
        with self.builder.located((), self.call.arguments):
            return train.compile(self.model, **options)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The numbers of the seeds; most experiments have one."""
        return tuple(range(self.settings.seed, self.settings.seed + self.settings.seeds))

    def start(self, trainer: Any, seed: int | None = None) -> tuple[Any, str]:
        """The state to start from and a report of its weights; None and nothing if all of them are fresh.

        Args:
            trainer: what `compile` gives.
            seed: seed of what is drawn; that of the settings if not given.
        """
        if not self.settings.weights:
            return None, ""
        (x, _), _ = self.parts
        first = jax.tree.map(lambda array: array[: self.settings.training.batch_size], x)
        key = jax.random.key(self.settings.seed if seed is None else seed)
        weights = self.settings.weights
        with self.builder.located(("weights",)), concerning(weights=weights):
            params, state, report = load_weights(
                self.model, weights, list(inputs_of(first)), key=jax.random.split(key)[0]
            )
        return trainer.init(key, first, params=params, state=state), str(report)

    def located_layer(self) -> Any:
        """A context in which errors of the running model name the layer's line in the file."""
        return self.builder.located_layer(self.model, ("model",))

    def to_data(self) -> dict[str, Any]:
        """The configuration as plain data, complete in itself: defaults written out, paths absolute."""
        given = {k: plain(v) for k, v in self.call.arguments.items()}
        data = {
            f.name: given.get(f.name, getattr(self.settings, f.name)) for f in dataclasses.fields(Settings)
        }
        return {**data, "training": {**dataclasses.asdict(Training()), **given.get("training", {})}}


def plain(value: Any) -> Any:
    """Calls as the plain data that a file holds."""
    if isinstance(value, Entry):
        if value.text is not None:
            return value.text
        arguments = plain(value.arguments)
        return {value.name: arguments} if value.kind else arguments
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
