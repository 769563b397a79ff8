"""Settings are read strictly: every problem is reported at once, with the nearest known name."""

from __future__ import annotations

import dataclasses
import os
import tomllib

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dpf.config.settings import (
    FORMAT,
    ComputeSettings,
    LatentSettings,
    ModelSettings,
    Settings,
    TargetSettings,
    TrainSettings,
    documentation,
    setting_names,
)
from dpf.config.toml import parse_settings, read_settings, template, with_overrides
from dpf.errors import ProjectError

names = st.text(min_size=1).filter(lambda text: text != "auto")
positive = st.floats(min_value=1e-30, max_value=1e30)
any_settings = st.builds(
    Settings,
    targets=st.lists(names, unique=True, max_size=4).flatmap(
        lambda drawn: st.sampled_from(
            [
                TargetSettings(tuple(drawn), "", "auto"),
                TargetSettings(tuple(drawn[1:]), *drawn[:1], activation="") if drawn else TargetSettings(),
            ]
        )
    ),
    model=st.builds(
        ModelSettings,
        width=st.integers(1, 64).map(lambda k: 4 * k),
        heads=st.sampled_from([1, 2, 4]),
        dropout=st.floats(0, 0.95),
    ),
    train=st.builds(
        TrainSettings,
        epochs=st.integers(1, 10**9),
        learning_rate=positive,
        zscore=st.booleans(),
        split=st.sampled_from(["compound", "well", "plate"]),
        seed=st.integers(0, 2**63 - 1),
    ),
    compute=st.builds(ComputeSettings, precision=st.sampled_from(["auto", "fp32", "tf32", "bf16", "fp16"])),
    latent=st.builds(LatentSettings, control_clusters=st.lists(st.text(), max_size=3).map(tuple)),
)


def problems(document, overrides=()):
    """The lines of the one error that all problems make."""
    with pytest.raises(ProjectError) as caught:
        parse_settings(document, "dpf.toml", overrides)
    assert caught.value.where == "dpf.toml"
    return [line.strip() for line in caught.value.found.splitlines() if line.strip()]


def test_an_empty_document_gives_the_defaults_of_the_seed():
    settings = parse_settings({"format": FORMAT}, "dpf.toml")
    assert settings == Settings()
    assert (settings.model.width, settings.model.heads, settings.model.layers) == (128, 4, 2)
    assert (settings.model.feed_forward, settings.model.dropout, settings.model.latent) == (512, 0.1, 32)
    assert (settings.train.epochs, settings.train.batch_size, settings.train.learning_rate) == (50, 32, 1e-3)
    assert (settings.train.activation_weight, settings.train.seed, settings.train.validation) == (0.2, 614, 0.2)


def test_an_unknown_setting_names_the_nearest_known_one():
    assert problems({"train": {"epoch": 5}}) == ["train.epoch is not a setting; did you mean epochs?"]
    assert problems({"trian": {}}) == ["[trian] is not a section; did you mean train?"]


def test_a_setting_in_the_wrong_section_or_in_none_names_its_place():
    assert problems({"model": {"batch_size": 5}}) == [
        "model.batch_size is not a setting; did you mean train.batch_size?"
    ]
    assert problems({"zscore": True}) == ["[zscore] is not a section; did you mean train.zscore?"]


def test_a_name_like_no_other_lists_what_there_is():
    assert problems({"latent": {"xyzzy": 5}}) == ["latent.xyzzy is not a setting; known: center, control_clusters"]


def test_every_problem_is_reported_at_once():
    document = {
        "train": {"epoch": 5, "batch_size": 0, "split": "compounds"},
        "model": {"dropout": "a lot"},
        "nonsense_": {"x": 1},
        "latent": 3,
    }
    assert problems(document, ["compute.threads=-1", "rubbish"]) == [
        "--set rubbish: expected section.name=value, such as train.epochs=10",
        "train.epoch is not a setting; did you mean epochs?",
        "train.batch_size = 0: expected at least 1",
        'train.split = "compounds": expected one of compound, well, plate, file; did you mean compound?',
        'model.dropout = "a lot": expected a number',
        "[nonsense_] is not a section; known: targets, model, train, compute, latent, quality",
        "latent = 3 should be a section: [latent]",
        "compute.threads = -1: expected at least 0",
    ]


