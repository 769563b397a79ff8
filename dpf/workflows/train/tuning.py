"""`dpf train --tune`: every member chooses settings for itself, and an interrupted search goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dpf.files import canonical_json
from dpf.project.directory import ModelFolder
from dpf.tables.schemas.registry import polars_schema
from dpf.tables.storage import read_about, read_table, write_table
from dpf.training.divergence import DivergedError
from dpf.training.tuning import Trial, draw_trials, rungs, successive_halving
from dpf.workflows.train.members import PreparedMember
from dpf.workflows.train.run import TrainingRun

_KIND = "tuning"


def interrupted_search(run: TrainingRun) -> bool:
    """Whether there is a search of this very run to go on with."""
    path = run.folder.running_tuning
    return path.is_file() and read_about(path, _KIND).get("identity") == canonical_json(run.identity)


class Tuning:
    """The search of a run's members. Every trial is a row of `tuning.running.parquet` as soon as it has ended.

    `validation_total` is the lowest over the trial's epochs, infinite where it diverged.
    """

    def __init__(self, run: TrainingRun, *, resume: bool) -> None:
        self._run = run
        self._rows: list[dict[str, Any]] = []
        if resume and interrupted_search(run):
            self._rows = read_table(run.folder.running_tuning, _KIND).to_dicts()
        elif run.team.is_rank_0:
            run.folder.running_tuning.unlink(missing_ok=True)  # of another training

    def choose(self, prepared: PreparedMember) -> Trial:
        """The settings that do best on a member's validation wells; the network's weights are left as they were."""
        train, member = self._run.settings.train, prepared.member
        rng = np.random.default_rng([train.seed, member, train.tune])
        trials = draw_trials(train.tune, train, self._run.settings.model.dropout, rng)
        before = {name: value.detach().clone() for name, value in prepared.network.state_dict().items()}

        def loss_of(trial: Trial, rung: int, epochs: int) -> float:
            for row in self._rows:
                if (row["member"], row["rung"], row["number"]) == (member, rung, trial.number):
                    return float(row["validation_total"])
            prepared.network.load_state_dict(before)
            loss = _loss(prepared, trial, epochs)
            self._keep({"member": member, "rung": rung, "epochs": epochs, **trial._asdict(), "validation_total": loss})
            return loss

        best = successive_halving(trials, train.epochs, loss_of)
        prepared.network.load_state_dict(before)
        self._run.progress.log(f"member {member} chooses {_in_words(best)}")
        return best

    def _keep(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        run = self._run
        trials = rungs(run.settings.train.tune, run.settings.train.epochs)[row["rung"]].trials
        run.progress.log(
            f"member {row['member']}  rung {row['rung'] + 1} ({trials} trials)  {row['epochs']} epochs  "
            f"{_in_words(Trial(**{name: row[name] for name in Trial._fields}))}: "
            f"validation {row['validation_total']:.3f}"
        )
        if run.team.is_rank_0:
            _write(run, run.folder.running_tuning, pl.DataFrame(self._rows, schema=polars_schema(_KIND), orient="row"))


def join_searches(run: TrainingRun, members: Sequence[ModelFolder]) -> None:
    """Put the searches of members that were trained one by one together, as one run would have written them."""
    tables = [read_table(one.running_tuning, _KIND) for one in members if one.running_tuning.is_file()]
    if tables:
        _write(run, run.folder.tuning, pl.concat(tables))


def _write(run: TrainingRun, path: Path, table: pl.DataFrame) -> None:
    write_table(path, table, _KIND, {"identity": canonical_json(run.identity)})


def epochs_of_search(count: int, epochs: int) -> int:
    """How many epochs a member spends on its search; none where there is but one trial, the settings as they are."""
    return sum(rung.trials * rung.epochs for rung in rungs(count, epochs)) if count else 0


def _loss(prepared: PreparedMember, trial: Trial, epochs: int) -> float:
    training = prepared.training(trial, epochs)
    if training.data.initial is not None:
        training.evaluate_initial_regression()
    lowest = float("inf")
    try:
        while not training.finished:
            lowest = min(lowest, training.run_epoch().validation_total)
    except DivergedError:
        return float("inf")
    return lowest


def _in_words(trial: Trial) -> str:
    return (
        f"trial {trial.number} (learning rate {trial.learning_rate:.2g}, {trial.schedule}, weight decay "
        f"{trial.weight_decay:.2g}, dropout {trial.dropout:g}, batch {trial.batch_size})"
    )
