"""Screens with cheap latents: what a cross-validated model would say of wells whose truth is known, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from dpf.config.settings import Settings, TargetSettings
from dpf.project.directory import Project
from dpf.splits.parts import Part
from dpf.tables.storage import write_expression, write_table
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.project.model_file import ModelFile
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.significance import run_tests
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.wells import rank_wells

SETTINGS = Settings(targets=TargetSettings(("size",), "label", ""))
GENES = [f"g{gene}" for gene in range(30)]


@dataclass(frozen=True)
class Planted:
    """A screen to make; `effect` gives compounds (by number) a shift along (`on`) or across the activation axis."""

    seed: int = 0
    compounds: int = 60
    wells: int = 2
    controls: int = 40
    plates: int = 1
    members: int = 5
    width: int = 8
    on: dict[int, float] = field(default_factory=dict)
    across: dict[int, float] = field(default_factory=dict)
    column_shift: float = 0.0
    doses: tuple[float, ...] = ()


def make_screen(planted: Planted) -> tuple[Inputs, Outputs]:
    """Every member sees the wells in a basis and on a scale of its own, and pulls together those it was trained on."""
    rng = np.random.default_rng(planted.seed)
    codes = np.r_[np.repeat(np.arange(planted.compounds), planted.wells), np.full(planted.controls, -1)]
    n = len(codes)
    place = rng.permutation(n)
    plate, column = place % planted.plates, place // planted.plates % 12
    shift = np.zeros((n, planted.width))
    dose = np.array([planted.doses[i % len(planted.doses)] if planted.doses else 10.0 for i in range(n)])
    share = dose / (dose + 1.0) if planted.doses else np.ones(n)
    for direction, effects in ((0, planted.on), (1, planted.across)):
        for compound, strength in effects.items():
            shift[codes == compound, direction] += strength * share[codes == compound]
    shift[:, 0] += planted.column_shift * (column - 5.5) / 3.45
    noise = rng.normal(size=(n, planted.width))
    fold = np.where(codes >= 0, rng.permutation(planted.compounds)[codes] % planted.members, 0)
    fold[codes < 0] = rng.permutation(planted.controls) % planted.members
    latent, axes = [], []
    parts = np.full((planted.members, n), Part.TRAIN, dtype=np.int8)
    for member in range(planted.members):
        parts[member, fold == member] = Part.HELD_OUT
        basis = np.linalg.qr(rng.normal(size=(planted.width, planted.width)))[0] * rng.uniform(0.3, 3.0)
        near = np.where((parts[member] == Part.TRAIN)[:, None], 0.5, 1.0)
        latent.append((shift + near * noise) @ basis + rng.normal(size=planted.width))
        axes.append(basis[0])
    wells = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(n)],
            "compound": [f"drug {code}" if code >= 0 else "DMSO" for code in codes],
            "is_control": codes < 0,
            "plate": [f"P{1 + p}" for p in plate],
            "row": ["ABCDEFGH"[spot // planted.plates // 12 % 8] for spot in place],
            "column": (1 + column).astype(np.int64),
            "concentration": pl.Series([d if code >= 0 else None for d, code in zip(dose, codes, strict=True)]),
            "size": shift[:, 0] + 0.1 * noise[:, 0],
            "label": (shift[:, 0] + noise[:, 1] > 0).astype(np.int64),
            "pathway": [f"class {code % 4}" if code >= 0 else None for code in codes],
        }
    )
    expression = rng.normal(size=(n, len(GENES)))
    expression[:, :5] += shift[:, :1]
    expression[:, 5:10] += shift[:, 1:2]
    inputs = Inputs(wells, GENES, lambda: expression.astype(np.float32), codes < 0, "e" * 64, "i" * 64)
    told = {"targets": {"scores": ["size"], "label": None, "activation": None}}
    scores = shift[None, :, :1].repeat(planted.members, 0)
    outputs = Outputs(
        wells["well_id"].to_list(),
        parts,
        np.stack(latent),
        scores,
        None,
        None,
        None,
        np.stack(axes),
        "size",
        told,
        "m" * 64,
    )
    return inputs, outputs


def run_planted(planted: Planted, choices: RankChoices | None = None):
    """P-values of a planted screen, without tables and figures."""
    choices = choices or RankChoices()
    inputs, outputs = make_screen(planted)
    rows = compound_rows(inputs, choices.by_dose)
    wells = rank_wells(outputs, inputs, rows.codes, SETTINGS.latent, choices.adjust)
    return run_tests(wells, inputs, rows, choices, np.random.default_rng(planted.seed)), rows, wells


#: Strengths of the compounds of a screen, largest first or in no order.
EFFECTS = {
    "none": lambda rng, count: np.zeros(count),
    "a tenth, 2 to 6": lambda rng, count: np.r_[rng.uniform(2, 6, count // 10), np.zeros(count - count // 10)],
    "half, 0 to 4": lambda rng, count: np.r_[rng.uniform(0, 4, count // 2), np.zeros(count - count // 2)],
    "exponential": lambda rng, count: rng.exponential(1.5, count),
    "heavy-tailed": lambda rng, count: 2 * np.abs(rng.standard_t(2, count)),
}


def true_and_seen(kind: str, wells: int, seed: int, compounds: int = 200, more: int = 150):
    """T of each compound over `more` wells that take no part, (C,); T and compound of its `wells` others."""
    strengths = EFFECTS[kind](np.random.default_rng([seed, 7]), compounds)
    planted = Planted(seed=seed, compounds=compounds, wells=wells + more, on=dict(enumerate(strengths.tolist())))
    inputs, outputs = make_screen(planted)
    rows = compound_rows(inputs, by_dose=False)
    t = rank_wells(outputs, inputs, rows.codes, SETTINGS.latent, "none").t.value
    by_compound = t[np.argsort(rows.codes, kind="stable")][-compounds * (wells + more) :].reshape(compounds, -1)
    group = np.repeat(np.arange(compounds), wells)
    return by_compound[:, wells:].mean(axis=1), by_compound[:, :wells].ravel(), group


def stored_project(path: Path, inputs: Inputs) -> Project:
    """A project folder that holds the inputs, and no model."""
    project = Project(path, SETTINGS)
    write_expression(project.expression, inputs.well_ids, inputs.genes, inputs.expression)
    write_table(project.wells, inputs.wells, "wells")
    write_table(
        project.genes, pl.DataFrame({"gene": inputs.genes, "symbol": [g.upper() for g in inputs.genes]}), "genes"
    )
    return project


def pretend_model(monkeypatch, outputs: Outputs, command: str = "rank") -> None:
    """A command finds these outputs in the place of a trained model's."""
    file = ModelFile(Path("model.safetensors"), "default", outputs.header, outputs.model_sha256)
    room = {"rank": "rank.rank", "latent": "predict.latent"}[command]
    find = {"rank": "model_if_any", "latent": "find_model"}[command]
    monkeypatch.setattr(f"dpf.workflows.{room}.{find}", lambda project, model: file)
    monkeypatch.setattr(f"dpf.workflows.{room}.project_outputs", lambda *given: outputs)


def single_run(outputs: Outputs) -> Outputs:
    """The same as an 80/20 run of one member: nothing is held out."""
    parts = np.where(np.arange(outputs.parts.shape[1]) % 5 == 0, Part.VALIDATION, Part.TRAIN)[None].astype(np.int8)
    assert outputs.axis is not None
    return replace(outputs, parts=parts, latent=outputs.latent[:1], scores=outputs.scores[:1], axis=outputs.axis[:1])
