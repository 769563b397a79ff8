"""What each result is made of, and whether it would be made of the same now: nothing else decides what is stale.

A result names, in its footer, the files (by their digests), the settings and the rule that shaped it: `made_of` gives
these, `why_stale` compares them with the project as it is. Two things make nothing stale: the options of a command that
are no settings (`--fdr`, `--adjust`, `--level`, `--member`), which are their user's choice, and the compute settings,
which change results by rounding only. What an older footer does not name cannot be compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpf.config.settings import current_names
from dpf.errors import listed
from dpf.files import canonical_json, sha256_file
from dpf.project.directory import Project
from dpf.workflows.project.inputs import Inputs, input_digests
from dpf.workflows.project.model_file import ModelFile
from dpf.workflows.project.splitting import baseline_folds

_OF_MODEL = ("model_sha256", "inputs_sha256")
_TESTED = (*_OF_MODEL, "latent", "train.seed")
_EVALUATED = (*_OF_MODEL, "targets", "train.seed")

#: Of each kind of result, the digests and the settings (whole sections, or one of a section) that shape it.
MADE_OF = {
    "outputs": ("model_sha256", "expression_sha256"),
    "predictions": (*_OF_MODEL, "calibration_sha256", "targets", "latent"),
    "predictions of new wells": ("model_sha256", "calibration_sha256"),
    "latent": (*_OF_MODEL, "latent"),
    "umap": ("train.seed",),
    "latent_correlations": (*_OF_MODEL, "targets", "latent"),
    "importance": _OF_MODEL,
    "ranking": (*_TESTED, "targets"),
    "ranking_by_dose": (*_TESTED, "targets"),
    "ranking without a model": ("inputs_sha256", "targets", "train.seed"),
    "challenges": (*_TESTED, "targets"),
    "ranking_wells": (*_OF_MODEL, "latent"),
    "dose": _TESTED,
    "classes": _TESTED,
    "signatures": ("inputs_sha256",),
    "enrichment": ("inputs_sha256",),
    "connectivity": ("inputs_sha256",),
    "signature_similarity": (*_OF_MODEL, "latent"),
    "evaluation": _EVALUATED,  # scoreboard, comparisons, latent_quality
    "baselines": ("inputs_sha256", "targets", "train.seed", "train.split", "train.split_file", "train.folds",
                  "train.repeats"),
    "card": (*_EVALUATED, "check_sha256"),
    "calibration": (*_OF_MODEL, "targets"),
    "check": ("inputs_sha256", "targets"),
}  # fmt: skip
#: Where the scoreboard's footer has what the model card, which is written with it, is made of.
CARD = "card"

_CHANGED = {
    "model_sha256": "the model has been trained again since",
    "inputs_sha256": "the inputs have changed since",
    "expression_sha256": "the inputs have changed since",
    "calibration_sha256": "the model's calibration has changed since",
    "check_sha256": "the check of the design has changed since",
}
#: Versions of the verdicts' rule (`dpf.workflows.rank.table.verdicts`) and of the cached activation axis
#: (`dpf.workflows.predict.outputs.activation_axes`); change one to recompute its results.
VERDICT_RULE, AXIS_RULE = ("verdict_rule", "all lines of evidence"), ("axis_in", "moving dimensions")
_RULES = {
    **dict.fromkeys(("ranking", "ranking without a model", "ranking_by_dose", "classes"), VERDICT_RULE),
    "outputs": AXIS_RULE,
}
_OLD = {
    VERDICT_RULE: "its verdicts are by the rule of an earlier dpf; dpf rank makes it again",
    AXIS_RULE: "its activation axis is that of an earlier dpf",
}


@dataclass(frozen=True)
class Now:
    """What results would be made of now: a project's settings, a model or none, and its inputs if they matter."""

    project: Project
    model: ModelFile | None
    expression_sha256: str = ""
    inputs_sha256: str = ""

    def digests(self) -> dict[str, str | None]:
        """Of the files that footers name: of a model, also of what `dpf evaluate` keeps beside it."""
        return {
            "model_sha256": self.model.sha256 if self.model else None,
            "inputs_sha256": self.inputs_sha256,
            "expression_sha256": self.expression_sha256,
            "calibration_sha256": _digest(self.model.folder.calibration) if self.model else None,
            "check_sha256": _digest(self.project.check.table("check")),
        }

    def settings(self) -> dict[str, dict[str, Any]]:
        """Those that shape results; the folds are those of the baselines (a model brings its own)."""
        settings = self.project.settings
        return replace(settings, train=baseline_folds(settings.train)).as_dict()


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def current(project: Project, model: ModelFile | None = None, inputs: Inputs | None = None) -> Now:
    """What results would be made of now, by the `inputs` as they were read, or as they lie there."""
    digests = input_digests(project) if inputs is None else (inputs.expression_sha256, inputs.fingerprint)
    return Now(project, model, *digests)


def made_of(now: Now, *kinds: str, files: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a result that is of these kinds (`MADE_OF`) is made of, for its footer.

    `files` shape it too; the footer names them as they lie from the project's folder.
    """
    about: dict[str, Any] = {}
    digests, settings = now.digests(), now.settings()
    for part in (part for kind in kinds for part in MADE_OF[kind]):
        section, _, name = part.partition(".")
        if part in digests:
            about[part] = digests[part]
        else:
            values = settings[section]
            about.setdefault("settings", {}).setdefault(section, {}).update({name: values[name]} if name else values)
    about |= dict(_RULES[kind] for kind in kinds if kind in _RULES)
    if files:
        root = now.project.path.resolve()
        about["files"] = {os.path.relpath(path.resolve(), root): sha256_file(path) for path in files}
    return about


def why_stale(about: Mapping[str, Any], now: Now) -> str | None:
    """Why a result would not come out the same now, by its footer (of a model: by its header); None where it would."""
    try:
        return _why_stale(about, now)
    except (AttributeError, KeyError, TypeError, ValueError):  # parts of it are not of the kind that they should be
        return "its footer is not one that dpf writes"


def _why_stale(about: Mapping[str, Any], now: Now) -> str | None:
    if about.get("model_sha256") and now.model is None:
        return "its model is gone, or cannot be read"
    for part, digest in now.digests().items():
        if about.get(part, digest) != digest:
            return _CHANGED[part]
    for name, sha256 in about.get("files", {}).items():
        if _digest(now.project.path / name) not in (None, sha256):  # one that has been moved away changes nothing
            return f"{Path(name).name} has changed since"
    return _other_settings(about, now) or _old_rule(about, now)


def _other_settings(about: Mapping[str, Any], now: Now) -> str | None:
    if about.get("kind") == "model":  # it may have been trained with any
        return None
    settings = now.settings()
    was = about.get("settings") or {"targets": about.get("targets", {})}  # as a check of an earlier dpf has it
    pairs = [(f"{section}.{name}", value, settings.get(section, {}).get(name, value))
             for section, values in was.items() for name, value in values.items()]  # fmt: skip
    other = [f"{name} = {canonical_json(old)} (now {canonical_json(new)})" for name, old, new in pairs if old != new]
    return f"made with {listed(other)}" if other else None


def _old_rule(about: Mapping[str, Any], now: Now) -> str | None:
    rule = _RULES.get(about.get("kind", ""))
    if rule is None or about.get(rule[0]) == rule[1]:
        return None
    has_initial = now.model and current_names(now.model.header["settings"]["model"]).get("start", "none") != "none"
    return None if rule == AXIS_RULE and not has_initial else _OLD[rule]  # other models' axes have not changed
