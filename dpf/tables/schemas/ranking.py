"""What `dpf rank` says of compounds: the ranking and its wells, doses, classes."""

from __future__ import annotations

from dataclasses import replace

from dpf.tables.schemas.column import (
    CONCENTRATION,
    CONTROL_SD,
    CORRELATION,
    COSINE,
    COUNTS,
    LATENT,
    PROBABILITY,
    RESPONSE,
    SHARE,
    TARGET,
    Column,
    Schema,
    Type,
    Unit,
)
from dpf.tables.schemas.inputs import COLUMN, COMPOUND, DOSE, IS_CONTROL, PLATE, ROW, WELL_ID
from dpf.tables.schemas.models import MEMBERS, PART

_AXIS = "where the model has an activation axis"
_UNTESTED = "where the row was not tested: not held out, no controls to compare with, or `--null none`"
_UNMEASURED = "of a compound without a usable well"
_MODEL = "where a model was trained"
_PAIRS = "of one well, or of wells that no member has in common"
_WITHIN = "of one well, of wells that different members held out, or where that member held out too few controls"
_WITHIN_P = f"{_WITHIN}; also where nothing was held out, or with `--null none`"
_EXCHANGED = (
    "share of the sets of as many wells, out of the row's own and the held-out controls (of the same plates where "
    "`--match` goes plate by plate), "
)

_COMPOUND = replace(COMPOUND, meaning="The compound, as your wells table names it.")
_T = Column(
    "t", Type.NUMBER,
    "T, which the ranking goes by: mean over the wells of their standardised distance. A well's distance ‖z − μ‖ from "
    "the centre μ of a member's training controls is divided by the median such distance of those controls, less the "
    "median of the held-out controls so divided, over their robust SD (1.4826 × median absolute deviation), and "
    "averaged over the members that held the well out. 0: as far out as the median control.",
    CONTROL_SD, better="higher",
)  # fmt: skip
_ACTIVATION = Column(
    "activation", Type.NUMBER,
    "Mean place of the wells on the activation axis, standardised as T is: above 0 towards activation, below 0 towards "
    "suppression.", CONTROL_SD, when=_AXIS,
)  # fmt: skip
_ON_AXIS = Column(
    "on_axis", Type.NUMBER,
    "Mean share of the wells' squared distance that lies along the weights w of the activation head. w reads "
    "activation, and has no weight where another dimension tells the same, so that a compound that does nothing but "
    "activate may have 1/5: `pattern_cosine` says whether it does.", SHARE,
    empty="where no well lies away from the centre", when=_AXIS,
)  # fmt: skip


def _p(name: str, meaning: str, empty: str, when: str = "", *, kept: bool = False) -> Column:
    return Column(name, Type.NUMBER, meaning, PROBABILITY, better="lower", empty=empty, when=when, kept=kept)


