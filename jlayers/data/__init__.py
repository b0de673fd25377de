"""Data: arrays to train on, by the name of their source."""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.data.batches import Batches
from jlayers.data.buckets import BucketBatches, bucket_lengths
from jlayers.data.concatenate import concatenate
from jlayers.data.dataset import Dataset, DatasetLike, get, register, registry
from jlayers.data.digits import digits
from jlayers.data.files import mnist, npy, npz
from jlayers.data.images import image_dataset_from_directory
from jlayers.data.lazy import LazyArray
from jlayers.data.named import columns, named
from jlayers.data.one_hot import one_hot, to_categorical
from jlayers.data.parquet import parquet
from jlayers.data.parts import parts
from jlayers.data.prepare import learn, transform
from jlayers.data.sequences import pad_sequences, windows
from jlayers.data.split import hold_out
from jlayers.data.table import csv
from jlayers.data.texts import text_dataset_from_directory

__all__ = [
    "Batches",
    "BucketBatches",
    "Dataset",
    "DatasetLike",
    "LazyArray",
    "bucket_lengths",
    "columns",
    "concatenate",
    "csv",
    "digits",
    "get",
    "hold_out",
    "image_dataset_from_directory",
    "learn",
    "mnist",
    "named",
    "npy",
    "npz",
    "one_hot",
    "pad_sequences",
    "parquet",
    "parts",
    "register",
    "registry",
    "text_dataset_from_directory",
    "to_categorical",
    "transform",
    "windows",
]


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.data", name, __all__)
