"""What a model file says of itself is read without its weights, and every kind of damage has its words."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.errors import ModelError
from dpf.project.model_header import DamagedModelError, read_model_header, require_complete

ABOUT = {"format": 1, "kind": "model", "dpf": "0.1.0", "genes": ["é"]}
ENTRY = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def file_bytes(header, weights=bytes(8)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + weights


def good(about=ABOUT):
    return file_bytes({"__metadata__": {"dpf": json.dumps(about)}, **ENTRY})


def test_the_description_comes_back(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(good())
    assert read_model_header(path) == ABOUT


@pytest.mark.parametrize(
    ("data", "what", "found"),
    [
        (b"", "truncated", "eserializing header"),
        (b"PK\x03\x04" + bytes(100), "truncated", "eserializing header"),
        (b"\xff" * 64, "truncated", "eserializing header"),
        (file_bytes(b"{not json"), "truncated", "eserializing header"),
        (file_bytes(b"[1, 2, 3]"), "truncated", "eserializing header"),
        (file_bytes(b'{"w": 3}'), "truncated", "eserializing header"),
        (file_bytes({"w": {"data_offsets": []}}), "truncated", "eserializing header"),
        (file_bytes({"__metadata__": None, **ENTRY}), "not written by dpf", None),
        (good()[:-3], "truncated", "eserializing header"),
        (good() + b"xx", "truncated", "eserializing header"),
        (file_bytes(ENTRY), "not written by dpf", None),
        (file_bytes({"__metadata__": {"format": "pt"}, **ENTRY}), "not written by dpf", None),
        (file_bytes({"__metadata__": {"dpf": "maybe"}, **ENTRY}), "truncated", "its description under 'dpf'"),
        (file_bytes({"__metadata__": {"dpf": "[1]"}, **ENTRY}), "truncated", "its description under 'dpf'"),
        (good({"kind": "model"}), "truncated", "its description under 'dpf'"),
        (good({"format": "1"}), "truncated", "its description under 'dpf'"),
        (good({"format": 99, "dpf": "9.9"}), "later format", "format 99, written by dpf 9.9"),
        (good({"format": 99}), "later format", "format 99, written by dpf of an unknown version"),
    ],
)
def test_every_kind_of_damage_is_refused(tmp_path, data, what, found):
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=what) as caught:
        read_model_header(path)
    assert caught.value.where == str(path)
    assert (caught.value.found is None) if found is None else (found in caught.value.found)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_gives_anything_but_a_model_error(tmp_path_factory, data):
    content = bytearray(good())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "m.safetensors"
    path.write_bytes(content)
    try:
        about = read_model_header(path)
    except ModelError:
        return
    assert isinstance(about, dict)


def test_what_is_not_a_file_is_said(tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        read_model_header(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="the model file cannot be read"):
        read_model_header(tmp_path)


def test_reading_it_imports_nothing_heavy(tmp_path):
    (tmp_path / "m").write_bytes(good())
    code = (
        "import sys; from pathlib import Path; from dpf.project.model_header import read_model_header;"
        "read_model_header(Path(sys.argv[1]));"
        "assert not {'torch', 'polars', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], check=True)


TRAINED = {
    "members": 2, "best_epochs": [3, 0], "genes": ["A", "B"], "wells": ["1", "2", "3"], "parts": ["012", "120"],
    **dict.fromkeys(("genes_sha256", "inputs_sha256", "expression_sha256", "split_sha256"), "0" * 64),
    "device": "cpu", "precision": "fp32", "activation_source": None,
    "targets": {"scores": ["t"], "label": None, "activation": "a"},
    "settings": {"model": {"width": 8}, "train": {}, "targets": {}, "latent": {}},
    "controls": {"well_ids": ["1"], "plates": [None], "clusters": ["c"], "parts": [["train"], ["held_out"]]},
}  # fmt: skip


def test_a_complete_description_passes(tmp_path):
    require_complete(TRAINED, tmp_path)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("value", ["gone", None, 3.5, True, [], [[1]], {"a": 1}])
def test_a_description_without_a_part_is_damaged(tmp_path, name, value):
    about = {key: part for key, part in TRAINED.items() if key != name or value != "gone"}
    if value != "gone":
        about[name] = value
    if (name, value) in [("activation_source", "gone"), ("activation_source", None), ("genes", [])]:
        return  # models have had these
    with pytest.raises(DamagedModelError, match="truncated or is not") as caught:
        require_complete(about, tmp_path / "m.safetensors")
    assert caught.value.where == str(tmp_path / "m.safetensors")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"members": 3}, "3 members, and another number"),
        ({"members": 0, "parts": [], "best_epochs": []}, "0 members"),
        ({"parts": ["012", "12"]}, "not those of 3 wells"),
        ({"parts": ["012", "129"]}, "not those of 3 wells"),
        ({"genes": ["A", 3]}, "dpf.genes[1]"),
        ({"targets": {"scores": "t", "label": None, "activation": None}}, "dpf.targets.scores"),
        ({"controls": TRAINED["controls"] | {"plates": []}}, "controls of several numbers"),
    ],
)
def test_a_description_that_contradicts_itself_says_where(tmp_path, change, found):
    with pytest.raises(DamagedModelError) as caught:
        require_complete(TRAINED | change, tmp_path)
    assert found in caught.value.found
