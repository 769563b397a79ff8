"""What a screen was read from files: wells, genes, expression, how counts became it; and what `dpf check` says."""

from __future__ import annotations

from dataclasses import replace

from dpf.tables.schemas.column import (
    CONCENTRATION,
    COUNTS,
    EXPRESSION,
    LOG2,
    SHARE,
    Column,
    Schema,
    Type,
)

_AGAIN = "restore it from a copy, or run dpf init again from the source files"
_COUNTS = "where `dpf init` was given counts"

WELL_ID = Column("well_id", Type.TEXT, "Name of the well, unique in the project, by which every table knows it.")
COMPOUND = Column("compound", Type.TEXT, "What is in the well, as your wells table names it.")
IS_CONTROL = Column("is_control", Type.FLAG, "Whether the well is a control: DMSO, or what `--control` named.")
PLATE = Column(
    "plate", Type.TEXT, "Plate of the well.", empty="where it is not known", when="where the wells table has plates"
)
ROW = Column(
    "row", Type.TEXT, "Row of the well on its plate, as printed: A, B, ... AF.",
    empty="where it is not known", when="where positions are known",
)  # fmt: skip
COLUMN = Column(
    "column", Type.WHOLE, "Column of the well on its plate, from 1.",
    empty="where it is not known", when="where positions are known",
)  # fmt: skip
DOSE = Column(
    "concentration", Type.NUMBER, "Concentration of the compound.", CONCENTRATION,
    empty="where none was given, as of controls", when="where the wells table has concentrations", heading="dose",
)  # fmt: skip

WELLS = Schema(
    "wells", "inputs/wells.parquet", "dpf init",
    "a well, in the order of the expression table: those that are set aside last",
    (
        WELL_ID, COMPOUND, IS_CONTROL, PLATE, ROW, COLUMN, DOSE,
        Column("cluster", Type.TEXT, "Cluster of the well; `latent.control_clusters` chooses controls by it.",
               empty="where it is not known", when="where the wells table has one"),
        Column("batch", Type.TEXT, "Batch of the well.",
               empty="where it is not known", when="where the wells table has one"),
        Column("donor", Type.TEXT, "Donor that the cells of the well are from.",
               empty="where it is not known", when="where the wells table has one", may_be_own=True),
        Column("set_aside", Type.TEXT, "Why the well takes no part in anything that is computed.",
               empty="of a well that takes part", when="of an imported screen"),
        Column("library_size", Type.NUMBER, "Depth of the well: its counts over all measured genes without spike-ins.",
               COUNTS, when=_COUNTS, may_be_own=True),
        Column("detected", Type.WHOLE, "Genes with at least one count in the well, without spike-ins.",
               when=_COUNTS, may_be_own=True),
        Column("mitochondrial_share", Type.NUMBER, "Share of `library_size` in mitochondrial genes.", SHARE,
               empty="of a well without counts", when=f"{_COUNTS} and mitochondrial genes were measured",
               may_be_own=True),
        Column("spike_in_share", Type.NUMBER, "Share of all counts of the well in ERCC spike-ins.", SHARE,
               empty="of a well without counts", when=f"{_COUNTS} and spike-ins were measured", may_be_own=True),
        Column("qc_flags", Type.TEXT,
               "In what the well lies more than 5 MAD (1.4826 × median absolute deviation) from the median of its "
               "plate; empty text: in nothing. This alone sets no well aside.", when=_COUNTS, may_be_own=True),
        Column("composition_factor", Type.NUMBER,
               "What `library_size` was multiplied by before the counts were divided by it, because of what takes up "
               "the library; 1 on average.", when="with `--normalize log-cpm`", may_be_own=True),
        Column("<own column>", Type.ANY, "A target, or any other column of your wells table as it was read.",
               empty="where your table has no value", when="one a column of your wells table"),
    ),
    remedy=_AGAIN,
)  # fmt: skip

GENES = Schema(
    "genes", "inputs/genes.parquet", "dpf init", "a gene, in the order of the columns of the expression table",
    (
        Column("gene", Type.TEXT, "Name of the gene, unique: the symbol where there is one, else the identifier; "
               "symbols that several genes have are told apart as `symbol|identifier`."),
        Column("gene_id", Type.TEXT, "Identifier, such as an Ensembl one, without its version.",
               empty="where there is none", when="of an imported screen"),
        Column("symbol", Type.TEXT, "Symbol.", empty="where there is none", when="of an imported screen"),
        Column("kind", Type.TEXT, "`gene`, `mitochondrial` or `spike_in` (ERCC).", when="of an imported screen"),
        Column("source_name", Type.TEXT, "Name in the file that was read.", when="of an imported screen"),
        Column("in_model", Type.FLAG, "Whether the model reads the gene; signatures read every one.",
               when="of an imported screen", newer=True),
        Column("in_score", Type.FLAG, "Whether a score was computed from the gene (`--signature`).",
               when="of an imported screen", newer=True),
        Column("most_perturbed", Type.FLAG, "Whether the gene is one of those that compounds move most; a ranking then "
               "has no p-values of the model.", when="with `--top-perturbed`", newer=True),
    ),
    remedy=_AGAIN,
)  # fmt: skip

