"""The model card: what a model is, how it compares with baselines, its calibration, and its limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dpf.analysis.evaluation.metrics import LABEL_METRICS, SCORE_METRICS
from dpf.splits.parts import PART_NAMES
from dpf.tables.storage import read_about
from dpf.workflows.evaluate.methods import MEAN, MODEL, UNCALIBRATED, Truth
from dpf.workflows.evaluate.scoreboard import Scoreboard
from dpf.workflows.evaluate.scoreboard_text import MAIN, NAMES, summary_table
from dpf.workflows.project.calibration import Calibration
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.project.model_file import ModelFile

_SHORT_SHA = 12


@dataclass(frozen=True)
class CardContent:
    """What a card is written from.

    Attributes
    ----------
    notes, verdicts
        Caveats, and the best method by target: one sentence each.
    latent
        From `dpf.workflows.evaluate.latent`; None where nothing could be measured.
    design
        What `dpf check` found about the plate layout.
    wells_path
        The wells table, whose footer names the source files.
    """

    file: ModelFile
    inputs: Inputs
    truth: Truth
    board: Scoreboard
    notes: Sequence[str]
    verdicts: Sequence[str]
    calibration: Calibration | None
    latent: pl.DataFrame | None
    design: Sequence[str]
    wells_path: Path


def card_text(card: CardContent) -> str:
    """The card in Markdown. The same content gives the same text: there is no date and no absolute path in it."""
    sections = [
        f"# Model card: {card.file.name}",
        _bullets(card.notes),
        "## Verdict",
        _bullets(card.verdicts) or "Nothing was compared.",
        "## Model",
        _bullets(_model(card.file.header)),
        "## Data",
        _bullets(_data(card)),
        "## Splits",
        _bullets(_splits(card.file.header)),
        *_scores(card.board),
        "## Calibration",
        _bullets(_calibration(card.calibration)),
        *_latent(card.latent),
        "## Design of the screen",
        _bullets(line.strip() for line in card.design),
        "## Limits",
        _bullets(_limits(card)),
        "## Provenance",
        _bullets(_provenance(card)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _model(header: dict[str, Any]) -> list[str]:
    model, train = header["settings"]["model"], header["settings"]["train"]
    targets = header["targets"]
    learned = [f"scores {', '.join(targets['scores'])}"] if targets["scores"] else []
    learned += [f"label {targets['label']}"] if targets["label"] else []
    if targets["activation"]:
        source = header["activation_source"]
        learned.append("activation " + (source if source == targets["activation"] else f"({source})"))
    members = header["members"]
    return [
        f"PerturbFormer, an encoder over {len(header['genes']):,} genes: {members} member{'s' * (members > 1)}, "
        + ", ".join(f"{name.replace('_', ' ')} {_setting(value)}" for name, value in model.items()),
        f"predicts {'; '.join(learned)}",
        f"trained for {train['epochs']} epochs (best: {', '.join(map(str, header['best_epochs']))}), batch size "
        f"{train['batch_size']}, learning rate {train['learning_rate']:g}, weight decay {train['weight_decay']:g}, "
        f"z-score {_setting(train['zscore'])}, seed {header['seed']}",
        *_beginning(header),
    ]


def _beginning(header: dict[str, Any]) -> list[str]:
    """The initial regression, pretraining and tuning, and whether the Transformer added to them."""
    model, train = header["settings"]["model"], header["settings"]["train"]
    lines = []
    if model.get("start", "none") != "none":
        kept = [str(member) for member, epoch in enumerate(header["best_epochs"]) if epoch > 0]
        lines.append(
            f"begins as a regression of each target ({model['start']}), fitted to each member's own wells; the "
            "Transformer adds to it where that lowered the loss of its validation wells by more than a standard error: "
            + (f"in member {', '.join(kept)}" if kept else "in no member")
        )
    if train.get("pretrain"):
        lines.append(f"pretrained for {train['pretrain']} epochs on hidden genes of each member's training wells")
    for member, chosen in enumerate(header.get("tuned") or []):
        words = ", ".join(f"{name.replace('_', ' ')} {_setting(value)}" for name, value in chosen.items())
        lines.append(f"member {member} chose of {train['tune']} trials: {words}")
    return lines


def _setting(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


def _data(card: CardContent) -> list[str]:
    inputs, wells = card.inputs, card.inputs.wells
    compounds = wells.filter(~pl.col("is_control")).get_column("compound").n_unique()
    controls = int(inputs.is_control.sum())
    lines = [
        f"{wells.height:,} wells x {len(inputs.genes):,} genes: {compounds:,} compounds, {controls:,} control wells"
        + (f", plates: {wells.get_column('plate').n_unique():,}" if "plate" in wells.columns else "")
    ]
    sources = read_about(card.wells_path, "wells").get("sources", [])
    lines += [f"source {Path(s['path']).name}, sha256 {s['sha256'][:_SHORT_SHA]}..." for s in sources]
    measured = [*zip(card.truth.names, card.truth.values.T, strict=True)]
    measured += [(card.truth.label_name, card.truth.label)] if card.truth.label_name else []
    return lines + [f"{name}: measured in {int((values == values).sum()):,} wells" for name, values in measured]


def _splits(header: dict[str, Any]) -> list[str]:
    train = header["settings"]["train"]
    folds = f" ({train['folds']} folds)" if train["folds"] > 1 else ", a single run"
    if (repeats := train.get("repeats", 1)) > 1:  # older files do not have it
        folds = f" ({train['folds']} folds, dealt {repeats} times)"
    lines = [f"rule: {train['split']}{folds}"]
    for member, codes in enumerate(header["parts"]):
        counts = ", ".join(
            f"{codes.count(str(code)):,} {name.replace('_', ' ')}" for code, name in enumerate(PART_NAMES)
        )
        lines.append(f"member {member}: {counts}")
    return [*lines, f"fingerprint {header['split_sha256'][:_SHORT_SHA]}..."]


def _scores(board: Scoreboard) -> list[str]:
    """One table a target: every method by every metric, the main one with its interval and the verdict."""
    table = summary_table(board)
    sections = ["## Compared with baselines, on the same wells"]
    sections.append(
        "Intervals: 95% bootstrap over compounds, one comparison at a time. Verdict: of the model against the method, "
        "by the paired bootstrap. Within: the same metric after the means of every plate column are removed."
    )
    for target in table.get_column("target").unique(maintain_order=True):
        rows = table.filter(pl.col("target") == target)
        metric = rows.item(0, "metric")
        kind = SCORE_METRICS if metric in SCORE_METRICS else LABEL_METRICS
        others = [name for name in kind if name not in MAIN]
        header = ["method", NAMES[metric], "interval", "verdict", "within", *(NAMES[name] for name in others), "wells"]
        lines = [
            [
                row["method"],
                _number(row["value"]),
                f"{_number(row['lower'])} to {_number(row['upper'])}" if row["lower"] is not None else "-",
                row["verdict"] or "-",
                _number(row["within_position"]),
                *(_number(row[name]) for name in others),
                f"{row['wells']:,}",
            ]
            for row in rows.iter_rows(named=True)
        ]
        sections += [f"### {target}", _markdown(header, lines)]
    return sections


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _calibration(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return ["none: `dpf predict` gives the model's probabilities as they are, and no intervals"]
    lines = [f"fitted on {calibration.basis.replace('_', '-')} wells; used by `dpf predict` from then on"]
    label = calibration.label
    if label is not None and label.temperature is None:
        lines.append(f"{label.name}: no temperature. {label.reason}")
    elif label is not None:
        lines.append(
            f"{label.name}: temperature {label.temperature:.3g}; expected calibration error "
            f"{_number(label.ece_as_trained)} as trained, {_number(label.ece_calibrated)} at temperatures fitted on "
            f"other compounds ({label.wells:,} wells)"
        )
    for name, found in calibration.scores.items():
        if found.half_width is None:
            lines.append(f"{name}: no interval, {found.compounds:,} compounds are too few for {calibration.level:.0%}")
        else:
            lines.append(
                f"{name}: prediction ± {found.half_width:.3g} for {calibration.level:.0%}; measured coverage of "
                f"compounds left out {found.coverage:.1%} ({found.wells:,} wells of {found.compounds:,} compounds)"
            )
    return lines


def _latent(latent: pl.DataFrame | None) -> list[str]:
    if latent is None or latent.is_empty():
        return []
    shown = latent.filter(pl.col("member") == latent.item(0, "member"))
    names = shown.get_column("representation").unique(maintain_order=True).to_list()
    rows = []
    for measure in shown.get_column("measure").unique(maintain_order=True):
        of = {r["representation"]: r for r in shown.filter(pl.col("measure") == measure).iter_rows(named=True)}
        if any(row["value"] is not None for row in of.values()):
            chance = next(iter(of.values()))["chance"]
            rows.append(
                [measure, *(_number(of[name]["value"] if name in of else None) for name in names), _number(chance)]
            )
    return [
        "## Latent space",
        "Mean average precision (map) and silhouette of the measured wells: higher is better. Expression: as many "
        "principal components as the latent has dimensions.",
        _markdown(["measure", *names, "chance"], rows),
    ]


def _limits(card: CardContent) -> list[str]:
    lines = [
        "made on one screen: for other cells, protocols, gene panels or normalisations every prediction is an "
        "extrapolation",
        "intervals and probabilities hold for new compounds that are like these, measured as these were",
    ]
    table = summary_table(card.board).filter(pl.col("basis") != "train")
    for target in card.truth.targets if card.board.reference == MODEL else []:
        rows = {row["method"]: row for row in table.filter(pl.col("target") == target).iter_rows(named=True)}
        reached = [name for name, row in rows.items() if row["verdict"] in ("equal", "worse")]
        better = [name for name, row in rows.items() if row["verdict"] == "worse" and name != UNCALIBRATED]
        if MEAN in reached:
            lines.append(f"{target}: the model is no better than the mean of the training wells")
        elif "position" in reached:
            lines.append(f"{target}: position alone, without expression, does as well as the model")
        elif "depth" in reached:
            lines.append(f"{target}: depth alone, without expression, does as well as the model")
        if better:
            lines.append(f"{target}: better than the model are {', '.join(better)}")
    return lines


def _provenance(card: CardContent) -> list[str]:
    header = card.file.header
    return [
        f"weights sha256 {card.file.sha256}",
        f"trained on inputs {header['inputs_sha256'][:_SHORT_SHA]}...",
        f"evaluated on inputs {card.inputs.fingerprint[:_SHORT_SHA]}...",
        f"dpf {header['dpf']}, torch {header['torch']}, {header['device']} in {header['precision']}",
    ]
