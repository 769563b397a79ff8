"""The simulated screen: deterministic, of the stated distribution, and true to its truth."""

from __future__ import annotations

import math
import re
import tracemalloc
from dataclasses import FrozenInstanceError, replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from dpf.errors import UsageError
from dpf.simulate.plates import METABOLITES, compound_names
from dpf.simulate.programs import MINIMUM_GENES, PROGRAMS, draw_programs
from dpf.simulate.screen import CONTROL, DOSES_UM, SCORES, Simulation, SimulationDesign, _stabilised, simulate
from dpf.tables.screen import CANONICAL_COLUMNS

ONLY_INERT = {"activating": 0.0, "suppressing": 0.0, "off_axis": 0.0}


@pytest.fixture(scope="module")
def demo() -> Simulation:
    return simulate(SimulationDesign())


@pytest.fixture(scope="module")
def full() -> Simulation:
    return simulate(SimulationDesign.full())


def groups(simulation: Simulation) -> list[str]:
    """Compounds, and each control well for itself."""
    wells = simulation.screen.wells
    return [
        well if is_control else compound
        for well, compound, is_control in wells.select("well_id", "compound", "is_control").iter_rows()
    ]


def out_of_fold(simulation: Simulation, values: NDArray[np.floating], target: str) -> NDArray[np.floating]:
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    y = simulation.screen.wells[target].to_numpy()
    return cross_val_predict(ridge, values, y, groups=groups(simulation), cv=GroupKFold(5))


def program_scores(simulation: Simulation, *programs: str) -> NDArray[np.floating]:
    """What the genes of a program say of its state: their expression weighted with the true loadings."""
    truth, expression = simulation.gene_truth, simulation.screen.expression
    loadings = [np.where((truth["program"] == p).fill_null(False), truth["loading"], 0.0) for p in programs]
    return StandardScaler().fit_transform(expression @ np.column_stack(loadings))


# What comes out


def test_default_demo(demo: Simulation) -> None:
    screen = demo.screen
    assert screen.expression.shape == demo.counts.shape == (192, 300)
    assert (screen.expression.dtype, demo.counts.dtype) == (np.float32, np.int32)
    assert np.isfinite(screen.expression).all()
    assert (demo.counts >= 0).all()
    assert screen.wells.height == demo.truth.height == screen.wells["well_id"].n_unique() == 192
    assert len(set(screen.gene_names)) == 300
    assert screen.gene_names == demo.gene_truth["gene"].to_list()
    assert {"IL2RA", "CD69", "SELL", "CCR7"} <= set(screen.gene_names)
    assert screen.wells["is_control"].sum() == 10
    assert (screen.expression.std(0) > 0).all()


def test_full_is_the_classic_screen(full: Simulation) -> None:
    wells = full.screen.wells
    assert full.screen.expression.shape == (768, 2541)
    assert wells.filter(pl.col("is_control"))["compound"].unique().to_list() == [CONTROL]
    assert wells["is_control"].sum() == 40
    assert wells.group_by("plate", maintain_order=True).agg(pl.len(), pl.col("is_control").sum()).rows() == [
        (plate, 384, 20) for plate in wells["plate"].unique(maintain_order=True)
    ]
    replicates = wells.filter(~pl.col("is_control")).group_by("compound").agg(pl.len(), pl.col("plate").n_unique())
    assert replicates.height == 364
    assert replicates.select("len", "plate").unique().rows() == [(2, 2)]
    assert len(set(full.screen.gene_names)) == 2541


def test_full_fits_into_memory() -> None:
    tracemalloc.start()
    simulate(SimulationDesign.full())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 2**20


def test_columns_of_wells(demo: Simulation) -> None:
    wells = demo.screen.wells
    for name in ("well_id", "compound", "is_control", "plate", "row", "column", "concentration"):
        assert wells.schema[name] == CANONICAL_COLUMNS[name]
    assert demo.screen.targets.columns == (*SCORES, "activated", "activation")
    assert wells.columns[7:] == [*demo.screen.targets.columns, "pathway", "n_counts"]
    assert wells["well_id"][0] == "plate1_A01"
    assert all(re.fullmatch(r"plate[12]_[A-H](0[1-9]|1[0-2])", well) for well in wells["well_id"])
    named = wells.select(pl.format("{}_{}{}", "plate", "row", pl.col("column").cast(pl.String).str.zfill(2)))
    assert named.to_series().to_list() == wells["well_id"].to_list()
    assert wells.filter(~pl.col("is_control"))["concentration"].unique().to_list() == [10.0]
    assert wells.filter(pl.col("is_control"))["concentration"].null_count() == 10
    assert wells.drop("concentration").null_count().sum_horizontal().item() == 0


