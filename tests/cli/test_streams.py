"""Results go to stdout and nothing else does; every kind of failure has its exit code; pipes and switches behave."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys

import polars as pl
import pytest

from dpf import __version__
from dpf.cli.session import Session, session

pytestmark = pytest.mark.usefixtures("sketches")

TABLES = ("predict", "latent", "rank", "explain")


def test_version_and_help(dpf):
    assert dpf("--version") == (0, f"dpf {__version__}\n", "")
    ran = dpf("--help")
    assert ran.code == 0
    assert ran.err == ""
    for command in ("init", "check", "train", "evaluate", "predict", "latent", "rank", "explain", "info", "export"):
        assert f" {command} " in ran.out


@pytest.mark.parametrize("command", TABLES)
def test_csv_is_all_there_is_on_stdout(folded, told, command):
    ran = told(command)
    assert ran.rows.height == {"rank": 20, "explain": 24}.get(command, 48)
    assert told(command, "--format", "csv").out == ran.out
    assert f"{folded / 'results/default'}" in ran.err


@pytest.mark.parametrize("command", TABLES)
def test_json_is_one_envelope(told, command):
    ran = told(command, "--format", "json")
    envelope = ran.envelope
    assert (ran.code, envelope["dpf"], envelope["command"], envelope["status"]) == (0, 1, command, "ok")
    assert len(envelope["data"]["rows"]) == told(command).rows.height
    assert "errors" not in envelope


@pytest.mark.parametrize("command", TABLES)
def test_a_table_names_the_columns_it_hides(folded, dpf, command):
    ran = dpf(command, folded, "--format", "table", "--top", 3)
    assert ran.code == 0
    assert not ran.out.startswith("{")
    assert "," not in ran.out.splitlines()[1]


def test_json_rows_are_the_csv_rows(told):
    rows = told("rank", "--format", "json").envelope["data"]["rows"]
    csv = told("rank").rows
    assert [row["compound"] for row in rows] == csv["compound"].to_list()
    assert [row["t"] for row in rows] == csv["t"].to_list()


def test_top_shortens_the_output_and_not_the_file(folded, dpf):
    assert dpf("rank", folded, "--top", 3).rows.height == 3
    assert pl.read_parquet(folded / "results/default/ranking.parquet").height == 20


def test_info_in_text_and_in_json(folded, told, dpf):
    told("rank")
    text = dpf("info", folded)
    assert text.code == 0
    assert text.err == ""
    assert "48 x 24 genes" in text.out
    data = dpf("info", folded, "--format", "json").envelope["data"]
    assert data["summary"]["wells"] == 48
    assert [model["name"] for model in data["models"]] == ["default"]
    assert all(result["stale"] is None for result in data["results"])


def test_info_shows_every_setting_with_its_meaning(demo, dpf):
    text = dpf("info", demo, "--settings").out
    assert "# passes over the training wells\nepochs = 3" in text
    assert dpf("info", demo, "--settings", "--format", "json").envelope["data"]["train"]["epochs"] == 3


def test_init_and_train_speak_json_too(dpf, tmp_path):
    ran = dpf("init", tmp_path / "p", "--demo", "--wells", 24, "--genes", 20, "--format", "json")
    assert ran.envelope["data"]["summary"]["wells"] == 24
    small = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--epochs", 1]
    trained = dpf("train", tmp_path / "p", *small, "--threads", 1, "--format", "json")
    assert trained.envelope["data"]["rows"][0]["best_epoch"] in (0, 1)
    assert "epoch   1/1" in trained.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["rank"], 2, "Missing argument"),
        (["info", "PROJECT", "--format", "csv"], 2, "this result is no table"),
        (["rank", "demo", "--no-such"], 2, "No such option"),
        (["rank", "PROJECT", "--sort", "nothing"], 2, "no such column to sort by"),
        (["latent", "PROJECT", "--colour", "nothing"], 2, "no such column to colour by"),
        (["latent", "PROJECT", "--member", "3"], 2, "expected: 0 to 2"),
        (["explain", "PROJECT", "--target", "latent_6"], 2, "latent_0 ... latent_5"),
        (["rank", "PROJECT", "--model", "../default"], 5, "no such model file"),
        (["rank", "PROJECT", "--model", ".hidden"], 2, "a model's name is a folder's name"),
        (["rank", "absent"], 3, "no such project"),
        (["rank", "PROJECT", "--model", "other"], 3, "trained models: default"),
        (["train", "PROJECT", "--folds", "30"], 4, "too little for 30 folds"),
        (["predict", "PROJECT", "--model", "absent.safetensors"], 5, "no such model file"),
        (["train", "PROJECT", "--resume"], 5, "there is no interrupted run to resume"),
        (["train", "PROJECT", "--device", "cuda:7"], 6, "there is no device 'cuda:7' here"),
        (["train", "PROJECT", "--device", "abacus"], 6, "'abacus' is not a device"),
    ],
)
def test_exit_codes(folded, dpf, words, code, text):
    ran = dpf(*(str(folded) if word == "PROJECT" else word for word in words))
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert text in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err


def test_an_error_is_an_envelope_too(folded, dpf):
    ran = dpf("rank", folded, "--sort", "nothing", "--format", "json")
    assert ran.code == 2
    envelope = ran.envelope
    assert (envelope["status"], envelope["command"]) == ("error", "rank")
    (error,) = envelope["errors"]
    assert error["kind"] == "usage"
    assert error["found"] == "nothing"
    assert "compound" in error["expected"]
    assert "error: no such column to sort by" in ran.err


def test_a_bug_is_exit_code_1_and_shows_its_traceback_on_request(folded, dpf, monkeypatch):
    def fail(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("dpf.workflows.rank.rank.rank_project", fail)
    ran = dpf("rank", folded, "--format", "json")
    assert ran.code == 1
    assert "ZeroDivisionError: planted" in ran.err
    assert "dpf --debug rank" in ran.err
    assert ran.envelope["errors"][0]["kind"] == "internal"
    with pytest.raises(ZeroDivisionError), session("rank", debug=True):
        fail()


def test_ctrl_c_is_130(folded, dpf, monkeypatch):
    state = folded / "models/default/resume.safetensors"

    def interrupt(*_args: object, saves: bool = False, **_kwargs: object) -> None:
        if saves:
            state.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("dpf.workflows.train.train.train_project", interrupt)
    ran = dpf("train", folded)
    assert (ran.code, ran.out) == (130, "")
    assert "interrupted; nothing of it was saved yet" in ran.err
    monkeypatch.setattr("dpf.workflows.train.train.train_project", functools.partial(interrupt, saves=True))
    try:
        ran = dpf("train", folded)
    finally:
        state.unlink()
    assert ran.code == 130
    assert f"interrupted; go on with: dpf train {folded} --resume" in ran.err
    assert dpf("train", folded, "--format", "json").envelope["errors"][0]["kind"] == "interrupted"


def test_running_out_of_memory_is_6(folded, dpf, monkeypatch):
    def exhaust(*_args: object, **_kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dpf.model.network.PerturbFormer.predict", exhaust)
    ran = dpf("predict", folded, "--model", folded / "models/default/last.safetensors")
    assert ran.code == 6, ran.err
    assert "memory" in ran.err


def test_nan_and_infinity_never_reach_json():
    stream, stdout = io.StringIO(), sys.stdout
    sys.stdout = stream
    try:
        Session("rank", "json").envelope({"a": [float("nan"), {"b": float("inf")}, (1.5, None, True)]})
    finally:
        sys.stdout = stdout
    assert json.loads(stream.getvalue())["data"] == {"a": [None, {"b": None}, [1.5, None, True]]}


def test_square_brackets_in_a_compound_are_no_markup(capsys):
    from dpf.cli.display.tables import print_table

    print_table(pl.DataFrame({"compound": ["[bold]x[/bold]", r"a\[b]", "[/]"], "n": [1, 2, 3]}), "ranking")
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in shown
    assert r"a\[b]" in shown
    assert "[/]" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe that ends is another thing there")
@pytest.mark.parametrize("words", [["rank"], ["info", "--settings"]])
def test_a_pipe_that_ends_early_is_no_error(folded, start, words):
    with start(words[0], folded, *words[1:], bufsize=0, text=False) as running:
        running.stdout.read(1)
        running.stdout.close()
        err = running.stderr.read().decode()
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "BrokenPipe" not in err
    assert running.returncode == 0


def test_as_a_process(folded, process):
    ran = process("rank", folded, "--top", 2)
    assert ran.rows.height == 2
    ran = process("rank", folded, "--format", "yaml")
    assert ran.code == 2
    assert ran.out == ""


def test_rank_on_kept_outputs_does_not_import_torch(folded, told):
    told("rank")
    code = (
        "import sys\nfrom dpf.__main__ import main\n"
        f"sys.argv = ['dpf', 'rank', {str(folded)!r}, '--top', '1']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'polars' in sys.modules\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