EXPRESSION_TABLE = Schema(
    "expression", "inputs/expression.parquet", "dpf init", "a well, in the order of the wells table",
    (
        WELL_ID,
        Column("<gene>", Type.NUMBER, "Expression of the gene, as it is learnt from (before any z-score).", EXPRESSION,
               when="one a gene"),
    ),
    remedy=_AGAIN,
)  # fmt: skip

COUNTS_TABLE = Schema(
    "counts", "inputs/counts.parquet", "dpf init", "a well, in the order of the wells table",
    (
        WELL_ID,
        Column("<gene>", Type.ANY, "Counts of the gene: whole numbers, unless the files had fractions.", COUNTS,
               when="one a gene"),
    ),
    remedy=_AGAIN,
)  # fmt: skip

NORMALISATION = Schema(
    "normalisation", "inputs/normalisation.parquet", "dpf init --normalize",
    "a gene that counts towards a well's depth",
    (
        Column("gene", Type.TEXT, "Name of the gene; all that were measured, before any filter, without spike-ins."),
        Column("depth_share", Type.NUMBER, "Share of the gene in all counts of the wells that were fitted on.", SHARE),
        Column("reference_share", Type.NUMBER, "Share of the gene in all counts of the reference wells, which the "
               "composition of every well is compared with.", SHARE, when="with `--normalize log-cpm`", newer=True),
        Column("log_reference", Type.NUMBER, "Mean natural logarithm of the gene's count over the reference wells, "
               "which size factors are taken against.", empty="of genes that size factors do not use",
               when="with `--normalize vst`"),
    ),
    remedy=_AGAIN,
)  # fmt: skip

TRUTH = Schema(
    "truth", "truth.parquet", "dpf init --demo", "a well of the simulated screen; nothing in dpf reads it",
    (
        WELL_ID, COMPOUND,
        Column("kind", Type.TEXT,
               "What the compound does: control, inert, activating, suppressing or off_axis (moves another program)."),
        Column("program", Type.TEXT, "Gene program that the compound moves.", empty="where it moves none"),
        Column("strength", Type.NUMBER,
               "Effect of the compound at saturating concentration, in units of a program's state."),
        Column("ec50_uM", Type.NUMBER, "Concentration of half the effect, in µM.", CONCENTRATION,
               empty="where the screen has one dose"),
        Column("effect", Type.NUMBER, "Signed shift of that program in this well."),
        Column("<program>_state", Type.NUMBER, "State of the program in this well.", when="one a program"),
        Column("column_shift", Type.NUMBER, "What the plate column adds to the activation state."),
        Column("interaction", Type.NUMBER, "What two programs together add to the phenotype, beyond each by itself."),
        Column("phenotype", Type.NUMBER, "Activation state and interaction: what the scores are noisy readings of."),
    ),
)  # fmt: skip
TRUTH_GENES = Schema(
    "truth_genes", "truth_genes.parquet", "dpf init --demo", "a gene of the simulated screen; nothing in dpf reads it",
    (
        Column("gene", Type.TEXT, "Name of the gene."),
        Column("program", Type.TEXT, "Program that the gene follows.", empty="where it follows none"),
        Column("loading", Type.NUMBER, "Log2 fold change of the gene per unit of the program's state.", LOG2),
        Column("base_mean", Type.NUMBER, "Expected counts at the median depth.", COUNTS),
        Column("dispersion", Type.NUMBER, "Dispersion of the gene's negative binomial counts."),
        Column("<plate>_shift", Type.NUMBER, "What the plate adds to the gene's logarithm.", LOG2, when="one a plate"),
    ),
)  # fmt: skip

LAYOUT = Schema(
    "layout", "FILE of dpf check --suggest-layout (CSV)", "dpf check --suggest-layout", "a well of the next plates",
    (
        *(replace(column, when="", empty="") for column in (WELL_ID, PLATE, ROW, COLUMN, COMPOUND, IS_CONTROL)),
        replace(DOSE, when="where the project has concentrations", empty="of controls"),
    ),
)  # fmt: skip
CHECK = Schema(
    "check", "check/check.parquet", "dpf check", "a thing that was checked",
    (
        Column("name", Type.TEXT, "What was checked."),
        Column("group", Type.TEXT, "Heading it stands under."),
        Column("verdict", Type.TEXT, "good; warn: go on, and say so; fail: results would be wrong or cannot be reached;"
               " not applicable: the screen does not have what the check needs."),
        Column("value", Type.NUMBER, "Number that the verdict hangs on; `rule` says what it is.",
               empty="where there is no such number"),
        Column("text", Type.TEXT, "What was found."),
        Column("advice", Type.TEXT, "What to do next; empty text where there is nothing to do."),
        Column("rule", Type.TEXT, "What `value` is, and from which value on it warns and fails."),
        Column("table", Type.TEXT, "Details, as JSON: columns by name.", when="in the file, not in CSV"),
    ),
)  # fmt: skip