def test_names_with_commas_and_greek_letters_in_every_demo() -> None:
    names = {name for name, _ in compound_names(10)}
    assert {"2,6-Diaminoheptanedioic acid", "β-Alanine", "α-Humulene"} <= names
    assert "α-Ketoglutaric acid" in dict(compound_names(91))
    assert {pathway for _, pathway in compound_names(20)} == set(METABOLITES)


@pytest.mark.parametrize("count", [1, 364, 1000])
def test_compound_names_are_unique(count: int) -> None:
    names = [name for name, _ in compound_names(count)]
    assert len(names) == len(set(names)) == count
    assert (count <= 364) == ("Metabolite 0365" not in names)


@pytest.mark.parametrize("n_genes", [MINIMUM_GENES, 37, 300, 20_000])
def test_every_program_has_genes_and_names_are_unique(n_genes: int) -> None:
    programs = draw_programs(n_genes, np.random.default_rng(0))
    assert len(programs.names) == len(set(programs.names)) == n_genes
    assert programs.loadings.shape == (len(PROGRAMS), n_genes)
    assert ((programs.loadings != 0).sum(0) <= 1).all()
    for index, program in enumerate(PROGRAMS):
        own = np.array([owner == program.name for owner in programs.programs])
        np.testing.assert_array_equal(own, programs.loadings[index] != 0)
        assert {-1, 1} == set(np.sign(programs.loadings[index][own]))
    directions = dict(zip(programs.names, programs.loadings.sum(0), strict=True))
    assert directions["IL2RA"] > 0 > directions["SELL"]


def test_symbols_belong_to_one_program() -> None:
    symbols = [symbol for program in PROGRAMS for symbol in (*program.up, *program.down)]
    assert len(symbols) == len(set(symbols))


# Determinism and separate streams


def test_same_seed_same_bytes(demo: Simulation) -> None:
    again = simulate(SimulationDesign())
    assert again.screen.expression.tobytes() == demo.screen.expression.tobytes()
    assert again.counts.tobytes() == demo.counts.tobytes()
    assert again.screen.wells.equals(demo.screen.wells)
    assert again.truth.equals(demo.truth)
    assert again.gene_truth.equals(demo.gene_truth)


def test_global_generator_is_left_alone(demo: Simulation) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - its state is what is tested
    simulate(SimulationDesign(wells=24, genes=20))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_other_seed_other_screen(demo: Simulation) -> None:
    other = simulate(SimulationDesign(seed=1))
    assert not np.array_equal(other.counts, demo.counts)
    assert other.screen.wells["compound"].to_list() != demo.screen.wells["compound"].to_list()


def test_column_effect_is_added_to_the_activation_state_and_to_nothing_else(demo: Simulation) -> None:
    on = simulate(SimulationDesign(column_effect=1.4))
    same = ["well_id", "compound", "kind", "program", "strength", "effect", "interferon_state", "nutrient_state"]
    assert on.truth.select(same).equals(demo.truth.select(same))
    assert on.gene_truth.equals(demo.gene_truth)
    assert on.screen.wells["n_counts"].equals(demo.screen.wells["n_counts"])
    np.testing.assert_array_equal(demo.truth["column_shift"], 0)
    shift = on.truth["column_shift"].to_numpy()
    np.testing.assert_allclose(on.truth["activation_state"] - demo.truth["activation_state"], shift, atol=1e-12)
    by_column = on.screen.wells.select("column").with_columns(shift=shift).unique().sort("column")["shift"].to_numpy()
    assert by_column.size == 12
    assert (np.diff(by_column) < 0).all()
    assert by_column.std() == pytest.approx(1.4)
    assert by_column.mean() == pytest.approx(0, abs=1e-12)


