"""Which of a run's processes this one is: what `torchrun` says in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dpf.errors import UsageError

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """A process's place among those that were started together; by default it is alone.

    Attributes
    ----------
    rank, world
        Its number among all `world` processes, from 0.
    local_rank, local_world
        Its number among the processes of its machine, from 0.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    @property
    def is_rank_0(self) -> bool:
        """Whether this is the one process that writes files and reports."""
        return self.rank == 0


ALONE = Ranks()


def ranks_from_environment(environment: Mapping[str, str]) -> Ranks:
    """The place that `torchrun` gave this process; alone where WORLD_SIZE is 1 or not set.

    Raises
    ------
    UsageError
        WORLD_SIZE says that there are others, and what is needed to find them is missing or contradicts itself.
    """
    if environment.get("WORLD_SIZE", "1") in ("", "1"):
        return Ranks()
    hint = "start the processes with torchrun, or unset WORLD_SIZE to run one process"
    if missing := [name for name in (*_NAMES, *_ADDRESS) if not environment.get(name)]:
        raise UsageError(
            "WORLD_SIZE is set, but not all that torchrun sets with it",
            found=f"missing: {', '.join(missing)}",
            hint=hint,
        )
    given = {name: environment[name] for name in _NAMES}
    try:
        ranks = Ranks(*(int(text) for text in given.values()))
        sound = 0 <= ranks.rank < ranks.world and 0 <= ranks.local_rank < ranks.local_world <= ranks.world
    except ValueError:
        sound = False
    if not sound:
        found = ", ".join(f"{name}={text}" for name, text in given.items())
        raise UsageError("the environment names a process that cannot be", found=found, hint=hint)
    return ranks
