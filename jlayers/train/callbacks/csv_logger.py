"""The logs of each epoch as a line of a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from jlayers.core.errors import refused
from jlayers.train.callbacks._log_file import LogFile
from jlayers.train.callbacks.base import Logs, Run, register
from jlayers.train.state import TrainState

__all__ = ["CSVLogger"]


@register
class CSVLogger(LogFile):
    """Write the logs of each epoch into a CSV file; as in Keras.

    The columns are `epoch`, counted from 0, and the names in the logs. A run resumed from a checkpoint
    cuts the file back to it, so that no line is there twice.

    Args:
        filename: name of the file. In a configuration it is in the folder `logs` of the run.
        separator: between the values, one character.
        append: add to a file that exists already, without a header, instead of writing a new one.

    Raises:
        ValueError: a separator that is not one character; a path that leaves the run's folder.

    >>> import numpy as np, pathlib, tempfile, jlayers as jl
    >>> x = np.zeros((8, 2), np.float32)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "log.csv"
    >>> trainer = jl.compile(jl.Dense(1, use_bias=False), loss="mse")
    >>> _ = jl.fit(trainer, x, x[:, :1], epochs=2, callbacks=[jl.callbacks.CSVLogger(str(path))])
    >>> path.read_text().split()
    ['epoch,loss', '0,0.0', '1,0.0']
    """

    def __init__(self, filename: str = "log.csv", separator: str = ",", append: bool = False):
        super().__init__(filename, append)
        if len(separator) != 1 or separator in '\r\n"':
            raise refused(ValueError, "expected a separator of one character", separator=separator)
        self.separator = separator

    def on_fit_begin(self, run: Run) -> None:
        super().on_fit_begin(run)
        self._names = list(run.directions)

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> None:
        if self.opened().tell() == 0:
            self.write(self._line(["epoch", *self._names]))
        self.write(self._line([epoch, *(logs.get(name, "") for name in self._names)]))

    def _line(self, values: Sequence[object]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="").writerow(values)
        return text.getvalue()