def test_plate_effect_shifts_genes_and_leaves_states_and_targets(demo: Simulation) -> None:
    off = simulate(SimulationDesign(plate_effect=0.0))
    assert off.truth.equals(demo.truth)
    assert off.screen.wells.equals(demo.screen.wells)
    assert (off.gene_truth.select("plate1_shift", "plate2_shift").to_numpy() == 0).all()
    strong = simulate(SimulationDesign(plate_effect=1.0))
    planted = strong.gene_truth.select(pl.col("plate1_shift") - pl.col("plate2_shift")).to_series().to_numpy()

    def difference(simulation: Simulation) -> NDArray[np.floating]:
        first = (simulation.screen.wells["plate"] == "plate1").to_numpy()
        rate = simulation.counts / simulation.screen.wells["n_counts"].to_numpy()[:, None]
        return np.log2(rate[first].mean(0) / rate[~first].mean(0))

    fit = stats.linregress(planted, difference(strong))
    assert fit.slope == pytest.approx(1, abs=0.03)
    assert fit.rvalue > 0.99
    assert difference(off).std() < 0.15


def test_interaction_changes_the_targets_only(demo: Simulation) -> None:
    on = simulate(SimulationDesign(interaction=1.0))
    assert on.counts.tobytes() == demo.counts.tobytes()
    assert on.screen.expression.tobytes() == demo.screen.expression.tobytes()
    truth = on.truth
    product = truth["costimulation_state"] * truth["nutrient_state"]
    np.testing.assert_allclose(truth["interaction"], product)
    np.testing.assert_allclose(truth["phenotype"], truth["activation_state"] + product)
    np.testing.assert_array_equal(demo.truth["phenotype"], demo.truth["activation_state"])
    assert not on.screen.wells["Tscore"].equals(demo.screen.wells["Tscore"])


# Counts and expression


def test_counts_are_negative_binomial() -> None:
    """Within one state, counts have the planted mean and variance: pooled over genes, to a few per cent."""
    design = SimulationDesign(wells=3000, genes=200, plates=8, plate_effect=0.0, **ONLY_INERT)
    simulation = simulate(design)
    truth = simulation.gene_truth
    still = truth["program"].is_null().to_numpy()  # background genes do not follow any state
    size = simulation.screen.wells["n_counts"].to_numpy() / design.depth
    base, dispersion = truth["base_mean"].to_numpy()[still], truth["dispersion"].to_numpy()[still]
    mean = size[:, None] * base
    deviation = simulation.counts[:, still] - mean
    variance = mean + dispersion * mean**2
    assert deviation.sum() / mean.sum() == pytest.approx(0, abs=0.01)
    ratios = (deviation**2 / variance).mean(0)
    assert ratios.mean() == pytest.approx(1, abs=0.02)
    assert (deviation**2 / mean).mean(0)[base > 100].min() > 1.5  # far from Poisson
    np.testing.assert_allclose(dispersion, 0.02 + 0.03 / base)


@pytest.mark.parametrize("mean", [2.0, 30.0, 2000.0])
def test_counts_follow_the_distribution_not_only_its_moments(mean: float) -> None:
    from dpf.simulate.screen import _counts

    dispersion, n = 0.3, 4000
    truth = pl.DataFrame({"base_mean": [mean], "dispersion": [dispersion]})
    counts = _counts(np.zeros((n, 1)), np.ones(n), truth, np.random.default_rng(3))[:, 0]
    reference = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))
    edges = np.unique(reference.ppf(np.linspace(0, 1, 12)[1:-1]))
    expected = np.diff(np.concatenate([[0], reference.cdf(edges), [1]])) * n
    observed = np.bincount(np.searchsorted(edges, counts, side="left"), minlength=expected.size)
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_library_sizes_are_log_normal(full: Simulation) -> None:
    umis = np.log(full.screen.wells["n_counts"].to_numpy())
    assert np.exp(np.median(umis)) == pytest.approx(150_000, rel=0.1)
    assert umis.std() == pytest.approx(0.45, rel=0.1)
    assert stats.kstest((umis - umis.mean()) / umis.std(), "norm").pvalue > 0.01
    assert np.corrcoef(full.counts.sum(1), np.exp(umis))[0, 1] > 0.9


