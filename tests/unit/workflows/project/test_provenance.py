"""What footers record, and what is read from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpf.config.settings import Settings
from dpf.config.toml import with_overrides
from dpf.project.directory import Project
from dpf.workflows.project.inputs import input_digests
from dpf.workflows.project.model_file import ModelFile
from dpf.workflows.project.provenance import MADE_OF, Now, current, made_of, why_stale

DIGESTS = ("model_sha256", "inputs_sha256", "expression_sha256", "calibration_sha256", "check_sha256")


@pytest.fixture
def now(tmp_path) -> Now:
    project = Project(tmp_path, Settings())
    folder = project.model("default").path
    folder.mkdir(parents=True)
    (folder / "calibration.json").write_text("{}")
    model = ModelFile(folder / "model.safetensors", "default", {"settings": {"model": {"start": "ridge"}}}, "m" * 64)
    return Now(project, model, "e" * 64, "i" * 64)


def test_the_digests_of_the_inputs_are_of_their_contents(tmp_path):
    def digests(*texts: str) -> tuple[str, str]:
        project = Project(tmp_path, Settings())
        project.wells.parent.mkdir(exist_ok=True)
        for path, text in zip((project.expression, project.wells), texts, strict=True):
            path.write_text(text)
        assert (current(project).expression_sha256, current(project).inputs_sha256) == input_digests(project)
        return input_digests(project)

    one = digests("1", "2")
    assert digests("1", "2") == one
    assert digests("1", "3") == (one[0], digests("1", "3")[1])
    assert len({*digests("2", "1"), *one, digests("1", "3")[1]}) == 5


@pytest.mark.parametrize("kind", MADE_OF)
def test_a_footer_is_fresh_until_one_of_its_parts_is_another(now, kind):
    about = {"kind": kind, **made_of(now, kind)}
    assert why_stale(about, now) is None
    for part in MADE_OF[kind]:
        section, _, name = part.partition(".")
        other = {name: dict(values) for name, values in about.get("settings", {}).items()}
        if part in DIGESTS:
            changed = about | {part: "x"}
            reason = "since"
        else:
            name = name or next(iter(other[section]))
            other[section][name] = "x"
            changed = about | {"settings": other}
            reason = f'made with {section}.{name} = "x" (now '
        assert reason in (why_stale(changed, now) or ""), part
        unknown = {key: value for key, value in about.items() if key not in (part, "settings")}
        assert why_stale(unknown, now) is None


def test_several_settings_are_all_named(now):
    about = made_of(now, "ranking")
    changed = [
        "latent.center=plate",
        'targets.scores=["a", "b"]',
        "train.seed=3",
        "compute.threads=7",
        "train.epochs=9",
    ]
    later = replace(now, project=replace(now.project, settings=with_overrides(now.project.settings, changed)))
    assert why_stale({"kind": "ranking", **about}, later) == (
        'made with latent.center = "all" (now "plate"), train.seed = 614 (now 3), targets.scores = [] (now ["a","b"])'
    )


@pytest.mark.parametrize("kind", ["ranking", "ranking_by_dose", "classes", "outputs"])
def test_a_kind_whose_rule_has_changed_is_stale_by_an_older_rule_or_by_none(now, kind):
    about = {"kind": kind, **made_of(now, kind)}
    key = "axis_in" if kind == "outputs" else "verdict_rule"
    assert "earlier dpf" in why_stale(about | {key: "another"}, now)
    del about[key]
    assert "earlier dpf" in why_stale(about, now)


@pytest.mark.parametrize(
    ("settings", "stale"), [({"linear_path": True}, True), ({"linear_path": False}, False), ({}, False)]
)
def test_axes_of_models_without_a_start_are_of_no_rule(now, settings, stale):
    model = replace(now.model, header={"settings": {"model": settings}})
    about = {"kind": "outputs", "model_sha256": "m" * 64, "expression_sha256": "e" * 64}
    assert (why_stale(about, replace(now, model=model)) is not None) == stale


def test_a_model_may_have_been_trained_with_any_settings(now):
    header = {"kind": "model", "settings": {"train": {"seed": 1}}, "inputs_sha256": "i" * 64}
    assert why_stale(header, replace(now, model=None)) is None
    assert why_stale(header | {"inputs_sha256": "x"}, now) == "the inputs have changed since"


def test_a_file_is_named_as_it_lies_from_the_project(now):
    sets = now.project.path.parent / "sets.gmt"
    sets.write_text("one")
    about = made_of(now, "enrichment", files=(sets,))
    assert list(about["files"]) == ["../sets.gmt"]
    assert why_stale(about, now) is None
    sets.write_text("two")
    assert why_stale(about, now) == "sets.gmt has changed since"
    sets.unlink()
    assert why_stale(about, now) is None


@pytest.mark.parametrize("kind", ["outputs", "ranking", "enrichment"])
@pytest.mark.parametrize("odd", [3, "x", [1], {"train": 3}, {"train": [1]}, {"targets": {"scores": {"a": []}}}])
@pytest.mark.parametrize("part", ["settings", "files"])
def test_a_footer_of_other_parts_is_stale_and_no_bug(now, kind, odd, part):
    about = {"kind": kind, **made_of(now, kind), part: odd}
    assert isinstance(why_stale(about, now), str) or isinstance(odd, dict)
