"""`dpf export`: a project's results for other programs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from dpf.errors import DataError, ProjectError, UsageError, listed
from dpf.files import atomic_path
from dpf.project.directory import Project
from dpf.project.model_header import read_model_header
from dpf.project.new_files import Exports, require_free
from dpf.tables.storage import read_about, read_table
from dpf.tables.text.spreadsheet import write_csv
from dpf.workflows.explain import explain_project
from dpf.workflows.predict.latent import latent_project
from dpf.workflows.predict.predict import predict_project
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import read_inputs
from dpf.workflows.project.model_file import find_model
from dpf.workflows.project.provenance import Now, current, why_stale
from dpf.workflows.rank.rank import rank_project

Layout = Literal["tables", "classic"]
TableFormat = Literal["csv", "parquet", "h5ad"]
Write = Callable[[Path], object]

_MAKERS: dict[str, Callable[..., object]] = {
    "predictions": predict_project,
    "latent": latent_project,
    "latent_correlations": latent_project,
    "ranking": rank_project,
    "importance": explain_project,
}
_TABLES = ("wells", "expression", "genes", "splits", "history", *_MAKERS)
_CLASSIC = (
    "well_activation_scores.csv", "metabolite_activation_scores.csv", "well_predictions_results.csv",
    "gene_importance_gradinput.csv", "latent_scores.csv", "history_loss_detailed.csv", "gene_scaler.csv",
    "loss_curve.png",
)  # fmt: skip


@dataclass(frozen=True)
class ExportResult:
    """The files written."""

    files: tuple[Path, ...]


def export_project(
    project: Project,
    output: Path,
    model: str = "default",
    *,
    layout: Layout = "tables",
    file_format: TableFormat = "csv",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Write a project's results into a folder (or, for h5ad, a file inside it).

    `layout="classic"`: the eight files of the classic pipeline, under its names, with true column names.
    Otherwise inputs, splits, history and every result as tables in `file_format`. What has not been computed yet, or
    is stale, is computed first. Files that an earlier export of the project wrote, and nobody has changed, are
    replaced; any other only with `overwrite`, and what the project itself consists of never.

    Raises
    ------
    DpfError
        The model cannot be used, the folder cannot be written, or it has files that are not to be replaced.
    """
    progress = progress or Silent()
    if "/" in model or model.endswith(".safetensors"):
        raise UsageError("export needs a model of the project", found=model, expected="its name in models/")
    if layout == "classic":
        paths = [output / name for name in _CLASSIC]
    elif file_format == "h5ad":
        paths = [output if output.suffix == ".h5ad" else output / "project.h5ad"]
    else:
        paths = [output / f"{name}.{file_format}" for name in _TABLES]
    exports = Exports(project)
    require_free(paths, project, overwrite, ours=exports.holds)
    if layout == "classic":
        write = _classic(project, model, progress)
    elif file_format == "h5ad":
        write = [_h5ad(project, _results(project, model, progress), model, progress)]
    else:
        write = [_table(table) for table in _all_tables(project, model, progress).values()]
    known = True
    for path, write_one in zip(paths, write, strict=True):
        with atomic_path(path) as part:
            write_one(part)
        known = exports.add(path) and known
    if not known:
        progress.warn("the project cannot be written to: exporting to the same place again will take --overwrite")
    return ExportResult(tuple(paths))


def _table(table: pl.DataFrame | pl.LazyFrame) -> Write:
    """Writes a table: one that is still in a file, a part at a time."""

    def write(path: Path) -> None:
        if path.suffix == ".csv":
            write_csv(table, path)
        else:
            table.lazy().sink_parquet(path)

    return write


def _all_tables(project: Project, model: str, progress: Progress) -> dict[str, pl.DataFrame | pl.LazyFrame]:
    folder = project.trained_model(model)
    return {
        "wells": read_inputs(project, every_well=True).wells,
        "expression": pl.scan_parquet(project.expression),
        "genes": read_table(project.genes, "genes"),
        "splits": read_table(folder.splits, "splits"),
        "history": read_table(folder.history, "history"),
        **_results(project, model, progress),
    }


def _results(project: Project, model: str, progress: Progress) -> dict[str, pl.DataFrame]:
    """The result tables: as they were last made, but for those that are missing or stale, which are made now."""
    file = find_model(project, model)
    targets, now = file.header["targets"], current(project, file)
    needed = [f"{target}_predicted" for target in (*targets["scores"], targets["activation"]) if target]
    tables: dict[str, pl.DataFrame] = {}
    for name, make in _MAKERS.items():
        path = project.results(model).table(name)
        columns = needed if name == "predictions" else []
        table = _stored(path, name, columns, now, progress)
        if table is None:
            make(project, model, progress=progress)
            table = read_table(path, name, needed=columns)
        tables[name] = table
    return tables


def _stored(path: Path, name: str, needed: list[str], now: Now, progress: Progress) -> pl.DataFrame | None:
    """A result as it was last made; None where it is missing, stale or damaged."""
    try:
        if not path.is_file():
            return None
        stale = why_stale(read_about(path, name), now)
        if not stale:
            return read_table(path, name, needed=needed)
        progress.log(f"{path.name} is made again, with default options: {stale}")
    except DataError as error:
        progress.warn(f"{path.name} is made again, with default options: {error.what} ({error.found})")
    return None


