"""Training as a user meets it: what it writes, how it resumes, who held out whom, and what is missing is masked."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.project.lock import writing
from dpf.project.model_header import read_model_header

pytestmark = pytest.mark.usefixtures("sketches")

MODEL = "models/default/model.safetensors"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_training_leaves(trained):
    folder = trained / "models/default"
    assert files(folder) == [
        ".lock", "history.parquet", "last.safetensors", "loss_curve.png", "metrics.json", "model.safetensors",
        "splits.parquet",
    ]  # fmt: skip
    history = pl.read_parquet(folder / "history.parquet")
    assert history.height == 3
    assert {"train_mse", "train_bce", "train_reg", "validation_total", "seconds", "learning_rate"} <= set(
        history.columns
    )
    header = read_model_header(folder / "model.safetensors")
    best = history.sort("validation_total")["epoch"][0]
    assert header["best_epochs"] == [best]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["members"][0]["best_epoch"] == best
    assert (folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_plan_and_the_epochs_go_to_stderr(demo, copy, dpf):
    ran = dpf("train", copy(demo), "--epochs", 2, "--model", "short")
    assert ran.rows.height == 1
    for text in ("2 epochs", "24 genes on cpu, 1 thread, fp32", "M parameters", "epoch   2/2", "AUROC"):
        assert text in ran.err


def test_flags_reach_the_model(demo, copy, ok):
    project = copy(demo)
    flags = ["--epochs", 1, "--batch-size", 7, "--learning-rate", 0.02, "--no-zscore", "--seed", 5, "--split", "well"]
    ran = ok("train", project, *flags, "--set", "train.weight_decay=0.5", "--model", "other")
    settings = read_model_header(project / "models/other/model.safetensors")["settings"]["train"]
    assert settings["epochs"] == 1
    assert settings["batch_size"] == 7
    assert settings["learning_rate"] == 0.02
    assert settings["weight_decay"] == 0.5
    assert (settings["zscore"], settings["seed"], settings["split"]) == (False, 5, "well")
    assert "replicates on both sides of the split" in ran.err
    assert "Use --zscore" in ran.err


def test_the_same_training_gives_the_same_bytes(trained, copy, demo, ok):
    again = copy(demo)
    ok("train", again)
    for name in ("model.safetensors", "last.safetensors", "splits.parquet"):
        assert (again / "models/default" / name).read_bytes() == (trained / "models/default" / name).read_bytes()
    ok("train", again, "--seed", 1, "--overwrite")
    assert (again / MODEL).read_bytes() != (trained / MODEL).read_bytes()


def test_a_finished_model_is_replaced_only_on_request(trained, copy, dpf, ok):
    project = copy(trained)
    before = {path: path.read_bytes() for path in (project / "models").rglob("*.*")}
    for words in ([], ["--epochs", 1], ["--member", 0], ["--member", 0, "--resume", "--epochs", 1]):
        ran = dpf("train", project, *words)
        assert (ran.code, ran.out) == (2, "")
        assert f"where: {project / MODEL}" in ran.err
        assert "train under another name: --model NAME; or replace this one: --overwrite" in ran.err
    assert {path: path.read_bytes() for path in (project / "models").rglob("*.*")} == before
    assert dpf("train", project, "--resume", "--overwrite").code == 5  # nothing to resume: what is there is kept
    assert "nothing to resume" in ok("train", project, "--member", 0, "--resume").err
    ok("train", project, "--model", "other", "--epochs", 1)
    ok("train", project, "--epochs", 1, "--overwrite")
    assert (project / MODEL).read_bytes() == (project / "models/other/model.safetensors").read_bytes()


def test_a_member_that_begins_a_replacement_asks_and_the_others_do_not(trained, copy, dpf, ok):
    project = copy(trained)
    before = (project / MODEL).read_bytes()
    words = ["train", project, "--folds", 2, "--epochs", 1]
    assert dpf(*words, "--member", 0).code == 2
    ok(*words, "--member", 0, "--overwrite")
    assert (project / MODEL).read_bytes() == before
    ok(*words, "--member", 1)
    assert read_model_header(project / MODEL)["settings"]["train"]["folds"] == 2
    assert not (project / "models/default/members").exists()
    assert dpf(*words, "--member", 1).code == 2


def test_another_process_writes_the_same_bytes(trained, copy, demo, process, monkeypatch):
    """Not even what differs from one start of Python to the next, such as the order of sets, reaches the file."""
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    again = copy(demo)
    ran = process("train", again, "--deterministic")
    assert ran.code == 0, ran.err
    for name in ("model.safetensors", "last.safetensors", "splits.parquet"):
        assert (again / "models/default" / name).read_bytes() == (trained / "models/default" / name).read_bytes()


def test_determinism_is_on_and_can_be_left_to_the_device(demo, copy, ok, trained):
    import torch
    from safetensors.numpy import load_file

    project = copy(demo)
    ok("train", project, "--epochs", 1)
    assert torch.are_deterministic_algorithms_enabled()
    ok("train", project, "--no-deterministic", "--overwrite")
    assert not torch.are_deterministic_algorithms_enabled()
    for name in ("model.safetensors", "last.safetensors"):  # on a CPU the weights are the same bits either way
        one, other = (load_file(path / "models/default" / name) for path in (project, trained))
        assert all((one[key] == other[key]).all() for key in one)
    ok("predict", project)
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("torn", [False, True])
def test_a_run_is_resumed_bit_for_bit(demo, copy, dpf, ok, monkeypatch, torn):
    """Interrupted in the second member, resumed, and compared with a run that was not interrupted."""
    whole, cut = copy(demo, "whole"), copy(demo, "cut")
    uninterrupted = ok("train", whole, "--folds", 2, "--epochs", 4)
    monkeypatch.setattr("dpf.workflows.train.train._SECONDS_BETWEEN_SAVES", 0.0)
    from dpf.training.member import MemberTraining

    real, calls = MemberTraining.run_epoch, []

    def run_epoch(self: MemberTraining, progress: Callable[[int], None] | None = None) -> object:
        calls.append(self.key)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(self, progress)

    monkeypatch.setattr(MemberTraining, "run_epoch", run_epoch)
    ran = dpf("train", cut, "--folds", 2, "--epochs", 4)
    monkeypatch.undo()
    assert ran.code == 130
    assert files(cut / "models/default") == [
        ".lock", "history.running.parquet", "resume.previous.safetensors", "resume.safetensors",
    ]  # fmt: skip
    # Who watches sees every finished epoch: four of the first member, two of the second.
    running = pl.read_parquet(cut / "models/default/history.running.parquet")
    assert running["epoch"].to_list() == [1, 2, 3, 4, 1, 2]
    said = ok("info", cut).out
    assert "run      default: interrupted; member 1 of 0-1, epoch 2 of 4, validation total " in said
    assert "--resume goes on" in said
    assert "none yet" not in said
    for words, text in (
        (["--epochs", 5], "train.epochs was 4, is 5"),
        (["--precision", "bf16"], 'precision was "fp32", is "bf16"'),
        (["--no-deterministic"], "deterministic was true, is false"),
        (["--threads", 2], "threads was 1, is 2"),
        (["--set", "compute.tokens_at_once=48"], "tokens_at_once was 20480, is 48"),
        (["--set", "train.schedule=cosine"], 'train.schedule was "constant", is "cosine"'),
    ):
        ran = dpf("train", cut, "--resume", "--folds", 2, "--epochs", 4, *words)
        assert ran.code == 5
        assert text in ran.err
    if torn:
        resume = cut / "models/default/resume.safetensors"
        resume.write_bytes(resume.read_bytes()[:-100])
    ran = ok("train", cut, "--resume", "--folds", 2, "--epochs", 4)
    assert ran.out == uninterrupted.out
    assert f"resuming after epoch {1 if torn else 2} of 4, member 1" in ran.err
    assert ("going on from the one before, in resume.previous.safetensors" in ran.err) == torn
    assert files(cut / "models/default") == files(whole / "models/default")
    for name in ("model.safetensors", "last.safetensors"):
        assert (cut / "models/default" / name).read_bytes() == (whole / "models/default" / name).read_bytes()
    drop = ["seconds"]
    histories = [pl.read_parquet(p / "models/default/history.parquet").drop(drop) for p in (cut, whole)]
    assert histories[0].equals(histories[1])


def test_an_interrupted_run_is_told_of_and_discarded_only_on_request(trained, copy, dpf, ok):
    project = copy(trained)
    (project / "models/default/resume.safetensors").write_bytes(b"cut short")
    assert "an interrupted run waits (--resume)" in ok("info", project).out
    ran = dpf("train", project, "--resume")
    assert ran.code == 5
    assert "the interrupted run is damaged" in ran.err
    assert "start anew" in ran.err
    ran = dpf("train", project)
    assert ran.code == 2
    assert "or go on with the run that was interrupted: --resume" in ran.err
    assert "an interrupted run of this model is discarded" in ok("train", project, "--epochs", 1, "--overwrite").err
    assert not (project / "models/default/resume.safetensors").exists()


def test_the_history_of_a_run_is_its_own_until_it_has_finished(trained, copy, dpf, ok, monkeypatch):
    """While a model is trained anew its old history stays; a fresh start begins a fresh one."""
    project = copy(trained)
    folder = project / "models/default"
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    assert dpf("train", project, "--epochs", 5, "--learning-rate", "1e30", "--overwrite").code == 4
    after = files(folder)
    for name, content in before.items():
        assert name == ".lock" or (folder / name).read_bytes() == content
    assert set(after) - set(before) <= {"history.running.parquet"}
    (folder / "history.running.parquet").write_bytes(before["history.parquet"])  # 3 epochs of a run long gone
    from dpf.workflows.train import log as run_log

    monkeypatch.setattr(run_log, "_SECONDS_BETWEEN_WRITES", 0.0)
    real, seen = run_log.write_table, []
    monkeypatch.setattr(
        run_log, "write_table", lambda path, table, *rest: (seen.append(table), real(path, table, *rest))
    )
    ok("train", project, "--epochs", 2, "--overwrite")
    assert [table["epoch"].to_list() for table in seen] == [[1], [1, 2]]
    assert files(folder) == sorted(before)
    assert pl.read_parquet(folder / "history.parquet").equals(seen[-1])


def test_tensorboard_is_loaded_when_asked_for_only(demo, copy, dpf, monkeypatch):
    project = copy(demo)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    ran = dpf("train", project, "--tensorboard")
    assert ran.code == 2
    assert "the extra 'tensorboard'" in ran.err
    assert not (project / "models").exists()
    assert dpf("train", project, "--epochs", 1).code == 0


def test_a_resumed_run_tells_tensorboard_from_its_first_epoch_on(demo, copy, dpf, monkeypatch):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from dpf.training.member import MemberTraining

    project = copy(demo)
    monkeypatch.setattr("dpf.workflows.train.train._SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(MemberTraining, "finished", property(lambda self: 1 / (2 - self.epoch) > 9))  # fails after 2
    assert dpf("train", project, "--epochs", 4).code == 1
    monkeypatch.undo()
    assert dpf("train", project, "--epochs", 4, "--resume", "--tensorboard").code == 0
    (start,) = (project / "models/default/tensorboard").iterdir()
    read = EventAccumulator(str(start / "member-0")).Reload()
    assert [event.step for event in read.Scalars("validation/total")] == [1, 2, 3, 4]


def wait_for(path: Path, running: subprocess.Popen[str], log: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert running.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


LONG_RUN = ["--epochs", 2500, "--set", "model.dropout=0.2"]


@pytest.fixture(scope="module")
def whole_run(demo, tmp_path_factory, ok) -> bytes:
    """The model of a run that nobody interrupts, long enough to be caught in the middle."""
    project = Path(shutil.copytree(demo, tmp_path_factory.mktemp("whole") / "demo"))
    ok("train", project, *LONG_RUN)
    return (project / MODEL).read_bytes()


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_a_killed_process_is_resumed_bit_for_bit(demo, copy, whole_run, start, ok, name, tmp_path):
    cut = copy(demo)
    log = tmp_path / "stderr.txt"  # not a pipe: nobody would empty it while we wait, and the run would stand still
    with log.open("w") as stream, start("train", cut, *LONG_RUN, stderr=stream) as running:
        wait_for(cut / "models/default/resume.safetensors", running, log)
        running.send_signal(getattr(signal, name))
        out, _ = running.communicate(timeout=60)
    err = log.read_text(encoding="utf-8")
    assert out == ""
    if name != "SIGKILL":
        assert running.returncode == 130
        assert "--resume" in err
        assert "Traceback" not in err
    assert not (cut / MODEL).exists()
    assert "resuming after epoch" in ok("train", cut, "--resume", *LONG_RUN).err
    assert (cut / MODEL).read_bytes() == whole_run


def test_one_writer_a_model(demo, copy, process):
    project = copy(demo)
    with writing(project / "models/default"):
        ran = process("train", project)
    assert ran.code == 3
    assert ran.out == ""
    assert "another dpf process is writing there" in ran.err
    assert not (project / MODEL).exists()


def test_folds_hold_every_well_out_once(folded, told):
    splits = pl.read_parquet(folded / "models/default/splits.parquet")
    held_out = splits.filter(pl.col("part") == "held_out")
    assert held_out.height == held_out["well_id"].n_unique() == 48
    counts = splits.group_by("member").len()["len"].to_list()
    assert counts == [48, 48, 48]
    predictions = told("predict").rows
    assert predictions["held_out"].all()
    assert predictions["part"].unique().to_list() == ["held_out"]
    joined = predictions.select("well_id", pl.col("members").cast(pl.Int64)).join(held_out, on="well_id")
    assert (joined["member"] == joined["members"]).all()


def test_no_replicate_was_seen_by_the_member_that_speaks(folded, told):
    splits = pl.read_parquet(folded / "models/default/splits.parquet")
    wells = pl.read_parquet(folded / "inputs/wells.parquet").filter(~pl.col("is_control"))
    speaking = told("predict").rows.filter(~pl.col("is_control")).rename({"members": "member"})
    seen = splits.join(wells.select("well_id", "compound"), on="well_id").filter(pl.col("part") != "held_out")
    assert speaking.height == 40
    assert speaking.join(seen, on=["compound", "member"], how="inner").height == 0


def test_a_single_run_marks_what_each_well_was(trained, copy, ok):
    project = copy(trained)
    ran = ok("predict", project)
    counts = dict(ran.rows.group_by("part").len().iter_rows())
    assert set(counts) == {"train", "validation"}
    assert 8 <= counts["validation"] <= 12
    assert not ran.rows["held_out"].any()
    assert "train with --folds 5" in ran.err
    assert "no p-value may rest on them" in ok("rank", project).err


def memory_screen(folder: Path) -> tuple[Path, Path]:
    """16 compounds x 2, each with a profile of its own and a score drawn at random: only a leak predicts the score."""
    rng = np.random.default_rng(3)
    compound = np.repeat(np.arange(16), 2)
    score = rng.permutation(np.linspace(-1, 1, 16))[compound]
    profiles = np.vstack([2.0 * rng.standard_normal((16, 12))[compound], np.zeros((8, 12))])
    values = profiles + 0.05 * rng.standard_normal(profiles.shape)
    ids = [f"w{n}" for n in range(40)]
    names = [f"c{n}" for n in compound] + ["DMSO"] * 8
    pl.DataFrame({"well_id": ids} | {f"G{g}": values[:, g] for g in range(12)}).write_csv(folder / "x.csv")
    wells = pl.DataFrame({"well_id": ids, "compound": names, "score": [*score, *[0.0] * 8]})
    wells.write_csv(folder / "wells.csv")
    return folder / "x.csv", folder / "wells.csv"


def test_a_leak_would_show(ok, tmp_path):
    """Where replicates straddle the split their score is copied; where they stay together it cannot be known."""
    expression, wells = memory_screen(tmp_path)
    tiny = ["--set", "model.width=16", "--set", "model.heads=2", "--set", "model.feed_forward=32"]
    tiny += ["--set", "model.layers=1", "--set", "model.dropout=0.0", "--set", "compute.precision=fp32"]
    ok("init", tmp_path / "p", "--from", expression, "--wells", wells, "--scores", "score", *tiny)
    found = {}
    for rule in ("well", "compound"):
        run = ["--split", rule, "--folds", 4, "--epochs", 40, "--learning-rate", 0.01, "--batch-size", 8]
        ok("train", tmp_path / "p", *run, "--threads", 1, "--model", rule)
        rows = ok("predict", tmp_path / "p", "--model", rule).rows.filter(~pl.col("is_control"))
        assert rows["held_out"].all()
        found[rule] = float(np.corrcoef(rows["score_predicted"], rows["score_measured"])[0, 1])
    assert found["well"] > 0.5
    assert found["compound"] < 0.4


def test_a_split_of_the_users_own(demo, copy, dpf, ok, folded):
    project = copy(demo)
    splits = pl.read_parquet(folded / "models/default/splits.parquet")
    splits.write_csv(project / "mine.csv")
    words = ["--set", "train.split=file", "--set", "train.split_file=mine.csv", "--epochs", 1]
    ok("train", project, *words)
    assert (
        pl.read_parquet(project / "models/default/splits.parquet")
        .sort("member", "well_id")
        .equals(splits.sort("member", "well_id"))
    )
    splits.head(100).write_csv(project / "mine.csv")
    ran = dpf("train", project, *words)
    assert ran.code == 4
    assert "mine.csv" in ran.err
    assert "lacks" in ran.err
    (project / "mine.csv").unlink()
    assert "the split file is not there" in dpf("train", project, *words).err
    (project / "mine.csv").write_text("well,part\na,train\n", encoding="utf-8")
    assert "lacks columns" in dpf("train", project, *words).err


def test_whole_plates_can_be_held_out(demo, copy, ok):
    project = copy(demo)
    ok("train", project, "--split", "plate", "--folds", 2, "--epochs", 1)
    plates = pl.read_parquet(project / "inputs/wells.parquet").select("well_id", "plate")
    held_out = pl.read_parquet(project / "models/default/splits.parquet").filter(pl.col("part") == "held_out")
    by_member = held_out.join(plates, on="well_id").group_by("member").agg(pl.col("plate").n_unique())
    assert by_member["plate"].to_list() == [1, 1]


def test_missing_targets_are_masked(screen, ok, tmp_path, dpf):
    """Half of a score, a third of the labels and all of one well are not known: every well stays."""

    def change(expression: pl.DataFrame, wells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        row = pl.int_range(pl.len())
        return expression, wells.with_columns(
            viability=pl.when(row % 2 == 0).then("viability"),
            active=pl.when(row % 3 != 0).then("active"),
            size=pl.when(row != 4).then("size"),
        )

    project = tmp_path / "p"
    files = screen(change)
    tiny = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    words = ["--scores", "viability,size", "--label", "active"]
    assert "14 missing" in ok("init", project, *files.words, *words).out
    rows = ok("train", project, *tiny, "--folds", 2, "--epochs", 2).rows
    assert rows["validation_mse"].is_finite().all()
    predictions = ok("predict", project).rows
    assert predictions.height == 28
    assert predictions["viability_predicted"].null_count() == 0
    assert predictions["viability_measured"].null_count() == 14
    assert predictions["active_measured"].null_count() == 10
    for command in ("latent", "rank", "explain", "export"):
        ok(command, project)
    correlations = dpf("latent", project, "--format", "json").envelope["data"]["correlations"]
    assert {row["measured"]: row["n"] for row in correlations} == {"viability": 14, "size": 27, "active": 18}


@pytest.mark.parametrize(
    ("targets", "has_axis"),
    [
        (["--scores", "viability"], True),
        (["--scores", "viability,size"], False),
        (["--label", "active"], True),
        (["--activation", "size"], True),
        (["--scores", "viability", "--activation", "size"], True),
    ],
    ids=lambda value: "-".join(word.strip("-") for word in value) if isinstance(value, list) else "",
)
def test_any_set_of_targets_works_through_every_command(screen, ok, dpf, tmp_path, targets, has_axis):
    project = tmp_path / "p"
    ok("init", project, *screen().words, *targets)
    tiny = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    ok("train", project, *tiny, "--epochs", 2, "--preset", "classic")
    predicted = ok("predict", project).rows
    latent = ok("latent", project).rows
    ranked = ok("rank", project)
    ok("explain", project)
    ok("info", project)
    ok("export", project)
    ok("export", project, "--output", project / "h", "--format", "h5ad")
    for column in ("activation_axis", "on_axis_share"):
        assert (column in latent.columns) == has_axis
        assert (column in predicted.columns) == has_axis
    for column in ("direction", "activation", "on_axis", "pattern_cosine"):
        assert (column in ranked.rows.columns) == has_axis
    if not has_axis:
        assert "no direction" in ranked.err
    classic = dpf("export", project, "--output", project / "c", "--layout", "classic")
    assert classic.code == (0 if "--activation" in targets else 3)
    if classic.code:
        assert "the classic layout needs a model with an activation score" in classic.err


def test_no_target_at_all(demo, copy, dpf):
    project = copy(demo)
    words = ["--set", "targets.scores=[]", "--set", "targets.label=", "--set", 'targets.activation=""']
    ran = dpf("train", project, *words)
    assert ran.code == 3
    assert "no target to learn" in ran.err
    ran = dpf("train", project, "--set", 'targets.scores=["Tscoer"]')
    assert ran.code == 3
    assert "Tscoer (nearest: Tscore)" in ran.err


def test_a_full_disk_keeps_the_old_model(trained, copy, dpf, monkeypatch):
    project = copy(trained)
    before = (project / MODEL).read_bytes()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == "last.safetensors":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    ran = dpf("train", project, "--seed", 9, "--epochs", 1, "--overwrite")
    assert ran.code == 3
    assert "No space left on device" in ran.err
    assert "free some space" in ran.err
    assert (project / MODEL).read_bytes() == before
    assert not [path for path in (project / "models/default").iterdir() if ".part" in path.name]


def test_a_folder_that_cannot_be_written(trained, copy, dpf, monkeypatch):
    import os

    project = copy(trained)
    real = os.open

    def refuse(path, flags, *rest, **options):
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr("os.open", refuse)
    ran = dpf("train", project)
    assert ran.code == 3
    assert "cannot write in a folder of the project" in ran.err


def test_values_that_blow_up_end_in_an_error_and_not_in_a_model(demo, copy, dpf):
    project = copy(demo)
    ran = dpf("train", project, "--learning-rate", "1e30", "--epochs", 3)
    assert ran.code == 4
    assert "no longer a finite number" in ran.err
    assert "--learning-rate" in ran.err
    assert not (project / MODEL).exists()


def test_damaged_inputs_are_named(demo, copy, dpf):
    project = copy(demo)
    expression, wells = project / "inputs/expression.parquet", project / "inputs/wells.parquet"
    whole = expression.read_bytes()
    expression.write_bytes(whole[: len(whole) // 2])
    ran = dpf("train", project)
    assert ran.code == 4
    assert "expression.parquet" in ran.err
    expression.write_bytes(whole)
    pl.read_parquet(wells).write_parquet(wells)
    ran = dpf("train", project)
    assert ran.code == 3
    assert "was not written by dpf" in ran.err
    shutil.copy(expression, wells)
    ran = dpf("train", project)
    assert ran.code == 3
    assert "of another kind" in ran.err


def test_the_history_is_what_was_said(trained):
    history = pl.read_parquet(trained / "models/default/history.parquet")
    total = history["validation_mse"] + history["validation_bce"] + 0.2 * history["validation_reg"]
    np.testing.assert_allclose(total, history["validation_total"], rtol=1e-5)
    assert io.StringIO(history.write_csv()).readline().startswith("member,epoch,")


def diverging(monkeypatch, calls_before: int) -> None:
    """Let the loss be NaN in one epoch, by the expression of one training well."""
    from dpf.training.member import MemberTraining

    real, calls = MemberTraining.run_epoch, []

    def run_epoch(self: MemberTraining, progress: Callable[[int], None] | None = None) -> object:
        calls.append(self.key)
        if len(calls) > calls_before:
            self.data.expression[self.data.train[0]] = float("nan")
        return real(self, progress)

    monkeypatch.setattr(MemberTraining, "run_epoch", run_epoch)


def test_a_training_that_diverges_keeps_its_best_weights(trained, copy, dpf, ok, monkeypatch):
    project = copy(trained)
    before = (project / MODEL).read_bytes()
    monkeypatch.setattr("dpf.workflows.train.train._SECONDS_BETWEEN_SAVES", 0.0)
    diverging(monkeypatch, calls_before=5)
    ran = dpf("train", project, "--folds", 3, "--overwrite")
    monkeypatch.undo()
    kept = project / "models/default/diverged.safetensors"
    assert (ran.code, ran.out) == (4, "")
    assert "the training loss is no longer a finite number" in ran.err
    assert "where: epoch 3 of 3, member 1" in ran.err
    first = next(iter(pl.read_parquet(project / "inputs/wells.parquet")["well_id"]))
    assert f"not finite in well {first[:2]}" in ran.err
    assert str(kept) in ran.err.replace("\n", "")
    assert (project / MODEL).read_bytes() == before  # the model that was there stays
    assert not (project / "models/default/resume.safetensors").exists()
    header = read_model_header(kept)
    assert len(header["best_epochs"]) == len(header["parts"]) == header["members"] == 2
    told = dpf("info", project, "--format", "json").envelope["data"]["diverged"]
    assert [(one["path"], one["where"], one["stale"]) for one in told] == [
        ("models/default/diverged.safetensors", "epoch 3 of 3, member 1", False)
    ]
    assert told[0]["best_epochs"] == header["best_epochs"]
    assert "the loss stopped being a number in epoch 3 of 3, member 1" in ok("info", project).out
    predicted = ok("predict", project, "--model", kept).rows
    assert predicted.height == 48
    assert predicted["Tscore_predicted"].is_finite().all()
    ok("train", project, "--epochs", 1, "--overwrite")
    assert not kept.exists()
    assert dpf("info", project, "--format", "json").envelope["data"]["diverged"] == []


def test_a_training_that_diverges_at_once_keeps_nothing(demo, copy, dpf):
    project = copy(demo)
    ran = dpf("train", project, "--learning-rate", 1e30)
    assert ran.code == 4
    assert "epoch 1 of 3" in ran.err
    assert "no epoch before it was good: nothing is kept" in ran.err
    assert files(project / "models/default") == [".lock"]


def test_a_batch_larger_than_the_screen_is_one_step_an_epoch(demo, copy, ok):
    ran = ok("train", copy(demo), "--batch-size", 1000, "--epochs", 1)
    assert "train.batch_size = 1000 is more than the 38 training wells: one step an epoch" in ran.err
