"""The split of a project's wells: by the rule in the settings, or by the user's own table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from dpf.config.settings import TrainSettings
from dpf.errors import DataError, UsageError
from dpf.project.directory import Project
from dpf.splits.parts import Parts, SplitRule, check_parts, make_splits, splits_from_table
from dpf.workflows.project.inputs import Inputs, Measured

#: Folds of the baselines where the settings ask for a single run: what `dpf train --folds 5` would hold out.
DEFAULT_FOLDS = 5


def baseline_folds(train: TrainSettings) -> TrainSettings:
    """The settings by which baselines alone are split: those of the project, in 5 folds instead of a single run."""
    single = train.split != "file" and train.folds == 1 and train.repeats == 1
    return replace(train, folds=DEFAULT_FOLDS) if single else train


def split_wells(project: Project, inputs: Inputs, measured: Measured) -> Parts:
    """The split of a project's wells, int8 of shape (M, N), as its settings ask for.

    Raises
    ------
    DataError
        The rule cannot be kept with these wells, or the user's table does not fit them.
    UsageError
        Repeats of a split that is the user's own.
    """
    train = project.settings.train
    label = measured.label if measured.label_name else None
    if train.split == "file":
        if train.repeats > 1:
            raise UsageError(
                "a split file already names its members: it cannot be repeated",
                where=f"train.split = file, train.repeats = {train.repeats}",
                hint="give the file more members, or let dpf deal the folds (--split compound)",
            )
        path = project.path / train.split_file
        table = _read_split_file(path)
        if not inputs.set_aside.is_empty():  # a file of all wells names these too
            aside = inputs.set_aside.get_column("well_id").to_list()
            table = table.filter(~pl.col("well_id").cast(pl.String).is_in(aside))
        parts = splits_from_table(inputs.well_ids, table.iter_rows(), where=str(path))
        check_parts(parts, inputs.is_control, label, where=str(path))
        return parts
    rule: SplitRule = train.split  # type: ignore[assignment]
    return make_splits(
        rule,
        compound=inputs.texts("compound") or [],
        is_control=inputs.is_control,
        label=label,
        plate=inputs.texts("plate"),
        folds=train.folds,
        seed=train.seed,
        validation=train.validation if train.folds == 1 else train.inner_validation,
        repeats=train.repeats,
    )


def _read_split_file(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except FileNotFoundError:
        raise DataError(
            "the split file is not there", where=path, hint="train.split_file is relative to the project's folder"
        ) from None
    except pl.exceptions.PolarsError as error:
        raise DataError("the split file cannot be read", where=path, found=str(error).splitlines()[0]) from error
    names = ["well_id", "member", "part"]
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            "the split file lacks columns",
            where=path,
            found=f"columns {', '.join(table.columns)}",
            expected="well_id, member, part (train, validation or held_out)",
        )
    return table.select(names)
