"""What `dpf rank --signatures` says of genes and gene sets, compound by compound."""

from __future__ import annotations

from dpf.tables.schemas.column import COSINE, EXPRESSION, PROBABILITY, Column, Schema, Type

_ROW = Column("compound", Type.TEXT, "The compound; with `--by-dose` at its concentration (`NAME @ 10`).")
_CONFOUNDED = "with `--adjust`, of a compound that cannot be told from its position"

SIGNATURES = Schema(
    "signatures", "results/NAME/signatures.parquet", "dpf rank --signatures", "a gene of a compound",
    (
        _ROW,
        Column("gene", Type.TEXT, "The gene."),
        Column("effect", Type.NUMBER, "Mean difference of the compound's wells to the controls of their plates (with "
               "`--adjust`: at equal positions).", EXPRESSION, empty=_CONFOUNDED),
        Column("t", Type.NUMBER, "Moderated t of it: over its standard error, the gene's variance drawn towards that "
               "of all genes (limma; Smyth 2004), or of genes of like expression (`--trend`).", empty=_CONFOUNDED),
        Column("p", Type.NUMBER, "Two-sided p-value of `t`.", PROBABILITY, better="lower", empty=_CONFOUNDED),
        Column("q", Type.NUMBER, "Benjamini–Hochberg over the genes of the compound.", PROBABILITY, better="lower",
               empty=_CONFOUNDED, kept=True),
        Column("mean_expression", Type.NUMBER, "Mean expression over the wells compared.", EXPRESSION,
               empty=_CONFOUNDED),
    ),
)  # fmt: skip

_SMALL = "of sets of fewer than 3 measured genes, and up or down without a gene at that q"
ENRICHMENT = Schema(
    "enrichment", "results/NAME/enrichment.parquet", "dpf rank --gene-sets", "a gene set of a compound, by test",
    (
        _ROW,
        Column("gene_set", Type.TEXT, "The gene set."),
        Column("test", Type.TEXT, "up, down: over-representation among the genes that rise or fall at q ≤ `--fdr`, "
               "the measured genes being the background; ulm: slope of the moderated t of all genes on being in the "
               "set."),
        Column("measured", Type.WHOLE, "Genes of the set that were measured."),
        Column("overlap", Type.WHOLE, "Of those, genes in the list; of ulm the same as `measured`."),
        Column("score", Type.NUMBER, "up, down: fold over expectation; ulm: t of the slope, above 0 where the set "
               "rises.", empty=_SMALL),
        Column("p", Type.NUMBER, "up, down: one-sided, hypergeometric; ulm: two-sided, genes taken as independent, "
               "which makes it too small for sets whose genes go together.", PROBABILITY, better="lower", empty=_SMALL),
        Column("q", Type.NUMBER, "Benjamini–Hochberg over all sets and compounds: of up and down together, of ulm by "
               "itself.", PROBABILITY, better="lower", empty=_SMALL, kept=True),
    ),
)  # fmt: skip

CONNECTIVITY = Schema(
    "connectivity", "results/NAME/connectivity.parquet", "dpf rank --query", "a compound beside a query signature",
    (
        Column("query", Type.TEXT, "The query: a pair NAME_UP and NAME_DN, or any other set of the file."),
        _ROW,
        Column("connectivity", Type.NUMBER, "Weighted connectivity score (Subramanian et al. 2017), −1 to 1: half the "
               "difference of the enrichment scores of the query's up and down genes along the moderated t; 0 where "
               "both go one way. 1: does what the query does, −1: the opposite. It has no p-value.",
               empty="where the query's genes do not move at all, or are all that were measured"),
    ),
)  # fmt: skip

SIMILARITY = Schema(
    "signature_similarity", "results/NAME/signature_similarity.parquet", "dpf rank --signatures",
    "a pair among the first 200 compounds of the ranking",
    (
        Column("compound", Type.TEXT, "The one compound."),
        Column("other", Type.TEXT, "The other."),
        Column("cosine", Type.NUMBER, "Cosine between the moderated t of both over all genes.", COSINE,
               empty="where one moves no gene at all"),
    ),
)  # fmt: skip
