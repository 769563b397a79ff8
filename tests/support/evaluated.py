"""A screen in memory and what a model says of it: what the tests of an evaluation start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from dpf.config.settings import Settings, TargetSettings
from dpf.project.directory import Project
from dpf.splits.parts import Part
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.project.inputs import Inputs, read_measured


def wells_table(compounds=24, replicates=2, controls=8, seed=0, **columns):
    """Two plates of wells: every compound `replicates` times, then the controls; a score, a second, a label."""
    rng = np.random.default_rng(seed)
    names = [f"drug {c}" for c in range(compounds) for _ in range(replicates)] + ["DMSO"] * controls
    n = len(names)
    strength = np.concatenate([np.repeat(rng.normal(size=compounds), replicates), np.zeros(controls)])
    places = rng.permutation(n)
    table = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(n)],
            "compound": names,
            "is_control": [name == "DMSO" for name in names],
            "plate": [f"P{1 + place % 2}" for place in places],
            "row": ["ABCDEFGH"[place // 2 % 8] for place in places],
            "column": [1 + place // 16 for place in places],
            "first": strength + 0.3 * rng.normal(size=n),
            "second": rng.normal(size=n),
            "label": (strength + 0.3 * rng.normal(size=n) > 0).astype(int),
        }
    )
    return table.with_columns(**columns), strength


def inputs_of(table, strength, genes=6, seed=0):
    """Inputs whose genes follow `strength`."""
    rng = np.random.default_rng([seed, 1])
    expression = strength[:, None] * rng.normal(size=genes) + 0.5 * rng.normal(size=(len(strength), genes))
    control = table.get_column("is_control").to_numpy()
    return Inputs(
        table, [f"g{g}" for g in range(genes)], lambda: expression.astype(np.float32), control, "e" * 64, "i" * 64
    )


def project_of(scores=("first", "second"), label="label", **train):
    """A project that is only its settings."""
    settings = Settings(targets=TargetSettings(tuple(scores), label, ""))
    return Project(Path("nowhere"), replace(settings, train=replace(settings.train, **train)))


def measured_of(project, inputs):
    return read_measured(inputs.wells, project.settings.targets, "the wells")


def outputs_of(parts, scores, logit, latent=None, label="label", names=("first", "second"), **header):
    """What members say: `scores` (M, N, S), `logit` (M, N); `header` is the model's own description."""
    parts = np.asarray(parts, dtype=np.int8)
    told = {
        "targets": {"scores": list(names), "label": label, "activation": None},
        "inputs_sha256": "i" * 64,
        "wells": [],
    }
    latent = np.zeros((*parts.shape, 3)) if latent is None else latent
    ids = [f"w{i}" for i in range(parts.shape[1])]
    return Outputs(ids, parts, latent, scores, logit, None, None, None, None, told | header, "m" * 64)


def folds_of(groups, folds, seed=0):
    """int8 (folds, N): each group held out once; of the rest every fifth group validates."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(groups.max() + 1)[groups] % folds
    parts = np.where(groups % 5 == 0, Part.VALIDATION, Part.TRAIN)[None].repeat(folds, 0)
    return np.where(fold == np.arange(folds)[:, None], Part.HELD_OUT, parts).astype(np.int8)
