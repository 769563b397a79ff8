"""Processes that train whole members each, side by side: what they say to each other, and how a loss is noticed.

No gradient is exchanged, so there is nothing to wait for and no collective that could break: a member may take hours
longer than another. All that is said goes through the store that all share, whose values anyone can read at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dpf.training.parallel.ranks import Ranks
from dpf.training.parallel.team import Team, not_at_one

# Looking at everybody takes two requests a process.
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_QUESTIONS = 0.1
#: A process without heartbeat for so long is lost. Where torchrun sees the loss, it tells so much earlier; the
#: patience is for what may hold up a whole process: a swapping machine, a stalled file system.
_SILENT_SECONDS = 60.0
#: A process that ends early tells why; so long the others wait for it, so that they need not.
_SECONDS_TO_SPEAK = 5.0
#: One that has not begun yet: a cluster's nodes may need minutes to load a program.
_BEGINNING_SECONDS = 600.0
_SECONDS_TO_LEAVE = 10.0
_OVER = "over"


def _key(name: str) -> str:
    """Where in the store it stands."""
    return f"beside/{name}"


class Beside:
    """The processes of one training, each with members of its own, seen from one of them.

    Parameters
    ----------
    team
        All of them; not one alone.
    """

    def __init__(self, team: Team) -> None:
        assert team.store is not None
        self._team, self._ranks, self._store = team, team.ranks, team.store
        self._looked = float("-inf")
        self._beats: dict[int, tuple[int, float]] = {}  # of every other: how many, and when that was first seen
        self._told, self._heard = 0, [0] * self._ranks.world

    @property
    def ranks(self) -> Ranks:
        """The place of this process."""
        return self._ranks

    def look(self) -> None:
        """Make sure that all others are still at work; cheap, to be called often.

        Raises
        ------
        DeviceError
            One is not: it has ended, and has told why, or it has not been heard of for a minute.
        """
        if time.monotonic() - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        for rank in range(self._ranks.world):
            if rank == self._ranks.rank:
                continue
            beats = self._team.heartbeats(rank)
            if beats is None:
                self._has_ended(rank)
            elif self._beats.get(rank, (-1, 0.0))[0] != beats:
                self._beats[rank] = (beats, self._looked)
            elif self._looked - self._beats[rank][1] > (_SILENT_SECONDS if beats else _BEGINNING_SECONDS):
                raise self._team.lost([rank], f"no sign of life for {self._looked - self._beats[rank][1]:.0f} s")

    def _has_ended(self, rank: int) -> None:
        if self.said(_OVER):
            return
        end = time.monotonic() + _SECONDS_TO_SPEAK
        while not self._team.spoken() and time.monotonic() < end:  # torchrun's signal may come meanwhile, too
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        raise self._team.lost([rank], "it has ended before the others")

    def say(self, name: str, value: Mapping[str, Any] | None = None) -> None:
        """Let all others know."""
        self._store.set(_key(name), json.dumps(value or {}))

    def said(self, name: str) -> bool:
        """Whether that has been said."""
        return bool(self._store.check([_key(name)]))

    def wait_for(self, name: str, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
        """What is said by that name, as soon as it is; hours may pass.

        Raises
        ------
        DeviceError
            Another process has ended or was lost.
        """
        while not self.said(name):
            self.look()
            if meanwhile:
                meanwhile()
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        found: dict[str, Any] = json.loads(self._store.get(_key(name)))
        return found

    def agree(self, occasion: str, mine: Mapping[str, Any]) -> None:
        """As `Team.agree`: make sure that all processes have the same values; every process must ask.

        Raises
        ------
        ProjectError
            One has others.
        DeviceError
            Another process has ended or was lost.
        """
        self.say(f"{occasion}/{self._ranks.rank}", mine)
        others = [self.wait_for(f"{occasion}/{rank}") for rank in range(self._ranks.world)]
        for rank, other in enumerate(others):
            if other != others[0]:
                raise not_at_one(occasion, others[0], other, rank)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message to the first process."""
        self._store.set(_key(f"told/{self._ranks.rank}/{self._told}"), json.dumps(message))
        self._told = int(self._store.add(_key(f"told/{self._ranks.rank}"), 1))

    def hear(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The messages since the last time, and who sent each; only the first process may ask."""
        for rank in range(1, self._ranks.world):
            for number in range(self._heard[rank], int(self._store.add(_key(f"told/{rank}"), 0))):
                key = _key(f"told/{rank}/{number}")
                message = json.loads(self._store.get(key))
                self._store.delete_key(key)
                self._heard[rank] = number + 1
                yield rank, message

    def over(self, found: Mapping[str, Any]) -> None:
        """Say that the model is written, and what was found: everyone may leave, the first process last.

        The store may be in this process, and the others have to hear of it.
        """
        self.say(_OVER, found)
        end = time.monotonic() + _SECONDS_TO_LEAVE
        while time.monotonic() < end and any(
            self._team.heartbeats(rank) is not None for rank in range(self._ranks.world) if rank != self._ranks.rank
        ):
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)

    def wait_until_over(self) -> dict[str, Any]:
        """What the first process found."""
        return self.wait_for(_OVER)

    def diverges(self) -> None:
        """Say that a member's loss is not finite, which ends the run; return if no other has said so before.

        Else wait to be ended: one process tells of it.
        """
        if int(self._store.add(_key("diverged"), 1)) > 1:
            self.wait_until_over()

    @property
    def diverged(self) -> bool:
        """Whether a process has said so. False where the store has gone with it."""
        try:
            return self.said("diverged")
        except RuntimeError:
            return False
