"""What `dpf evaluate` measures: every method on every target, who is better, what the latent keeps together."""

from __future__ import annotations

from dataclasses import replace

from dpf.tables.schemas.column import METRIC, SHARE, Better, Column, Schema, Type

_UNDEFINED = "where the metric is not defined: too few wells, one class, values that do not vary"
_TARGET = Column("target", Type.TEXT, "The score, label or activation.")
_METRIC = Column(
    "metric", Type.TEXT, "r2 (1 is perfect, 0 the mean of the wells), pearson, spearman, auroc (0.5 is chance), auprc: "
    "higher is better; rmse, brier, ece (calibration error), log_loss: lower is better.",
)  # fmt: skip
_SCOPE = Column(
    "scope", Type.TEXT, "overall; within_position: after the mean of each plate column is taken off (AUROC: over pairs "
    "of one plate column); plate:NAME: on one plate.",
)  # fmt: skip
_METHOD = Column(
    "method", Type.TEXT, "model; model, uncalibrated; initial regression alone (the model without its Transformer); "
    "or a baseline: mean, position, depth, ridge, kernel ridge, pls, other replicate.",
)  # fmt: skip
_BASIS = Column(
    "basis", Type.TEXT, "What the wells were to the method: held_out; validation (they chose the epoch); train (proves "
    "nothing).",
)  # fmt: skip
_VALUE = Column("value", Type.NUMBER, "The metric.", METRIC, empty=_UNDEFINED)
_WELLS = Column("wells", Type.WHOLE, "Wells that were measured and predicted.")
_COMPOUNDS = Column("compounds", Type.WHOLE, "Compounds they are of; each control counts as one.")
_ENDS = tuple(
    Column(end, Type.NUMBER, f"{end.capitalize()} end of its 95% bootstrap interval over compounds.", METRIC,
           empty="of single members, plates and wells that were trained on, and where too few draws define the metric")
    for end in ("lower", "upper")
)  # fmt: skip
_VERDICT = Column(
    "verdict", Type.TEXT, "Of the reference, beside this method: better, worse, equal (these compounds show no "
    "difference: the interval holds 0) or unknown.",
)  # fmt: skip


def _others(of: str, better: Better, **meanings: str) -> list[Column]:
    empty, when = f"where the target is no {of}, or it is not defined", f"where there is a {of}"
    return [
        Column(name, Type.NUMBER, meaning, better=better, empty=empty, when=when) for name, meaning in meanings.items()
    ]


_FILES = "results/NAME/{0}.parquet (of --baselines-only: baselines/{0}.parquet)"

SCOREBOARD = Schema(
    "scoreboard", _FILES.format("scoreboard"), "dpf evaluate", "a method on a target, by metric, member and scope",
    (
        _TARGET, _METRIC, _METHOD,
        Column("member", Type.TEXT, "ensemble (the mean over the members that held a well out), or one member."),
        _SCOPE, _BASIS, _VALUE, *_ENDS, _WELLS, _COMPOUNDS,
    ),
)  # fmt: skip
COMPARISONS = Schema(
    "comparisons", _FILES.format("comparisons"), "dpf evaluate", "a method beside the reference, by metric and scope",
    (
        _TARGET, _METRIC, _SCOPE,
        Column("reference", Type.TEXT, "The method that all others are compared with: the model, else the ridge."),
        _METHOD,
        Column("reference_value", Type.NUMBER, "The metric of the reference, on the wells that both predict.", METRIC,
               empty=_UNDEFINED),
        Column("method_value", Type.NUMBER, "The metric of the method, on the same wells.", METRIC, empty=_UNDEFINED),
        Column("difference", Type.NUMBER, "`reference_value` − `method_value`.", METRIC, empty=_UNDEFINED),
        *(replace(end, meaning=f"{end.meaning[:-1]}, the same draws for both methods.", empty=_UNDEFINED)
          for end in _ENDS),
        _VERDICT, _WELLS, _COMPOUNDS,
    ),
)  # fmt: skip
EVALUATION = Schema(
    "evaluation", "on screen only; the scoreboard holds all of it", "dpf evaluate", "a method on a target",
    (
        _TARGET, _METHOD, replace(_METRIC, meaning="r2 of a score, auroc of a label: higher is better."), _VALUE,
        replace(_VERDICT, meaning=f"{_VERDICT.meaning[:-1]}; - of the reference itself.",
                empty="where the method was not compared"),
        *_ENDS,
        Column("within_position", Type.NUMBER, "The same metric after the mean of each plate column is taken off: what "
               "is left when position is not allowed to help.", METRIC, empty="where positions are not known",
               heading="in position"),
        _BASIS,
        *_others("score", "higher", pearson="Pearson correlation of prediction and measurement.",
                 spearman="Spearman correlation of both."),
        *_others("score", "lower", rmse="Root mean squared error, in the score's own unit."),
        *_others("label", "higher", auprc="Average precision; chance is the share of wells of label 1."),
        *_others("label", "lower", brier="Mean squared distance of the probability from the label.",
                 ece="Expected calibration error over ten bins of probability.",
                 log_loss="Mean negative logarithm of the probability of the true class."),
        _WELLS, _COMPOUNDS,
    ),
    ("target method", "metric", "value", "lower upper", "verdict", "within_position", "basis", "wells", "compounds"),
)  # fmt: skip
LATENT_QUALITY = Schema(
    "latent_quality", "results/NAME/latent_quality.parquet", "dpf evaluate", "a measure of a representation, by member",
    (
        Column("representation", Type.TEXT, "latent; expression (as many principal components of the member's training "
               "wells); predicted scores; measured scores."),
        Column("dimensions", Type.WHOLE, "Its dimensions."),
        Column("member", Type.TEXT, "The member, measured on the wells it held out; mean: over the members."),
        Column("measure", Type.TEXT,
               "Mean average precision with which wells find their like: map_replicates, those of their compound among "
               "controls; map_compounds, among other compounds; map_classes, compounds of their class among other "
               "classes; map_controls, controls among compounds. silhouette_compounds, _classes, _controls: silhouette "
               "(Rousseeuw 1987)."),
        Column("value", Type.NUMBER, "The measure: a share of 0 to 1 (map), or −1 to 1 (silhouette).", better="higher",
               empty="where there is nothing to tell apart"),
        Column("chance", Type.NUMBER, "What a random order gives on the same numbers of wells.", SHARE,
               empty="of silhouettes, and where there is no value"),
        Column("wells", Type.WHOLE, "Wells that were asked.", empty="of silhouettes"),
    ),
)  # fmt: skip