def _classic(project: Project, model: str, progress: Progress) -> list[Write]:
    """The classic pipeline's files, in the order of their names (`_CLASSIC`, spelled right)."""
    folder = project.trained_model(model)
    target = find_model(project, model).header["targets"]["activation"]
    if target is None:
        raise ProjectError(
            "the classic layout needs a model with an activation score",
            where=folder.best,
            hint="dpf export PROJECT --format csv writes every table of any model",
        )
    tables = _results(project, model, progress)
    predictions = tables["predictions"]
    activation = f"{target}_predicted"
    aggregates = [
        pl.col(activation).mean().alias("activation_mean"),
        pl.col(activation).std().alias("activation_std"),
        pl.len().alias("n"),
    ]
    norms = [
        pl.col("latent_norm").mean().alias("latent_norm_mean"),
        pl.col("latent_norm").std().alias("latent_norm_std"),
        pl.len().alias("n"),
        pl.col("distance_euclidean").mean().alias("distance_euclidean_mean"),
        pl.col("distance_cosine").mean().alias("distance_cosine_mean"),
    ]
    by_compound = predictions.group_by("compound", maintain_order=True)
    tables_in_order = (
        predictions.select("well_id", "compound", activation),
        by_compound.agg(aggregates).sort("activation_mean", descending=True),
        predictions.drop(*_latents(predictions), "latent_member"),
        tables["importance"].select("gene", "importance", "signed"),
        by_compound.agg(norms).sort("distance_euclidean_mean", descending=True),
        read_table(folder.history, "history"),
        _gene_scaler(folder.best),
    )
    return [*map(_table, tables_in_order), lambda part: shutil.copyfile(folder.loss_curve, part)]


def _latents(predictions: pl.DataFrame) -> list[str]:
    return [name for name in predictions.columns if name.startswith("latent_") and name[7:].isdigit()]


def _gene_scaler(path: Path) -> pl.DataFrame:
    """Centre and scale of the z-score, a row a member and gene.

    The mean of the training wells (of the controls among them with `train.gene_center=controls`), and the standard
    deviation of the training wells.
    """
    from safetensors import safe_open

    tables = []
    with safe_open(path, framework="numpy") as weights:
        names = [name for name in weights.keys() if name.endswith(".gene_mean")]  # noqa: SIM118 (not a dict)
        for member in range(len(names)):
            mean = weights.get_tensor(f"members.{member}.gene_mean")
            std = weights.get_tensor(f"members.{member}.gene_std")
            tables.append(pl.DataFrame({"member": member, "mean": mean, "std": std}))
    genes = read_model_header(path)["genes"]
    return pl.concat([table.insert_column(1, pl.Series("gene", genes)) for table in tables])


def _h5ad(project: Project, tables: dict[str, pl.DataFrame], model: str, progress: Progress) -> Write:
    """One AnnData: X the expression, obs the wells with predictions, var the genes with importance, obsm the latent."""
    try:
        import anndata
    except ImportError:
        raise UsageError(
            "anndata is not installed", hint="pipx inject drugseq-perturbformer anndata (or pip install '.[h5ad]')"
        ) from None
    inputs = read_inputs(project, every_gene=True)
    predictions = tables["predictions"]
    latents = _latents(predictions)
    known = {*latents, "latent_member", *inputs.wells.columns}
    extra = predictions.select("well_id", *[name for name in predictions.columns if name not in known])
    obs = inputs.wells.join(extra, on="well_id", how="left", maintain_order="left")
    importance = tables["importance"].drop("rank")
    var = read_table(project.genes, "genes").join(importance, on="gene", how="left", maintain_order="left")
    data = anndata.AnnData(
        X=inputs.expression,
        obs=_pandas(obs, "well_id", progress),
        var=_pandas(var, "gene", progress),
        obsm={"X_dpf_latent": predictions.select(latents).to_numpy()},
        uns={"dpf_ranking": _pandas(tables["ranking"].with_row_index("row"), "row", progress), "dpf_model": model},
    )
    return lambda part: data.write_h5ad(part)


def _pandas(table: pl.DataFrame, index: str, progress: Progress) -> Any:
    """As pandas, which anndata needs, without what HDF5 cannot hold.

    That is columns of missing values only, booleans with gaps (they become text), and slashes in names.
    """
    known = table.select(name for name in table.columns if name == index or table.get_column(name).count())
    slashed = {name: name.replace("/", "_") for name in known.columns if "/" in name}
    taken = sorted(set(slashed.values()) & set(known.columns))
    if taken or len(set(slashed.values())) < len(slashed):
        raise UsageError(
            "an h5ad file cannot hold slashes in the names of columns, and without them two are the same",
            found=listed(list(slashed)),
            hint="dpf export PROJECT --format parquet holds any name",
        )
    for name, new in slashed.items():
        progress.log(f"{name} is called {new} in the h5ad file: it cannot hold a slash")
    gaps = [name for name, dtype in known.schema.items() if dtype == pl.Boolean and known.get_column(name).null_count()]
    texts = pl.col(pl.String).exclude(index)
    frame = known.with_columns(pl.col(gaps).cast(pl.String)).with_columns(texts.cast(pl.Categorical)).to_pandas()
    frame[index] = frame[index].astype(str)
    return frame.set_index(index).rename(columns=slashed)