def test_expression_is_variance_stabilised() -> None:
    """Golden: the transformation's slope times the standard deviation of a count is √α / ln 2 at every mean."""
    q = np.array([3, 30, 300, 3_000, 300_000])
    step = 1e-4 * q
    values = [_stabilised((q + side * step)[None], np.ones(1)).astype(np.float64) for side in (-1, 0, 1)]
    fine = [np.log2(_inner(q + side * step)) for side in (-1, 1)]
    slope = (fine[1] - fine[0]) / (2 * step)
    np.testing.assert_allclose(slope * np.sqrt(q + (0.02 + 0.03 / q) * q**2), math.sqrt(0.02) / math.log(2), rtol=1e-6)
    np.testing.assert_allclose(values[1][0], np.log2(_inner(q) / 0.08), rtol=1e-6)
    assert values[1][0, -1] == pytest.approx(math.log2(300_000), abs=1e-3)


def _inner(q: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1.03 + 0.04 * q + 2 * np.sqrt(0.02 * q * (1.03 + 0.02 * q))


def test_expression_is_scaled_for_depth(demo: Simulation) -> None:
    size = demo.screen.wells["n_counts"].to_numpy() / demo.screen.wells["n_counts"].median()
    np.testing.assert_array_equal(demo.screen.expression, _stabilised(demo.counts, size))
    half = _stabilised(demo.counts, size * 2)
    assert (half[demo.counts > 0] < demo.screen.expression[demo.counts > 0]).all()
    # Without scaling the slope is near 1. What is left is the transformation's bend at small counts.
    assert abs(stats.linregress(np.log2(size), demo.screen.expression.mean(1)).slope) < 0.05


# Targets


def test_scores_label_and_activation(full: Simulation) -> None:
    wells, truth = full.screen.wells, full.truth
    scores = wells.select(SCORES).to_numpy()
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scores.std(0, ddof=1), 1)
    total = scores.sum(1)
    np.testing.assert_allclose(wells["activation"], (total - total.mean()) / total.std(ddof=1), atol=1e-12)
    assert set(wells["activated"].unique()) == {0, 1}
    assert wells["activated"].mean() == pytest.approx(0.63, abs=0.002)
    assert roc_auc_score(wells["activated"], wells["Pseudotime"]) > 0.97
    for name in SCORES:
        assert np.corrcoef(wells[name], truth["phenotype"])[0, 1] > 0.55


def test_scores_are_correlated_as_in_the_classic_screen(full: Simulation) -> None:
    correlation = np.corrcoef(full.screen.wells.select(SCORES).to_numpy().T)
    np.testing.assert_allclose(correlation[np.triu_indices(3, 1)], [0.642, 0.954, 0.631], atol=0.05)


@pytest.mark.parametrize("seed", [614, 2])
def test_demo_can_be_learned_but_not_perfectly(seed: int) -> None:
    simulation = simulate(SimulationDesign(seed=seed))
    x = simulation.screen.expression
    for name in SCORES:
        predicted = out_of_fold(simulation, x, name)
        assert 0.5 < r2_score(simulation.screen.wells[name], predicted) < 0.85
    assert roc_auc_score(simulation.screen.wells["activated"], out_of_fold(simulation, x, "Tscore")) > 0.85


def test_interaction_is_out_of_reach_of_a_linear_model_and_within_that_of_another() -> None:
    simulation = simulate(SimulationDesign(wells=400, genes=300, interaction=1.0))
    y = simulation.screen.wells["Tscore"]
    linear = r2_score(y, out_of_fold(simulation, simulation.screen.expression, "Tscore"))
    states = program_scores(simulation, "activation", "costimulation", "nutrient")
    quadratic = r2_score(y, out_of_fold(simulation, PolynomialFeatures(2).fit_transform(states), "Tscore"))
    assert linear < 0.55
    assert quadratic > linear + 0.2


# What is planted


