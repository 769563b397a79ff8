"""A run stopped anywhere and resumed ends with the same weights, bit for bit, as one that was never stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpf.config.settings import Settings
from dpf.errors import ModelError, ProjectError
from dpf.project.directory import previous_state
from dpf.project.model_header import read_model_header
from dpf.training.resume import RunState, discard_run, load_run, run_identity, save_run
from tests.support import tiny

EPOCHS, MEMBERS = 4, 2
IDENTITY = run_identity(Settings().as_dict(), "abc", "def", torch.device("cpu"), precision="fp32", tokens_at_once=4096)


def row(member, record):
    return {"member": member, "epoch": record.epoch, "train_total": record.train_total, "auroc": math.nan}


def run(path, stops=()):
    """All members, all epochs; after each stop everything is forgotten but the file."""
    stops = set(stops)
    state, saved = RunState.fresh(), None
    while len(state.best) < MEMBERS:
        member = len(state.best)
        training = tiny.training(member=member, batch_size=16)
        if saved:
            saved.restore(training)
            saved = None
        while training.epoch < EPOCHS:
            state.history.append(row(member, training.run_epoch()))
            if (member, training.epoch) in stops:
                save_run(path, state, training, IDENTITY)
                saved = load_run(path, IDENTITY)
                state = saved.state
                break
        else:
            state.finish_member(training)
    return state


def everything(state):
    weights = [tiny.digest(part) for part in (*state.best, *state.last)]
    return weights, state.best_epochs, [{**entry, "auroc": str(entry["auroc"])} for entry in state.history]


def test_stopped_anywhere_a_run_ends_where_it_would_have(tmp_path):
    expected = everything(run(tmp_path / "never.safetensors"))
    places = [(member, epoch) for member in range(MEMBERS) for epoch in range(1, EPOCHS + 1)]
    for place in places:  # the last epoch of a member included
        assert everything(run(tmp_path / "r.safetensors", [place])) == expected
    rng = np.random.default_rng(0)
    for _ in range(3):
        stops = [place for place in places if rng.random() < 0.4]
        assert everything(run(tmp_path / "r.safetensors", stops)) == expected


def interrupted(path, epochs=2):
    training = tiny.training()
    state = RunState.fresh()
    for _ in range(epochs):
        state.history.append(row(0, training.run_epoch()))
    save_run(path, state, training, IDENTITY)
    return training, state


def test_the_state_of_a_member_comes_back(tmp_path):
    path = tmp_path / "r.safetensors"
    training, state = interrupted(path)
    fresh = tiny.training()
    saved = load_run(path, IDENTITY)
    saved.restore(fresh)
    assert (fresh.epoch, fresh.best_epoch, fresh.best_total) == (2, training.best_epoch, training.best_total)
    assert tiny.digest(fresh.best) == tiny.digest(training.best)
    assert tiny.digest(fresh.network.state_dict()) == tiny.digest(training.network.state_dict())
    one, other = training.optimizer.state_dict(), fresh.optimizer.state_dict()
    assert one["param_groups"] == other["param_groups"]
    assert one["state"].keys() == other["state"].keys()
    for index, moments in one["state"].items():
        assert tiny.digest(moments) == tiny.digest(other["state"][index])
    assert [entry["epoch"] for entry in saved.state.history] == [1, 2]
    assert [entry["train_total"] for entry in saved.state.history] == [r["train_total"] for r in state.history]


def test_a_metric_that_is_not_defined_survives(tmp_path):
    # The AUROC of validation wells of one class is NaN, which JSON does not have.
    interrupted(tmp_path / "r.safetensors")
    assert math.isnan(load_run(tmp_path / "r.safetensors", IDENTITY).state.history[0]["auroc"])


def test_going_on_does_not_change_what_was_read(tmp_path):
    path = tmp_path / "r.safetensors"
    interrupted(path)
    saved = load_run(path, IDENTITY)
    before = tiny.digest(saved.tensors)
    training = tiny.training()
    saved.restore(training)
    training.run_epoch()
    save_run(path, saved.state, training, IDENTITY)  # over the file it came from
    assert load_run(path, IDENTITY).header["epoch"] == 3
    assert tiny.digest(saved.tensors) == before


def test_the_same_state_gives_the_same_bytes(tmp_path):
    training, state = interrupted(tmp_path / "a")
    save_run(tmp_path / "b", state, training, IDENTITY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("settings", "changes", "text"),
    [
        ({"train": {"epochs": 60}}, {}, "train.epochs was 50, is 60"),
        ({"targets": {"scores": ("a",)}}, {}, 'targets.scores was [], is ["a"]'),
        ({}, {"inputs": "xyz"}, 'inputs was "abc", is "xyz"'),
        ({}, {"split": "xyz"}, 'split was "def", is "xyz"'),
        ({}, {"precision": "bf16"}, 'precision was "fp32", is "bf16"'),
        ({}, {"tokens_at_once": 1}, "tokens_at_once was 4096, is 1"),
        ({}, {"device": torch.device("meta")}, 'device was "cpu", is "meta"'),
        ({}, {"attention": "native"}, 'attention was null, is "native"'),
        ({"model": {"width": 64}}, {}, "model.width was 128, is 64"),
        ({"train": {"folds": 5, "seed": 1}}, {}, "train.folds was 1, is 5, train.seed was 614, is 1"),
    ],
)
def test_a_run_of_something_else_is_refused_by_what_differs(tmp_path, settings, changes, text):
    path = tmp_path / "r.safetensors"
    interrupted(path)
    content = Settings().as_dict()
    for section, values in settings.items():
        content[section] |= values
    given = {
        "inputs": "abc",
        "split": "def",
        "device": torch.device("cpu"),
        "precision": "fp32",
        "tokens_at_once": 4096,
    }
    given |= changes
    now = run_identity(content, given.pop("inputs"), given.pop("split"), given.pop("device"), **given)
    with pytest.raises(ModelError) as caught:
        load_run(path, json.loads(json.dumps(now)))
    assert caught.value.what == "the interrupted run is not this one"
    assert text in caught.value.found
    assert caught.value.hint == "repeat the original command with --resume, or start anew without --resume"


@pytest.mark.parametrize("name", ["threads", "torch", "dpf"])
def test_other_threads_and_versions_are_refused(tmp_path, name):
    path = tmp_path / "r.safetensors"
    interrupted(path)
    with pytest.raises(ModelError) as caught:
        load_run(path, IDENTITY | {name: "another"})
    assert caught.value.found == f'{name} was {json.dumps(IDENTITY[name])}, is "another"'


def test_settings_of_the_machine_are_not_part_of_what_a_run_is():
    settings = Settings().as_dict()
    settings["compute"]["threads"] = 7
    settings["latent"]["center"] = "plate"
    device = torch.device("cpu")
    now, again = (  # both now: an earlier test may have set this process's threads
        run_identity(content, "abc", "def", device, precision="fp32") for content in (Settings().as_dict(), settings)
    )
    assert again == now


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(ModelError) as caught:
        load_run(tmp_path / "r.safetensors", IDENTITY)
    assert caught.value.what == "there is no interrupted run to resume"
    assert caught.value.hint == "start one: the same command without --resume"


@pytest.mark.parametrize("keep", [0, 50, -10_000, -1])
def test_a_truncated_run_is_refused(tmp_path, keep):
    path = tmp_path / "r.safetensors"
    interrupted(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ModelError, match=r"the interrupted run is damaged[\s\S]*found: r.safetensors: .*\n.*start anew"
    ):
        load_run(path, IDENTITY)


def flip(path, where):
    """Another bit at that place, such as a bad cable or a bad disk makes."""
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def rewrite(path, change):
    """The same file but for a change of its header or its tensors, as a whole safetensors file."""
    header, tensors = read_model_header(path), load_file(path)
    change(header, tensors)
    save_file(tensors, path, {"dpf": json.dumps(header)})


def damage_of_the_header(header, _):
    header["epoch"] = 1


def lost_history(header, _):
    del header["history"]


def lost_tensor(_, tensors):
    del tensors["moments.0.exp_avg"]


def other_shape(_, tensors):
    tensors["current.latent_in.weight"] = tensors["current.latent_in.weight"][:-1].contiguous()


def other_order(_, tensors):
    tensors["current.latent_in.weight"] = tensors["current.latent_in.weight"].reshape(-1)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "cut in its weights": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("<html>quota exceeded</html>" * 100),
    "a bit of a weight": lambda path: flip(path, -5),
    "a bit of its length": lambda path: flip(path, 1),
    "a bit of its header": lambda path: flip(path, 9),
    "another epoch": lambda path: rewrite(path, damage_of_the_header),
    "no history": lambda path: rewrite(path, lost_history),
    "no moments": lambda path: rewrite(path, lost_tensor),
    "a row less": lambda path: rewrite(path, other_shape),
    "another shape": lambda path: rewrite(path, other_order),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_noticed_and_the_state_before_it_taken(tmp_path, damage):
    path = tmp_path / "resume.safetensors"
    training, state = interrupted(path, epochs=1)
    state.history.append(row(0, training.run_epoch()))
    save_run(path, state, training, IDENTITY)
    assert load_run(path, IDENTITY).note == ""
    DAMAGES[damage](path)
    saved = load_run(path, IDENTITY)
    assert saved.header["epoch"] == 1
    assert saved.note.startswith("the last state of the run cannot be read (resume.safetensors: ")
    assert saved.note.endswith("going on from the one before, in resume.previous.safetensors")
    # What goes on from there does what the run did, and does not take the damaged state for the one before.
    saved.adopt(path)
    again = tiny.training()
    saved.restore(again)
    saved.state.history.append(row(0, again.run_epoch()))
    save_run(path, saved.state, again, IDENTITY)
    assert tiny.digest(again.network.state_dict()) == tiny.digest(training.network.state_dict())
    assert load_run(path, IDENTITY).header["epoch"] == 2
    path.unlink()
    assert load_run(path, IDENTITY).header["epoch"] == 1
    assert "(resume.safetensors is missing)" in load_run(path, IDENTITY).note


def test_two_damaged_states_are_one_error(tmp_path):
    path = tmp_path / "resume.safetensors"
    training, state = interrupted(path)
    save_run(path, state, training, IDENTITY)
    flip(path, -1)
    flip(previous_state(path), -1)
    with pytest.raises(ModelError) as caught:
        load_run(path, IDENTITY)
    assert caught.value.what == "the interrupted run is damaged"
    assert caught.value.found == (
        "resume.safetensors: its content is not what was saved; "
        "resume.previous.safetensors: its content is not what was saved"
    )
    assert caught.value.hint == "it cannot be continued: start anew, with the same command without --resume"
    assert discard_run(path)
    assert not discard_run(path)
    assert list(tmp_path.iterdir()) == []


def test_without_links_the_state_before_is_kept_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "resume.safetensors"
    training, state = interrupted(path, epochs=1)
    training.run_epoch()
    save_run(path, state, training, IDENTITY)
    assert load_run(path, IDENTITY).header["epoch"] == 2
    assert load_run(previous_state(path), IDENTITY).header["epoch"] == 1


def test_a_model_is_not_a_run(tmp_path):
    path = tmp_path / "r.safetensors"
    interrupted(path)
    about = read_model_header(path) | {"kind": "model"}
    save_file(load_file(path), tmp_path / "m.safetensors", {"dpf": json.dumps(about)})
    with pytest.raises(ModelError, match=r"not an interrupted run[\s\S]*found: model"):
        load_run(tmp_path / "m.safetensors", IDENTITY)


def test_a_run_of_a_later_dpf_is_refused_by_name(tmp_path):
    path = tmp_path / "r.safetensors"
    interrupted(path)
    about = read_model_header(path)
    assert about["dpf"]
    save_file(load_file(path), tmp_path / "later", {"dpf": json.dumps(about | {"format": 3})})
    with pytest.raises(ModelError, match="a later format"):
        load_run(tmp_path / "later", IDENTITY)


def test_a_write_that_fails_leaves_the_run_before_it(tmp_path, monkeypatch):
    path = tmp_path / "r.safetensors"
    training, state = interrupted(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    training.run_epoch()
    with pytest.raises(ProjectError, match="No space left on device"):
        save_run(path, state, training, IDENTITY)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([path, previous_state(path)])
    assert load_run(path, IDENTITY).header["epoch"] == 2
