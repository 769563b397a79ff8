"""What one can ask of a ranking."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dpf.errors import UsageError

NullChoice = Literal["exchange", "none"]
MatchChoice = Literal["auto", "plate", "screen"]
Adjustment = Literal["none", "plate", "position"]

#: What verdicts go by (`dpf.workflows.rank.verdicts.Verdict`), kept with a ranking: one by an earlier rule is stale.
VERDICT_RULE = "activation pattern"

_CHOICES = {
    "null": ("exchange", "none"),
    "match": ("auto", "plate", "screen"),
    "adjust": ("none", "plate", "position"),
}


@dataclass(frozen=True)
class RankChoices:
    """How compounds are compared and what is written beside the ranking.

    Attributes
    ----------
    sort
        The column to sort by.
    by_dose
        One row a compound and concentration, not a compound.
    fdr
        The false discovery rate at which compounds are called.
    null
        "exchange": a compound's wells and controls change places (`dpf.analysis.ranking.p_values.compound_p_values`);
        "none": no p-values.
    match
        "plate": wells change places within their plate only; "screen": within the screen; "auto": plate by plate
        where every plate has controls enough to call anything, which the design alone decides.
    adjust
        Take plate, or plate, row and column effects off the latents first, and make them covariates of the signatures.
    in_sample
        P-values also where nothing was held out.
    group_column
        A column of the wells table with the class of each compound, or None.
    signatures
        Genes up and down by compound.
    trend
        Prior variances of the signatures follow the mean expression (limma-trend).
    gene_sets, query
        GMT files: sets to test the signatures for, signatures to compare them with. Either implies `signatures`.
    """

    sort: str = "rank"
    by_dose: bool = False
    fdr: float = 0.05
    null: NullChoice = "exchange"
    match: MatchChoice = "auto"
    adjust: Adjustment = "none"
    in_sample: bool = False
    group_column: str | None = None
    signatures: bool = False
    trend: bool = True
    gene_sets: Path | None = None
    query: Path | None = None

    @property
    def wants_signatures(self) -> bool:
        """Signatures are asked for, or something that is made of them."""
        return self.signatures or self.gene_sets is not None or self.query is not None

    def require_sense(self) -> None:
        """Raise a `UsageError` for choices that do not exist or do not go together."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"no such --{name}", found=getattr(self, name), expected=" or ".join(allowed))
        if not 0 < self.fdr < 1:
            raise UsageError("a false discovery rate lies between 0 and 1", found=f"{self.fdr:g}", expected="e.g. 0.05")
        if self.by_dose and self.group_column is not None:
            raise UsageError(
                "a class is of compounds, and these rows are doses, which do not count as many compounds",
                found="--by-dose with --group-column",
                hint="leave out --by-dose",
            )

    def recorded(self) -> dict[str, Any]:
        """The choices for a table's footer."""
        return {name: None if value is None else value if isinstance(value, bool | float) else str(value)
                for name, value in asdict(self).items()}  # fmt: skip
