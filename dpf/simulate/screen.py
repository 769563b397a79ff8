"""A screen with a known truth: what `dpf init --demo` makes, and what the statistics are tested against.

A well is simulated from its state to its counts to its expression, and from its state to its targets::

    state[i, p]  = effect of the compound on program p + well-to-well spread (+ column shift, on activation)
    log2 μ[i, g] = log2 base[g] + Σ_p state[i, p]·loading[p, g] + plate shift[g] + log2(library[i] / depth)
    count[i, g]  ~ negative binomial with mean μ and variance μ + φ[g]·μ²,  φ[g] = 0.02 + 0.03 / base[g]
    phenotype[i] = state[i, activation] + interaction·state[i, costimulation]·state[i, nutrient]
    common[i]    = √0.88·phenotype[i] + √0.12·noise
    score[i, s]  = a_s·common[i] + b_s·state[i, differentiation] + c_s·noise
    label[i]     = 1 where common[i] is above its 37th percentile

with phenotype, common and scores standardised over the wells.

Activating and suppressing compounds move the activation program, off-axis compounds one of four others, inert
compounds nothing: their wells and the control wells have one distribution. Base and φ hold at the median depth.

What the parameters follow, and what was measured there:

- *Counts*: the 3' DGE screen of labsyspharm/DRIADrc (Rodriguez et al., Nat Commun 2021, 12:1033), two 384-well
  plates, the wells with at least 30,000 UMIs. Median UMIs a well 124,000 and 196,000, standard deviation of their
  logarithm 0.42 and 0.52: here 150,000 and 0.45. Over the 2,541 most over-dispersed genes detected in half of the
  wells (a third of all UMIs), ln of the mean share of UMIs had mean −9.89 and standard deviation 1.13, least
  6.3 CPM, largest 5,938 CPM: taken as they are. Dispersion of the DMSO wells (within a plate, scaled by UMIs, pooled
  Σ((x−μ)² n/(n−1) − μ) / Σμ² in 15 bins of the genes with means above 1, then least squares on 1/μ): 0.010 + 0.011/μ
  on plate 1 and 0.021 + 0.030/μ on plate 2. The latter, the noisier, is taken. (19 DMSO wells of the MAC-seq plate
  PMMSq033, PMCC-BioinformaticsCore/macpie, at about 0.8 UMIs a gene, show no excess over Poisson.)
- *Fold changes*: in the same screen the root mean square log2 fold change over these genes, less its sampling variance,
  was 0.17 at the 25th percentile of 209 treatments with at least three wells, 0.37 at the median and 1.9 at most. Here
  a compound of strength 1.3 (the median) makes 0.16 through the activation program, and one of 4 makes 0.50: meant
  to be milder than those kinase inhibitors.
- *Plates*: log2 differences of the DMSO means between its plates had standard deviation 0.66 after taking off
  their sampling variance. The default here is milder, 0.15; 0.66 can be asked for.
- *Scores*: the public metadata of the classic layout (Bingobin/DRUGseq-PerturbFormer, 768 wells). Correlations
  0.954 (Tscore, Pseudotime), 0.642 (Tscore, CytoTRACE), 0.631 (Pseudotime, CytoTRACE): one factor with loadings 0.985,
  0.652, 0.968 makes exactly these. Three quarters of CytoTRACE's remaining variance are given to genes of its own,
  so that it can be learned. 63% of the wells are labelled activated, and the label follows Pseudotime (AUROC 1.00).
  The activation score there is the plain sum of the three; here it is ``scale`` of the sum, as the model's equations
  have it. The 12% of the common factor that no gene shows are set so that a ridge does as well here as on real data:
- *Learnability*: a ridge on expression, compounds held out in 5 folds, reaches R² 0.78 to 0.84 for three gene-set
  scores of DRIADrc, and the third of them AUROC 0.95 for its label. Here (Tscore, CytoTRACE, Pseudotime; label), with
  seed 614: 0.84, 0.77, 0.81; 0.95 at 768 × 2,541, and 0.75, 0.66, 0.73; 0.96 at the default 192 × 300.
- *Columns*: in the classic metadata Tscore falls from +1.0 in column 1 to −1.1 in column 12 of 12, which is 63% of
  its variance; the 40 DMSO wells stand in columns 1 and 12 (6 and 34 wells), both replicates of a compound in the same
  position. ``column_effect=1.9, layout="columns"`` makes such a screen. Off by default: within a plate, the demo's
  controls are exchangeable with its inert compounds.

Made up: the programs, their loadings, which compound does what, the interaction. A bimodal pseudotime (the real
one's excess kurtosis is −1.5) is not imitated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import UsageError
from dpf.simulate.design import DOSES_UM, SimulationDesign
from dpf.simulate.plates import Placement, Sizes, compound_names, place
from dpf.simulate.programs import DIFFERENTIATION, ProgramGenes, draw_programs
from dpf.simulate.states import PROGRAM_NAMES, Planted, States, draw_states, plant, stream
from dpf.tables.roles.well_names import row_letters
from dpf.tables.screen import Note, Screen, Targets

__all__ = ["CONTROL", "DOSES_UM", "SCORES", "Simulation", "SimulationDesign", "simulate"]

CONTROL: Final = "DMSO"
SCORES: Final = ("Tscore", "CytoTRACE", "Pseudotime")

_CONCENTRATION_UM = 10.0  # of every compound in a screen without doses
_DISPERSION_FLOOR, _DISPERSION_SLOPE = 0.02, 0.03
_LIBRARY_SPREAD = 0.45  # standard deviation of ln UMIs
_SHARE_MEAN, _SHARE_SPREAD = -9.89, 1.13  # of ln share of UMIs
_SHARE_RANGE = (6.3e-6, 5.938e-3)
_SHARE_SEEN = 0.88  # of the variance of what the scores have in common
_SCORE_LOADINGS = {"Tscore": (0.985, 0.0), "CytoTRACE": (0.652, 0.65), "Pseudotime": (0.968, 0.0)}
_SHARE_ACTIVATED = 0.63
_LARGEST_MEAN = 1e9  # counts about it still fit into int32


@dataclass(frozen=True)
class Simulation:
    """A simulated screen and its truth, which is no part of the screen.

    Attributes
    ----------
    screen
        What an importer would have read.
    counts
        int32 array of shape (N, G): UMIs, the wells and genes in the order of the screen.
    truth
        N rows in the order of the screen: `well_id`, `compound`, `kind` (control, inert, activating, suppressing,
        off_axis), `program` (the program that the compound moves, else null), `strength` (at saturating
        concentration, ≥ 0), `ec50_uM` (null without doses), `effect` (the signed shift of that program in this
        well), one `<program>_state` a program, `column_shift` (part of the activation state), `interaction`
        (part of the phenotype) and `phenotype`.
    gene_truth
        G rows in the order of the screen: `gene`, `program` (null for none), `loading` (log2 fold change per unit
        of the program's state), `base_mean` (UMIs at the median depth), `dispersion`, and one `<plate>_shift` (log2) a
        plate.
    """

    screen: Screen
    counts: NDArray[np.int32]
    truth: pl.DataFrame
    gene_truth: pl.DataFrame


def simulate(design: SimulationDesign) -> Simulation:
    """Simulate a screen. The same design gives the same bytes (on one version of numpy).

    Its expression is DESeq2's closed form of the variance-stabilising transformation for a dispersion α + β/μ (Anders
    & Huber 2010), on counts scaled to the median number of UMIs a well: near ``log2`` of the count for large counts,
    of about one variance at all means where nothing but counting and dispersion acts. The classic screen's values
    are of that kind. α and β are those of the simulation, not estimated from it.

    Columns of `wells`: the canonical ones (concentration in µM, null for controls); the targets `Tscore`,
    `CytoTRACE`, `Pseudotime` (z-scored over the wells, standard deviation with n − 1, as R's ``scale``), `activated`
    (0 or 1) and `activation` (``scale`` of the sum of the three scores); `pathway` (the compound's class, of no
    influence) and `n_counts` (UMIs of the well over all genes of the cell).

    Raises
    ------
    UsageError
        The controls do not fit the layout, or depth and effects are so large that counts leave the range of int32.
    """
    sizes = design.sizes()
    placement = place(sizes, design.layout, stream(design.seed, "layout"))
    planted = plant(design, sizes.compounds)
    states = draw_states(design, sizes, placement, planted)
    programs = draw_programs(design.genes, stream(design.seed, "programs"))
    plates = [f"plate{number + 1}" for number in range(sizes.plates)]
    gene_truth = _gene_truth(design, programs, plates)
    umis = _library_sizes(design)
    shifts = gene_truth.select(f"{plate}_shift" for plate in plates).to_numpy().T  # (plates, G)
    log2_fold = states.programs @ programs.loadings + shifts[placement.plate]  # (N, G)
    counts = _counts(log2_fold, umis / design.depth, gene_truth, stream(design.seed, "counts"))
    wells = _wells(sizes, placement, plates, _targets(design.seed, states)).with_columns(pl.Series("n_counts", umis))
    screen = Screen(
        wells=wells,
        genes=gene_truth.select("gene"),
        expression=_stabilised(counts, umis / np.median(umis)),
        targets=Targets(SCORES, label="activated", activation="activation"),
        notes=(Note("info", f"simulated, seed {design.seed}: compounds and genes have real names, made-up effects"),),
    )
    return Simulation(screen, counts, _truth(wells, placement.compound, planted, states, design.dose), gene_truth)


def _gene_truth(design: SimulationDesign, programs: ProgramGenes, plates: list[str]) -> pl.DataFrame:
    share = np.exp(_SHARE_MEAN + _SHARE_SPREAD * stream(design.seed, "abundance").standard_normal(design.genes))
    base = design.depth * np.clip(share, *_SHARE_RANGE)
    shifts = design.plate_effect * stream(design.seed, "plates").standard_normal((len(plates), design.genes)) + 0.0
    return pl.DataFrame(
        {
            "gene": programs.names,
            "program": pl.Series(programs.programs, dtype=pl.String),
            "loading": programs.loadings.sum(0),  # a gene has one at most
            "base_mean": base,
            "dispersion": _DISPERSION_FLOOR + _DISPERSION_SLOPE / base,
            **{f"{plate}_shift": shift for plate, shift in zip(plates, shifts, strict=True)},
        }
    )


def _library_sizes(design: SimulationDesign) -> NDArray[np.int64]:
    relative = np.exp(_LIBRARY_SPREAD * stream(design.seed, "libraries").standard_normal(design.wells))
    return np.maximum(1, np.rint(design.depth * relative)).astype(np.int64)


def _counts(
    log2_fold: NDArray[np.float64],
    relative_depth: NDArray[np.float64],
    gene_truth: pl.DataFrame,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Negative binomial as a Poisson whose mean is multiplied by a gamma of mean 1 and variance φ."""
    base = gene_truth["base_mean"].to_numpy()
    log2_mean = log2_fold + np.log2(base) + np.log2(relative_depth)[:, None]  # (N, G)
    if log2_mean.max() > math.log2(_LARGEST_MEAN):
        raise UsageError(
            "the simulated counts are too large",
            found=f"a mean of 2^{log2_mean.max():.0f} UMIs",
            expected=f"at most {_LARGEST_MEAN:,.0f}",
            hint="simulate a smaller depth, plate effect or column effect",
        )
    shape = 1.0 / gene_truth["dispersion"].to_numpy()  # (G,)
    mean = np.exp2(log2_mean) * rng.standard_gamma(shape, size=log2_mean.shape) / shape
    return np.asarray(rng.poisson(mean), dtype=np.int32)


def _stabilised(counts: NDArray[np.int32], size_factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """``log2[(1 + β + 2αq + 2√(αq(1 + β + αq))) / 4α]`` of the scaled counts q, for the dispersion α + β/μ."""
    floor, slope = _DISPERSION_FLOOR, _DISPERSION_SLOPE
    scaled = floor * counts / size_factors[:, None]
    inner = 1 + slope + 2 * scaled + 2 * np.sqrt(scaled * (1 + slope + scaled))
    return np.asarray(np.log2(inner / (4 * floor)), dtype=np.float32)


def _wells(sizes: Sizes, placement: Placement, plates: list[str], targets: list[pl.Series]) -> pl.DataFrame:
    names, pathways = zip(*compound_names(sizes.compounds), (CONTROL, "vehicle"), strict=True)
    concentrations = (*(DOSES_UM if sizes.doses > 1 else (_CONCENTRATION_UM,)), None)
    plate = [plates[index] for index in placement.plate]
    row = [row_letters(int(index) + 1) for index in placement.row]
    column = (placement.column + 1).astype(np.int64)
    return pl.DataFrame(
        [
            pl.Series("well_id", [f"{p}_{r}{c:02d}" for p, r, c in zip(plate, row, column, strict=True)]),
            pl.Series("compound", [names[index] for index in placement.compound]),
            pl.Series("is_control", placement.compound < 0),
            pl.Series("plate", plate),
            pl.Series("row", row),
            pl.Series("column", column),
            pl.Series("concentration", [concentrations[index] for index in placement.dose], dtype=pl.Float64),
            *targets,
            pl.Series("pathway", [pathways[index] for index in placement.compound]),
        ]
    )


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean()) / values.std(ddof=1))