def test_kinds_and_their_effects(full: Simulation) -> None:
    compounds = full.truth.filter(pl.col("kind") != "control").unique("compound", maintain_order=True)
    counted = dict(compounds["kind"].value_counts().iter_rows())
    assert counted == {"activating": 73, "suppressing": 73, "off_axis": 54, "inert": 164}
    by_kind = {kind[0]: frame for kind, frame in full.truth.group_by("kind")}
    assert (by_kind["activating"]["effect"] > 0).all()
    assert (by_kind["suppressing"]["effect"] < 0).all()
    assert (by_kind["off_axis"]["effect"] > 0).all()
    for kind in ("inert", "control"):
        assert (by_kind[kind]["effect"] == 0).all()
        assert (by_kind[kind]["strength"] == 0).all()
        assert by_kind[kind]["program"].null_count() == by_kind[kind].height
    assert set(by_kind["off_axis"]["program"]) == {"interferon", "stress", "hypoxia", "sterol"}
    assert set(by_kind["activating"]["program"]) == {"activation"}
    moved = full.truth.filter(pl.col("strength") > 0)
    np.testing.assert_array_equal(moved["effect"].abs(), moved["strength"])
    assert moved["strength"].n_unique() == 200  # a continuous distribution
    np.testing.assert_array_equal(full.truth["well_id"], full.screen.wells["well_id"])


def test_effects_are_in_the_states(full: Simulation) -> None:
    truth = full.truth
    biology = (
        truth["activation_state"]
        - pl.select(pl.when(truth["program"] == "activation").then(truth["effect"]).otherwise(0.0)).to_series()
    )
    assert biology.std() == pytest.approx(0.7, rel=0.1)
    assert biology.mean() == pytest.approx(0, abs=0.1)
    control = truth.filter(pl.col("kind") == "control")["activation_state"]
    assert control.std() == pytest.approx(0.7, rel=0.3)


def test_fold_changes_are_the_loadings_times_the_effect() -> None:
    """Strong activating wells against controls, gene by gene, on the counts."""
    design = SimulationDesign(
        wells=1200, compounds=300, genes=200, plate_effect=0.0, activating=1, suppressing=0, off_axis=0
    )
    simulation = simulate(design)
    rate = simulation.counts / simulation.screen.wells["n_counts"].to_numpy()[:, None]
    control = simulation.screen.wells["is_control"].to_numpy()
    change = np.log2(rate[~control].mean(0) / rate[control].mean(0))
    loading = simulation.gene_truth["loading"].to_numpy()
    own = (simulation.gene_truth["program"] == "activation").fill_null(False).to_numpy()
    assert np.corrcoef(change[own], loading[own])[0, 1] > 0.97
    assert np.abs(change[~own]).max() < 0.2


@pytest.fixture(scope="module")
def distances(full: Simulation) -> pl.DataFrame:
    """Distance of each compound's mean to the controls, in the first ten principal components within plates."""
    wells = full.screen.wells
    plate, control = wells["plate"].to_numpy(), wells["is_control"].to_numpy()
    x = StandardScaler().fit_transform(full.screen.expression)
    for name in np.unique(plate):
        x[plate == name] -= x[(plate == name) & control].mean(0)
    left, size, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    components = left[:, :10] * size[:10]
    components -= components[control].mean(0)
    kinds = full.truth.select("compound", "kind", "strength").filter(pl.col("kind") != "control").unique()
    own = [components[(wells["compound"] == compound).to_numpy()].mean(0) for compound in kinds["compound"]]
    return kinds.with_columns(distance=np.linalg.norm(own, axis=1))


@pytest.mark.parametrize("kind", ["activating", "suppressing", "off_axis"])
def test_strong_compounds_lie_farther_from_the_controls_than_inert_ones(distances: pl.DataFrame, kind: str) -> None:
    strong = distances.filter(pl.col("kind") == kind, pl.col("strength") > 1.3)
    compared = pl.concat([strong, distances.filter(pl.col("kind") == "inert")])
    assert roc_auc_score(compared["kind"] == kind, compared["distance"]) > 0.85


