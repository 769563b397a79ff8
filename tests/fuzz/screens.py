"""A small screen in every format that is read, and damages that leave a file well-formed and wrong."""

from __future__ import annotations

import gzip
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import scipy.sparse
from pyarrow import feather

from tests.fuzz.campaign import Case
from tests.fuzz.damage import BYTES, DEEP, LONG, damage_bytes, in_its_place

WELLS = "--wells", "wells.csv"


class Subject(NamedTuple):
    """A file that `dpf init` reads: what is damaged, with which words, and what else may be wrong with it."""

    name: str
    files: tuple[str, ...]
    words: tuple[str, ...]
    wrong: Callable[[Path, random.Random], str] | None = None


def _tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(7)
    names = [f"drug {k}" for k in range(10) for _ in range(2)] + ["DMSO"] * 8
    ids = [f"P{1 + n % 2}_{'ABCDEFGH'[n % 8]}{1 + n // 8:02d}" for n in range(len(names))]
    strength = np.array([int(name.split()[1]) / 10 if name != "DMSO" else 0 for name in names])
    values = 6 + rng.standard_normal((28, 20)) / 2 + 3 * strength[:, None] * rng.standard_normal(20)
    values[values < 5] = 0
    expression = pl.DataFrame({"well_id": ids} | {f"GENE{g + 1}": np.round(values[:, g], 4) for g in range(20)})
    wells = pl.DataFrame(
        {
            "well_id": ids,
            "compound": names,
            "plate": [name[:2] for name in ids],
            "viability": np.round(100 - 40 * strength + rng.standard_normal(28), 3),
            "size": np.round(strength + 0.1 * rng.standard_normal(28), 4),
        }
    )
    return expression, wells


def write_screens(folder: Path) -> None:
    """Write the screen in every format into `folder`."""
    expression, wells = _tables()
    values = expression.drop("well_id").to_numpy().astype(np.float32)
    ids, genes = expression["well_id"].to_list(), expression.columns[1:]
    expression.write_csv(folder / "e.csv")
    (folder / "e.tsv.gz").write_bytes(gzip.compress(expression.write_csv(separator="\t").encode(), mtime=0))
    wells.write_csv(folder / "wells.csv")
    (folder / "w.csv.gz").write_bytes(gzip.compress(wells.write_csv().encode(), mtime=0))
    expression.to_pandas().set_index("well_id").to_parquet(folder / "e.parquet")
    wells.write_parquet(folder / "w.parquet")
    for name, packed in (("plain", "uncompressed"), ("lz4", "lz4"), ("zstd", "zstd")):
        feather.write_feather(expression.to_pandas(), folder / f"{name}.feather", packed)
    coded = wells.with_columns(pl.col("compound").cast(pl.Categorical)).to_pandas()
    feather.write_feather(coded, folder / "w.feather", "uncompressed")
    write_workbook(folder / "e.xlsx", [list(expression.columns), *map(list, expression.rows())])
    write_workbook(folder / "w.xlsx", [list(wells.columns), *map(list, wells.rows())])
    obs = wells.to_pandas().set_index("well_id").astype({"compound": "category"})
    var = pd.DataFrame({"gene_ids": [f"ENSG{at:011d}" for at in range(20)]}, index=genes)
    for name, kind in (("dense", np.asarray), ("csr", scipy.sparse.csr_matrix), ("csc", scipy.sparse.csc_matrix)):
        anndata.AnnData(X=kind(values), obs=obs, var=var, layers={"raw": values}).write_h5ad(folder / f"{name}.h5ad")
    rows = ["#1.3", f"20\t28\t0\t{wells.width - 1}", "\t".join(["id", *ids])]
    rows += ["\t".join([name, *map(str, wells[name])]) for name in wells.columns[1:]]
    rows += ["\t".join([gene, *map(str, values[:, at])]) for at, gene in enumerate(genes)]
    (folder / "e.gct").write_text("\n".join(rows) + "\n")
    with h5py.File(folder / "e.gctx", "w") as file:
        file["0/DATA/0/matrix"] = values
        file["0/META/ROW/id"] = np.array(genes, "S")
        file["0/META/COL/id"] = np.array(ids, "S")
        for name in wells.columns[1:]:
            column = wells[name].to_numpy()
            file[f"0/META/COL/{name}"] = column.astype("S") if column.dtype == object else column
    (folder / "mtx").mkdir()
    scipy.io.mmwrite(folder / "mtx/matrix.mtx", scipy.sparse.coo_matrix(np.round(values.T * 100).astype(int)))
    (folder / "mtx/barcodes.tsv").write_text("\n".join(ids) + "\n")
    (folder / "mtx/features.tsv").write_text("".join(f"ENSG{at:011d}\t{g}\tGene\n" for at, g in enumerate(genes)))
    (folder / "old").mkdir()
    expression.drop("well_id").write_csv(folder / "old/expr_mat.csv")
    (folder / "old/well_id.csv").write_text("\n".join(["x", *ids]) + "\n")
    (folder / "old/meta_id.csv").write_text("\n".join(["x", *wells["compound"]]) + "\n")
    wells.select("viability", "size").write_csv(folder / "old/scores_3_z.csv")
    (folder / "sets.gmt").write_text("ONE_UP\tna\tGENE1\tGENE2\tGENE3\nONE_DN\tna\tGENE4\tGENE5\nTWO\tna\tGENE6\n")
    (folder / "genes.txt").write_text("gene\n" + "\n".join(genes[:12]) + "\n")


