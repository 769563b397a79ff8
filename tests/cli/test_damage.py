"""A damaged part of a project: what can be made again is, what cannot is named, and `info` lists it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.usefixtures("sketches")

CACHES = ("outputs", "ranking", "check")


def flip(path: Path, share: float = 0.4) -> None:
    """Change one bit of a file, that far into it."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture(scope="module")
def whole(folded, ok, tmp_path_factory) -> Path:
    """A project in which every cache is there."""
    project = tmp_path_factory.mktemp("whole") / "p"
    shutil.copytree(folded, project)
    ok("check", project, "--permutations", 199)
    ok("rank", project)
    return project


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_what_can_be_made_again_is(whole, copy, ok, damage):
    project = copy(whole)
    outputs = project / "results/default/outputs.parquet"
    kept = pl.read_parquet(outputs)
    for command in ("predict", "latent", "rank"):
        damage(outputs)
        ran = ok(command, project)
        assert "outputs.parquet is computed again: a table" in ran.err
        assert "outputs.parquet" not in ok(command, project).err
        assert pl.read_parquet(outputs).equals(kept)
    damage(project / "check/check.parquet")
    ran = ok("rank", project)
    assert "check.parquet: a table" in ran.err
    assert "dpf check makes it again" in ran.err
    assert "design not checked" in ran.err
    damage(project / "results/default/ranking.parquet")
    ran = ok("export", project)
    assert "ranking.parquet is made again, with default options: a table" in ran.err
    ok("check", project, "--permutations", 199)
    assert "PROBLEM" not in ok("info", project).out


@pytest.mark.parametrize("name", ["expression", "wells", "genes"])
def test_a_flipped_bit_in_the_inputs_is_named_and_not_computed_with(whole, copy, dpf, name):
    project = copy(whole)
    flip(project / f"inputs/{name}.parquet")
    words = {"genes": ["export"], "wells": ["predict"], "expression": ["rank"]}[name]
    ran = dpf(*words, project)
    assert (ran.code, ran.out) == (4, "")
    assert f"{name}.parquet" in ran.err
    assert "not what was written" in ran.err


def test_check_looks_at_everything(whole, copy, dpf, ok):
    project = copy(whole)
    quick = ("check", project, "--permutations", 199)

    def verdict(name: str) -> tuple[str, str]:
        rows = ok(*quick).rows.filter(pl.col("name") == name)
        return rows["verdict"].item(), rows["text"].item()

    assert verdict("models")[0] == verdict("input tables")[0] == "good"
    for place in (
        "models/default/splits.parquet",
        "results/default/outputs.parquet",
        "models/default/model.safetensors",
    ):
        file = project / place
        before = file.read_bytes()
        flip(file, 0.7)
        found, text = verdict("models")
        assert found == "fail"
        assert "not what was" in text
        file.write_bytes(before)
    flip(project / "inputs/expression.parquet")
    assert verdict("input tables")[0] == "fail"


