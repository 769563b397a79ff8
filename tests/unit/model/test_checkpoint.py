"""The one-file model gives back what was saved, byte for byte the same each time, and refuses what is not one."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpf.config.settings import Settings, TrainSettings
from dpf.errors import ModelError, ProjectError
from dpf.model.checkpoint import ControlWells, TrainedModel, content_digest, gene_fingerprint, load_model, save_model
from dpf.model.network import TargetLayout
from dpf.project.model_header import read_model_header
from dpf.tables.preparing.normalise import Normalisation, VstParameters
from tests.support import tiny

GENES = ["CD4", "CD8A", "IL2", "µ-gene", "GZMB", "a\nb", "FOXP3"]


def trained(members=2, zscore=True, layout=tiny.LAYOUT):
    networks = [tiny.network(seed, zscore=zscore, layout=layout).eval() for seed in range(members)]
    latents = [torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(members)]
    controls = ControlWells(
        ["c1", "c2", "c3"], ["p1", None, "p2"], [None, "A", "B"], [["train"] * 3] * members, latents
    )
    settings = Settings(model=tiny.MODEL, train=TrainSettings(zscore=zscore))
    about = {"settings": settings.as_dict(), "seed": 614, "best_epochs": [1] * members}
    return TrainedModel(networks, GENES, layout, controls, about)


def edit_header(path, change):
    """Write the file again with its description changed, its weights as they are, and a digest of both."""
    about, tensors = read_model_header(path), load_file(path)
    change(about)
    del about["sha256"]
    save_file(tensors, path, {"dpf": json.dumps(about | {"sha256": content_digest(about, tensors)})})


@pytest.mark.parametrize("zscore", [True, False])
@pytest.mark.parametrize("layout", [tiny.LAYOUT, TargetLayout((), None, "act"), TargetLayout(("a",), "l", None)])
def test_what_was_saved_comes_back(tmp_path, zscore, layout):
    model = trained(zscore=zscore, layout=layout)
    save_model(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    x = torch.from_numpy(tiny.expression())
    for before, after in zip(model.members, loaded.members, strict=True):
        for one, other in zip(before.predict(x), after.predict(x), strict=True):
            assert (one is None and other is None) or torch.equal(one, other)
    assert not loaded.members[0].training
    assert (loaded.genes, loaded.layout) == (model.genes, model.layout)
    assert loaded.about["settings"] == model.about["settings"]
    for one, other in zip(loaded.controls.latents, model.controls.latents, strict=True):
        assert torch.equal(one, other)
    without = dataclasses.replace(loaded.controls, latents=[])
    assert without == dataclasses.replace(model.controls, latents=[])


def test_members_past_the_tenth_are_told_apart(tmp_path):
    model = trained(members=12)
    save_model(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    digests = [tiny.digest(network.state_dict()) for network in loaded.members]
    assert digests == [tiny.digest(network.state_dict()) for network in model.members]
    assert len(set(digests)) == 12


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(tmp_path / name, trained())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_describes_itself_in_one_key(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["dpf"]
    about = read_model_header(path)
    assert about["kind"] == "model"
    assert about["format"] == 2
    assert about["members"] == 2
    assert about["genes"] == GENES
    assert about["genes_sha256"] == gene_fingerprint(GENES)
    assert about["targets"] == {"scores": ["Tscore", "CytoTRACE"], "label": "label", "activation": "activation"}
    assert about["controls"]["plates"] == ["p1", None, "p2"]


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1000, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.what == "the model file is truncated or is not a safetensors file"
    assert caught.value.where == str(path)
    assert caught.value.hint == "restore it from a copy, or train again"


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "bert.safetensors"
    save_file({"w": torch.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.what == "the safetensors file was not written by dpf"
    assert caught.value.expected == "a model.safetensors of dpf train"


def test_a_later_format_is_refused_by_name(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    edit_header(path, lambda about: about.update(format=3, dpf="9.9"))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.what == "the model has a later format than this dpf reads"
    assert caught.value.found == "format 3, written by dpf 9.9"
    assert caught.value.expected == "format 2 or earlier"
    assert caught.value.hint == "update dpf: pipx upgrade drugseq-perturbformer"


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    edit_header(path, lambda about: about.update(kind="resume"))
    with pytest.raises(ModelError, match=r"not a trained model[\s\S]*found: resume"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda about: about.update(genes=["CD4"], genes_sha256=gene_fingerprint(["CD4"])),
            "size mismatch for encoder.tokens.gene",
        ),
        (lambda about: about["targets"].update(label=None), "label.weight"),
        (lambda about: about["settings"]["model"].update(latent=6), "size mismatch for latent_out.weight"),
        (lambda about: about.update(members=3), "KeyError: 'control_latent'"),
        (lambda about: about.pop("targets"), "KeyError: 'targets'"),
        (lambda about: about["settings"]["model"].update(depth=6), "unexpected keyword argument 'depth'"),
        (lambda about: about["controls"].pop("parts"), "'parts'"),
    ],
)
def test_weights_that_do_not_fit_their_description_are_refused(tmp_path, change, text):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    edit_header(path, change)
    with pytest.raises(ModelError, match="the weights do not fit the model's own description") as caught:
        load_model(path)
    assert text in caught.value.found


def test_a_flipped_bit_anywhere_is_named(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    (length,) = struct.unpack("<Q", whole[:8])
    after = 8 + length
    places = [0, 8, *rng.integers(8, after, 80), *rng.integers(after, len(whole), 40), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        # A flip may also give the key of the digest or of the format another name, or the file a later format.
        if b'"sha256":' not in damaged:
            continue
        with pytest.raises(ModelError):
            load_model(path)


@pytest.mark.parametrize("digest", [True, False])
def test_gene_names_in_another_order_are_named(tmp_path, digest):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    edit_header(path, lambda about: about["genes"].reverse())
    if not digest:
        about = read_model_header(path)
        del about["sha256"]
        save_file(load_file(path), path, {"dpf": json.dumps(about)})
    with pytest.raises(ModelError, match="gene names, or their order") as caught:
        load_model(path)
    assert caught.value.where == str(path)


def test_a_model_of_before_there_were_digests_is_loaded(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    about = read_model_header(path)
    del about["sha256"]
    save_file(load_file(path), path, {"dpf": json.dumps(about)})
    assert len(load_model(path).members) == 2


def test_a_full_disk_is_said_and_the_old_model_stays(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProjectError, match="No space left on device"):
        save_model(path, trained(members=3))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of a file's size")
def test_a_write_that_the_kernel_stops_half_way_is_said_and_the_old_model_stays(tmp_path):
    # The real thing: the safetensors library's own writer raises an error here that is no OSError.
    import resource

    path = tmp_path / "m.safetensors"
    save_model(path, trained())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), hard))
    try:
        with pytest.raises(ProjectError, match=r"cannot write a file[\s\S]*File too large"):
            save_model(path, trained(members=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_fingerprint_of_genes_knows_their_order():
    assert gene_fingerprint(["a", "b"]) != gene_fingerprint(["b", "a"])
    assert gene_fingerprint(["a", "b"]) != gene_fingerprint(["ab"])


def test_a_model_carries_the_normalisation_of_its_counts(tmp_path):
    names = tuple(f"g{i}" for i in range(5))
    vst = VstParameters(np.array([1.0, np.nan, 2.0, 0.5, np.nan]), "poscounts", 1.5, "parametric", (0.1, 2.0))
    for fitted in (Normalisation("none"), Normalisation("vst", names, np.full(5, 0.2), vst)):
        save_model(tmp_path / "m.safetensors", dataclasses.replace(trained(), normalisation=fitted))
        loaded = load_model(tmp_path / "m.safetensors").normalisation
        assert loaded.to_parts()[0] == fitted.to_parts()[0]
        for name, array in fitted.to_parts()[1].items():
            np.testing.assert_array_equal(loaded.to_parts()[1][name], array)
    edit_header(tmp_path / "m.safetensors", lambda about: about["normalisation"].update(depth_genes=["g0"]))
    with pytest.raises(ModelError, match="do not fit"):
        load_model(tmp_path / "m.safetensors")
    edit_header(tmp_path / "m.safetensors", lambda about: about.pop("normalisation"))
    assert load_model(tmp_path / "m.safetensors").normalisation.method == "none"
