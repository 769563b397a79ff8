"""`dpf rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpf.cli.options import (
    DeviceOption,
    FormatOption,
    ModelOrFileOption,
    PrecisionOption,
    ProjectArgument,
    SetOption,
    ThreadsOption,
    TopOption,
    overrides,
)
from dpf.cli.session import session

_TESTS, _MORE = "P-values", "Beside the ranking"


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    sort: Annotated[
        str, typer.Option("--sort", help="Column to sort by; p, q, names and ranks: smallest first.")
    ] = "rank",
    by_dose: Annotated[
        bool, typer.Option("--by-dose", help="One row a compound and concentration instead of a compound.")
    ] = False,
    adjust: Annotated[
        str, typer.Option("--adjust", help="Take position effects off latents and signatures: none, plate or position.")
    ] = "none",
    fdr: Annotated[
        float,
        typer.Option("--fdr", help="The false discovery rate that hits will be called at.", rich_help_panel=_TESTS),
    ] = 0.05,
    null: Annotated[
        str,
        typer.Option(
            "--null", rich_help_panel=_TESTS,
            help="Sets a compound is compared with: exchange (its wells and controls change places, exact), "
            "pseudo (controls only, too small for replicates) or none (no p-values).",
        ),
    ] = "exchange",
    match: Annotated[
        str,
        typer.Option(
            "--match", rich_help_panel=_TESTS,
            help="Wells change places within their plate, within the screen, or auto: plate if the design can call "
            "anything that way.",
        ),
    ] = "auto",
    tail: Annotated[
        str,
        typer.Option(
            "--tail", rich_help_panel=_TESTS,
            help="none, or gpd: p_tail orders compounds that tie at the smallest p by a Pareto tail; it calls none.",
        ),
    ] = "none",
    in_sample: Annotated[
        bool,
        typer.Option(
            "--in-sample", help="Also measure the model on wells it was trained on, marked as proving nothing.",
            rich_help_panel=_TESTS,
        ),
    ] = False,
    group_column: Annotated[
        str | None,
        typer.Option(
            "--group-column", help="Column with the class of each compound: its enrichment in the ranking.",
            show_default=False, rich_help_panel=_MORE,
        ),
    ] = None,
    signatures: Annotated[
        bool,
        typer.Option("--signatures", help="Genes up and down by compound, as table and GMT.", rich_help_panel=_MORE),
    ] = False,
    trend: Annotated[
        bool,
        typer.Option(
            "--trend/--no-trend", help="Prior variance of the signatures follows the mean expression (limma-trend).",
            rich_help_panel=_MORE,
        ),
    ] = True,
    gene_sets: Annotated[
        Path | None,
        typer.Option(
            "--gene-sets", metavar="FILE.gmt", help="Gene sets to test the signatures for.", show_default=False,
            rich_help_panel=_MORE,
        ),
    ] = None,
    query: Annotated[
        Path | None,
        typer.Option(
            "--query", metavar="FILE.gmt", help="Signatures (NAME_UP, NAME_DN) to compare the compounds with.",
            show_default=False, rich_help_panel=_MORE,
        ),
    ] = None,
    top: TopOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:  # fmt: skip
    """Compounds by their distance from the controls: which of them one may call, and what kind of hit each is."""
    with session("rank", output) as run:
        from dataclasses import asdict

        from dpf.project.directory import open_project
        from dpf.workflows.check.stored import design_lines
        from dpf.workflows.rank.choices import RankChoices
        from dpf.workflows.rank.rank import rank_project

        changed = overrides(set_, compute__threads=threads, compute__device=device, compute__precision=precision)
        choices = RankChoices(
            sort=sort, by_dose=by_dose, fdr=fdr, null=null, match=match, tail=tail, adjust=adjust,  # type: ignore[arg-type]
            in_sample=in_sample, group_column=group_column, signatures=signatures, trend=trend, gene_sets=gene_sets,
            query=query,
        )  # fmt: skip
        result = rank_project(open_project(project, changed), model, choices, progress=run.progress)
        lines = [*design_lines(result.design, project), *result.statements]
        for line in [*lines, *([result.power] if result.power else [])]:
            run.say(line)
        run.show(
            result.table,
            "ranking_by_dose" if by_dose else "ranking",
            top=top,
            title="Compounds, farthest from the controls first",
            sorted_by="" if sort == "rank" else sort,
            power=result.power,
            statements=result.statements,
            design=None if result.design is None else asdict(result.design),
            files=[str(path) for path in (result.path, *result.files)],
        )
        run.say(f"tables: {', '.join(str(path) for path in (result.path, *result.files))}")
        run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
