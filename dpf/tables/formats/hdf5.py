"""HDF5 files opened lazily, by the readers of h5ad and GCTX: the library is an extra."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError
from dpf.tables.storage import let_go, new_matrix
from dpf.tables.text.encodings import rounded_in_float32

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_BLOCK_CELLS = 1 << 23


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional library.

    Raises
    ------
    UsageError
        It is not installed; the error names the extra that brings it.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UsageError(
            f"{purpose} needs the optional library {module.partition('.')[0]}, which is not installed",
            expected=f"the extra {extra!r}",
            hint=f"pip install 'drugseq-perturbformer[{extra}]' (with pipx: "
            f"pipx inject drugseq-perturbformer 'drugseq-perturbformer[{extra}]')",
        )
    return importlib.import_module(module)


@contextmanager
def open_hdf5(path: Path, extra: str, purpose: str) -> Iterator[Any]:
    """Yield the open `h5py.File`.

    Raises
    ------
    UsageError
        h5py is not installed.
    DataError
        The file is missing, cut short, or no HDF5 file; also when that shows only while the caller reads.
    """
    h5py = require("h5py", extra, purpose)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        "cannot read an HDF5 file",
        where=path,
        found=error,
        expected="a whole HDF5 file, not compressed from outside",
        hint="if it was gzipped, gunzip it first; if it was copied, compare checksums",
    )


def holds(path: Path, head: bytes, member: str, suffix: str) -> bool:
    """Whether this is an HDF5 file with `member` in it; where h5py is not installed, by the file's `suffix`.

    Raises
    ------
    DataError
        It begins as HDF5 does and is damaged.
    """
    if not head.startswith(HDF5_MAGIC):
        return False
    if importlib.util.find_spec("h5py") is None or path.suffix.lower() == suffix:
        return path.suffix.lower() == suffix
    h5py = importlib.import_module("h5py")
    if not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return member in file
    except OSError as error:
        raise _unreadable(path, error) from error


def read_dense(dataset: Any, path: Path) -> tuple[NDArray[np.float32], int]:
    """A two-dimensional numeric dataset as float32, block by block, and how many values were rounded by that.

    Raises
    ------
    DataError
        The dataset is not a table of numbers.
    """
    check_numeric(dataset.dtype, dataset.shape, dataset.name, path)
    values = new_matrix(*dataset.shape)
    step = max(1, _BLOCK_CELLS // max(1, dataset.shape[1]))
    rounded = 0
    for start in range(0, dataset.shape[0], step):
        block = dataset[start : start + step]
        values[start : start + step] = block
        let_go(values)
        rounded += rounded_in_float32(block)
    return values, rounded


def check_numeric(dtype: Any, shape: tuple[int, ...], name: str, path: Path) -> None:
    """Refuse what is no table of numbers."""
    if len(shape) != 2 or not (np.issubdtype(dtype, np.number) or dtype == np.bool_):
        raise DataError(
            "not a table of numbers",
            where=f"{path}, {name}",
            found=f"type {dtype}, shape {shape}",
            expected="two dimensions of numbers",
        )
