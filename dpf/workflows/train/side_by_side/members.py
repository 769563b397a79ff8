"""`compute.share = members`: processes that train whole members each, and the one model that comes of them.

Every process is alone with its members, so that their weights are those that one process would have trained, bit for
bit. It keeps its part of the run in a resumable state of its own in the model's folder, also when it has finished; the
first process shows what all tell, waits for all, and reads their members out of these files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from dpf.errors import ModelError, UsageError
from dpf.files import sha256_file
from dpf.project.lock import writing
from dpf.training.parallel.beside import Beside
from dpf.training.parallel.team import Team
from dpf.training.resume import RunState, SavedRun, discard_run, load_finished, save_run
from dpf.workflows.train.interrupted import prepare_parts, saved_part
from dpf.workflows.train.log import RunLog
from dpf.workflows.train.run import TrainingRun
from dpf.workflows.train.side_by_side.log import Listening, Telling, TellingLog
from dpf.workflows.train.time_left import OwnTime
from dpf.workflows.train.tuning import epochs_of_search, gather_searches

# A file system of several machines may show a file as it was; NFS for up to a minute, by default.
_SECONDS_TO_APPEAR = 180.0


def require_members(members: int, world: int) -> None:
    """Make sure that every process has a member to train.

    Raises
    ------
    UsageError
        There are more processes than members.
    """
    if world > members:
        raise UsageError(
            "there are more processes than members to share out",
            found=f"{world} processes, {members} member{'s' if members > 1 else ''}, --share members",
            hint=f"torchrun --nproc-per-node {members}, more --folds, or --share wells"
            if members > 1
            else "use --folds, or --share wells, which shares out the wells of each batch",
        )


@dataclass(frozen=True)
class SharedMembers:
    """One process's part of the run.

    Attributes
    ----------
    run
        The run as this process sees it: alone, with its members and files of its own.
    saved
        Where it goes on; None where it begins.
    log
        What it tells of its epochs.
    listening
        Hears what the others tell, in the first process.
    """

    whole: TrainingRun
    run: TrainingRun
    saved: SavedRun | None
    log: RunLog | TellingLog
    beside: Beside
    listening: Listening | None

    def gather(self, state: RunState) -> RunState | None:
        """Wait for all processes. In the first: the state that one process would have ended with; else None."""
        if not self.log.begun:  # nothing was left to train
            self.log.begin(None)
        digest = save_run(self.run.folder.resume, state, None, self.run.identity)
        self.beside.say(f"done/{self.beside.ranks.rank}", {"state": digest, "search": _digest_of_search(self.run)})
        if self.run.compute.device.type == "cuda":
            torch.cuda.empty_cache()  # others may share the card
        if self.listening is None:
            return None
        states = [state]
        for rank in range(1, self.beside.ranks.world):
            done = self.beside.wait_for(f"done/{rank}", self.listening.listen)
            states.append(self._finished(rank, done))
        self.listening.listen()
        train = self.whole.settings.train
        if epochs_of_search(train.tune, train.epochs):
            gather_searches(self.whole, parts_of(self.whole))
        return _in_order(states, len(self.whole.parts))

    def _finished(self, rank: int, done: dict[str, Any]) -> RunState:
        """What another process has written last."""
        part = _part(self.whole, rank)
        end = time.monotonic() + _SECONDS_TO_APPEAR
        while True:
            found = load_finished(part.folder.resume, part.identity, done["state"])
            if found and _digest_of_search(part) == done["search"]:
                return found
            if time.monotonic() > end:
                raise ModelError(
                    f"the finished members of rank {rank} are not in the project's folder",
                    where=part.folder.resume,
                    found="not what that process has written",
                    hint="let every machine see the same project folder; then go on with --resume",
                )
            self.beside.look()
            time.sleep(0.2)


@contextmanager
def shared_members(run: TrainingRun, *, resume: bool) -> Iterator[SharedMembers]:
    """One process's part of a run that is shared out by members.

    Raises
    ------
    ProjectError
        The processes are not at one; another program trains the same model.
    ModelError
        There is nothing to resume, it is damaged, or it is a run of other settings, inputs or processes.
    DeviceError
        Another process was lost.
    """
    beside, leads = Beside(run.team), run.team.leads
    beside.agree("start", run.identity)
    with writing(run.folder.path) if leads else nullcontext():
        if leads:
            prepare_parts(run, parts_of(run), resume=resume)
            beside.say("begun")
        else:
            beside.wait_for("begun")
        listening = Listening(beside, run.progress) if leads else None
        telling = Telling(beside)
        own = replace(_part(run, beside.ranks.rank), beside=beside, progress=listening or telling)
        if own.compute.device.type == "cuda":
            torch.cuda.set_device(own.compute.device)
        try:
            saved = saved_part(own) if resume else None
            rows = saved.state.history if saved else []
            log: RunLog | TellingLog
            if listening:
                log = RunLog.of(run, rows, own.members)
                listening.begin(log)
            else:
                time_left = OwnTime(run.wells, own.members, run.settings.train, run.started)
                log = TellingLog(beside, telling, time_left, own.members, rows)
            yield SharedMembers(run, own, saved, log, beside, listening)
        except BaseException:
            if beside.diverged:
                discard_run(own.folder.resume)  # it would end in the same place
            raise


def parts_of(run: TrainingRun) -> list[TrainingRun]:
    """The run as each of its processes sees it."""
    return [_part(run, rank) for rank in range(run.team.ranks.world)]


def _part(run: TrainingRun, rank: int) -> TrainingRun:
    return replace(
        run,
        folder=replace(run.folder, rank=rank),
        identity={**run.identity, "rank": rank},
        team=Team(),
        members=replace(run.team.ranks, rank=rank).deal(len(run.parts)),
        events=None,
    )


def _digest_of_search(run: TrainingRun) -> str:
    path = run.folder.running_tuning
    return sha256_file(path) if path.is_file() else ""


def _in_order(states: list[RunState], members: int) -> RunState:
    """The members of all processes, as one process would have trained them."""
    whole = RunState.fresh()
    for member in range(members):
        place, rank = divmod(member, len(states))
        state = states[rank]
        whole.best.append(state.best[place])
        whole.last.append(state.last[place])
        whole.best_epochs.append(state.best_epochs[place])
        whole.tuned.append(state.tuned[place])
        whole.history += [row for row in state.history if row["member"] == member]
    return whole
