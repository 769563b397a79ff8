from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.options import Roles
from dpf.tables.roles.assign import Identified, assign_roles
from dpf.tables.screen import SourceFile
from dpf.tables.text.wells_table import Table

WELLS = ["A01", "A02", "B01", "B02"]
DRUGS = ["DMSO", "x", "y", "dmso"]
SCORE = ["1.5", "NA", "-2", "0"]


def table(decimal_comma=False, **columns) -> Table:
    columns = {"Well": WELLS, **columns}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    places = [f"wells.csv, line {line}" for line in range(2, 2 + frame.height)]
    return Table(frame, places, (SourceFile("wells.csv", ""),), decimal_comma)


def assign(read, ids=None, plates=None, **roles):
    ids = WELLS if ids is None else ids
    roles = {"scores": ("score",), **roles}
    frame, targets, notes = assign_roles(read, Identified(ids, ids, plates, ("Well",)), Roles(**roles))
    return frame, targets, " | ".join(note.text for note in notes)


def test_columns_are_found_by_their_headings_and_told():
    read = table(
        Drug=DRUGS, Plate_ID=["p1"] * 4, conc_uM=["", "10", "0.1", "NA"], score=SCORE, Batch=["1", "1", "2", "2"],
        cluster_id=["3", "3", "", "4"], note=["a", "", "b", "c"], n=["1", "2", "3", "4"],
    )  # fmt: skip
    frame, targets, said = assign(read)
    canonical = ["well_id", "compound", "is_control", "plate", "row", "column", "concentration", "cluster", "batch"]
    assert frame.columns[: len(canonical)] == canonical
    assert frame.columns[len(canonical)] == "score"
    assert frame.get_column("compound").to_list() == DRUGS
    assert frame.get_column("is_control").to_list() == [True, False, False, True]
    assert frame.get_column("concentration").to_list() == [None, 10, 0.1, None]
    assert frame.get_column("row").to_list() == ["A", "A", "B", "B"]
    assert frame.get_column("column").to_list() == [1, 2, 1, 2]
    assert frame.get_column("cluster").to_list() == ["3", "3", None, "4"]
    assert frame.get_column("score").to_list() == [1.5, None, -2, 0]
    assert frame.get_column("n").dtype == pl.Int64
    assert {"Well", "Drug", "Plate_ID", "conc_uM", "Batch", "cluster_id", "note"} <= set(frame.columns)
    assert targets.scores == ("score",)
    for text in (
        "compound is column Drug",
        "plate is column Plate_ID",
        "concentration is column conc_uM",
        "controls are the wells of DMSO",
        "row and column were read from the well ids",
        "1 compound spelled in several ways, kept apart: DMSO (1) / dmso (1)",
    ):
        assert text in said


def test_named_columns_win_and_the_users_column_of_a_canonical_name_is_kept():
    read = table(
        compound=["1", "2", "3", "4"], agent=DRUGS, plate=["p"] * 4, tray=["t1", "t1", "t2", "t2"], score=SCORE,
        dose=["1", "2", "3", "4"], strength=["5", "6", "7", "8"],
    )  # fmt: skip
    frame, _, said = assign(read, compound_column="Agent", plate_column="tray", concentration_column="strength")
    assert frame.get_column("compound").to_list() == DRUGS
    assert frame.get_column("compound_original").to_list() == [1, 2, 3, 4]
    assert frame.get_column("plate").to_list() == ["t1", "t1", "t2", "t2"]
    assert frame.get_column("concentration").to_list() == [5, 6, 7, 8]
    assert frame.get_column("dose").to_list() == [1, 2, 3, 4]
    assert "called compound_original" in said


def test_ids_and_compounds_are_never_numbers():
    read = table(Well=["001", "002", "003", "004"], Drug=["10074", "007", "DMSO", "1e5"], score=SCORE)
    frame, _, _ = assign(read, ids=["001", "002", "003", "004"])
    assert frame.get_column("well_id").to_list() == ["001", "002", "003", "004"]
    assert frame.get_column("compound").to_list() == ["10074", "007", "DMSO", "1e5"]
    assert frame.get_column("Drug").dtype == pl.String