@pytest.mark.parametrize(
    ("section", "name", "value", "text"),
    [
        ("train", "epochs", 2.5, "expected a whole number"),
        ("train", "epochs", True, "expected a whole number"),
        ("train", "learning_rate", True, "expected a number"),
        ("train", "learning_rate", "fast", "expected a number"),
        ("train", "zscore", 1, "expected true or false"),
        ("targets", "label", 1, 'expected a text in "quotes"'),
        ("targets", "scores", "Tscore", 'expected a list of texts, such as ["a", "b"]'),
        ("targets", "scores", ["Tscore", 2], 'expected a list of texts, such as ["a", "b"]'),
    ],
)
def test_a_wrong_type_says_which_is_right(section, name, value, text):
    (problem,) = problems({section: {name: value}})
    assert problem.startswith(f"{section}.{name} = ")
    assert problem.endswith(f": {text}")


@pytest.mark.parametrize(
    ("section", "name", "value", "text"),
    [
        ("train", "epochs", 0, "expected at least 1"),
        ("train", "learning_rate", 0.0, "expected more than 0.0"),
        ("train", "learning_rate", float("nan"), "expected a finite number"),
        ("train", "learning_rate", float("inf"), "expected a finite number"),
        ("train", "learning_rate", 10**400, "expected a finite number"),
        ("train", "validation", 0.95, "expected at most 0.9"),
        ("model", "dropout", -0.1, "expected at least 0.0"),
        ("model", "dropout", 1, "expected at most 0.95"),
        ("compute", "precision", "fp8", "expected one of auto, fp32, tf32, bf16, fp16"),
        ("latent", "center", "plates", "expected one of all, plate; did you mean plate?"),
    ],
)
def test_a_value_out_of_bounds_says_the_bound(section, name, value, text):
    (problem,) = problems({section: {name: value}})
    assert text in problem


def test_a_setting_that_is_no_more_does_no_harm_unless_it_asked_for_something_else():
    assert parse_settings({"compute": {"share": "wells", "threads": 2}}, "dpf.toml").compute.threads == 2
    (problem,) = problems({"compute": {"share": "members"}})
    assert problem.startswith('compute.share = "members" is no longer a setting: ')
    assert "dpf train PROJECT --member 0, --member 1" in problem
    assert parse_settings({"compute": {"share": "members"}}, "dpf.toml", ["compute.share=wells"]) == Settings()


def test_a_whole_number_serves_as_a_number():
    settings = parse_settings({"train": {"learning_rate": 1}, "model": {"dropout": 0}}, "dpf.toml")
    assert settings.train.learning_rate == 1.0
    assert isinstance(settings.model.dropout, float)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"model": {"width": 10, "heads": 4}}, "model.width = 10 is not a multiple of model.heads = 4"),
        ({"train": {"split": "file"}}, "train.split = file and train.split_file go together: set both or neither"),
        (
            {"train": {"split_file": "s.csv"}},
            "train.split = file and train.split_file go together: set both or neither",
        ),
        ({"targets": {"scores": ["a", "b", "a"]}}, "targets: a named more than once"),
        ({"targets": {"scores": ["a"], "label": "a"}}, "targets: a named more than once"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(document, text):
    assert problems(document) == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.epochs=10", 10),
        (" train.epochs = 10 ", 10),
        ("train.learning_rate=3e-4", 3e-4),
        ("train.zscore=false", False),
        ("compute.device=cuda:1", "cuda:1"),
        ('compute.device="cpu"', "cpu"),
        ("targets.label=", ""),
        ("targets.label=a # b", "a # b"),
        ('targets.scores=["a", "b = c"]', ("a", "b = c")),
    ],
)
def test_overrides_are_toml_values_or_bare_words(text, value):
    section, name = text.partition("=")[0].strip().split(".")
    settings = with_overrides(Settings(), [text])
    assert getattr(getattr(settings, section), name) == value


