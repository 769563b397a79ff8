"""Does a ranking keep its promises: p-values of inert compounds, false discoveries and power of planted ones.

    python -m tests.bench.calibration

Prints Markdown tables, of latents as cross-validated members would give them (`tests.support.ranked_screens`), without
a training: hundreds of screens. `tests.bench.power` compares real representations of simulated expression.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, kruskal, kstest

from dpf.analysis.ranking.compounds import descending_rank, group_mean
from dpf.analysis.ranking.intervals import likely_intervals
from dpf.analysis.ranking.p_values import benjamini_hochberg, compound_p_values
from dpf.analysis.ranking.standardise import LEVEL
from dpf.analysis.ranking.subsets import draw_subsets
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.replicates import compare_replicates
from tests.support.ranked_screens import EFFECTS, Planted, make_screen, run_planted, true_and_seen

FDR = 0.05
PSEUDO = "the same, by sets of controls alone"
Floats = np.ndarray


def show(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for line in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(line) + " |")
    print()


class Inert(NamedTuple):
    """What p-values did on inert screens: KS p of every repeat, and the rest over all screens."""

    ks: Floats
    low: Floats
    at_floor: Floats
    called: Floats
    floor: float

    def cells(self) -> list[str]:
        """As a row of a table; ± is a standard error between screens, the last a 95% interval of a share."""
        error = self.low.std() / np.sqrt(len(self.low))
        interval = binomtest(int(self.called.sum()), len(self.called)).proportion_ci()
        return [
            f"{np.median(self.ks):.2f} ({self.ks.min():.2f}–{self.ks.max():.2f})",
            f"{kstest(self.ks, 'uniform').pvalue:.2f}",
            f"{self.low.mean():.3f} ± {error:.3f}",
            f"{self.at_floor.mean():.2%} / {self.floor:.2%}",
            f"{self.called.mean():.1%} ({interval.low:.1%}–{interval.high:.1%})",
        ]


def pseudo_p_values(t: Floats, codes: Floats, rng: np.random.Generator) -> tuple[Floats, float]:
    """P-values by sets of controls alone (codes below 0), all compounds alike, and the smallest: what dpf does not do.

    The largest mean of pairs of controls rests on the two largest controls only, so it is reached too often.
    """
    own = t[np.argsort(codes, kind="stable")][(codes < 0).sum() :].reshape(codes.max() + 1, -1)
    controls = t[codes < 0]
    means = np.sort(controls[draw_subsets([(len(controls), own.shape[1])], rng, controls_only=True).index].mean(axis=1))
    beyond = len(means) - np.searchsorted(means, own.mean(axis=1) - 1e-12)
    return (beyond + 1) / (len(means) + 1), 1 / (len(means) + 1)


def inert(
    planted: Planted, choices: RankChoices, screens: int, repeats: int, first_seed: int = 0, pseudo: bool = False
) -> Inert:
    """Screens of inert compounds, each with a seed of its own; one p a screen goes into the KS test of its repeat."""
    first, low, at_floor, called, floors = [], [], [], [], []
    for seed in range(first_seed, first_seed + screens * repeats):
        tests, rows, wells = run_planted(replace(planted, seed=seed), choices)
        tested, floor = tests.p[np.isfinite(tests.p)], tests.floor[np.isfinite(tests.p)]
        if pseudo:
            tested, floor = pseudo_p_values(wells.t.value, rows.codes, np.random.default_rng(seed))
        first.append(tested[seed % len(tested)])
        low.append(np.mean(tested <= 0.05))
        at_floor.append(np.mean(tested <= floor * 1.001))
        floors.append(np.mean(floor))
        called.append(bool((benjamini_hochberg(tested) <= FDR).any()))
    ks = [kstest(part, "uniform").pvalue for part in np.reshape(first, (repeats, screens))]
    return Inert(np.array(ks), np.array(low), np.array(at_floor), np.array(called), float(np.mean(floors)))


def null_table(screens: int, repeats: int) -> None:
    """Inert compounds only: KS test of one p a screen, how often the floor is reached, screens that call anything."""
    rows = []
    for name, planted, choices in (
        ("364 × 2 wells, 40 controls", Planted(compounds=364), RankChoices()),
        (PSEUDO, Planted(compounds=364), RankChoices()),
        ("200 × 2, plate by plate", Planted(compounds=200, plates=2), RankChoices(match="plate")),
        ("200 × 3, 24 controls", Planted(compounds=200, wells=3, controls=24), RankChoices()),
        ("200 × 1", Planted(compounds=200, wells=1), RankChoices()),
    ):
        rows.append([name, *inert(planted, choices, screens, repeats, pseudo=name == PSEUDO).cells()])
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    header = ["inert screens", "KS p: median (range)", "KS of these", "P(p ≤ 0.05)", "P(p ≤ smallest) / smallest"]
    show([*header, f"screens with a call at {FDR:g}"], rows)


def member_table(screens: int) -> None:
    """Members that see held-out wells at scales of exp(s·g), g normal: replicates share a member, controls do not.

    With repeats the folds are dealt anew, and a well's T is the mean over the members that held it out.
    """
    members, controls, compounds = 5, 40, 200
    group = np.r_[np.repeat(np.arange(compounds), 2), np.full(controls, -1)]
    rows = []
    for repeats, spread in [(1, s) for s in (0.0, 0.05, 0.1, 0.15, 0.25)] + [(3, s) for s in (0.1, 0.25)]:
        found = np.empty((screens, 3))
        for seed in range(screens):
            rng = np.random.default_rng([seed, int(100 * spread)])
            distance, scaled, medians = np.sqrt(rng.chisquare(8, len(group))), [], []
            for _ in range(repeats):
                fold = np.r_[np.repeat(rng.permutation(compounds) % members, 2), rng.permutation(controls) % members]
                scaled.append(distance * np.exp(spread * rng.normal(size=members))[fold])
                medians += [scaled[-1][(group < 0) & (fold == member)] for member in range(members)]
            p = compound_p_values(np.mean(scaled, axis=0), group, compounds, group < 0, rng=rng).p
            found[seed] = np.mean(p <= 0.05), (benjamini_hochberg(p) <= FDR).any(), kruskal(*medians).pvalue <= LEVEL
        low, called, told = found.mean(axis=0)
        rows.append([f"{repeats}", f"{spread:.0%}", f"{low:.3f}", f"{called:.1%}", f"{told:.0%}"])
    header = ["repeats", "SD of the members' scales", "P(p ≤ 0.05)", f"screens with a call at {FDR:g}", "told"]
    show(header, rows)


def other_table(screens: int) -> None:
    """The other p-values of a ranking, inert compounds only: 60 × 2, 40 controls in 5 members."""
    found: dict[str, list[Floats]] = {}
    for seed in range(screens):
        planted = Planted(seed=seed)
        tests, rows, wells = run_planted(planted)
        rng = np.random.default_rng(seed)
        replicates = compare_replicates(wells, make_screen(planted)[0], rows, tests.matched, RankChoices(), rng)
        for name, p in (
            ("activation_p", tests.activation_p), ("replicate_cosine_p", replicates.cosine_p),
            ("replicate_map_p", replicates.mean_ap_p),
        ):  # fmt: skip
            found.setdefault(name, []).append(p)
    rows_of = []
    for name, screens_of in found.items():
        p = np.stack(screens_of)
        rows_of.append([name, *(f"{np.mean(p <= level):.3f}" for level in (0.05, 0.1, 0.5))])
    show(["p-value", "P(p ≤ 0.05)", "P(p ≤ 0.1)", "P(p ≤ 0.5)"], rows_of)


def power_table(screens: int) -> None:
    """A tenth of 364 compounds acts, at one strength: how many are called, and how many of those called are inert."""
    rows = []
    for strength in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0):
        acting = {code: strength * (-1) ** code for code in range(36)}
        found, false = [], []
        for seed in range(screens):
            tests, _, _ = run_planted(Planted(seed=seed, compounds=364, on=acting))
            hit = tests.q <= FDR
            found.append(hit[:36].mean())
            false.append(hit[36:].sum() / max(hit.sum(), 1))
        rows.append([f"{strength:g}", f"{np.mean(found):.2f}", f"{np.mean(false):.3f}"])
    show(["shift (SD of a control's latent coordinate)", "power", f"achieved FDR (nominal {FDR:g})"], rows)


def coverage_table(screens: int) -> None:
    """How often the intervals of T and of the rank hold the truth: of all compounds, and of the twenty on top."""
    rows = []
    for kind in EFFECTS:
        for wells in (2, 3, 4):
            held = np.empty((screens, 2, 2))
            for seed in range(screens):
                truth, t, group = true_and_seen(kind, wells, seed)
                found = likely_intervals(t, group, len(truth), rng=np.random.default_rng(seed))
                rank, top = descending_rank(truth), np.argsort(-group_mean(t, group, len(truth)))[:20]
                of_t = (found.t_low <= truth) & (truth <= found.t_high)
                of_rank = (found.rank_low <= rank) & (rank <= found.rank_high)
                held[seed] = [[one.mean(), one[top].mean()] for one in (of_t, of_rank)]
            rows.append([kind, f"{wells}", *(f"{share:.3f}" for share in held.mean(axis=0).ravel())])
    show(["effects", "wells", "`t`: all", "on top", "`rank`: all", "on top"], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=10, help="of the first table, each of so many screens")
    options = parser.parse_args()
    null_table(options.screens, options.repeats)
    member_table(options.screens)
    other_table(options.screens)
    coverage_table(max(options.screens // 10, 1))
    power_table(max(options.screens // 5, 1))


if __name__ == "__main__":
    main()
