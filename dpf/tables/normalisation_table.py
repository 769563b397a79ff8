"""How a project's counts became expression, as a file of the project: one row a gene of the library size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from dpf.errors import DataError
from dpf.tables.normalise import Normalisation
from dpf.tables.storage import read_about, read_table, write_table

KIND = "normalisation"


def write_normalisation(path: Path, fitted: Normalisation) -> None:
    """Write a fitted normalisation, atomically.

    ``gene`` and one float64 column a fitted array (`Normalisation.to_parts`); what is one value for all genes stands
    in the footer.
    """
    values, arrays = fitted.to_parts()
    table = pl.DataFrame({"gene": values.pop("depth_genes")} | arrays, schema_overrides={"gene": pl.String})
    write_table(path, table, KIND, {KIND: values})


def read_normalisation(path: Path) -> Normalisation:
    """Read what `write_normalisation` wrote; a project without the file took its values as they were.

    Raises
    ------
    ProjectError, DataError
        The file is of a later format, damaged, or not one that dpf writes.
    """
    if not path.is_file():
        return Normalisation("none")
    table, about = read_table(path, KIND), read_about(path, KIND)
    try:
        genes = table.get_column("gene").to_list()
        arrays = {column.name: column.to_numpy().astype(np.float64) for column in table.drop("gene")}
        return Normalisation.from_parts({**about[KIND], "depth_genes": genes}, arrays)
    except (KeyError, TypeError, pl.exceptions.ColumnNotFoundError) as error:
        raise DataError(
            "the stored normalisation is not one that dpf writes",
            where=path,
            found=f"{type(error).__name__}: {error}",
            hint="restore it from a copy, or run dpf init again from the source files",
        ) from error
