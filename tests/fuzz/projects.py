"""A small project with everything in it, one part of which is damaged."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from tests.fuzz.campaign import Case, Worker
from tests.fuzz.damage import DEEP, LONG, damage_bytes, in_its_place, strange_json
from tests.fuzz.screens import wrong_columns

_TINY = [
    *("--set", "model.width=16", "--set", "model.heads=2", "--set", "model.feed_forward=32", "--set", "model.layers=1"),
    *("--set", "model.latent=6", "--set", "compute.threads=1", "--set", "compute.precision=fp32"),
    *("--set", "compute.device=cpu", "--set", "model.start=none", "--set", "train.patience=0"),
]
#: Each over a damaged project, and what must not change in what it prints: results, of which no byte is of the moment.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("info",),
    ("info", "--format", "json"),
    ("rank", "--top", "5"),
    ("rank", "--signatures", "--top", "5"),
    ("predict", "--top", "5"),
    ("latent", "--top", "5"),
    ("explain", "--top", "5"),
    ("export", "--overwrite"),
    ("check", "--permutations", "199"),
    ("evaluate",),
)
#: The commands that read a part, by its name or that of its folder; of others, any may.
_READ_BY = {
    "check": ("info", "rank", "evaluate", "check"),
    "exports": ("export",),
    "calibration": ("predict", "info", "evaluate"),
    "history": ("info", "export"),
    "metrics": ("info",),
    "splits": ("info", "check"),
    "results": ("info", "export", "rank", "check", "predict"),
}
_COMPARED = ("rank", "predict", "latent", "explain")


def write_project(path: Path, worker: Worker) -> None:
    """A trained project, all of whose results are there."""
    tests = (
        ("init", path, "--demo", "--wells", 48, "--genes", 24, "--set", "train.epochs=2", *_TINY),
        ("train", path, "--folds", 2),
        ("check", path, "--permutations", 199),
        ("evaluate", path),
        ("predict", path),
        ("latent", path),
        ("rank", path, "--signatures"),
        ("explain", path),
        ("export", path),
    )
    for words in tests:
        answer = worker.run([str(word) for word in words], patience=300)
        assert isinstance(answer, dict), answer
        assert answer["code"] == 0, answer["err"]


def _wrong_parquet(path: Path, rng: random.Random) -> str:
    """A table of the project as another program writes it: no checksums, another column, another footer."""
    table = pq.read_table(path)
    about = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"dpf_crc32"}
    if rng.random() < 0.4:
        text = strange_json(json.loads(about[b"dpf"]), rng)
        kind = f"footer: {text[:200]}"
        about[b"dpf"] = text.encode()
    else:
        table, kind = wrong_columns(table, rng)
    pq.write_table(table.replace_schema_metadata(about), path)
    return kind


def _wrong_json(path: Path, rng: random.Random) -> str:
    content = json.loads(path.read_text())
    if rng.random() < 0.7:
        content.pop("sha256", None)  # as the first files were
    path.write_text(text := strange_json(content, rng))
    return text[:300]


def _wrong_weights(path: Path, rng: random.Random) -> str:
    """A model file with another header: of the tensors, or of what it says of itself, without digests."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    if rng.random() < 0.6:
        about = json.loads(header["__metadata__"]["dpf"])
        about.pop("sha256", None)
        text = strange_json(about, rng)
        header["__metadata__"]["dpf"] = text
        raw = json.dumps(header)
        kind = f"description: {text[:200]}"
    else:
        raw = strange_json(header, rng)
        kind = f"header: {raw[:100]}"
    path.write_bytes(struct.pack("<Q", len(raw.encode())) + raw.encode() + rest)
    return kind


def _wrong_settings(path: Path, rng: random.Random) -> str:
    lines = path.read_text().split("\n")
    at = rng.choice([at for at, line in enumerate(lines) if "=" in line and not line.startswith("#")])
    odd = [DEEP, LONG, "nan", "-1", '""', "[]", "{}", '"\\u0000"', "1979-05-27", "true", "[[1]]", "1e999", "0"]
    value = rng.choice(odd)
    lines[at] = f"{lines[at].split('=')[0]}= {value}"
    path.write_text("\n".join(lines))
    return lines[at][:60]


_WRONG: dict[str, Callable[[Path, random.Random], str]] = {
    ".parquet": _wrong_parquet, ".json": _wrong_json, ".safetensors": _wrong_weights, ".toml": _wrong_settings,
}  # fmt: skip


def project_case(base: Path, expected: dict[tuple[str, ...], str], seed: int) -> Callable[[int, Path], Case]:
    """Cases over a copy of the project in `base`; `expected` is what commands print over the undamaged one."""
    parts = sorted(
        path.relative_to(base) for path in base.rglob("*")
        if path.suffix in _WRONG and not {"export", "truth", "truth_genes", "last"} & {path.stem, path.parent.name}
        and not path.name.startswith(".")
    )  # fmt: skip

    def make(number: int, place: Path) -> Case:
        rng = random.Random(f"projects {seed} {number}")
        project = place / "p"
        shutil.copytree(base, project)
        part = parts[number % len(parts)]
        readers = _READ_BY.get(part.stem) or _READ_BY.get(part.parts[0])
        command, *words = rng.choice([one for one in COMMANDS if readers is None or one[0] in readers])
        path = project / part
        draw, compared = rng.random(), False
        if draw < 0.1:
            damage = in_its_place(path, rng, pipes=True)
        elif draw < 0.5:
            damage = damage_bytes(path, rng)
            compared = part.suffix != ".toml"  # a setting of another value is a setting
        else:
            damage = _WRONG[part.suffix](path, rng)
        same = expected.get((command, *words)) if compared and command in _COMPARED else None
        named = (part.name, str(project), "dpf.toml")
        subject = f"project {part.suffix[1:]}"
        return Case(subject, f"{part}: {damage}", [command, str(project), *words], named, same)

    return make


def undamaged(base: Path, folder: Path) -> dict[tuple[str, ...], str]:
    """What each command prints over a copy of the project."""
    worker = Worker(folder)
    found = {}
    for command, *words in COMMANDS:
        project = folder / "case/p"
        shutil.copytree(base, project)
        answer = worker.run([command, str(project), *words], patience=300)
        assert isinstance(answer, dict), answer
        assert answer["code"] == 0, answer["err"]
        found[command, *words] = answer["out"]
        shutil.rmtree(project)
    worker.close()
    return found