_COLUMNS = (
    Column("rank", Type.NUMBER, "1 for the largest `t`; equal ones share the mean of their ranks. Without a model "
           "1 for the smallest `p`, of equal ones the largest `expression_distance`.", better="lower"),
    Column("verdict", Type.TEXT,
           "not distinguishable: q above `--fdr`. Else a hit: activating or suppressing where also `activation_p` ≤ "
           "0.1 and `pattern_cosine` is at least 0.71 to that side; off-axis where not; just a hit without an "
           "activation axis. Not measured: every well of the row is set aside. It knows nothing of positions "
           "(`dpf check`), nor of replicates (`replicates_agree`).",
           empty=_UNTESTED),
    Column("direction", Type.TEXT, "activation or suppression: the sign of `activation`, hit or not; none at 0.",
           when=_AXIS),
    Column("n", Type.WHOLE, "Wells of the row that take part."),
    _T,
    *(
        Column(f"t_{end}", Type.NUMBER, f"{name} end of the 95% interval of the true `t` (empirical Bayes): "
               "drawn towards where most compounds lie, so that it holds on top too, and `t` may lie outside.",
               CONTROL_SD, better="higher",
               empty="where no compound has two wells")
        for end, name in (("low", "Lower"), ("high", "Upper"))
    ),
    _p("p", "P-value of all lines of evidence together (expression, measured scores, predictions): "
       f"{_EXCHANGED}whose lines together are at least as extreme (the sum of 1/p over the lines); all sets where they "
       "are fewer than 10,000, else (b + 1)/(m + 1) of 10,000 draws.", _UNTESTED),
    _p("t_p", f"P-value of `t` alone: {_EXCHANGED}whose mean T is at least as large.", _UNTESTED),
    _p("q", "Benjamini–Hochberg over the tested rows: the expected share of false calls among this row and all with a "
       "smaller p, were they called.", _UNTESTED, kept=True),
    _ACTIVATION,
    _p("activation_p", "Two-sided p-value of `activation`, from the same exchanges: twice the smaller of both sides.",
       _UNTESTED, _AXIS),
    Column("pattern_cosine", Type.NUMBER,
           "Cosine between the mean displacement of the wells from the controls and the activation pattern, the "
           "direction in which wells of this screen move when their activation changes (cov(z)·w, Haufe et al. 2014): "
           "1 as cells activate, −1 as they are suppressed, 0 across. To be read of hits.", COSINE,
           empty="where the mean displacement has no direction", when=_AXIS),
    _ON_AXIS,
    Column("replicates_agree", Type.FLAG, "Whether `replicate_cosine_p` ≤ 0.05; a hit whose replicates do not agree "
           "may be one outlying well.", empty=_WITHIN_P),
    *(
        Column(f"rank_{end}", Type.NUMBER, f"{name} end of the 95% interval of the true `rank` (empirical Bayes).",
               better="lower",
               empty="where no compound has two wells")
        for end, name in (("low", "Lower"), ("high", "Upper"))
    ),
    Column("norm_mean", Type.NUMBER, "Mean over the wells of the length ‖z‖ of the latent vector.", LATENT),
    Column("norm_std", Type.NUMBER, "Its standard deviation over the wells (n − 1).", LATENT, empty="of one well"),
    *(
        Column(f"replicate_{name}", Type.NUMBER,
               f"Mean {name} of the displacements from the controls over the pairs of the row's wells, within a "
               f"member. To be held against `replicate_{name}_between`, not against 0.", unit, better="higher",
               empty=_PAIRS)
        if not between else
        Column(f"replicate_{name}_between", Type.NUMBER, "The same over the pairs of the row's wells with those of "
               "all other rows.", unit, empty=_PAIRS)
        for name, unit in (("cosine", COSINE), ("pearson", CORRELATION))
        for between in (False, True)
    ),
    Column("distance_euclidean", Type.NUMBER, "Mean over the wells of ‖z − μ‖, not standardised.", LATENT,
           better="higher"),
    Column("distance_cosine", Type.NUMBER, "Mean over the wells of 1 − cos(z, μ): 0 in the direction of the controls' "
           "centre μ, 2 opposite to it.", better="higher", empty="where z or μ has length 0"),
    Column("distance_mahalanobis", Type.NUMBER, "Mean over the wells of √((z − μ)ᵀΣ⁻¹(z − μ)), Σ the Ledoit–Wolf "
           "covariance of the member's training controls.", better="higher"),
    *(
        Column(f"distance_{name}_z", Type.NUMBER, f"`distance_{name}` standardised as T is.", CONTROL_SD,
               better="higher", when="where it is defined in every well and the controls differ in it")
        for name in ("cosine", "mahalanobis")
    ),
    _p("activation_q", "Benjamini–Hochberg of `activation_p` over the tested rows.", _UNTESTED, _AXIS),
    _p("smallest_p", "The least p that the design allows a row of so many wells: one over the number of sets.",
       _UNTESTED),
    _p("replicate_cosine_p", "P-value of the mean cosine within the row, by exchange with the controls that the same "
       "member held out.", _WITHIN_P),
    Column("replicate_map", Type.NUMBER,
           "Mean average precision: do the row's other wells come before the controls when wells are sorted by cosine "
           "to one of its wells? 1: always (Kalinin et al. 2025, ties counted against it).", SHARE, better="higher",
           empty=_WITHIN),
    _p("replicate_map_p", "P-value of `replicate_map`, by exchange with the controls that the same member held out.",
       _WITHIN_P),
    Column("<target>_predicted_shift", Type.NUMBER,
           "Mean prediction of the wells less that of the controls of their plates (of all plates where one has none); "
           "of a label the difference in probability.", TARGET, when="one a target of the model"),
    Column("<target>_measured_shift", Type.NUMBER,
           "The same of the measured values; of a label the difference in the share of wells.", TARGET,
           empty="where no well of the row, or no control, was measured", when="one a target that was measured"),
    Column("part", Type.TEXT, "What the wells were to the members that measured them: held_out, validation, train."),
    Column("held_out", Type.FLAG, "Whether every well was held out; else there is no p-value."),
)  # fmt: skip