def p_values(first_seed: int, *, on_axis: bool, **kinds: float) -> NDArray[np.floating]:
    """Exact permutation p of one compound a screen, so that the p-values are independent.

    Mean distance of its two wells to the centre of 20 controls, among all pairs of these two and 20 other controls:
    over all genes, or along the activation program. No plate effect: the pairs are not matched for plates.
    """
    p = []
    for seed in range(first_seed, first_seed + 150):
        simulation = simulate(SimulationDesign(wells=48, controls=40, genes=20, seed=seed, plate_effect=0.0, **kinds))
        wells = simulation.screen.wells
        x = program_scores(simulation, "activation") if on_axis else simulation.screen.expression
        control = np.flatnonzero(wells["is_control"].to_numpy())
        treated = np.flatnonzero((wells["compound"] == compound_names(1)[0][0]).to_numpy())
        pool = np.concatenate([treated, control[20:]])
        distance = np.linalg.norm(x[pool] - x[control[:20]].mean(0), axis=1)
        first, second = np.triu_indices(pool.size, 1)  # the compound's own pair comes first
        pairs = distance[first] + distance[second]
        p.append(np.mean(pairs >= pairs[0]))
    return np.array(p)


@pytest.mark.parametrize("on_axis", [False, True])
def test_inert_compounds_cannot_be_told_from_controls(on_axis: bool) -> None:
    assert stats.kstest(p_values(0, on_axis=on_axis, **ONLY_INERT), "uniform").pvalue > 0.01


def test_moving_compounds_can_be_told_from_controls() -> None:
    p = p_values(0, on_axis=True, activating=1.0, suppressing=0.0, off_axis=0.0)
    assert np.mean(p <= 0.1) > 0.3


def test_inert_and_control_wells_have_one_distribution_of_everything(full: Simulation) -> None:
    kind = full.truth["kind"].to_numpy()
    columns = {name: full.truth[name].to_numpy() for name in full.truth.columns if name.endswith("_state")}
    columns |= {name: full.screen.wells[name].to_numpy() for name in (*SCORES, "n_counts", "column")}
    p = [stats.ks_2samp(values[kind == "inert"], values[kind == "control"]).pvalue for values in columns.values()]
    assert min(p) > 0.05 / len(p)


def test_truth_is_not_in_the_inputs(demo: Simulation) -> None:
    wells = demo.screen.wells
    shared = set(wells.columns) & set(demo.truth.columns)
    assert shared == {"well_id", "compound"}
    assert demo.screen.genes.columns == ["gene"]
    planted = demo.truth.select(pl.selectors.numeric() - pl.selectors.by_name("ec50_uM"))
    for values in wells.select(pl.selectors.float()).drop("concentration"):
        for truth in planted:
            assert not np.allclose(values, truth)
    assert not any("activating" in str(note) or "inert" in str(note) for note in demo.screen.notes)


def test_names_and_classes_say_nothing_of_the_effect(full: Simulation) -> None:
    compounds = full.truth.with_columns(full.screen.wells["pathway"]).filter(pl.col("kind") != "control")
    table = compounds.unique("compound").pivot("kind", index="pathway", values="well_id", aggregate_function="len")
    assert stats.chi2_contingency(table.drop("pathway").fill_null(0).to_numpy()).pvalue > 0.001


# Doses, layouts, sizes


def test_doses_follow_the_hill_curve() -> None:
    simulation = simulate(SimulationDesign(dose=True, wells=200))
    joined = simulation.truth.join(simulation.screen.wells.select("well_id", "plate", "concentration"), on="well_id")
    treated = joined.filter(pl.col("kind") != "control")
    per_dose = treated.group_by("compound", "concentration").agg(pl.len(), pl.col("plate").n_unique())
    assert per_dose.select("len", "plate").unique().rows() == [(2, 2)]
    assert sorted(treated["concentration"].unique()) == list(DOSES_UM)
    moved = treated.filter(pl.col("strength") > 0)
    curve = moved["strength"] * moved["concentration"] / (moved["concentration"] + moved["ec50_uM"])
    np.testing.assert_allclose(moved["effect"].abs(), curve)
    assert moved["ec50_uM"].is_between(0.3, 10).all()
    assert joined.filter(pl.col("strength") == 0)["ec50_uM"].null_count() == joined.height - moved.height


def test_scattered_controls_stand_in_many_columns(full: Simulation) -> None:
    controls = full.screen.wells.filter(pl.col("is_control"))
    assert controls["column"].n_unique() > 12
    assert controls["row"].n_unique() > 10