def test_surrounding_space_is_taken_off_compounds_and_told():
    frame, _, said = assign(table(Drug=[" x", "x", "DMSO ", "y"], score=SCORE))
    assert frame.get_column("compound").to_list() == ["x", "x", "DMSO", "y"]
    assert frame.get_column("is_control").to_list() == [False, False, True, False]
    assert "taken off 2 compound names: ' x', 'DMSO '" in said


def test_several_controls_and_those_that_only_look_like_it():
    drugs = ["Drug control", "DMSO", "Lipo control", "x"]
    frame, _, said = assign(table(Drug=drugs, score=SCORE), controls=("drug control ", "dmso"))
    assert frame.get_column("is_control").to_list() == [True, True, False, False]
    assert "not taken as controls, though they look like it: Lipo control (1)" in said
    with pytest.raises(DataError, match="no well holds the control water") as error:
        assign(table(Drug=drugs, score=SCORE), controls=("DMSO", "water"))
    assert "Drug control" in str(error.value.hint)


def test_no_control_lists_the_commonest_compounds():
    with pytest.raises(DataError, match="no well holds the control DMSO") as error:
        assign(table(Drug=["x", "x", "y", "vehicle"], score=SCORE))
    assert "x (2)" in str(error.value.found)
    assert "--control 'vehicle'" in str(error.value.hint)


def test_one_control_well_is_told():
    assert "there is one control well only" in assign(table(Drug=["DMSO", "a", "b", "c"], score=SCORE))[2]


def test_a_column_that_says_which_wells_are_controls():
    read = table(Drug=["a", "b", "c", "d"], is_control=["TRUE", "FALSE", "0", "1"], score=SCORE)
    frame, _, said = assign(read)
    assert frame.get_column("is_control").to_list() == [True, False, False, True]
    assert "controls are column is_control" in said
    frame, _, _ = assign(read, controls=("b",))
    assert frame.get_column("is_control").to_list() == [False, True, False, False]
    assert "is_control_original" in frame.columns


def test_wells_without_a_compound_are_named():
    with pytest.raises(DataError, match="wells have no compound") as error:
        assign(table(Drug=["DMSO", "", "None", "NA"], score=SCORE))
    assert error.value.found == "2 empty cells: line 3, line 5"


def test_no_compound_column():
    with pytest.raises(DataError, match="--compound-column"):
        assign(table(thing=DRUGS, score=SCORE))


def test_nothing_to_learn_lists_the_columns_of_numbers():
    read = table(Drug=DRUGS, score=SCORE, constant=["1"] * 4, text=list("abcd"))
    _, targets, notes = assign(read, scores=())
    assert targets.columns == ()
    assert notes.startswith("nothing is named for a model to learn")
    assert "columns of numbers: score" in notes
    frame, targets, _ = assign(read, scores=(), targets_follow=True)
    assert targets.columns == ()
    assert frame.height == 4


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (["0", "1", "NA", "1"], None, [0, 1, None, 1]),
        (["0.0", "1.0", "", "1"], None, [0, 1, None, 1]),
        (["TRUE", "false", "True", "NA"], None, [1, 0, 1, None]),
        (["Activated", "resting", "resting", "activated"], None, [1, 0, 0, 1]),
        (["Th1", "Th2", "th2", ""], "Th2", [0, 1, 1, None]),
        (["1", "2", "2", "1"], "2.0", [0, 1, 1, 0]),
        (["0", "1", "1", "0"], "0", [1, 0, 0, 1]),
    ],
)
def test_labels(values, positive, expected):
    frame, targets, said = assign(table(Drug=DRUGS, score=SCORE, state=values), label="state", positive=positive)
    assert frame.get_column("state").to_list() == expected
    assert frame.get_column("state").dtype == pl.Int64
    assert targets.label == "state"
    assert ("label state:" in said) == (positive is not None or set(values) & {"TRUE", "resting"} != set())


