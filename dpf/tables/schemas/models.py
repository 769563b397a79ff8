"""What a training leaves, and what a model says of wells and genes."""

from __future__ import annotations

from dataclasses import replace

from dpf.tables.schemas.column import (
    CORRELATION,
    LATENT,
    PROBABILITY,
    SECONDS,
    SHARE,
    TARGET,
    Column,
    Schema,
    Type,
    Unit,
)
from dpf.tables.schemas.inputs import COMPOUND, DOSE, IS_CONTROL, PLATE, WELL_ID

_AGAIN = "restore it from a copy, or run dpf train again"
_AXIS = "with an activation axis (an activation score, a label, or one score alone)"
_LOSS = Unit("loss, of targets standardised on the training wells")

MEMBER = Column("member", Type.WHOLE, "Member of the model, from 0: one network with a split of its own.")
PART = Column(
    "part", Type.TEXT,
    "What the well was to the members that are used for it: held_out (never seen), validation (it chose the epoch) or "
    "train.",
)  # fmt: skip
MEMBERS = Column(
    "members", Type.TEXT, "Members that this is the mean of, such as `0,2`: those that held the well out; where there "
    "are none, those that chose their epoch with it; where there are none, those that were trained on it.",
)  # fmt: skip

SPLITS = Schema(
    "splits", "models/NAME/splits.parquet", "dpf train", "a well of a member",
    (
        WELL_ID, MEMBER,
        Column("part", Type.TEXT, "train: its weights were fitted to the well; validation: its epoch was chosen with "
               "it; held_out: it was only ever predicted."),
    ),
    remedy=_AGAIN,
)  # fmt: skip

_PARTS = {
    "mse": "Mean squared error of the scores over what was measured; 0 without scores",
    "bce": "Binary cross-entropy of the label; 0 without one",
    "reg": "Mean squared error of the activation, before its weight; 0 without one",
    "total": "Sum of the three, activation times its weight (0.2 in `classic`): what training lowers",
}
_LOSSES = tuple(
    Column(f"{side}_{part}", Type.NUMBER, f"{meaning}. On the {wells} wells.", _LOSS, better="lower")
    for side, wells in (("train", "training"), ("validation", "validation"))
    for part, meaning in _PARTS.items()
)  # fmt: skip
_VALIDATION = (
    Column("validation_r2_<target>", Type.NUMBER,
           "R² of the score on the validation wells, which chose the epoch: 1 is perfect, 0 no better than their mean.",
           better="higher", empty="where the score does not vary among these wells", when="one a score",
           heading="R² <target>"),
    Column("validation_auroc", Type.NUMBER,
           "Area under the ROC curve of the label on the validation wells: 0.5 is chance, 1 perfect.", better="higher",
           empty="where these wells are of one class", when="where there is a label", heading="AUROC"),
)  # fmt: skip

HISTORY = Schema(
    "history", "models/NAME/history.parquet", "dpf train", "an epoch of a member",
    (
        MEMBER,
        Column("epoch", Type.WHOLE, "Epoch, from 1; 0 is what the network says before training begins, where its "
               "latent begins as a regression."),
        *_LOSSES, *_VALIDATION,
        Column("seconds", Type.NUMBER, "Time that the epoch took.", SECONDS),
        Column("learning_rate", Type.NUMBER, "Learning rate at its end."),
        Column("is_best", Type.FLAG, "Whether it was the best epoch so far, whose weights are kept."),
    ),
    remedy=_AGAIN,
)  # fmt: skip

TRAINING = Schema(
    "training", "on screen only; models/NAME/metrics.json holds the same", "dpf train",
    "a member at its best epoch; the validation wells chose that epoch, so its figures are not of held-out wells",
    (
        MEMBER,
        Column("best_epoch", Type.WHOLE, "Epoch with the lowest `validation_total`; 0: the network as it began."),
        *(replace(loss, empty="where it is no finite number") for loss in _LOSSES if loss.name[0] == "v"), *_VALIDATION,
    ),
    ("member best_epoch", "validation_total", "validation_r2_<target>", "validation_auroc"),
)  # fmt: skip