def test_overrides_are_checked_as_strictly_as_the_file_and_the_last_one_counts():
    assert with_overrides(Settings(), ["train.epochs=10", "train.epochs=11"]).train.epochs == 11
    with pytest.raises(ProjectError, match="did you mean epochs"):
        with_overrides(Settings(), ["train.epoch=10"])
    with pytest.raises(ProjectError, match=r"expected section\.name=value"):
        with_overrides(Settings(), ["epochs=10"])
    with pytest.raises(ProjectError, match=r"\[nope\] is not a section"):
        with_overrides(Settings(), ["nope.epochs=10"])


def test_an_override_mends_what_the_file_has_wrong():
    assert parse_settings({"train": {"epochs": -3}}, "dpf.toml", ["train.epochs=3"]).train.epochs == 3


@given(any_settings)
@hypothesis_settings(max_examples=60, deadline=None)
def test_the_template_gives_back_the_settings_it_was_made_of(settings):
    document = tomllib.loads(template(settings))
    assert document["format"] == FORMAT
    assert parse_settings(document, "dpf.toml") == settings
    assert parse_settings(settings.as_dict(), "dpf.toml") == settings


def test_the_template_explains_every_setting():
    lines = template(Settings()).splitlines()
    for name in setting_names():
        section, _, key = name.partition(".")
        entry = next(e for e in dataclasses.fields(getattr(Settings(), section)) if e.name == key)
        place = next(index for index, line in enumerate(lines) if line.startswith(f"{key} = "))
        assert lines[place - 1] == f"# {entry.metadata['doc']}"
        assert documentation(name) == f"{entry.metadata['doc']} [dpf.toml: {name}]"


def test_names_of_settings_are_unique_over_the_sections():
    # `did you mean train.zscore?` rests on it.
    keys = [name.partition(".")[2] for name in setting_names()]
    assert len(keys) == len(set(keys))


def test_settings_are_read_from_a_file(tmp_path):
    path = tmp_path / "dpf.toml"
    path.write_text("\ufeffformat = 1\n[train]\nepochs = 3\n", encoding="utf-8")  # as Notepad writes it
    assert read_settings(path).train.epochs == 3
    assert read_settings(path, ["train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("format = 3\n", ["a later format than this dpf reads", "found: 3", "expected: format = 2", "update dpf"]),
        ("[train]\n", ["format is not known", "found: null", "write `format = 2` on top"]),
        ('format = "1"\n', ["format is not known", 'found: "1"']),
        ("format = \n", ["not valid TOML", "line 1"]),
        (b"format = 1 # \xff\n", ["not valid TOML", "utf-8"]),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path, content, texts):
    path = tmp_path / "dpf.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProjectError) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)
    for text in texts:
        assert text in str(caught.value)


def test_a_file_that_is_not_there_or_not_a_file(tmp_path):
    with pytest.raises(ProjectError, match=r"no dpf project here[\s\S]*dpf init PROJECT --demo"):
        read_settings(tmp_path / "dpf.toml")
    with pytest.raises(ProjectError, match="cannot be read"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "value", ["[" * 5000 + "]" * 5000, "9" * 5000, "1979-13-45", '"\\ud800"', "{a = " * 3000 + "1" + "}" * 3000]
)
def test_toml_that_python_cannot_hold_is_no_valid_toml(tmp_path, value):
    (path := tmp_path / "dpf.toml").write_text(f"format = {FORMAT}\n[train]\nepochs = {value}\n")
    with pytest.raises(ProjectError, match="not valid TOML") as caught:
        read_settings(path)
    assert caught.value.where == str(path)
    with pytest.raises(ProjectError, match="setting is wrong"):
        parse_settings({}, "here", [f"train.epochs={value}"])


def test_settings_in_a_pipe_or_a_folder_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ProjectError, match="the settings file cannot be read"):
            read_settings(path)