@pytest.mark.parametrize(
    ("values", "positive", "message"),
    [
        (["1", "1", "1", ""], None, "a label needs two classes"),
        (["0", "1", "2", ""], None, "a label needs two classes"),
        (["", "NA", "", ""], None, "a label has no values"),
        (["Th1", "Th2", "Th1", "Th2"], None, "--positive"),
        (["1", "2", "1", "2"], None, "--positive"),
        (["Th1", "Th2", "Th1", "Th2"], "Th17", "no well has the positive value"),
    ],
)
def test_labels_that_cannot_be_learnt(values, positive, message):
    with pytest.raises(DataError, match=message):
        assign(table(Drug=DRUGS, score=SCORE, state=values), label="state", positive=positive)


def test_everything_wrong_with_the_targets_is_told_at_once():
    read = table(Drug=DRUGS, bad=["1", "high", "inf", "3"], empty=["", "NA", "", ""], state=["1"] * 4)
    with pytest.raises(DataError) as error:
        assign(read, scores=("bad", "empty", "absent"), label="state")
    text = str(error.value)
    assert "4 things are wrong" in text
    assert "line 3: 'high', line 4: 'inf'" in text
    assert "a score has no values" in text
    assert "no column 'absent'" in text
    assert "a label needs two classes" in text


def test_a_column_has_one_role():
    with pytest.raises(UsageError, match="two roles"):
        assign(table(Drug=DRUGS, score=SCORE), activation="Score")


def test_a_constant_score_is_told():
    assert "the same value in every well" in assign(table(Drug=DRUGS, score=["2", "2", "", "2"]))[2]


def test_decimal_commas_in_a_table_of_semicolons():
    read = table(decimal_comma=True, Drug=DRUGS, score=["1,5", "0,25", "-2", ""], Konz=["1,5"] * 4)
    frame, _, _ = assign(read, concentration_column="Konz")
    assert frame.get_column("score").to_list() == [1.5, 0.25, -2, None]
    assert frame.get_column("concentration").to_list() == [1.5] * 4
    with pytest.raises(DataError, match="no finite number"):
        assign(table(Drug=DRUGS, score=["1,500", "2", "3", "4"]))
    unclear = replace(table(Drug=DRUGS, score=["1.500", "2", "20.250", "4"]), semicolons=True)
    with pytest.raises(DataError, match="a point may be a decimal point or part thousands"):
        assign(unclear)
    for cells in (["1.500", "2", "0.250", "4"], ["1.500", "2.25", "3", "4"], ["2", "3", "4", "5"]):
        assign(replace(unclear, frame=unclear.frame.with_columns(score=pl.Series(cells))))


@pytest.mark.parametrize(
    "heading", ["Concentration", "concentration_uM", "Dose (µM)", "conc.nM", "pert_dose", "final concentration [uM]"]
)
def test_headings_of_concentrations(heading):
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE, **{heading: ["1", "NA", "3", "4"]}))
    assert frame.get_column("concentration").to_list() == [1, None, 3, 4]
    assert f"concentration is column {heading}" in said


