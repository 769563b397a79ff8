"""Expression with its genes in a model's order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpf.errors import ModelError, listed
from dpf.tables.matrix import take_columns


def in_model_order(
    expression: NDArray[np.float32], header: dict[str, Any], genes: list[str], where: object
) -> NDArray[np.float32]:
    """Expression (N, G) with its columns in the model's gene order; genes that it lacks are left out.

    Raises
    ------
    ModelError
        The data lack genes of the model; they are listed.
    """
    position = {gene: index for index, gene in enumerate(genes)}
    missing = [gene for gene in header["genes"] if gene not in position]
    if missing:
        raise ModelError(
            f"{len(missing):,} of the model's {len(header['genes']):,} genes are not in the data",
            where=where,
            found=f"missing: {listed(missing)}",
            hint=f"dpf predict --input TABLE --missing-genes impute fills them with {filling(header)}",
        )
    columns = [position[gene] for gene in header["genes"]]
    if columns == list(range(len(genes))):
        return expression
    return take_columns(expression, columns)


def filling(header: dict[str, Any]) -> str:
    """What a model puts where a gene is missing: the value that its z-score centres the gene on, in words."""
    on_controls = header["settings"]["train"].get("gene_center", "wells") == "controls"
    return "the mean of the training controls" if on_controls else "the training mean"