def write_workbook(path: Path, rows: list[list[Any]], extra: str = "") -> None:
    """A workbook of one sheet, by hand: the package that reads them writes none. `extra` is XML after the rows."""
    main, kinds = "http://schemas.openxmlformats.org/", "application/vnd.openxmlformats-officedocument.spreadsheetml"
    package, relation = f"{main}package/2006", f"{main}officeDocument/2006/relationships"
    sheet, xml = "", '<?xml version="1.0" encoding="UTF-8"?>'
    for at, row in enumerate(rows, 1):
        cells = "".join(
            f'<c r="{chr(65 + column)}{at}" t="inlineStr"><is><t>{cell}</t></is></c>'
            if isinstance(cell, str)
            else f'<c r="{chr(65 + column)}{at}"><v>{cell}</v></c>'
            for column, cell in enumerate(row)
        )
        sheet += f'<row r="{at}">{cells}</row>'
    spreadsheet = f"{main}spreadsheetml/2006/main"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
        f'"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
        f'ContentType="{kinds}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" '
        f'ContentType="{kinds}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{spreadsheet}" xmlns:r="{relation}"><sheets><sheet name="one" '
        'sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{relation}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{spreadsheet}"><sheetData>{sheet}{extra}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in parts.items():
            book.writestr(zipfile.ZipInfo(name), xml + text, zipfile.ZIP_DEFLATED)