_SCORED = "where a target was measured"
_LINES = (
    Column(
        "expression_distance",
        Type.NUMBER,
        "E-distance of the wells' expression from the controls', on the first 20 principal components of all genes, "
        "the blocks that wells change places in centred: 2δ − σx − σy of squared Euclidean distances, δ between and σ "
        "within groups, over n(n − 1) (scPerturb's convention). About 0 for an inert compound, and may be below.",
        Unit("squared units of the expression"),
        better="higher",
        empty=_UNTESTED,
    ),
    _p(
        "expression_p",
        f"P-value of `expression_distance`: {_EXCHANGED}that lie at least as far. No model takes part, "
        "so that every well counts.",
        _UNTESTED,
    ),
    Column(
        "measured_distance",
        Type.NUMBER,
        "Length of the mean displacement of the measured targets from the controls', each in standard deviations of "
        "all wells, the blocks that wells change places in centred.",
        Unit("standard deviations"),
        better="higher",
        empty=f"{_UNTESTED}, or a well lacks a target",
        when=_SCORED,
    ),
    _p(
        "measured_p",
        f"P-value of `measured_distance`: {_EXCHANGED}that lie at least as far.",
        f"{_UNTESTED}, or a well lacks a target",
        _SCORED,
    ),
    Column(
        "predicted_distance",
        Type.NUMBER,
        "The same of the targets that the model predicts of wells that it held out.",
        Unit("standard deviations"),
        better="higher",
        empty=_UNTESTED,
        when="where the model held out every well",
    ),
    _p(
        "predicted_p",
        f"P-value of `predicted_distance`: {_EXCHANGED}that lie at least as far.",
        _UNTESTED,
        "where the model held out every well",
    ),
)
_ASKED = "with `--challenge`"
_NO_HIT = "of rows that are no hits"
_AGAINST_LIBRARY = "with `--reference library`"
_FURTHER = (
    _p("p_library", "P-value of all lines of evidence together, with the wells of all tested rows in the controls' "
       "place: share of the sets of as many of these wells, in the same strata, that are at least as extreme.",
       _UNTESTED, _AGAINST_LIBRARY),
    _p("q_library", "Benjamini–Hochberg of `p_library` over the tested rows.", _UNTESTED, _AGAINST_LIBRARY),
    Column("survives", Type.WHOLE, "Challenges, of those that could be made, that the hit survives "
           "(challenges.parquet).", better="higher", empty=_NO_HIT, when=_ASKED),
    Column("challenges", Type.WHOLE, "Challenges that could be made of it.", better="higher", empty=_NO_HIT,
           when=_ASKED),
    Column("fails", Type.TEXT, "The challenges that it fails.", empty=f"{_NO_HIT}, or fail none", when=_ASKED),
)  # fmt: skip
_WELLS_OF_ROW = (
    Column(
        "depth_median",
        Type.NUMBER,
        "Median `library_size` of the row's wells.",
        COUNTS,
        empty=_UNMEASURED,
        when="where counts came in",
    ),
    Column(
        "wells_set_aside",
        Type.WHOLE,
        "Wells of the row that take no part (`set_aside` of the wells table).",
        when="of an imported screen",
    ),
)
_ALWAYS = ("verdict", "n", "p", "q", "smallest_p", "rank")