def _targets(seed: int, states: States) -> list[pl.Series]:
    def noise(purpose: str) -> NDArray[np.float64]:
        return stream(seed, f"noise of {purpose}").standard_normal(states.effect.size)

    seen, unseen = _scaled(states.phenotype), noise("the common factor")
    common = _scaled(math.sqrt(_SHARE_SEEN) * seen + math.sqrt(1 - _SHARE_SEEN) * unseen)
    scores = {}
    for name in SCORES:
        a, b = _SCORE_LOADINGS[name]
        own = a * common + b * states.of(DIFFERENTIATION) + math.sqrt(1 - a**2 - b**2) * noise(name)
        scores[name] = _scaled(own)
    activated = common > np.quantile(common, 1 - _SHARE_ACTIVATED)
    return [
        *(pl.Series(name, values) for name, values in scores.items()),
        pl.Series("activated", activated.astype(np.int64)),
        pl.Series("activation", _scaled(np.sum(list(scores.values()), axis=0))),
    ]


def _truth(
    wells: pl.DataFrame, compound: NDArray[np.intp], planted: Planted, states: States, dose: bool
) -> pl.DataFrame:
    programs = np.array([*PROGRAM_NAMES, None], dtype=object)  # −1 is none
    ec50 = planted.ec50[compound] if dose else np.full(compound.size, np.nan)
    return wells.select("well_id", "compound").with_columns(
        pl.Series("kind", planted.kind[compound].tolist()),
        pl.Series("program", programs[planted.program[compound]].tolist(), dtype=pl.String),
        pl.Series("strength", planted.strength[compound]),
        pl.Series("ec50_uM", ec50).fill_nan(None),
        pl.Series("effect", states.effect),
        *(pl.Series(f"{name}_state", states.of(name)) for name in PROGRAM_NAMES),
        pl.Series("column_shift", states.column_shift),
        pl.Series("interaction", states.interaction),
        pl.Series("phenotype", states.phenotype),
    )
