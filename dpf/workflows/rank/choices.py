"""What one can ask of a ranking."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpf.config.options import Options, option
from dpf.errors import UsageError
from dpf.workflows.options import fdr_option, in_sample_option

if TYPE_CHECKING:
    from dpf.workflows.project.provenance import Now

Adjustment = Literal["none", "plate", "position"]

_TESTS, _MORE = "P-values", "Beside the ranking"


@dataclass(frozen=True)
class RankChoices(Options):
    """`dpf rank`: how compounds are compared and what is written beside the ranking."""

    sort: str = option("rank", "Column to sort by; p, q, names and ranks: smallest first.")
    by_dose: bool = option(False, "One row a compound and concentration instead of a compound.")
    adjust: Adjustment = option(
        "none", "Take position effects off latents and signatures: of plates, or of plates, rows and columns."
    )
    fdr: float = fdr_option(_TESTS)
    null: Literal["exchange", "none"] = option(
        "exchange",
        "exchange: p-values by sets in which its wells and controls change places; none: no p-values.",
        panel=_TESTS,
    )
    match: Literal["auto", "plate", "batch", "donor", "block", "screen"] = option(
        "auto",
        "Wells change places within their plate, batch, donor, all of these (block), or the whole screen; auto: the "
        "finest in which most compounds can be tested.",
        panel=_TESTS,
    )
    reference: Literal["controls", "library"] = option(
        "controls",
        "library: also test each compound against the wells of all the others, most of which are taken to be inert.",
        panel=_TESTS,
    )
    challenge: bool = option(
        False,
        "Test each hit again: against matched controls, without each well, plate, batch and donor, without the model, "
        "without the expression, and with depth taken off.",
        panel=_TESTS,
    )
    in_sample: bool = in_sample_option(_TESTS)
    group_column: str | None = option(
        None, "Column with the class of each compound: its enrichment in the ranking.", panel=_MORE
    )
    signatures: bool = option(False, "Genes up and down by compound, as table and GMT.", panel=_MORE)
    trend: bool = option(
        True,
        "Prior variance of the signatures follows the mean expression (limma-trend).",
        "--trend/--no-trend",
        panel=_MORE,
    )
    gene_sets: Path | None = option(None, "Gene sets to test the signatures for.", metavar="FILE.gmt", panel=_MORE)
    query: Path | None = option(
        None, "Signatures (NAME_UP, NAME_DN) to compare the compounds with.", metavar="FILE.gmt", panel=_MORE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by_dose and self.group_column is not None:
            raise UsageError(
                "a class is of compounds, and these rows are doses, which do not count as many compounds",
                found="--by-dose with --group-column",
                hint="leave out --by-dose",
            )
        if self.null == "none" and (self.challenge or self.reference == "library"):
            raise UsageError(
                "there are no p-values to compare",
                found=f"--null none with {'--challenge' if self.challenge else '--reference library'}",
                hint="leave out --null none",
            )

    @property
    def wants_signatures(self) -> bool:
        """Signatures are asked for, or something that is made of them."""
        return self.signatures or self.gene_sets is not None or self.query is not None

    def footer(self, now: Now, kind: str, *files: Path) -> dict[str, Any]:
        """What a table of the ranking is made of (`dpf.workflows.project.provenance`), and these choices."""
        from dpf.workflows.project.provenance import made_of

        chosen = {name: value if isinstance(value, bool | float | None) else str(value)
                  for name, value in asdict(self).items()}  # fmt: skip
        return made_of(now, kind, files=files) | {"choices": chosen}