def test_concentrations_with_units():
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE, dose=["0", "10 uM", "0.3uM", ""]))
    assert frame.get_column("concentration").to_list() == [0, 10, 0.3, None]
    assert "concentrations are in uM" in said
    frame, _, _ = assign(table(Drug=DRUGS, score=SCORE, dose=["", "10 \u00b5g/mL", "3 ug/ml", "1 \u03bcg/ml"]))
    assert frame.get_column("concentration").to_list() == [None, 10, 3, 1]
    for micro in ("\u00b5M", "\u03bcM", "uM"):
        frame, _, _ = assign(table(Drug=DRUGS, score=SCORE, dose=["", f"10 {micro}", "0.3 uM", "NA"]))
        assert frame.get_column("concentration").to_list() == [None, 10, 0.3, None]
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE, dose=["0.1 %", "10 uM", "3 uM", "0.1 %"]))
    assert frame.get_column("concentration").to_list() == [None, 10, 3, None]
    assert "controls in another unit were not read: 0.1 %" in said
    with pytest.raises(DataError, match="several units") as error:
        assign(table(Drug=DRUGS, score=SCORE, dose=["0", "10 uM", "300 nM", ""]))
    assert error.value.found == "uM, nM"
    with pytest.raises(DataError, match="some concentrations have a unit and some none") as error:
        assign(table(Drug=DRUGS, score=SCORE, dose=["0", "10 nM", "300", ""]))
    assert error.value.found == "nM, 300"
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE, dose=["", "10 uM", "low", "1"]))
    assert "not taken as concentration" in said


def test_doses_that_are_the_same_to_six_digits_are_one():
    frame, _, said = assign(
        table(Drug=DRUGS, score=SCORE, dose=["", "3.3333333333333335", "3.3333332538604736", "3.3"])
    )
    assert frame.get_column("concentration").n_unique() == 3
    assert frame.get_column("concentration")[1] == pytest.approx(10 / 3, rel=1e-7)
    assert "the same to six digits" in said


@pytest.mark.parametrize(
    ("yes", "no"), [("yes", "no"), ("T", "F"), ("1.0", "0.0"), ("TRUE", "FALSE"), ("1", "0"), ("Y", "n")]
)
@pytest.mark.parametrize("heading", ["is_control", "Is Control"])
def test_a_column_of_controls_in_any_spelling(yes, no, heading):
    drugs = ["DMSO", "medium", "medium", "x"]
    frame, _, said = assign(table(Drug=drugs, score=SCORE, **{heading: [yes, yes, yes, no]}))
    assert frame.get_column("is_control").to_list() == [True, True, True, False]
    frame, _, said = assign(table(Drug=drugs, score=SCORE, **{heading: [yes, yes, "", "NA"]}))
    assert frame.get_column("is_control").to_list() == [True, True, True, False]
    assert "is empty in 2 wells (medium, x)" in said
    with pytest.raises(DataError, match="holds no truth values"):
        assign(table(Drug=drugs, score=SCORE, **{heading: [yes, "maybe", yes, no]}))
    assert assign(table(Drug=drugs, score=SCORE, **{heading: [no, yes, yes, no]}), controls=("DMSO",))[0][
        "is_control"
    ].to_list() == [True, False, False, False]


@pytest.mark.parametrize("missing", ["NA", "#N/A", "nan", "None", "null", "n/a", "", "N/A"])
def test_a_missing_plate_is_missing(missing):
    frame, _, _ = assign(table(Drug=DRUGS, score=SCORE, plate=["P1", missing, "P1", "P2"], batch=[missing] * 3 + ["b"]))
    assert frame.get_column("plate").to_list() == ["P1", None, "P1", "P2"]
    assert frame.get_column("batch").null_count() == 3


@pytest.mark.parametrize("plates", [["1", "1.0", "1", "2"], ["P1", "p1", "P1", "P2"], ["01", "1", "1", "2"]])
def test_plates_written_in_several_ways_are_told(plates):
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE, plate=plates))
    assert frame.get_column("plate").to_list() == plates
    assert "1 plate written in several ways, kept apart" in said


def test_plates_that_only_look_like_one_number_are_not_told():
    said = assign(table(Drug=DRUGS, score=SCORE, plate=["1E2", "100", "7E400", "8E400"]))[2]
    assert "several ways, kept apart: DMSO" in said
    assert "plate written" not in said


