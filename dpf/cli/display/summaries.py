"""A screen's summary as lines for a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpf.tables.screen import Summary, TargetSummary

_MOST_NAMED = 6


def summary_lines(summary: Summary) -> list[str]:
    """The summary of a screen, then its notes."""
    lines = [f"wells    {summary.wells:,} x {summary.genes:,} genes"]
    if summary.model_genes < summary.genes:
        lines[0] += f", of which the model reads {summary.model_genes:,}"
    if summary.set_aside:
        total = sum(summary.set_aside.values())
        take = "1 well takes" if total == 1 else f"{total:,} wells take"
        lines.append(f"aside    {take} no part: {_counts(summary.set_aside)}")
    if summary.replicates:
        fewest, median, most = summary.replicates
        each = f"{fewest}" if fewest == most else f"{fewest} to {most}, median {median:g}"
        lines.append(f"treated  {summary.compounds:,} compounds, {each} wells each")
    lines.append(f"controls {sum(summary.controls.values()):,} wells: {_counts(summary.controls)}")
    lines.append(f"plates   {_counts(summary.plates)}" if summary.plates else "plates   not known")
    missing = [name for name in ("row", "column") if name not in summary.columns]
    if missing:
        lines.append("position not known: dpf cannot look for plate effects")
    lines += [f"target   {_target(target)}" for target in summary.targets]
    roles = [target.role for target in summary.targets]
    if "activation" not in roles and roles.count("score") == 3:
        lines.append('target   activation: the sum of the three scores (targets.activation = "" in dpf.toml: none)')
    return lines + [f"{note.severity + ':':<8} {note.text}" for note in summary.notes]


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:_MOST_NAMED]]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f", and {rest:,} more" if rest else "")


def _target(target: TargetSummary) -> str:
    text = f"{target.name} ({target.role}): "
    if target.ones is not None:
        text += f"{target.ones:,} of {target.present:,} wells are 1"
    else:
        text += f"{target.minimum:.3g} to {target.maximum:.3g}, mean {target.mean:.3g}"
    return text + (f"; {target.missing:,} missing" if target.missing else "")
