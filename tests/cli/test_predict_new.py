"""`dpf predict --input`: new wells, whatever their table looks like, are matched by gene and never guessed at."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.tables.storage import read_about, read_expression, read_table, write_table


@pytest.fixture
def wells(folded) -> pl.DataFrame:
    """Twelve of the project's wells under other names, genes in the project's order."""
    found = read_expression(folded / "inputs/expression.parquet")
    rows = slice(4, 16)
    columns = {"well": [f"new{n}" for n in range(12)]}
    return pl.DataFrame(columns | dict(zip(found.genes, found.values[rows].T, strict=True)))


def predicted(rows: pl.DataFrame) -> np.ndarray:
    names = [name for name in rows.columns if name.endswith(("_predicted", "_logit", "_probability"))]
    return rows.select(sorted(names)).to_numpy()


@pytest.fixture
def usual(folded, ok, wells, tmp_path) -> np.ndarray:
    wells.write_csv(tmp_path / "usual.csv")
    words = ["--input", tmp_path / "usual.csv", "--output", tmp_path / "usual.parquet"]
    return predicted(ok("predict", folded, *words).rows)


def test_new_wells(folded, ok, wells, tmp_path):
    wells.write_csv(tmp_path / "new.csv")
    ran = ok("predict", folded, "--input", tmp_path / "new.csv", "--output", tmp_path / "out.parquet")
    rows = ran.rows
    assert rows["well_id"].to_list() == [f"new{n}" for n in range(12)]
    assert rows["members"].unique().to_list() == ["0,1,2"]
    assert rows["held_out"].all()
    assert "distance_euclidean" in rows.columns
    assert not [name for name in rows.columns if name.endswith("_measured")]
    kept = pl.read_parquet(tmp_path / "out.parquet")
    np.testing.assert_allclose(predicted(kept), predicted(rows))
    assert f"table: {tmp_path / 'out.parquet'}" in ran.err


def test_the_table_has_a_place_of_its_own_in_the_project(folded, copy, ok, wells, tmp_path):
    project = copy(folded)
    wells.write_csv(tmp_path / "plate 7.csv")
    ok("predict", project, "--input", tmp_path / "plate 7.csv")
    assert (project / "results/default/predictions_plate 7.parquet").is_file()
    assert "predictions_plate 7" in ok("info", project).out


def test_the_same_wells_get_the_same_predictions(folded, trained, ok, copy, tmp_path):
    """Under their own names, each is spoken for by the member that held it out, as in the project."""
    for project in (folded, copy(trained)):
        found = read_expression(project / "inputs/expression.parquet")
        table = pl.DataFrame({"well": found.well_ids} | dict(zip(found.genes, found.values.T, strict=True)))
        table.write_csv(tmp_path / "all.csv", float_precision=None)
        ran = ok("predict", project, "--input", tmp_path / "all.csv", "--output", tmp_path / "o.parquet")
        here = ok("predict", project).rows
        assert "48 wells have the ids of wells this model was trained on" in ran.err
        assert ran.rows["part"].to_list() == here["part"].to_list()
        np.testing.assert_allclose(predicted(ran.rows), predicted(here), atol=1e-5)


@pytest.mark.parametrize("form", ["shuffled.csv", "flipped.tsv", "flipped.parquet", "wide.csv.gz"])
def test_genes_go_by_name_in_any_order_and_either_orientation(folded, ok, wells, usual, tmp_path, form):
    import gzip

    order = np.random.default_rng(0).permutation(wells.columns[1:]).tolist()
    table = wells.select("well", *order)
    path = tmp_path / form
    if form.startswith("flipped"):
        table = table.drop("well").transpose(include_header=True, header_name="gene", column_names=wells["well"])
    if form.endswith("parquet"):
        table.write_parquet(path)
    elif form.endswith("gz"):
        with gzip.open(path, "wb") as stream:
            table.write_csv(stream)
    else:
        table.write_csv(path, separator="\t" if form.endswith("tsv") else ",")
    rows = ok("predict", folded, "--input", path, "--output", tmp_path / "o.parquet").rows
    assert rows["well_id"].to_list() == wells["well"].to_list()
    np.testing.assert_allclose(predicted(rows), usual, atol=1e-6)


def test_extra_genes_are_counted_and_ignored(folded, ok, wells, usual, tmp_path):
    wells.with_columns(XTRA1=pl.lit(3.0), XTRA2=pl.lit(4.0)).write_csv(tmp_path / "x.csv")
    ran = ok("predict", folded, "--input", tmp_path / "x.csv", "--output", tmp_path / "o.parquet")
    assert "2 genes of x.csv are not in the model and are ignored" in ran.err
    np.testing.assert_allclose(predicted(ran.rows), usual, atol=1e-6)


def test_missing_genes_are_listed_or_filled(folded, dpf, ok, wells, usual, tmp_path):
    gone = wells.columns[3:5]
    wells.drop(gone).write_csv(tmp_path / "m.csv")
    ran = dpf("predict", folded, "--input", tmp_path / "m.csv", "--output", tmp_path / "n.parquet")
    assert (ran.code, ran.out) == (5, "")
    assert "2 of the model's 24 genes are not in the table" in ran.err
    assert f"missing: {', '.join(gone)}" in ran.err
    assert "--missing-genes impute" in ran.err
    assert not (tmp_path / "n.parquet").exists()
    ran = ok(
        "predict",
        folded,
        "--input",
        tmp_path / "m.csv",
        "--output",
        tmp_path / "o.parquet",
        "--missing-genes",
        "impute",
    )
    assert "2 of the model's 24 genes are not in m.csv; filled with the training mean" in ran.err
    assert np.abs(predicted(ran.rows) - usual).max() < 1.0


def test_each_member_imputes_its_own_mean(folded, ok, wells, tmp_path):
    """A gene at the training mean is 0 after the z-score: in every member, not only on average over them."""
    from dpf.model.checkpoint import load_model

    model = load_model(folded / "models/default/model.safetensors")
    gene = wells.columns[3]
    place = model.genes.index(gene)
    wells.drop(gene).write_csv(tmp_path / "m.csv")
    words = ["--output", tmp_path / "o.parquet", "--missing-genes", "impute"]
    imputed = ok("predict", folded, "--input", tmp_path / "m.csv", *words).rows
    found = []
    for network in model.members:
        values = wells.with_columns(pl.lit(float(network.gene_mean[place])).alias(gene)).select(model.genes)
        import torch

        with torch.inference_mode():
            found.append(network.predict(torch.tensor(values.to_numpy(), dtype=torch.float32)).scores[:, 0].numpy())
    np.testing.assert_allclose(imputed["Tscore_predicted"], np.mean(found, axis=0), atol=1e-5)


def test_a_model_centred_on_controls_says_so(demo, copy, dpf, ok, wells, tmp_path):
    project = copy(demo)
    ok("train", project, "--epochs", 1, "--set", "train.gene_center=controls")
    gone = wells.columns[3]
    wells.drop(gone).with_columns(pl.col(wells.columns[4:]) * 100).write_csv(tmp_path / "m.csv")
    words = ["--output", tmp_path / "o.parquet", "--missing-genes", "impute"]
    told = " ".join(ok("predict", project, "--input", tmp_path / "m.csv", *words).err.split())
    assert "1 of the model's 24 genes are not in m.csv; filled with the mean of the training controls" in told
    assert "training standard deviations from the mean of the training controls" in told
    expression = project / "inputs/expression.parquet"
    whole, about = read_table(expression, "expression"), read_about(expression, "expression")
    write_table(expression, whole.drop(gone), "expression", about)
    genes = project / "inputs/genes.parquet"
    kept, about = read_table(genes, "genes").filter(pl.col("gene") != gone), read_about(genes, "genes")
    write_table(genes, kept, "genes", about)
    ran = dpf("predict", project)
    assert ran.code == 5
    assert "fills them with the mean of the training controls" in " ".join(ran.err.split())


def test_no_gene_in_common(folded, dpf, wells, tmp_path):
    renamed = wells.rename({name: f"OTHER{n}" for n, name in enumerate(wells.columns[1:])})
    renamed.write_csv(tmp_path / "n.csv")
    for extra in ([], ["--missing-genes", "impute"]):
        ran = dpf("predict", folded, "--input", tmp_path / "n.csv", *extra)
        assert ran.code in (4, 5)
        assert "n.csv" in ran.err


def test_other_units_are_warned_about_with_the_numbers(folded, ok, wells, tmp_path):
    counts = wells.with_columns((2.0 ** pl.col(name)).round().alias(name) for name in wells.columns[1:])
    counts.write_csv(tmp_path / "counts.csv")
    ran = ok("predict", folded, "--input", tmp_path / "counts.csv", "--output", tmp_path / "o.parquet")
    assert "these values do not look like the training data" in ran.err
    assert "training standard" in ran.err
    wells.write_csv(tmp_path / "same.csv")
    ran = ok("predict", folded, "--input", tmp_path / "same.csv", "--output", tmp_path / "same.parquet")
    assert "do not look like" not in ran.err


def test_a_model_file_serves_without_its_project(folded, demo, copy, ok, wells, usual, tmp_path):
    wells.write_csv(tmp_path / "w.csv")
    other = copy(demo)
    model = folded / "models/default/model.safetensors"
    rows = ok("predict", other, "--model", model, "--input", tmp_path / "w.csv").rows
    np.testing.assert_allclose(predicted(rows), usual, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda t: t.with_columns(pl.lit("w").alias("well")), ["well ids are repeated"]),
        (lambda t: t.with_columns(pl.lit(None, pl.Float64).alias(t.columns[2])), ["missing or not finite", "new0 / "]),
        (lambda t: t.with_columns(pl.lit("low").alias(t.columns[2])), ["'low'"]),
        (lambda t: t.head(0), []),
    ],
    ids=["twice", "missing", "word", "empty"],
)
def test_bad_tables_are_refused(folded, dpf, wells, tmp_path, change, texts):
    path = tmp_path / "bad.csv"
    change(wells).write_csv(path)
    ran = dpf("predict", folded, "--input", path, "--output", tmp_path / "o.parquet")
    assert (ran.code, ran.out) == (4, "")
    assert "bad.csv" in ran.err
    for text in texts:
        assert text in ran.err
    assert not (tmp_path / "o.parquet").exists()


def test_one_well_is_enough(folded, ok, wells, usual, tmp_path):
    wells.head(1).write_csv(tmp_path / "one.csv")
    ran = ok("predict", folded, "--input", tmp_path / "one.csv", "--output", tmp_path / "o.parquet")
    np.testing.assert_allclose(predicted(ran.rows), usual[:1], atol=1e-6)


def test_output_needs_input(folded, dpf, tmp_path):
    for words in (["--output", tmp_path / "o.parquet"], ["--missing-genes", "impute"]):
        ran = dpf("predict", folded, *words)
        assert ran.code == 2
        assert "--input" in ran.err


def test_a_name_that_promises_another_format_is_refused(folded, dpf, wells, tmp_path):
    wells.write_csv(tmp_path / "w.csv")
    ran = dpf("predict", folded, "--input", tmp_path / "w.csv", "--output", tmp_path / "o.csv")
    assert ran.code == 2
    assert "as Parquet" in ran.err
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("same", ["path", "dots", "symlink", "hard link"])
def test_predictions_never_replace_the_table_they_are_made_from(folded, copy, dpf, wells, tmp_path, same):
    source, output = tmp_path / "new.parquet", tmp_path / "new.parquet"
    wells.write_parquet(source)
    if same == "dots":
        (tmp_path / "d").mkdir()
        output = tmp_path / "d/../new.parquet"
    elif same != "path":
        output = tmp_path / "other.parquet"
        output.symlink_to(source) if same == "symlink" else output.hardlink_to(source)
    before = source.read_bytes()
    ran = dpf("predict", copy(folded), "--input", source, "--output", output, "--overwrite")
    assert ran.code == 2
    assert "the very file it is made from" in ran.err
    assert source.read_bytes() == output.read_bytes() == before


def test_an_output_that_is_there_is_replaced_only_by_predictions_of_the_same_table(
    folded, copy, dpf, ok, wells, tmp_path
):
    project, out = copy(folded), tmp_path / "out.parquet"
    wells.write_csv(tmp_path / "a.csv")
    wells.head(3).write_csv(tmp_path / "b.csv")
    pl.DataFrame({"mine": [1]}).write_parquet(out)
    ran = dpf("predict", project, "--input", tmp_path / "a.csv", "--output", out)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert pl.read_parquet(out).columns == ["mine"]
    ok("predict", project, "--input", tmp_path / "a.csv", "--output", out, "--overwrite")
    ok("predict", project, "--input", tmp_path / "a.csv", "--output", out)
    assert dpf("predict", project, "--input", tmp_path / "b.csv", "--output", out).code == 2
    assert pl.read_parquet(out).height == 12
    for place in ("inputs/expression.parquet", "results/default/mine.parquet"):
        ran = dpf("predict", project, "--input", tmp_path / "a.csv", "--output", project / place, "--overwrite")
        assert ran.code == 2
        assert "keeps its own files" in ran.err


def test_two_tables_never_share_one_file_of_predictions(folded, copy, dpf, ok, wells, tmp_path):
    project = copy(folded)
    for name in ("plate.A.csv", "plate.B.csv"):
        wells.write_csv(tmp_path / name)
        ok("predict", project, "--input", tmp_path / name)
        ok("predict", project, "--input", tmp_path / name)
    results = project / "results/default"
    assert {path.stem for path in results.glob("predictions_*")} == {"predictions_plate.A", "predictions_plate.B"}
    assert "predictions_plate.A" in ok("info", project).out
    (tmp_path / "day 2").mkdir()
    wells.head(3).write_csv(tmp_path / "day 2/plate.A.csv")
    ran = dpf("predict", project, "--input", tmp_path / "day 2/plate.A.csv")
    assert ran.code == 2
    assert f"found: {tmp_path / 'plate.A.csv'}" in ran.err
    assert "--output NAME.parquet" in ran.err
    assert pl.read_parquet(results / "predictions_plate.A.parquet").height == 12
    ok("predict", project, "--input", tmp_path / "day 2/plate.A.csv", "--overwrite")
    assert pl.read_parquet(results / "predictions_plate.A.parquet").height == 3


def test_predictions_by_an_earlier_dpf_are_replaced_by_those_of_the_same_name(folded, copy, ok, wells, tmp_path):
    project, path = copy(folded), tmp_path / "new.csv"
    wells.write_csv(path)
    ok("predict", project, "--input", path)
    stored = project / "results/default/predictions_new.parquet"
    table, about = read_table(stored, "predictions"), read_about(stored, "predictions")
    del about["input_path"]
    write_table(stored, table, "predictions", about)
    ok("predict", project, "--input", path)