def wrong_hdf5(path: Path, rng: random.Random) -> str:
    """A whole HDF5 file, one object of which is another: a group, gone, huge, a link, of another type."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        is_group, folder = isinstance(file[name], h5py.Group), path.parent
        choices = ["gone", "external link", "link in a circle", "link to nothing", "attributes gone", "odd attribute"]
        choices += ["a dataset"] if is_group else ["a group", "huge", "stored outside", "virtual", "of another type"]
        choices += [] if is_group else ["of another shape", "odd numbers"]
        kind = rng.choice(choices)
        if kind == "attributes gone":
            file[name].attrs.clear()
        elif kind == "odd attribute":
            target = file[rng.choice([n for n in names if len(file[n].attrs)] or [name])]
            key = rng.choice([*target.attrs, "shape", "encoding-type"])
            values = [2**62, -1, np.array([10**10, 10**10]), b"\xff\xfe", "csr_matrix", h5py.Empty("f"), np.arange(3.0)]
            target.attrs[key] = values[rng.randrange(len(values))]
        else:
            old = None if is_group else file[name][()]
            kept = dict(file[name].attrs)
            del file[name]
            if kind == "a group":
                file.create_group(name)
            elif kind == "a dataset":
                file[name] = np.arange(28.0)
            elif kind == "huge":
                rank = max(np.ndim(old), 1)
                file.create_dataset(name, (10**10,) + (10,) * (rank - 1), "f8", chunks=(1000,) + (10,) * (rank - 1))
            elif kind == "stored outside":
                (folder / "outside").write_bytes(bytes(1 << 16))
                file.create_dataset(name, (28, 20), "f4", external=[(str(folder / "outside"), 0, 1 << 16)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout((28, 20), "f4")
                layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (28, 20))
                file.create_virtual_dataset(name, layout)
            elif kind == "of another type":
                strange = [np.zeros(28, [("a", "f4"), ("b", "S3")]), np.zeros((28, 20), complex), "text", np.arange(28)]
                file[name] = strange[rng.randrange(4)]
            elif kind == "of another shape":
                file[name] = np.resize(old, [(), (3,), (28, 20, 2), (0,), (27, 20), (28, 21)][rng.randrange(6)])
            elif kind == "odd numbers" and np.asarray(old).dtype.kind in "iuf":
                odd, some = np.array(old), [2**30, -1, 12, 20, 28, 2**31 - 1]
                odd.reshape(-1)[rng.randrange(max(odd.size, 1)) if odd.size else slice(0)] = rng.choice(some)
                file[name] = odd
            elif kind == "odd numbers":
                file[name] = old
            elif kind == "external link":
                file[name] = h5py.ExternalLink(str(folder / "other.h5"), "/x")
            elif kind != "gone":
                file[name] = h5py.SoftLink(f"/{name}" if kind == "link in a circle" else "/nothing")
            if kind in ("a group", "huge", "of another shape", "odd numbers"):
                for key, value in kept.items():
                    file[name].attrs[key] = value
    return f"{name}: {kind}"


def wrong_columns(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    """A table one column of which is another: gone, renamed, null, nested, of another type, twice, without rows."""
    at = rng.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    rows = table.num_rows
    kind = rng.choice(["gone", "renamed", "null", "nested", "text", "bytes", "number", "twice", "no rows", "time"])
    if kind == "gone":
        return table.remove_column(at), f"{name}: {kind}"
    if kind == "no rows":
        return table.slice(0, 0), kind
    if kind == "twice":
        return table.append_column(name, column), f"{name}: {kind}"
    if kind == "renamed":
        other = rng.choice(["", "x\0y", "[bold]", "../x", name.upper() or "y", "é"])
        return table.rename_columns(
            [other if i == at else n for i, n in enumerate(table.column_names)]
        ), f"{name}: to {other!r}"
    new: Any = {
        "null": pa.nulls(rows),
        "nested": pa.array([{"a": [1]}] * rows) if rng.random() < 0.5 else pa.array([[1, 2]] * rows),
        "text": pa.array([str(value) for value in column.to_pylist()]),
        "bytes": pa.array([b"\xff\xfe"] * rows),
        "number": pa.array(np.arange(rows, dtype=float)),
        "time": pa.array([0] * rows, pa.timestamp("us", "UTC")),
    }[kind]
    return table.set_column(at, name, new), f"{name}: {kind}"


def wrong_parquet(path: Path, rng: random.Random) -> str:
    """A whole Parquet file with another column, or another description by pandas."""
    table = pq.read_table(path)
    if rng.random() < 0.2:
        odd = rng.choice([DEEP, LONG, "[]", "null", '{"index_columns": 3}', '{"index_columns": [[1]]}', "{"])
        pq.write_table(table.replace_schema_metadata({"pandas": odd}), path)
        return f"pandas: {odd[:20]}"
    table, kind = wrong_columns(table, rng)
    pq.write_table(table, path)
    return kind


def wrong_feather(path: Path, rng: random.Random) -> str:
    """The same of a Feather file."""
    table, kind = wrong_columns(feather.read_table(path), rng)
    feather.write_feather(table, str(path), "uncompressed")
    return kind


def wrong_text(path: Path, rng: random.Random) -> str:
    """Text, one line or cell of which is another."""
    packed = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()).decode() if packed else path.read_text()
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    odd = [
        "\0", "9" * 5000, "1e999", '"', "\x1b[31m", "é" * 100_000, "-1", "99999999999999999999", "\r", "nan", "=1+1",
        "10000000000 10000000000 10000000000", "#1.3\n9999999999\t9999999999\t0\t0", "\ufeff", "\u2028", DEEP,
    ]  # fmt: skip
    value = rng.choice(odd)
    cells = lines[at].split(sep := "\t" if "\t" in lines[at] else "," if "," in lines[at] else " ")
    cells[rng.randrange(len(cells))] = value
    kinds: dict[str, Callable[[], Any]] = {
        "a cell": lambda: lines.__setitem__(at, sep.join(cells)),
        "a line": lambda: lines.__setitem__(at, value),
        "a line twice": lambda: lines.insert(at, lines[at]),
        "a line gone": lambda: lines.pop(at),
        "a cell more": lambda: lines.__setitem__(at, lines[at] + sep + value),
    }
    kind = rng.choice(list(kinds))
    kinds[kind]()
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        content = "\n".join(lines).encode("utf-16")
    path.write_bytes(gzip.compress(content) if packed else content)
    return f"line {at + 1}, {kind}: {value[:20]!r}"


def wrong_workbook(path: Path, rng: random.Random) -> str:
    """A workbook with cells at odd places, or without a part, or with other XML in a part."""
    parts = {}
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    kind = rng.choice(["far corner", "no such place", "part gone", "part damaged", "far column", "no places"])
    sheet = "xl/worksheets/sheet1.xml"
    far = {"far corner": "XFD1048576", "no such place": "ZZZZZZ99999999999", "far column": "XFD2"}
    if kind in far:
        cell = f'<row><c r="{far[kind]}"><v>1</v></c></row>'.encode()
        parts[sheet] = parts[sheet].replace(b"</sheetData>", cell + b"</sheetData>")
    elif kind == "no places":
        parts[sheet] = __import__("re").sub(rb' r="[A-Z]*[0-9]+"', b"", parts[sheet])
    else:
        name = rng.choice(list(parts))
        content = bytearray(parts.pop(name))
        if kind == "part damaged":
            parts[name] = rng.choice(list(BYTES.values()))(content, rng)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)
    return kind


_SELF = ("--compound-column", "compound")
SUBJECTS = (
    Subject("csv", ("e.csv",), ("--from", "e.csv", *WELLS), wrong_text),
    Subject("tsv.gz", ("e.tsv.gz",), ("--from", "e.tsv.gz", *WELLS), wrong_text),
    Subject("parquet", ("e.parquet",), ("--from", "e.parquet", *WELLS), wrong_parquet),
    Subject("feather", ("plain.feather",), ("--from", "plain.feather", *WELLS), wrong_feather),
    Subject("feather", ("lz4.feather",), ("--from", "lz4.feather", *WELLS), wrong_feather),
    Subject("feather", ("zstd.feather",), ("--from", "zstd.feather", *WELLS), wrong_feather),
    Subject("xlsx", ("e.xlsx",), ("--from", "e.xlsx", *WELLS), wrong_workbook),
    Subject("h5ad", ("dense.h5ad",), ("--from", "dense.h5ad", *_SELF), wrong_hdf5),
    Subject("h5ad", ("csr.h5ad",), ("--from", "csr.h5ad", *_SELF), wrong_hdf5),
    Subject("h5ad", ("csc.h5ad",), ("--from", "csc.h5ad", *WELLS), wrong_hdf5),
    Subject("gct", ("e.gct",), ("--from", "e.gct", *_SELF), wrong_text),
    Subject("gctx", ("e.gctx",), ("--from", "e.gctx", *_SELF), wrong_hdf5),
    Subject("mtx", ("mtx/matrix.mtx", "mtx/barcodes.tsv", "mtx/features.tsv"), ("--from", "mtx", *WELLS), wrong_text),
    Subject(
        "classic",
        ("old/expr_mat.csv", "old/well_id.csv", "old/meta_id.csv", "old/scores_3_z.csv"),
        ("--from", "old"),
        wrong_text,
    ),
    Subject("wells csv", ("wells.csv",), ("--from", "e.csv", *WELLS), wrong_text),
    Subject("wells csv", ("w.csv.gz",), ("--from", "e.csv", "--wells", "w.csv.gz"), wrong_text),
    Subject("wells parquet", ("w.parquet",), ("--from", "e.csv", "--wells", "w.parquet"), wrong_parquet),
    Subject("wells feather", ("w.feather",), ("--from", "e.csv", "--wells", "w.feather"), wrong_feather),
    Subject("wells xlsx", ("w.xlsx",), ("--from", "e.csv", "--wells", "w.xlsx"), wrong_workbook),
    Subject("gmt", ("sets.gmt",), ("--from", "e.csv", *WELLS, "--signature", "sets.gmt"), wrong_text),
    Subject("gene list", ("genes.txt",), ("--from", "e.csv", *WELLS, "--genes-file", "genes.txt"), wrong_text),
)


def screen_case(base: Path, seed: int) -> Callable[[int, Path], Case]:
    """Cases over the files of `write_screens`, all in `base`: case number n of a seed is always the same."""
    together = {
        subject: [name for name in ("e.csv", "wells.csv", *subject.files) if name.split("/")[0] in subject.words]
        for subject in SUBJECTS
    }

    def make(number: int, place: Path) -> Case:
        rng = random.Random(f"screens {seed} {number}")
        subject = SUBJECTS[number % len(SUBJECTS)]
        for name in together[subject]:
            (place / name).parent.mkdir(exist_ok=True)
            shutil.copy(base / name, place / name)
        name = rng.choice(subject.files)
        draw = rng.random()
        if draw < 0.03:
            damage = in_its_place(place / name, rng, pipes=False)
        elif draw < 0.6 or subject.wrong is None:
            damage = damage_bytes(place / name, rng)
        else:
            damage = subject.wrong(place / name, rng)
        roots = {known.split("/")[0] for known in together[subject]}
        words = [str(place / word) if word in roots else word for word in subject.words]
        scores = [] if "old" in subject.words else ["--scores", "viability"]
        # A table that joins no well any more is refused by the names of both, or of either; a gene set by its own.
        named = (*roots, *(["of a signature"] if subject.name == "gmt" else []))
        return Case(subject.name, f"{name}: {damage}", ["init", str(place / "p"), *words, *scores], named)

    return make