PARTS = [
    "inputs/expression.parquet", "models/default/model.safetensors", "models/default/metrics.json",
    "models/default/calibration.json", "results/default/ranking.parquet", "results/default/outputs.parquet",
    "check/check.parquet",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", [flip, cut, empty, "[]", '{"members": 3}', "directory", "fifo"])
def test_info_lists_what_is_damaged(whole, copy, ok, dpf, part, damage):
    project = copy(whole)
    path = project / part
    if part.endswith("calibration.json"):
        path.write_text('{"format": 1}')
    if damage in ("directory", "fifo"):
        path.unlink()
        path.mkdir() if damage == "directory" else os.mkfifo(path)
        if part.startswith("inputs/"):
            assert dpf("info", project).code == 3
            return
    elif callable(damage):
        damage(path)
    else:
        path.write_text(damage)
    if damage is flip and part.endswith(("metrics.json", "ranking.parquet", "outputs.parquet", "model.safetensors")):
        assert dpf("info", project).code == 0  # of these info reads what they say of themselves only
        return
    out = ok("info", project).out
    problems = " ".join(out[out.index("PROBLEM") :].split())
    assert Path(part).name in problems
    assert ok("info", project, "--format", "json").envelope["data"]["problems"]


def test_what_a_killed_writer_left_is_no_damage_and_goes(whole, copy, ok):
    project = copy(whole)
    left = [
        project / "results/default/.ranking.parquet.abcdefgh.part.parquet",
        project / "models/default/.splits.parquet.abcdefgh.part.parquet",
    ]
    for path in left:
        path.write_bytes(b"PAR1 half")
    assert "PROBLEM" not in ok("info", project).out
    rows = ok("check", project, "--permutations", 199).rows
    assert rows.filter(pl.col("name") == "models")["verdict"].item() == "good"
    ok("rank", project)
    assert not left[0].exists()
    ok("evaluate", project)
    assert not left[1].exists()


@pytest.mark.parametrize("option", ["--gene-sets", "--query"])
@pytest.mark.parametrize("content", [None, "no gene set"])
def test_a_file_of_an_option_that_cannot_be_read_replaces_no_table(whole, copy, dpf, tmp_path, option, content):
    project = copy(whole)
    before = {path: path.read_bytes() for path in project.rglob("*.parquet")}
    if content:
        (tmp_path / "sets.gmt").write_text(content)
    ran = dpf("rank", project, "--signatures", option, tmp_path / "sets.gmt", "--adjust", "plate")
    assert ran.code in (2, 4)
    assert "sets.gmt" in ran.err
    assert before == {path: path.read_bytes() for path in project.rglob("*.parquet")}


@pytest.mark.parametrize(
    "footer",
    [{"axis": [[1.0]]}, {"axis": 3}, {"axis_name": None, "axis": "x"}, {"settings": [1]}, {"files": {"a": {}, "b": 3}}],
)
def test_outputs_with_another_footer_are_computed_again(whole, copy, ok, footer):
    """As another program would write it: the table is whole, and has no checksums."""
    project = copy(whole)
    path = project / "results/default/outputs.parquet"
    expected = ok("rank", project).out
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"dpf"]) | footer
    pq.write_table(table.replace_schema_metadata({"dpf": json.dumps(about)}), path)
    assert ok("rank", project).out == expected
    assert json.loads(pq.read_schema(path).metadata[b"dpf"])["axis"] != footer.get("axis")


@pytest.mark.parametrize("gone", ["latent_3", "latent_0", "member", "part"])
def test_outputs_that_lack_a_column_are_computed_again(whole, copy, ok, gone):
    project = copy(whole)
    path = project / "results/default/outputs.parquet"
    expected = ok("rank", project).out
    table = pq.read_table(path)
    about = {name: text for name, text in table.schema.metadata.items() if name != b"dpf_crc32"}
    pq.write_table(table.drop_columns(gone).replace_schema_metadata(about), path)
    assert ok("rank", project).out == expected
    assert gone in pq.read_schema(path).names


@pytest.mark.parametrize("odd", ["text", [1], {"a": 2}])
def test_metrics_that_are_no_numbers_are_a_problem_and_no_bug(whole, copy, ok, odd):
    project = copy(whole)
    path = project / "models/default/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["members"][0]["validation_total"] = odd
    path.write_text(json.dumps(metrics))
    assert "metrics.json cannot be read" in " ".join(ok("info", project).out.split())


@pytest.mark.parametrize(
    "part",
    [
        "dpf.toml", "models/default/model.safetensors", "models/default/calibration.json", "inputs/wells.parquet",
        "exports.json", "results/default/outputs.parquet",
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["predict", "export", "info"])
def test_a_pipe_in_a_projects_place_is_not_waited_for(whole, copy, dpf, part, command):
    project = copy(whole)
    (project / part).unlink(missing_ok=True)
    os.mkfifo(project / part)
    ran = dpf(command, project)
    assert ran.code in (0, 2, 3, 4, 5), ran.err
    assert "bug in dpf" not in ran.err
    assert ran.code == 0 or Path(part).name in ran.err


def test_gene_sets_from_a_pipe_are_read_once(whole, copy, ok, tmp_path):
    project = copy(whole)
    genes = pl.read_parquet(project / "inputs/genes.parquet")["gene"].to_list()
    text = f"one\tna\t{chr(9).join(genes[:8])}\ntwo\tna\t{chr(9).join(genes[8:16])}\n"
    (tmp_path / "sets.gmt").write_text(text)
    os.mkfifo(tmp_path / "pipe")
    tables = []
    for name in ("sets.gmt", "pipe"):
        writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(text), daemon=True)
        if name == "pipe":
            writer.start()
        ok("rank", project, "--gene-sets", tmp_path / name)
        tables.append(pl.read_parquet(project / "results/default/enrichment.parquet"))
    assert tables[0].equals(tables[1])