TUNING = Schema(
    "tuning", "models/NAME/tuning.parquet", "dpf train --tune", "a trial of settings that a member has trained with",
    (
        MEMBER,
        Column("rung", Type.WHOLE, "Round of the search, from 0; the best third of a round goes on to the next."),
        Column("epochs", Type.WHOLE, "Epochs that the trial was trained for."),
        Column("number", Type.WHOLE, "Number of the trial within its member; 0: the settings as they are."),
        Column("learning_rate", Type.NUMBER, "Learning rate tried."),
        Column("schedule", Type.TEXT, "Schedule of the learning rate tried."),
        Column("weight_decay", Type.NUMBER, "Weight decay tried."),
        Column("dropout", Type.NUMBER, "Dropout tried."),
        Column("batch_size", Type.WHOLE, "Batch size tried."),
        Column("validation_total", Type.NUMBER, "Lowest total loss of the validation wells over the epochs; infinite "
               "where the loss stopped being a number.", _LOSS, better="lower"),
    ),
    remedy=_AGAIN,
)  # fmt: skip

LATENTS = Column("latent_<k>", Type.NUMBER, "Coordinate of the well in the latent space of one member.", LATENT)

_SAID = (
    Column("score:<target>", Type.NUMBER, "Predicted score.", TARGET, when="one a score"),
    Column("label_logit", Type.NUMBER, "Predicted log-odds that the label is 1, as trained.",
           when="where there is a label"),
    Column("activation", Type.NUMBER, "Predicted activation score.", TARGET, when="where there is one"),
)  # fmt: skip
OUTPUTS = Schema(
    "outputs", "results/NAME/outputs.parquet", "dpf predict", "a well as one member sees it: the kept forward pass",
    (
        WELL_ID, MEMBER,
        Column("part", Type.TEXT, "What the well was to the member: held_out, validation or train."),
        *_SAID,
        *(replace(column, name=f"start_{column.name}", meaning=f"{column.meaning[:-1]}, without the Transformer.",
                  when="where the latent begins as a regression") for column in _SAID),
        LATENTS,
    ),
    remedy="remove it: what needs it computes it again",
)  # fmt: skip

_GEOMETRY = (
    Column("latent_norm", Type.NUMBER, "Length ‖z‖ of the latent vector.", LATENT),
    Column("distance_euclidean", Type.NUMBER,
           "‖z − μ‖: distance from the centre μ of the control wells, of a control from that of the others "
           "(`latent.center`, `latent.control_clusters`; of new wells: the controls that the model was trained with).",
           LATENT, heading="distance"),
    Column("distance_cosine", Type.NUMBER, "1 − cos(z, μ): 0 in the direction of that centre, 2 opposite to it.",
           empty="where z or μ has length 0"),
    Column("distance_mahalanobis", Type.NUMBER,
           "√((z − μ)ᵀΣ⁻¹(z − μ)), Σ the Ledoit–Wolf covariance of the controls: the distance in their standard "
           "deviations.", empty="of a control, where the others are too few or equal"),
    Column("activation_axis", Type.NUMBER,
           "(z − μ)·w/‖w‖, w the weights of the activation head (of the label's, or of the only score's, where there "
           "is none): place on the activation axis, above 0 towards activation.", LATENT, when=_AXIS),
    Column("on_axis_share", Type.NUMBER, "Share of ‖z − μ‖² along that axis.", SHARE, empty="where z = μ", when=_AXIS),
)  # fmt: skip
_OF_LATENT = (
    Column("latent_member", Type.WHOLE, "Member whose latent stands for the well, also in the distances: latents of "
           "different members cannot be averaged."),
    LATENTS,
)  # fmt: skip
_OWN = "of the project's own wells"