def test_confounded_layout() -> None:
    simulation = simulate(replace(SimulationDesign.full(), genes=100, layout="columns", column_effect=1.9))
    wells = simulation.screen.wells
    assert set(wells.filter(pl.col("is_control"))["column"]) <= {1, 24}
    positions = wells.filter(~pl.col("is_control")).group_by("compound").agg(pl.struct("row", "column").n_unique())
    assert positions["row"].unique().to_list() == [1]
    column = wells["column"].to_dummies().to_numpy()
    score = wells["Tscore"].to_numpy()
    fitted = column @ np.linalg.lstsq(column, score, rcond=None)[0]
    assert r2_score(score, fitted) == pytest.approx(0.63, abs=0.05)


@pytest.mark.parametrize("wells", [12, 24, 97, 192, 385, 768, 1000])
def test_open_numbers_are_filled_in(wells: int) -> None:
    sizes = SimulationDesign(wells=wells).sizes()
    assert sizes.compounds * 2 + sizes.controls == wells
    assert max(8, round(0.05 * wells)) <= sizes.controls <= max(8, round(0.05 * wells)) + 1
    assert sizes.plates == max(2, math.ceil(wells / 384))
    assert sizes.rows * sizes.columns >= math.ceil(wells / sizes.plates)
    placed = simulate(SimulationDesign(wells=wells, genes=20)).screen.wells
    assert placed["well_id"].n_unique() == wells
    per_plate = placed["plate"].value_counts()["count"]
    assert per_plate.max() - per_plate.min() <= 1


def test_given_numbers_are_kept() -> None:
    sizes = SimulationDesign(wells=100, compounds=30, replicates=3, plates=3).sizes()
    assert (sizes.compounds, sizes.controls, sizes.plates, sizes.rows, sizes.columns) == (30, 10, 3, 8, 12)
    assert SimulationDesign(wells=100, controls=20, plates=1).sizes().compounds == 40
    assert SimulationDesign(wells=1000, plates=1).sizes().rows == 32


def test_design_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SimulationDesign().wells = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"compounds": 200}, "wells, compounds and controls do not add up\n.*\n.*408 = 200 compounds × 2 wells \\+ 8"),
        (
            {"compounds": 91, "controls": 11},
            "found: 192 wells\n  expected: 193 = 91 compounds × 2 wells \\+ 11 controls",
        ),
        ({"controls": 13}, "191 = 89 compounds × 2 wells \\+ 13"),
        ({"wells": 9}, "10 = 1 compounds × 2 wells \\+ 8 controls"),
        ({"wells": 2}, "'wells'\n  found: 2\n  expected: a whole number of at least 4"),
        ({"wells": 192.0}, "'wells'\n  found: 192.0"),
        ({"genes": 5}, f"'genes'\n  found: 5\n  expected: a whole number of at least {MINIMUM_GENES}"),
        ({"genes": True}, "'genes'"),
        ({"replicates": 0}, "'replicates'"),
        ({"controls": 1}, "'controls'"),
        ({"seed": -1}, "'seed'"),
        ({"plates": 0}, "'plates'"),
        ({"plates": 500}, "more plates than wells"),
        ({"wells": 4000, "plates": 2}, "at most 3,072 wells.*\n.*at least 3 plates"),
        ({"activating": 1.2}, "'activating'\n  found: 1.2\n  expected: a number from 0 to 1"),
        ({"activating": 0.9}, "found: activating 0.9, suppressing 0.2, off_axis 0.15"),
        ({"plate_effect": -0.1}, "'plate_effect'"),
        ({"column_effect": math.nan}, "'column_effect'"),
        ({"interaction": math.inf}, "'interaction'"),
        ({"depth": 0}, "'depth'"),
        ({"depth": "deep"}, "'depth'\n  found: 'deep'"),
        ({"layout": "random"}, "no layout 'random'\n  expected: scattered or columns"),
    ],
)
def test_impossible_designs_are_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        SimulationDesign(**settings)  # type: ignore[arg-type]


def test_controls_that_do_not_fit_into_two_columns_are_refused() -> None:
    with pytest.raises(UsageError, match="do not fit into the first and the last column"):
        simulate(SimulationDesign(controls=40, layout="columns"))


@pytest.mark.parametrize("settings", [{"depth": 1e15}, {"column_effect": 1e6}, {"plate_effect": 1e4}])
def test_counts_beyond_int32_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="counts are too large"):
        simulate(SimulationDesign(**settings))