def test_label_classes_are_compared_to_the_last_digit():
    for cells in (["20240101", "20240102", "0", "0"], ["1.0000001", "1.0000002", "0", "0"],
                  ["10000000000000000001", "10000000000000000002", "0", "0"]):  # fmt: skip
        with pytest.raises(DataError, match="a label needs two classes"):
            assign(table(Drug=DRUGS, score=SCORE, state=cells), label="state", positive="0")
    frame, _, _ = assign(table(Drug=DRUGS, score=SCORE, state=["1.0", "01", "0", "0.00"]), label="state")
    assert frame.get_column("state").to_list() == [1, 1, 0, 0]


def test_codes_for_missing_values_are_told():
    said = assign(table(Drug=DRUGS, score=["1", "-999", "3", "-666.0"]))[2]
    assert "score score holds codes for missing values: -666 (1), -999 (1)" in said


def test_concentrations_below_0_are_none():
    read = table(Drug=DRUGS, score=SCORE, dose=["-5", "10", "", "-6.5"])
    frame, _, said = assign(read, ids=list("wxyz"))
    assert "concentration" not in frame.columns
    assert "column dose is below 0 in 2 wells (w (-5), z (-6.5)): not taken as concentration" in said
    with pytest.raises(DataError, match=r"a concentration is below 0[\s\S]*column dose[\s\S]*w \(-5\), z \(-6.5\)"):
        assign(read, ids=list("wxyz"), concentration_column="dose")
    frame, _, _ = assign(table(Drug=DRUGS, score=SCORE, dose=["-0", "0", "", "1e-3"]))
    assert frame.get_column("concentration").to_list() == [0, 0, None, 0.001]


def test_positions_from_columns_names_and_another_column_of_names():
    read = table(Drug=DRUGS, score=SCORE, Row=["1", "1", "2", "2"], Col=["3", "4", "3", "4"])
    frame, _, said = assign(read, ids=list("wxyz"))
    assert frame.get_column("row").to_list() == ["A", "A", "B", "B"]
    assert frame.get_column("column").to_list() == [3, 4, 3, 4]
    assert "are numbers: 1 became A" in said
    assert "differ in 4 wells" in assign(read)[2]  # the ids say columns 1 and 2
    read = table(Well=["AACC", "GGTT", "CCAA", "TTGG"], position=WELLS, Drug=DRUGS, score=SCORE)
    frame, _, said = assign(read, ids=["AACC", "GGTT", "CCAA", "TTGG"])
    assert frame.get_column("column").to_list() == [1, 2, 1, 2]
    assert "row and column were read from column position" in said


def test_batches_and_donors_from_columns_that_are_named_or_headed_so():
    read = table(Drug=DRUGS, score=SCORE, run=["a", "a", "b", "NA"], donor_id=["1", "2", "1", "2"])
    frame, _, said = assign(read, batch_column="Run")
    assert frame.get_column("batch").to_list() == ["a", "a", "b", None]
    assert frame.get_column("donor").to_list() == ["1", "2", "1", "2"]
    assert frame.columns.index("donor") == frame.columns.index("batch") + 1
    assert "batch is column run" in said
    assert "donor is column donor_id" in said
    with pytest.raises(DataError, match="no column 'patient'") as caught:
        assign(read, donor_column="patient")
    assert "--donor-column" in str(caught.value)


def test_names_are_joined_before_controls_are_found(tmp_path):
    (tmp_path / "aliases.csv").write_text("name,is\nsolvent,DMSO\nY,y\n")
    read = table(Drug=["solvent", "x-1", "X 1", "Solvent"], score=SCORE)
    frame, _, said = assign(read, merge_names=True, aliases=tmp_path / "aliases.csv")
    assert frame.get_column("compound").to_list() == ["DMSO", "x-1", "x-1", "DMSO"]
    assert frame.get_column("is_control").to_list() == [True, False, False, True]
    assert frame.get_column("Drug").to_list() == ["solvent", "x-1", "X 1", "Solvent"]
    assert "solvent (1) is DMSO" in said
    assert "X 1 (1) is x-1" in said
    assert "kept apart" not in said
    apart, _, said = assign(read, controls=("solvent",))
    assert apart.get_column("compound").to_list() == ["solvent", "x-1", "X 1", "Solvent"]
    assert "kept apart: solvent (1) / Solvent (1), x-1 (1) / X 1 (1); --merge-names joins them" in said
    named, _, _ = assign(read, merge_names=True, controls=("X-1",))
    assert named.get_column("is_control").to_list() == [False, True, True, False]


