"""Replicates never straddle, shares come out right, every well is held out once, and bad requests say why."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.errors import DataError
from dpf.splits.parts import (
    PART_NAMES,
    Part,
    check_parts,
    default_validation,
    describe_leaks,
    make_splits,
    split_fingerprint,
    splits_from_table,
    table_from_splits,
)


def screen(compounds=60, replicates=2, controls=12, plates=2, positive=0.4, missing=0.1, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(compounds) for _ in range(replicates)] + ["DMSO"] * controls
    label = np.repeat((rng.random(compounds) < positive).astype(float), replicates)
    label[rng.random(label.size) < missing] = np.nan
    label = np.concatenate([label, np.zeros(controls)])
    plate = [f"P{i % plates}" for i in range(len(names))]
    is_control = np.array([name == "DMSO" for name in names])
    order = rng.permutation(len(names))
    return {
        "compound": [names[i] for i in order],
        "is_control": is_control[order],
        "label": label[order],
        "plate": [plate[i] for i in order],
    }


def test_the_codes_and_the_names_are_those_of_the_file():
    assert [int(part) for part in Part] == [0, 1, 2]
    assert PART_NAMES == ("train", "validation", "held_out")
    assert (default_validation(1), default_validation(5)) == (0.2, 0.1)


@pytest.mark.parametrize("rule", ["compound", "well", "plate"])
def test_one_member_has_no_held_out_well(rule):
    parts = make_splits(rule, **screen(), folds=1, seed=614)
    assert parts.shape == (1, 132)
    assert parts.dtype == np.int8
    assert set(np.unique(parts)) == {Part.TRAIN, Part.VALIDATION}


def test_classic_split_is_80_20_in_every_stratum():
    data = screen(compounds=364, controls=40)
    parts = make_splits("compound", **data, folds=1, seed=614)
    control = data["is_control"]
    assert (parts[0, control] == Part.VALIDATION).sum() == 8
    for stratum in (~control, ~control & (data["label"] == 1), ~control & (data["label"] == 0)):
        assert (parts[0, stratum] == Part.VALIDATION).mean() == pytest.approx(0.2, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["compound", "well", "plate"]),
    st.integers(2, 6),
    st.lists(st.integers(1, 7), min_size=20, max_size=40),
    st.integers(0, 2**31),
)
def test_every_well_is_held_out_once_and_replicates_stay_together(rule, folds, sizes, seed):
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i, size in enumerate(sizes) for _ in range(size)] + ["ctl"] * 12
    is_control = np.array([name == "ctl" for name in names])
    plate = [f"P{i}" for i in rng.permutation(np.arange(len(names)) % 8)]
    try:
        parts = make_splits(
            rule, compound=names, is_control=is_control, label=None, plate=plate, folds=folds, seed=seed,
            validation=0.15,
        )  # fmt: skip
    except DataError as error:
        # Whole plates may take nearly every control with them; such a split is refused, and only under that rule.
        if rule != "plate" or "training control(s)" not in str(error):
            raise
        return
    assert ((parts == Part.HELD_OUT).sum(axis=0) == 1).all()
    if rule == "compound":
        assert describe_leaks(parts, names, is_control) == 0
        held_out = (parts[:, ~is_control] == Part.HELD_OUT).sum(axis=1)
        assert held_out.max() - held_out.min() <= max(sizes)
        controls = (parts[:, is_control] == Part.HELD_OUT).sum(axis=1)
        assert controls.max() - controls.min() <= 1
    if rule == "plate":
        for row, name in itertools.product(parts, set(plate)):
            on_plate = row[np.array(plate) == name] == Part.HELD_OUT
            assert on_plate.all() or not on_plate.any()
    # Validation is drawn from what is not held out, within half a group of the share in the treated stratum.
    for row in parts[:, ~is_control]:
        rest = row != Part.HELD_OUT
        share = (row[rest] == Part.VALIDATION).sum()
        assert abs(share - 0.15 * rest.sum()) <= max(sizes)


@pytest.mark.parametrize("folds", [1, 2, 5])
@pytest.mark.parametrize("rule", ["compound", "well"])
def test_depends_on_the_seed_and_on_nothing_else(rule, folds):
    first = make_splits(rule, **screen(), folds=folds, seed=3)
    np.testing.assert_array_equal(first, make_splits(rule, **screen(), folds=folds, seed=3))
    assert (first != make_splits(rule, **screen(), folds=folds, seed=4)).any()


@pytest.mark.parametrize("rule", ["compound", "well"])
def test_repeats_deal_the_folds_anew_and_begin_with_those_of_one_deal(rule):
    data = screen()
    once = make_splits(rule, **data, folds=5, seed=614)
    parts = make_splits(rule, **data, folds=5, seed=614, repeats=3)
    assert parts.shape == (15, len(data["compound"]))
    np.testing.assert_array_equal(parts[:5], once)
    for deal in parts.reshape(3, 5, -1):
        assert ((deal == Part.HELD_OUT).sum(axis=0) == 1).all()
    assert len({(row == Part.HELD_OUT).tobytes() for row in parts}) == 15
    if rule == "compound":
        assert describe_leaks(parts, data["compound"], data["is_control"]) == 0


def test_repeats_of_a_single_run_are_refused():
    with pytest.raises(DataError, match=r"no folds to repeat(.|\n)*3 repeats of 1 fold(.|\n)*--folds 5"):
        make_splits("compound", **screen(), folds=1, seed=0, repeats=3)


def test_plates_that_can_be_dealt_in_one_way_only_are_not_repeated():
    data = screen(plates=3)
    with pytest.raises(DataError, match=r"one way to deal them(.|\n)*3 plates in 3 folds, 2 repeats"):
        make_splits("plate", **data, folds=3, seed=0, repeats=2)
    assert make_splits("plate", **data, folds=2, seed=0, repeats=2).shape[0] == 4


def test_the_label_of_a_group_is_that_of_most_of_its_wells():
    # Ten compounds with labels 1, 1, 0 count as positive: 2 of 10 in each of 5 folds.
    names = [f"p{i}" for i in range(10) for _ in range(3)] + [f"n{i}" for i in range(40) for _ in range(3)] + ["c"] * 10
    label = np.array([1.0, 1.0, 0.0] * 10 + [0.0] * 120 + [np.nan] * 10)
    control = np.array([name == "c" for name in names])
    parts = make_splits("compound", compound=names, is_control=control, label=label, plate=None, folds=5, seed=0)
    for row in parts:
        assert len({name for name, part in zip(names, row, strict=True) if name[0] == "p" and part == 2}) == 2


def test_the_well_rule_leaks_and_says_how_much():
    data = screen()
    parts = make_splits("well", **data, folds=1, seed=614)
    expected = sum(
        len({parts[0, i] for i, n in enumerate(data["compound"]) if n == name}) > 1
        for name in set(data["compound"]) - {"DMSO"}
    )
    assert describe_leaks(parts, data["compound"], data["is_control"]) == expected > 0


def test_with_two_plates_the_validation_wells_of_a_fold_are_compounds_of_the_other_plate():
    data = screen()
    parts = make_splits("plate", **data, folds=2, seed=0)
    for row in parts:
        plates = {(plate, Part(int(part)).text) for plate, part in zip(data["plate"], row, strict=True)}
        assert len(plates) == 3
        outside = row != Part.HELD_OUT
        names = [name for name, out in zip(data["compound"], outside, strict=True) if out]
        assert describe_leaks(row[None, outside], names, data["is_control"][outside]) == 0


def test_a_few_compounds_still_give_a_validation_compound():
    names = [f"c{i}" for i in range(5) for _ in range(2)] + ["DMSO"] * 20
    control = np.array([name == "DMSO" for name in names])
    parts = make_splits("compound", compound=names, is_control=control, label=None, plate=None, folds=5, seed=1)
    assert ((parts[:, ~control] == Part.VALIDATION).sum(axis=1) == 2).all()


def test_round_trip_through_the_table_and_fingerprint():
    data = screen()
    ids = [f"w{i}" for i in range(len(data["compound"]))]
    parts = make_splits("compound", **data, folds=3, seed=0)
    rows = table_from_splits(parts, ids)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    np.testing.assert_array_equal(splits_from_table(ids, shuffled), parts)
    order = np.random.default_rng(1).permutation(len(ids))
    digest = split_fingerprint(parts, ids)
    assert len(digest) == 64
    assert split_fingerprint(parts[:, order], [ids[i] for i in order]) == digest
    assert split_fingerprint(parts[::-1], ids) != digest


def test_the_users_table_is_refused_with_everything_that_is_wrong_at_once():
    rows = [("a", 0, "train"), ("a", 0, "train"), ("b", 0, "test"), ("x", 0, "train"), ("a", 2, "train")]
    with pytest.raises(DataError) as caught:
        splits_from_table(["a", "b", "c"], rows, where="splits.csv")
    text = str(caught.value)
    for part in (
        "where: splits.csv",
        "members are 0, 2, not 0 to 1",
        "1 well(s) that the screen does not have: x",
        "part(s) 'test'",
        "1 well(s) given more than once: a (member 0)",
        "member 0 lacks 1 well(s): c",
        "member 2 lacks 2 well(s): b, c",
        "train, validation, held_out",
    ):
        assert part in text


@pytest.mark.parametrize("member", [-1, 0.5, True, "0"])
def test_members_that_are_no_numbers_are_refused(member):
    with pytest.raises(DataError, match="members are"):
        splits_from_table(["a"], [("a", member, "train")])


def test_an_empty_table_is_refused():
    with pytest.raises(DataError, match="no row at all"):
        splits_from_table(["a"], [])


def test_fewer_compounds_than_folds():
    with pytest.raises(DataError, match=r"too little for 9 folds(.|\n)*8 distinct compound(.|\n)*--folds"):
        make_splits("compound", **screen(compounds=8), folds=9, seed=0)


def test_fewer_plates_than_folds_and_no_plates():
    with pytest.raises(DataError, match=r"2 distinct plate(.|\n)*at least 3 with --split plate"):
        make_splits("plate", **screen(), folds=3, seed=0)
    with pytest.raises(DataError, match="no plate column"):
        make_splits("plate", **{**screen(), "plate": None}, folds=2, seed=0)
    plate = screen()["plate"]
    plate[4] = None
    with pytest.raises(DataError, match="plate of well number 5"):
        make_splits("plate", **{**screen(), "plate": plate}, folds=2, seed=0)


def test_a_well_without_a_compound():
    data = screen()
    well = int(np.flatnonzero(~data["is_control"])[0])
    data["compound"][well] = None
    with pytest.raises(DataError, match=f"compound of well number {well + 1}"):
        make_splits("compound", **data, folds=1, seed=0)
    make_splits("well", **data, folds=1, seed=0)


def test_a_label_class_that_one_fold_holds_out_whole():
    data = screen(positive=0.0)
    label = np.where([name == "c3" for name in data["compound"]], 1.0, 0.0)
    with pytest.raises(DataError, match=r"no training well of label 1(.|\n)*--folds"):
        make_splits("compound", **{**data, "label": label}, folds=2, seed=0)


def test_too_few_training_controls():
    with pytest.raises(DataError, match=r"has 1 training control"):
        make_splits("compound", **screen(controls=2), folds=2, seed=0)


def test_a_label_that_is_not_binary():
    data = screen()
    with pytest.raises(DataError, match=r"not binary(.|\n)*found: 2\.0"):
        make_splits("compound", **{**data, "label": np.where(data["is_control"], 2.0, 0.0)}, folds=1, seed=0)


@pytest.mark.parametrize("wrong", [{"folds": 0}, {"validation": 1.0}, {"seed": -1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(DataError, match="cannot be made with these settings"):
        make_splits("compound", **screen(), **{"folds": 1, "seed": 0, **wrong})


def test_check_parts_asks_for_validation_and_compounds():
    control = np.array([True, True, False])
    with pytest.raises(DataError, match="member 0 has no validation well"):
        check_parts(np.array([[0, 0, 0]], dtype=np.int8), control, None)
    with pytest.raises(DataError, match=r"where: mine\.csv(.|\n)*no training well of a compound"):
        check_parts(np.array([[0, 0, 1]], dtype=np.int8), control, None, where="mine.csv")


def test_the_public_layout_of_768_wells(real_data: Path):
    """364 compounds in duplicate and 40 controls: whole compounds, 20% of each stratum."""
    with (real_data / "classic-metadata" / "meta_id.csv").open(newline="", encoding="utf-8") as stream:
        compound = [row[0] for row in itertools.islice(csv.reader(stream), 1, None)]
    control = np.array([name == "DMSO" for name in compound])
    assert (len(compound), control.sum()) == (768, 40)
    parts = make_splits("compound", compound=compound, is_control=control, label=None, plate=None, folds=5, seed=614)
    assert describe_leaks(parts, compound, control) == 0
    assert (parts[:, control] == Part.HELD_OUT).sum(axis=1).tolist() == [8] * 5