def _of_rows(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns with when they are empty of a row without a usable well, and which of them need a model."""
    found = []
    for column in columns:
        empty = column.empty if column.name in ("verdict", "n") else f"{column.empty}; {_UNMEASURED}".lstrip("; ")
        fixed = column.name in _ALWAYS or column.name.startswith("<target>_measured")
        when = column.when if fixed else f"{_MODEL}; {column.when}" if column.when else _MODEL
        found.append(replace(column, empty=empty, when=when))
    return tuple(found)


_COLUMNS = (*_of_rows(_COLUMNS), *(replace(column, newer=True) for column in (*_LINES, *_FURTHER)), *_WELLS_OF_ROW)

_SHOWN = ("compound", "verdict", "n", "t", "t_low t_high", "q", "q_library", "survives challenges",
          "activation", "pattern_cosine", "replicates_agree",
          "expression_p", "measured_p", "predicted_p", "rank", "p")  # fmt: skip
RANKING = Schema(
    "ranking", "results/NAME/ranking.parquet", "dpf rank", "a compound, the farthest from the controls first",
    (_COMPOUND, *_COLUMNS), _SHOWN,
)  # fmt: skip
RANKING_BY_DOSE = Schema(
    "ranking_by_dose", "results/NAME/ranking_by_dose.parquet", "dpf rank --by-dose",
    "a compound at one concentration, the farthest from the controls first",
    (_COMPOUND, replace(DOSE, when="", empty="of wells without one"), *_COLUMNS),
    ("compound concentration", *_SHOWN[1:]),
)  # fmt: skip
RANKING_WELLS = Schema(
    "ranking_wells", "results/NAME/ranking_wells.parquet", "dpf rank", "a well, controls too: what the means are of",
    (
        WELL_ID, COMPOUND, IS_CONTROL, PLATE, ROW, COLUMN, DOSE,
        replace(_T, meaning="Standardised distance of the well, whose mean over a compound's wells is T."),
        replace(_ACTIVATION, meaning="Place of the well on the activation axis, standardised as T is."),
        replace(_ON_AXIS, meaning="Share of the well's squared distance along the activation axis.",
                empty="where the well lies at the centre"),
        Column("average_precision", Type.NUMBER, "Average precision of the well: whether the other wells of its row "
               "come before the controls when sorted by cosine to it.", SHARE, better="higher",
               empty="of controls and of rows that have no `replicate_map`"),
        MEMBERS, PART,
    ),
)  # fmt: skip

_NOT_MADE = "where it could not be made: its smallest p is above 0.05, no control is near, or no evidence is left"
CHALLENGES = Schema(
    "challenges", "results/NAME/challenges.parquet", "dpf rank --challenge", "a hit and a challenge",
    (
        _COMPOUND,
        replace(DOSE, when="with `--by-dose`", empty="of wells without one"),
        Column("challenge", Type.TEXT, "depth-matched controls, position-matched controls: the third of the controls "
               "of each stratum (half where a third is too few) that is nearest in log depth, or on the plate. Without "
               "well, plate, batch or donor NAME: without these wells, and the controls of that plate, batch or donor. "
               "Without the model, without the expression: by the other lines of evidence. Depth taken off: all lines "
               "less what log depth explains of them, by a line fitted on the controls."),
        Column("n", Type.WHOLE, "Wells of the row that take part."),
        Column("controls", Type.WHOLE, "Controls that take part."),
        _p("p", "P-value of the challenge.", _NOT_MADE),
        _p("level", "What p may be: the p up to which rows are hits in the ranking (FDR × hits / tested rows), or the "
           "smallest p of the challenge where that is larger.", _NOT_MADE),
        Column("survives", Type.FLAG, "Whether `p` is at most `level`.", empty=_NOT_MADE),
    ),
)  # fmt: skip

_OPEN = "where the wells do not show where the middle of a curve is: `no_ec50_because` says why"
_FAILED = "where no curve can be fitted, or none beats a constant response"
DOSES = Schema(
    "dose", "results/NAME/dose.parquet", "dpf rank", "a compound of at least three concentrations, by response",
    (
        _COMPOUND,
        Column("response", Type.TEXT, "What the dose acts on: t or activation."),
        Column("shape", Type.TEXT,
               "What the doses show: curve (the EC50 lies inside the doses, its interval closed at both ends); rising "
               "or falling (the response depends on the dose, without a plateau on one side); flat (a hit whose mean "
               "lies beyond the controls' central 95% at every dose, and does not depend on it); unclear."),
        Column("n", Type.WHOLE, "Wells that the fit rests on: those of a concentration above 0."),
        Column("doses", Type.WHOLE, "Different concentrations among them."),
        Column("ec50", Type.NUMBER, "Concentration of half the response: least squares of bottom + (top − bottom)/"
               "(1 + (EC50/x)^hill).", CONCENTRATION, empty=_OPEN),
        Column("ec50_low", Type.NUMBER, "Lower end of its 95% profile-likelihood interval; 0: open.", CONCENTRATION,
               empty=_FAILED),
        Column("ec50_high", Type.NUMBER, "Upper end of that interval; infinite: open.", CONCENTRATION, empty=_FAILED),
        Column("hill", Type.NUMBER, "Slope of the curve.", empty=_OPEN),
        Column("bottom", Type.NUMBER, "Response towards dose 0.", RESPONSE, empty=_OPEN),
        Column("top", Type.NUMBER, "Response towards infinite dose; below `bottom` where the response falls.", RESPONSE,
               empty=_OPEN),
        Column("r_squared", Type.NUMBER, "Share of the wells' variance that the curve explains.", SHARE,
               better="higher", empty=_FAILED),
        _p("p_flat", "F test of the curve against a constant response.", "where there are too few wells for it"),
        Column("no_ec50_because", Type.TEXT, "Why there is no EC50.", empty="where there is one"),
        Column("trend_tau", Type.NUMBER, "Kendall's τ between dose and response.", CORRELATION,
               empty="where the response is constant"),
        _p("trend_p", "Its two-sided p-value.", "where the response is constant"),
        _p("trend_q", "Benjamini–Hochberg of `trend_p` over the compounds.", "where the response is constant"),
    ),
)  # fmt: skip

_SMALL = "of classes of fewer than 3 compounds"
CLASSES = Schema(
    "classes", "results/NAME/classes.parquet", "dpf rank --group-column", "a class of compounds",
    (
        Column("<group column>", Type.TEXT, "The class.", when="one, under its own name"),
        Column("n", Type.WHOLE, "Compounds of the class."),
        *(
            column
            for name, label, when in (("t", "rank", ""), ("activation", "activation", _AXIS))
            for column in (
                Column(f"{name}_mean", Type.NUMBER, f"Mean `{name}` of the compounds.", CONTROL_SD, when=when,
                       better="higher" if name == "t" else "neither"),
                Column(f"{label}_t", Type.NUMBER, f"t of the slope of all compounds' ranks by `{name}` (largest "
                       "highest) on being in the class, as in a rank-sum test: above 0 where the class stands high.",
                       empty=_SMALL, when=when),
                _p(f"{label}_p", f"Two-sided p-value of `{label}_t`, compounds taken as independent.", _SMALL, when),
                _p(f"{label}_q", f"Benjamini–Hochberg of `{label}_p` over the classes.", _SMALL, when),
            )
        ),
        Column("hits", Type.WHOLE, "Hits among the compounds.", when="where compounds were tested"),
        Column("hits_fold", Type.NUMBER, "Hits over what chance would give.", better="higher",
               empty=f"{_SMALL}, or without any hit", when="where compounds were tested"),
        _p("hits_p", "One-sided hypergeometric p-value of so many hits.", f"{_SMALL}, or without any hit",
           "where compounds were tested"),
        _p("hits_q", "Benjamini–Hochberg of `hits_p` over the classes.", f"{_SMALL}, or without any hit",
           "where compounds were tested"),
    ),
)  # fmt: skip
