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

from dpf.errors import DataError, UsageError, first_line, listed, translated
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
    """Yield the open `h5py.File`, in which nothing leads out of the file and everything large has been written.

    Raises
    ------
    UsageError
        h5py is not installed.
    DataError
        The file is missing, cut short, damaged or no HDF5 file, also when that shows only while the caller reads; or a
        part of it lies in another file.
    """
    h5py = require("h5py", extra, purpose)
    with translated(lambda error: _unreadable(path, error)), h5py.File(path, "r") as file:
        _refuse_outside(file, path)
        yield file


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        "cannot read an HDF5 file",
        where=path,
        found=first_line(error),
        expected="a whole HDF5 file, not compressed from outside",
        hint="if it was gzipped, gunzip it first; if it was copied, compare checksums",
    )


def _refuse_outside(file: Any, path: Path) -> None:
    """Refuse links and data that lead to other files, none of which is followed, and large data that are not there."""
    h5py = importlib.import_module("h5py")

    def odd_link(name: str, link: Any) -> DataError | None:
        return _outside(f"{path}, {name}", link.filename) if isinstance(link, h5py.ExternalLink) else None

    def odd_data(name: str, data: Any) -> DataError | None:
        if not isinstance(data, h5py.Dataset):
            return None
        elsewhere = [source.file_name for source in data.virtual_sources()] if data.is_virtual else []
        elsewhere += [entry[0] for entry in data.external or []]
        if elsewhere:
            return _outside(f"{path}, {name}", elsewhere[0])
        if data.size and data.size > _BLOCK_CELLS and data.id.get_storage_size() == 0:
            return _no_table(f"{path}, {name}", f"shape {data.shape}, and nothing written")
        return None

    # h5py garbles what is raised while it looks around; what is returned ends that.
    if wrong := file.visititems_links(odd_link) or file.visititems(odd_data):
        raise wrong


def _outside(where: str, found: str) -> DataError:
    return DataError(
        "a part of an HDF5 file lies in another file, which is not read",
        where=where,
        found=found,
        expected="every part in the file itself",
        hint="open it where it was made and write it again as one file, as anndata's write_h5ad does",
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
    with translated(lambda error: _unreadable(path, error)):
        if not h5py.is_hdf5(path):
            return False
        with h5py.File(path, "r") as file:
            return file.get(member, getlink=True) is not None  # looked at, not followed


def read_dense(dataset: Any, path: Path) -> tuple[NDArray[np.float32], int]:
    """A two-dimensional numeric dataset as float32, block by block, and how many values were rounded by that.

    Raises
    ------
    DataError
        The dataset is not a table of numbers.
    """
    where = f"{path}, {dataset.name}"
    if not hasattr(dataset, "dtype"):
        raise _no_table(where, f"a group with {listed(list(dataset)) or 'nothing'} in it")
    check_numeric(dataset.dtype, dataset.shape, where)
    values = new_matrix(*dataset.shape)
    step = max(1, _BLOCK_CELLS // max(1, dataset.shape[1]))
    rounded = 0
    for start in range(0, dataset.shape[0], step):
        block = dataset[start : start + step]
        values[start : start + step] = block
        let_go(values)
        rounded += rounded_in_float32(block)
    return values, rounded


def check_numeric(dtype: Any, shape: tuple[int, ...] | None, where: str) -> None:
    """Refuse what is no table of real numbers."""
    real = np.issubdtype(dtype, np.number) and not np.issubdtype(dtype, np.complexfloating)
    if shape is None or len(shape) != 2 or not (real or dtype == np.bool_):
        raise _no_table(where, f"type {dtype}, shape {shape}")


def _no_table(where: str, found: str) -> DataError:
    return DataError(
        "not a table of numbers",
        where=where,
        found=found,
        expected="two dimensions of numbers",
        hint="write the file again with the program that made it",
    )
