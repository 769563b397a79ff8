"""Wells by compound, or by compound and concentration: the rows of a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError
from dpf.workflows.project.inputs import Inputs


@dataclass(frozen=True)
class CompoundRows:
    """C rows of a ranking: the row of each well, codes of shape (N,), -1 for controls; and what each row is of."""

    codes: NDArray[np.int64]
    keys: pl.DataFrame

    @property
    def count(self) -> int:
        """C."""
        return self.keys.height

    @property
    def names(self) -> list[str]:
        """One text a row."""
        names = self.keys.get_column("compound").to_list()
        if "concentration" not in self.keys.columns:
            return names
        doses = self.keys.get_column("concentration").to_list()
        return [name if dose is None else f"{name} @ {dose:g}" for name, dose in zip(names, doses, strict=True)]

    def wells(self, row: int) -> NDArray[np.intp]:
        """The wells of a row."""
        return self._wells[row]

    @cached_property
    def _wells(self) -> list[NDArray[np.intp]]:
        order = np.argsort(self.codes, kind="stable")
        return np.split(order, np.searchsorted(self.codes[order], np.arange(self.count + 1)))[1:-1]


def compound_rows(inputs: Inputs, by_dose: bool) -> CompoundRows:
    """Number the compounds (and concentrations) in the order of their first well.

    Raises
    ------
    UsageError
        There is no concentration to go by.
    DataError
        Every well is a control.
    """
    columns = ["compound", "concentration"] if by_dose else ["compound"]
    if by_dose and "concentration" not in inputs.wells.columns:
        raise UsageError("there is no concentration column in this project", where="--by-dose")
    treated = inputs.wells.filter(~pl.col("is_control"))
    if treated.is_empty():
        raise DataError("every well is a control: there is nothing to rank", where="the wells table")
    keys = treated.select(columns).unique(maintain_order=True).with_row_index("code")
    joined = inputs.wells.join(keys, on=columns, how="left", nulls_equal=True, maintain_order="left")
    codes = joined.get_column("code").cast(pl.Int64).fill_null(-1).to_numpy().copy()
    codes[inputs.is_control] = -1
    return CompoundRows(codes, keys.drop("code"))
