"""From counts to what is trained on: every step by its definition, in its order, and nothing left out in silence."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.errors import DataError, ProjectError, UsageError
from dpf.tables import matrix as in_place_module
from dpf.tables.genes.set_scores import Signature, gene_set_score
from dpf.tables.genes.table import describe_genes
from dpf.tables.matrix import select_columns, select_rows
from dpf.tables.options import PrepareOptions
from dpf.tables.preparing import normalise as normalise_module
from dpf.tables.preparing.normalise import Normalisation, normalise, read_normalisation, write_normalisation
from dpf.tables.preparing.options import Preparation, read_preparation
from dpf.tables.preparing.prepare import prepare
from dpf.tables.preparing.vst import fit_vst
from dpf.tables.screen import Screen, Targets, takes_part
from tests.support.stored import write_anything

NAMES = [*(f"G{i}" for i in range(57)), "MT-CO1", "ERCC-00130", "EMPTY"]
MITOCHONDRIAL, SPIKE_IN, EMPTY = 57, 58, 59
UP = Signature("up", ("G0", "G1", "G2"))


def screen(seed: int = 0, wells: int = 40, controls: int = 12, **columns: object) -> Screen:
    """Counts of two plates; the compounds move the first ten genes."""
    rng = np.random.default_rng(seed)
    means = np.exp(rng.normal(4, 1, size=len(NAMES))) * rng.uniform(0.4, 2.5, size=(wells, 1))
    means[controls:, :10] *= 6
    means[:, EMPTY] = 0
    counts = rng.negative_binomial(5, 5 / (5 + means)).astype(np.float32)
    frame = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(wells)],
            "compound": ["DMSO"] * controls + [f"c{i % 7}" for i in range(wells - controls)],
            "is_control": [i < controls for i in range(wells)],
            "plate": [f"p{i % 2}" for i in range(wells)],
            "score": rng.normal(size=wells),
        }
        | columns
    )
    return Screen(frame, describe_genes(NAMES)[0], counts, Targets(scores=("score",)))


#: Every well takes part, so that definitions can be compared over all of them (setting aside: test_set_aside.py).
plain = partial(Preparation, keep_flagged=True)


def of_model(prepared_screen: Screen) -> Screen:
    """What the model reads of a screen."""
    kept = prepared_screen.genes["in_model"].to_numpy()
    return replace(
        prepared_screen,
        genes=prepared_screen.genes.filter(kept),
        expression=prepared_screen.expression[:, kept],
    )


def said(prepared_screen: Screen) -> str:
    return " | ".join(note.text for note in prepared_screen.notes)


def log_cpm(counts: np.ndarray, prepared: Screen | None = None) -> np.ndarray:
    """By its definition; with the composition factors that stand beside the wells of a prepared screen."""
    counts = counts.astype(np.float64)
    depth = np.delete(counts, SPIKE_IN, axis=1).sum(axis=1, keepdims=True)
    if prepared is not None:
        depth *= prepared.wells.get_column("composition_factor").to_numpy()[:, None]
    return np.log2(1e6 * counts / depth + 1)


def test_log_cpm_over_every_gene_but_spike_ins() -> None:
    before = screen()
    after, fitted = prepare(before, plain(normalize="log-cpm", min_wells=1))
    assert after.gene_names == NAMES[:-1]
    np.testing.assert_allclose(after.expression, log_cpm(before.expression, after)[:, :-1], rtol=1e-6)
    assert fitted.depth_genes == tuple(name for name in NAMES if name != "ERCC-00130")
    assert "a well's depth comes from 59 genes" in said(after)
    assert "1 gene without a count in any well left out" in said(after)


def test_the_wells_are_measured() -> None:
    before = screen()
    wells = prepare(before, plain(normalize="log-cpm"))[0].wells
    counts = before.expression.astype(np.float64)
    library = counts.sum(axis=1) - counts[:, SPIKE_IN]
    np.testing.assert_allclose(wells["library_size"], library)
    np.testing.assert_allclose(wells["mitochondrial_share"], counts[:, MITOCHONDRIAL] / library)
    assert wells["detected"].to_list() == ((counts > 0).sum(axis=1) - (counts[:, SPIKE_IN] > 0)).tolist()
    assert wells.columns[:5] == before.wells.columns
    assert {"spike_in_share", "qc_flags"} < set(wells.columns)


def test_measures_of_nothing_are_no_columns() -> None:
    before = screen()
    genes, _ = describe_genes([f"G{i}" for i in range(60)])
    wells = prepare(replace(before, genes=genes), plain(normalize="log-cpm"))[0].wells
    assert not {"spike_in_share", "mitochondrial_share"} & set(wells.columns)


def test_a_column_that_has_the_name_of_a_measure_is_renamed_also_as_a_target() -> None:
    before = screen(detected=[float(i) for i in range(40)])
    before = replace(before, targets=Targets(scores=("score", "detected")))
    after, _ = prepare(before, plain(normalize="log-cpm"))
    assert after.targets.scores == ("score", "detected_original")
    assert after.wells["detected_original"].to_list() == [float(i) for i in range(40)]
    assert after.wells["detected"].max() == 58
    assert "columns detected of the wells table are called detected_original here" in said(after)


def test_the_screen_given_stays_as_it_was() -> None:
    before = screen()
    counts, wells = before.expression.copy(), before.wells.clone()
    options = plain(normalize="log-cpm", min_counts=3000, signatures=(UP,), min_wells=39, top_variable=20)
    pure = prepare(before, options)
    np.testing.assert_array_equal(before.expression, counts)
    assert before.wells.equals(wells)
    for order in "CF":
        given_away = replace(before, expression=np.array(counts, order=order))  # type: ignore[call-overload]
        taken = prepare(given_away, options, in_place=True)
        np.testing.assert_array_equal(taken.screen.expression, pure.screen.expression)
        assert np.shares_memory(taken.screen.expression, given_away.expression)
        assert taken.screen.wells.equals(pure.screen.wells)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_screen_stands_in_memory_once(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (in_place_module, normalise_module):
        monkeypatch.setattr(module, "_BLOCK_CELLS", 1 << 14)
    rng = np.random.default_rng(0)
    wells, genes = 600, 2000
    counts = np.array(rng.poisson(20, size=(wells, genes)), dtype=np.float32, order=order)  # type: ignore[call-overload]
    large = replace(screen(wells=wells), genes=describe_genes([f"G{i}" for i in range(genes)])[0], expression=counts)
    options = Preparation(normalize="log-cpm", min_counts=40_000, min_wells=5, signatures=(UP,))
    prepare(screen(), replace(options, min_counts=1), in_place=True)  # whatever is imported and cached at first use
    tracemalloc.start()
    after, _ = prepare(large, options, in_place=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert after.wells["set_aside"].count() > 0
    assert peak < 0.7 * counts.nbytes


def test_scores_are_those_of_the_normalised_screen_and_their_genes_leave() -> None:
    before = screen()
    signatures = (UP, Signature("both", ("G4",), ("G5",)))
    options = plain(normalize="log-cpm", signatures=signatures, min_wells=40)
    after, _ = prepare(before, options)
    expression = log_cpm(before.expression, after).astype(np.float32)
    for signature in signatures:
        want = gene_set_score(expression, before.genes, signature).values
        np.testing.assert_allclose(after.wells[signature.name], want, atol=1e-6)
    assert after.targets.scores == ("score", "up", "both")
    assert not {"G0", "G1", "G2", "G4", "G5"} & set(of_model(after).gene_names)
    assert set(after.genes.filter("in_score")["gene"]) == {"G0", "G1", "G2", "G4", "G5"}
    assert "5 genes of the scores not in the model" in said(after)
    kept, _ = prepare(before, replace(options, keep_signature_genes=True))
    assert {"G0", "G5"} < set(of_model(kept).gene_names)
    assert "it can read these scores off their own genes" in said(kept)


def test_scores_alone_are_targets_enough() -> None:
    before = replace(screen(), targets=Targets())
    assert prepare(before, plain(normalize="log-cpm", signatures=(UP,)))[0].targets.scores == ("up",)


def test_scores_of_values_that_are_normalised_already() -> None:
    before = screen()
    values = log_cpm(before.expression).astype(np.float32)
    after, fitted = prepare(replace(before, expression=values), plain(signatures=(UP,)))
    np.testing.assert_allclose(after.wells["up"], gene_set_score(values, before.genes, UP).values, atol=1e-12)
    np.testing.assert_array_equal(after.expression, values)
    np.testing.assert_array_equal(of_model(after).expression, values[:, 3:])
    assert fitted.method == "none"
    assert "library_size" not in after.wells.columns


def test_signatures_that_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="names of columns") as caught:
        prepare(screen(), plain(normalize="log-cpm", signatures=(Signature("score", ("G1",)),)))
    assert "rename these sets in the GMT file" in str(caught.value)
    with pytest.raises(DataError, match="none of the up genes") as caught:
        prepare(screen(), plain(normalize="log-cpm", signatures=(Signature("s", ("g1", "g2")),)))
    assert "2 of them differ in upper and lower case only" in str(caught.value)


def test_genes_are_chosen_step_by_step() -> None:
    before = screen()
    before.expression[:, 20] = 0
    before.expression[:3, 20] = 1
    wanted = (*(f"G{i}" for i in range(5, 25)), "nothing")
    options = plain(normalize="log-cpm", min_wells=4, gene_list=wanted, gene_list_name="mine.txt")
    after, _ = prepare(before, options)
    assert len(after.gene_names) == len(NAMES) - 1
    after = of_model(after)
    assert after.gene_names == [f"G{i}" for i in range(5, 25) if i != 20]
    assert "mine.txt: 1 listed genes are not measured: nothing" in said(after)
    assert "19 genes kept of mine.txt" in said(after)
    variance = after.expression.astype(np.float64).var(axis=0)
    few = of_model(prepare(before, replace(options, top_variable=8))[0])
    assert set(few.gene_names) == {after.gene_names[i] for i in np.argsort(-variance)[:8]}
    np.testing.assert_array_equal(
        few.expression, after.expression[:, [after.gene_names.index(g) for g in few.gene_names]]
    )
    assert few.genes["gene"].to_list() == few.gene_names
    moved, _ = prepare(before, replace(options, top_variable=12, top_perturbed=5))
    assert of_model(moved).gene_names == [f"G{i}" for i in range(5, 10)]
    assert "5 genes most perturbed against the controls kept of 12" in said(moved)
    assert moved.genes.filter("most_perturbed")["gene"].to_list() == of_model(moved).gene_names
    more, _ = prepare(before, replace(options, top_perturbed=500))
    assert "most_perturbed" not in more.genes.columns
    assert of_model(more).gene_names == after.gene_names
    assert "all 19 genes kept: there are fewer than the 500 most perturbed" in said(more)


def test_without_plates_all_controls_are_of_one() -> None:
    before = screen()
    before = replace(before, wells=before.wells.drop("plate"))
    after, _ = prepare(before, plain(normalize="log-cpm", top_perturbed=10))
    assert set(of_model(after).gene_names) == {f"G{i}" for i in range(10)}


@given(st.integers(0, 5), st.sampled_from([None, 2500]), st.booleans(), st.sampled_from([None, 25, 30]))
@settings(max_examples=25, deadline=None)
def test_the_choice_of_genes_never_changes_their_values(
    seed: int, min_counts: int | None, scored: bool, min_wells: int | None
) -> None:
    before = screen(seed)
    options = plain(normalize="log-cpm", min_counts=min_counts, signatures=(UP,) if scored else ())
    every, _ = prepare(before, options)
    some, fitted = prepare(before, replace(options, min_wells=min_wells, top_variable=25))
    some = of_model(some)
    assert some.wells.equals(every.wells)
    columns = [every.gene_names.index(name) for name in some.gene_names]
    np.testing.assert_array_equal(some.expression, every.expression[:, columns])
    position = {name: at for at, name in enumerate(before.wells["well_id"])}
    rows = before.expression[[position[name] for name in some.wells["well_id"]]]
    again, _ = normalise(fitted, rows, NAMES, some.wells["well_id"].to_list(), some.gene_names)
    np.testing.assert_array_equal(again, some.expression)


def test_no_gene_is_left() -> None:
    with pytest.raises(DataError, match="no gene is left") as caught:
        prepare(screen(), plain(normalize="log-cpm", min_wells=41))
    assert "59 genes, none of which every filter keeps" in str(caught.value)


@pytest.mark.parametrize(
    ("controls", "on"), [(12, "fitted on 12 control wells"), (7, "fitted on all wells, as only 7")]
)
def test_vst_is_fitted_on_the_controls_where_they_are_enough(controls: int, on: str) -> None:
    before = screen(controls=controls)
    after, fitted = prepare(before, plain(normalize="vst"))
    counted = np.arange(60) != SPIKE_IN
    reference = before.wells["is_control"].to_numpy() if controls == 12 else np.ones(40, dtype=bool)
    want, _ = fit_vst(before.expression, NAMES, counted, reference)
    assert fitted.vst is not None
    assert want.vst is not None
    assert fitted.vst.dispersion == want.vst.dispersion
    np.testing.assert_array_equal(fitted.vst.log_reference, want.vst.log_reference)
    assert on in said(after)
    values, _ = normalise(want, before.expression, NAMES, [""] * 40)
    np.testing.assert_array_equal(after.expression, values[:, :-1])


def test_empty_controls_are_no_reference() -> None:
    before = screen()
    before.expression[:2] = 0
    after, _ = prepare(before, plain(normalize="vst"))
    assert "fitted on 10 control wells" in said(after)
    assert "2 wells hold no counts and were given the value of count 0: w0, w1" in said(after)


def test_counts_taken_as_they_are_are_measured_and_doubted() -> None:
    before = screen()
    after, fitted = prepare(before, plain(min_counts=1, min_wells=1))
    np.testing.assert_array_equal(after.expression, before.expression[:, :-1])
    assert "look like counts: is --normalize log-cpm meant?" in said(after)
    assert {"library_size", "detected"} < set(after.wells.columns)
    assert fitted.method == "none"


def test_filters_of_counts_need_counts() -> None:
    before = screen()
    values = replace(before, expression=log_cpm(before.expression).astype(np.float32))
    with pytest.raises(UsageError, match="--min-counts and --min-wells need counts") as caught:
        prepare(values, plain(min_counts=5, min_wells=2))
    assert "values have fractions and go up to" in str(caught.value)
    with pytest.raises(UsageError, match="--min-wells need counts"):
        prepare(values, plain(min_wells=2))


def test_what_cannot_be_counts_is_refused_with_well_and_gene() -> None:
    before = screen()
    before.expression[4, 7] = -3
    with pytest.raises(DataError, match="counts are negative") as caught:
        prepare(before, plain(normalize="log-cpm"))
    assert "1 values, the first -3 in well w4, gene G7" in str(caught.value)
    before.expression[4, 7] = 2.5
    with pytest.raises(DataError, match="not whole numbers"):
        prepare(before, plain(normalize="vst"))
    logged = replace(before, expression=log_cpm(screen().expression).astype(np.float32))
    with pytest.raises(DataError, match="values given as counts are normalised already"):
        prepare(logged, plain(normalize="log-cpm"))


def test_a_screen_that_cannot_be_learnt_from_is_refused_before_anything_else() -> None:
    before = screen()
    before.expression[1, 2] = np.nan
    with pytest.raises(DataError, match="expression is missing or infinite"):
        prepare(before, plain(normalize="log-cpm"))


def test_notes_are_of_the_prepared_screen() -> None:
    before = screen()
    before.expression[:, 5] = 7
    assert "1 gene of 59 with one value in every well, kept: G5" in said(prepare(before, plain())[0])
    assert "with one value" not in said(prepare(screen(), plain(normalize="log-cpm"))[0])


def test_options_are_read_from_their_files(tmp_path) -> None:
    (tmp_path / "a.gmt").write_text("S_UP\tx\tG1\tG2\nS_DN\tx\tG3\n")
    (tmp_path / "b.gmt").write_text("T\tx\tG4\n")
    (tmp_path / "genes.csv").write_text('# mine\n"gene","why"\n"G1","a, b"\n\nG2\tx\nG1\n')
    files = [tmp_path / "a.gmt", tmp_path / "b.gmt"]
    options = read_preparation(
        PrepareOptions("log-cpm", signature=files, genes_file=tmp_path / "genes.csv", top_variable=3)
    )
    assert options.signatures == (Signature("S", ("G1", "G2"), ("G3",)), Signature("T", ("G4",)))
    assert options.gene_list == ("G1", "G2")
    assert options.gene_list_name == str(tmp_path / "genes.csv")
    assert [source.path for source in options.sources] == [str(path) for path in [*files, tmp_path / "genes.csv"]]
    assert (options.normalize, options.top_variable) == ("log-cpm", 3)
    with pytest.raises(DataError, match="stands in two files") as caught:
        read_preparation(PrepareOptions(signature=[files[1], files[1]]))
    assert caught.value.found == "T"
    (tmp_path / "empty.txt").write_text("gene\n#G1\n")
    with pytest.raises(DataError, match="a list of genes is empty"):
        read_preparation(PrepareOptions(genes_file=tmp_path / "empty.txt"))
    assert read_preparation(PrepareOptions()) == Preparation()


@pytest.mark.parametrize("method", ["log-cpm", "vst"])
def test_a_normalisation_is_kept_as_a_file(tmp_path, method) -> None:
    before = screen()
    after, fitted = prepare(before, plain(normalize=method))
    path = tmp_path / "normalisation.parquet"
    write_normalisation(path, fitted)
    stored = read_normalisation(path)
    values, _ = normalise(stored, before.expression, NAMES, [""] * 40)
    np.testing.assert_array_equal(values[:, :-1], after.expression)
    first = path.read_bytes()
    write_normalisation(path, fitted)
    assert path.read_bytes() == first
    assert read_normalisation(tmp_path / "none.parquet").method == "none"


def test_a_file_that_is_no_normalisation_is_refused(tmp_path) -> None:
    path = tmp_path / "normalisation.parquet"
    write_anything(path, pl.DataFrame({"gene": ["a"]}), "genes")
    with pytest.raises(ProjectError, match="of another kind"):
        read_normalisation(path)
    for frame, about in [
        (pl.DataFrame({"gene": ["a"]}), {"method": "log-cpm"}),
        (pl.DataFrame({"depth_share": [1.0]}), {"method": "log-cpm"}),
        (pl.DataFrame({"gene": ["a"], "depth_share": [1.0]}), {}),
        (pl.DataFrame({"gene": ["a"], "depth_share": [1.0]}), {"method": "vst"}),
        (pl.DataFrame({"gene": ["a"], "depth_share": [1.0]}), {"method": "tmm"}),
        (pl.DataFrame({"gene": ["a"], "depth_share": [float("nan")]}), {"method": "log-cpm"}),
        (pl.DataFrame({"gene": ["a"], "depth_share": [-1.0]}), {"method": "log-cpm"}),
    ]:
        write_anything(path, frame, "normalisation", {"normalisation": about})
        with pytest.raises(DataError, match="normalisation"):
            read_normalisation(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="truncated"):
        read_normalisation(path)
    assert Normalisation("none").depth_genes == ()


@given(
    st.integers(1, 12), st.integers(1, 9), st.sampled_from("CF"), st.integers(1, 30), st.randoms(use_true_random=False)
)
def test_selecting_in_place_is_selecting(wells: int, genes: int, order: str, block: int, random) -> None:
    values = np.arange(wells * genes, dtype=np.float32).reshape(wells, genes)
    rows = random.sample(range(wells), random.randint(1, wells))
    columns = np.array([random.random() < 0.6 for _ in range(genes)])
    original, in_place_module._BLOCK_CELLS = in_place_module._BLOCK_CELLS, block
    try:
        for chosen, want in [
            (select_rows(np.array(values, order=order), rows), values[rows]),  # type: ignore[call-overload]
            (select_columns(np.array(values, order=order), columns), values[:, columns]),  # type: ignore[call-overload]
        ]:
            np.testing.assert_array_equal(chosen, want)
    finally:
        in_place_module._BLOCK_CELLS = original


def test_plates_of_counts_beside_plates_of_logarithms_are_refused() -> None:
    mixed = screen()
    plates = mixed.wells.get_column("plate").unique(maintain_order=True).to_list()
    logged = (mixed.wells.get_column("plate") == plates[1]).to_numpy()
    mixed.expression[logged] = np.log2(mixed.expression[logged] + 1)
    for method in ("none", "log-cpm"):
        with pytest.raises(DataError, match="some plates hold counts, others normalised values") as caught:
            prepare(mixed, Preparation(normalize=method))
        assert f"{plates[1]}: values have fractions" in str(caught.value.found)


@pytest.mark.parametrize("name", ["empty", "Blank", "no cells", "EMPTY "])
def test_wells_without_cells_are_set_aside_and_named(name: str) -> None:
    full = screen()
    compounds = full.wells.get_column("compound").to_list()
    treated = [at for at, control in enumerate(full.wells.get_column("is_control")) if not control]
    for at in treated[:3]:
        compounds[at] = name
    odd = replace(full, wells=full.wells.with_columns(compound=pl.Series(compounds)))
    prepared, _ = prepare(odd, plain(normalize="log-cpm"))
    used = prepared.wells.filter(takes_part(prepared.wells, keep_flagged=True))
    assert used.height == full.wells.height - 3
    assert name not in set(used.get_column("compound"))
    kept = [at for at in range(full.wells.height) if at not in treated[:3]]
    want = log_cpm(full.expression[kept], replace(prepared, wells=used))[:, :-1]
    np.testing.assert_allclose(prepared.expression[: used.height], want, rtol=1e-6)
    assert "no cells 3" in said(prepared)
    control = odd.wells.with_columns(is_control=pl.col("is_control") | (pl.col("compound") == name))
    held, _ = prepare(replace(odd, wells=control), plain(normalize="log-cpm"))
    assert takes_part(held.wells, keep_flagged=True).all()


def test_codes_for_missing_values_in_the_expression_are_told() -> None:
    odd = screen()
    odd.expression[:] = np.log2(odd.expression + 1)
    odd.expression[2, 3] = -666
    assert "the expression holds codes for missing values: -666 (1)" in said(prepare(odd, Preparation())[0])