def test_columns_that_only_sound_like_positions_are_kept_as_they_are():
    read = table(Drug=DRUGS, score=SCORE, column=["left", "left", "right", "right"])
    frame, _, said = assign(read, ids=list("wxyz"))
    assert "column" not in frame.columns
    assert frame.get_column("column_original").to_list() == ["left", "left", "right", "right"]
    assert "holds no plate columns" in said


def test_plates_from_files_and_positions_that_are_there_twice():
    ids = ["A01", "A02", "A01", "A02"]
    read = table(Well=ids, Drug=DRUGS, score=SCORE)
    names = [f"{plate}_{well}" for plate, well in zip("ppqq", ids, strict=True)]
    frame, _, notes = assign_roles(read, Identified(names, ids, list("ppqq"), ("Well",)), Roles(scores=("score",)))
    assert frame.get_column("plate").to_list() == list("ppqq")
    assert not any("more than one well" in note.text for note in notes)
    read = table(Drug=DRUGS, score=SCORE, Row=["A"] * 4, Column=["1", "1", "2", "3"])
    assert "1 position with more than one well: A 1" in assign(read, ids=list("wxyz"))[2]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        (["DMSO_A01", "x_A02", "y_B01", "dmso_B01"], "has the compound in it in 4 wells"),
        (["p1_DMSO_A01", "p1_x_A02", "p1_y_B01", "p2_dmso_B01"], "has the compound in it in 4 wells"),
        (["DMSO_1_A01", "x_1_A02", "y_1_B01", "dmso_2_B01"], "has the compound in it in 4 wells"),
        (["GSM1_A01", "GSM2_A02", "GSM3_B01", "GSM4_B02"], "is another one in every well"),
        (["s1_A01", "s1_A02", "s2_B01", "s2_B02"], "has 2 values, and no position is used by two of them"),
    ],
)
def test_what_stands_before_the_well_is_a_plate_only_if_it_behaves_so(ids, why):
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE), ids=ids)
    assert "plate" not in frame.columns
    assert frame.get_column("column").to_list() == [int(name[-1]) for name in ids]
    assert f"{why}: not taken as plates" in said
    pattern = r"(?P<plate>.+)_(?P<row>[A-P])(?P<column>\d+)"
    assert "plate" in assign(table(Drug=DRUGS, score=SCORE), ids=ids, well_pattern=pattern)[0].columns


@pytest.mark.parametrize("ids", [["p1_A01", "p1_A02", "p2_A01", "p2_B02"], ["p1_A01", "p1_A02", "p1_B01", "p1_B02"]])
def test_prefixes_that_share_positions_are_plates(ids):
    frame, _, said = assign(table(Drug=DRUGS, score=SCORE), ids=ids)
    assert frame.get_column("plate").to_list() == [name[:2] for name in ids]
    assert "not taken" not in said


@pytest.mark.parametrize("start", [0, 1])
def test_a_score_that_counts_its_rows_is_refused(start):
    wells = [f"A{at:02d}" for at in range(1, 11)]
    counted = table(Well=wells, Drug=["DMSO", *"abcdefghi"], score=[str(at + start) for at in range(10)])
    with pytest.raises(DataError, match="counts the rows"):
        assign(counted, ids=wells)
    shuffled = [str(at + start) for at in (3, 1, 2, 0, 4, 5, 6, 7, 8, 9)]
    assert assign(table(Well=wells, Drug=["DMSO", *"abcdefghi"], score=shuffled), ids=wells)[1].scores == ("score",)