PREDICTIONS = Schema(
    "predictions", "results/NAME/predictions.parquet", "dpf predict",
    "a well of the project (`--input`: a new well, in predictions_INPUT.parquet; with `--shard I/N` "
    "in predictions_INPUT_in_N/part-I.parquet)",
    (
        WELL_ID,
        *(replace(column, when=_OWN) for column in (COMPOUND, IS_CONTROL)),
        *(replace(column, when=f"{_OWN}, {column.when}") for column in (PLATE, DOSE)),
        MEMBERS, PART,
        Column("held_out", Type.FLAG, "Whether no member among these has seen the well."),
        Column("<target>_predicted", Type.NUMBER, "Predicted score or activation, mean over these members.", TARGET,
               when="one a score, and the activation", heading="<target>"),
        *(
            Column(f"<target>_{end}", Type.NUMBER,
                   f"{end.capitalize()} end of the prediction interval: split-conformal, compounds being the "
                   "exchangeable unit; it aims to hold 90% of values (`dpf evaluate --level`).", TARGET,
                   empty="where too few compounds were measured for an interval",
                   when="once `dpf evaluate` has calibrated the model")
            for end in ("lower", "upper")
        ),
        Column("<label>_logit", Type.NUMBER, "Predicted log-odds that the label is 1, as trained, mean over members.",
               when="where there is a label"),
        Column("<label>_probability", Type.NUMBER, "Predicted probability that the label is 1, mean over members; at "
               "the calibration's temperature once `dpf evaluate` has calibrated the model.", PROBABILITY,
               when="where there is a label", heading="P(<label>)"),
        Column("<label>_class", Type.WHOLE, "1 where that probability is above 0.5, else 0.",
               when="where there is a label"),
        Column("<target>_measured", Type.NUMBER, "Measured score or activation.", TARGET,
               empty="where it was not measured", when=_OWN),
        Column("<label>_measured", Type.WHOLE, "Measured label, 0 or 1.", empty="where it was not measured",
               when=f"{_OWN}, where there is a label"),
        *_GEOMETRY, *_OF_LATENT,
    ),
    ("well_id", "compound", "part", "<target>_predicted", "<label>_probability", "distance_euclidean",
     "activation_axis"),
)  # fmt: skip

_MAP = "of the map, in the latent space of `--member`"
LATENT_TABLE = Schema(
    "latent", "results/NAME/latent.parquet", "dpf latent", "a well",
    (
        WELL_ID, COMPOUND, IS_CONTROL, PLATE, PART, *_GEOMETRY,
        *(Column(f"pc_{axis}", Type.NUMBER, f"Principal component {axis} {_MAP}.", LATENT, when="without `--umap`")
          for axis in (1, 2)),
        *(Column(f"umap_{axis}", Type.NUMBER, f"UMAP axis {axis} {_MAP}.", when="with `--umap`") for axis in (1, 2)),
        *_OF_LATENT,
    ),
    ("well_id", "compound", "part", "distance_euclidean", "activation_axis", "on_axis_share", "pc_1 pc_2",
     "umap_1 umap_2", "distance_mahalanobis", "distance_cosine", "latent_norm"),
)  # fmt: skip
LATENT_CORRELATIONS = Schema(
    "latent_correlations", "results/NAME/latent_correlations.parquet", "dpf latent", "a measured target",
    (
        Column("measured", Type.TEXT, "The target."),
        Column("n", Type.WHOLE, "Wells in which it was measured."),
        *(
            Column(f"spearman_{name}", Type.NUMBER, f"Spearman correlation of the measured target with `{name}`.",
                   CORRELATION, empty="where either is the same in all wells", when=when)
            for name, when in (("distance_euclidean", ""), ("activation_axis", _AXIS))
        ),
    ),
)  # fmt: skip

IMPORTANCE = Schema(
    "importance", "results/NAME/importance.parquet (with --target: importance_TARGET.parquet)", "dpf explain",
    "a gene of the model",
    (
        Column("rank", Type.WHOLE, "1 for the largest `importance`.", better="lower"),
        Column("gene", Type.TEXT, "The gene."),
        Column("importance", Type.NUMBER,
               "Mean over wells and members of |x · ∂f/∂x|: x the expression as the network sees it (after the z-score,"
               " where there is one), f the explained target on its standardised scale. Baseline: x = 0.",
               better="higher"),
        Column("signed", Type.NUMBER, "Mean of x · ∂f/∂x, sign kept: about 0 for any gene whose x is centred."),
        Column("control_importance", Type.NUMBER, "Mean of |(x − mean of the controls) · ∂f/∂x|: the baseline is the "
               "controls.", better="higher"),
        Column("control_signed", Type.NUMBER, "Mean of (x − mean of the controls) · ∂f/∂x, sign kept: above 0 where "
               "what the wells have more or less of than the controls pushes f up."),
        Column("gradient", Type.NUMBER, "Mean of ∂f/∂x: above 0 where more of the gene pushes f up, below 0 down.",
               newer=True),
        Column("importance_sd", Type.NUMBER, "Standard deviation of `importance` over the members.",
               empty="of a model of one member"),
    ),
    ("rank gene", "importance", "importance_sd", "gradient", "control_importance", "control_signed", "signed"),
)  # fmt: skip
