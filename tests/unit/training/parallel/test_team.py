"""Several processes take the steps that one would: shares, masks, sums; and which may report when it goes wrong."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from dpf.config.settings import ComputeSettings
from dpf.errors import DeviceError, ProjectError, UsageError
from dpf.training.compute.device import Compute, resolve_compute
from dpf.training.inference import passes
from dpf.training.parallel import team as distributed
from dpf.training.parallel.ranks import Ranks, ranks_from_environment
from dpf.training.parallel.team import Team
from tests.support import tiny


@given(st.integers(0, 70), st.integers(1, 20), st.integers(1, 9))
def test_every_well_of_a_batch_is_computed_once_and_parts_do_not_depend_on_the_ranks(wells, size, world):
    whole = list(passes(wells, size, range(wells)))
    assert [one.wells.stop - one.wells.start for one in whole] == [
        len(p) for p in torch.arange(wells).split(size) if wells
    ]
    seen: list[int] = []
    for rank in range(world):
        share = Team(Ranks(rank, world)).share(wells)
        assert len(share) in (wells // world, wells // world + 1)
        for one in passes(wells, size, share):
            rows = range(one.wells.start, one.wells.stop)
            seen += rows
            part = whole[one.part]
            assert one.whole == part.whole
            assert one.first == rows.start - part.wells.start
            assert set(rows) <= set(range(part.wells.start, part.wells.stop)) & set(share)
    assert seen == list(range(wells))


class _Together(Team):
    """A team of threads of this process: sums through a barrier instead of a network."""

    meeting: threading.Barrier
    given: dict

    def add(self, values):
        self.given[self.ranks.rank] = values.clone()
        self.meeting.wait()
        values.copy_(sum(self.given[rank] for rank in range(self.ranks.world)))
        self.meeting.wait()


def team_of(world):
    meeting, shared, store = threading.Barrier(world, timeout=60), {}, dist.HashStore()
    for rank in range(world):
        team = _Together(Ranks(rank, world), store)
        object.__setattr__(team, "meeting", meeting)
        object.__setattr__(team, "given", shared)
        yield team


def trained(team, epochs=3, wells_at_once=5, **settings):
    compute = Compute(torch.device("cpu"), "fp32", torch.float32, wells_at_once * tiny.GENES)
    training = tiny.training(compute=compute, **settings)
    training.team = team
    return training, [training.run_epoch() for _ in range(epochs)]


@pytest.mark.parametrize(
    ("world", "settings"),
    [
        (2, {"batch_size": 10}),  # the ranks' shares are the parts
        (2, {"batch_size": 8}),  # a part is shared by both
        (3, {"batch_size": 8, "clip": 0.1}),
        (3, {"batch_size": 2}),  # a rank without a well
        (2, {"batch_size": 1000}),
    ],
)
def test_ranks_train_as_one_process_does(world, settings):
    one, expected = trained(Team(), **settings)
    with ThreadPoolExecutor(world) as pool:
        several = list(pool.map(lambda team: trained(team, **settings), team_of(world)))
    assert len({tiny.digest(training.network.state_dict()) for training, _ in several}) == 1
    for training, records in several:
        for record, other in zip(records, expected, strict=True):
            assert record.train_total == pytest.approx(other.train_total, rel=1e-5)
            assert record.validation == pytest.approx(other.validation, rel=1e-5)
            torch.testing.assert_close(record.prediction.scores, other.prediction.scores, rtol=1e-4, atol=1e-4)
        # Adam's first steps are the gradient's sign: the keys' bias, whose gradient is rounding only, may go apart.
        pairs = list(zip(training.network.parameters(), one.network.parameters(), strict=True))
        apart = sum(int(((a - b).abs() > 1e-4).sum()) for a, b in pairs)
        assert apart <= 0.02 * sum(a.numel() for a, _ in pairs)


def test_without_the_shared_masks_it_would_not_be_the_same(monkeypatch):
    """The tolerance above is small beside what other dropout masks would do."""
    monkeypatch.setattr("dpf.training.member.Rows", lambda _first, _whole: None)
    expected = trained(Team(), batch_size=8)[1]
    with ThreadPoolExecutor(2) as pool:
        (_, records), _ = pool.map(lambda team: trained(team, batch_size=8), team_of(2))
    assert records[-1].train_total != pytest.approx(expected[-1].train_total, rel=1e-4)


def test_ranks_that_drift_apart_are_reported():
    def run(team):
        training = tiny.training()
        training.team = team
        if team.ranks.rank == 1:
            next(training.network.parameters()).data[0] += 1e-7
        training.check_agreement()

    with ThreadPoolExecutor(2) as pool, pytest.raises(ProjectError, match="the ranks of this run differ") as caught:
        list(pool.map(run, team_of(2)))
    assert caught.value.where == "member 0 after epoch 0"
    assert caught.value.found.startswith('weights: "')
    assert "in rank 0" in caught.value.found
    assert "in rank 1" in caught.value.found


def test_settings_that_differ_are_named_by_every_rank():
    def run(team):
        identity = {"inputs": "abc", "train": {"epochs": 3 + (team.ranks.rank == 2), "seed": 1}}
        with pytest.raises(ProjectError) as caught:
            team.agree("settings", identity)
        return caught.value.found

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(run, team_of(3))) == {"train.epochs: 3 in rank 0, 4 in rank 2"}


def test_rank_0_decides():
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda team: team.from_rank_0(team.ranks.rank == 0), team_of(3))) == [True] * 3
        assert list(pool.map(lambda team: team.from_rank_0(team.ranks.rank != 0), team_of(3))) == [False] * 3
    assert Team().from_rank_0(True)


def test_one_process_reports():
    teams = list(team_of(3))
    assert [team.may_report() for team in (*teams[1:], teams[0])] == [True, False, False]
    assert Team().may_report()


@pytest.mark.parametrize("signal", [distributed._LostError, KeyboardInterrupt])
def test_a_process_without_heartbeat_that_has_not_signed_off_is_lost(monkeypatch, signal):
    monkeypatch.setattr(distributed, "_LOST_SECONDS", 0.3)
    team, *_ = team_of(3)
    team.store.set("ended/1", "")
    with pytest.raises(DeviceError, match="rank 2 of 3 was lost: killed, or crashed"), team.together():
        raise signal


def test_where_all_are_alive_an_interrupt_is_an_interrupt(monkeypatch):
    monkeypatch.setattr(distributed, "_HEARTBEAT_SECONDS", 0.01)
    ours, other = team_of(2)
    with other._heartbeat(), pytest.raises(KeyboardInterrupt), ours.together():
        raise KeyboardInterrupt
    assert ours.store.check(["ended/0"])


def test_an_error_of_ones_own_is_that_error():
    team, _ = team_of(2)
    with pytest.raises(DeviceError, match="mine"), team.together():
        raise DeviceError("mine")
    assert team.store.check(["ended/0"])


FOUR = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost", "MASTER_PORT": "1",
}  # fmt: skip


def test_the_place_among_the_processes_is_what_torchrun_says():
    assert ranks_from_environment({}) == ranks_from_environment({"WORLD_SIZE": "1"}) == Ranks()
    assert ranks_from_environment(FOUR) == Ranks(3, 4, 1, 2)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"RANK": ""}, "missing: RANK"),
        ({"MASTER_ADDR": "", "LOCAL_RANK": ""}, "missing: LOCAL_RANK, MASTER_ADDR"),
        ({"RANK": "4"}, "RANK=4, WORLD_SIZE=4"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
        ({"LOCAL_WORLD_SIZE": "1"}, "LOCAL_WORLD_SIZE=1"),
    ],
)
def test_an_environment_that_is_not_whole_is_refused(changes, text):
    with pytest.raises(UsageError) as caught:
        ranks_from_environment(FOUR | changes)
    assert text in caught.value.found
    assert "torchrun" in caught.value.hint


@pytest.mark.parametrize(("name", "rank", "device"), [("auto", 1, "cuda:1"), ("cuda", 0, "cuda:0"), ("cpu", 1, "cpu")])
def test_each_process_takes_a_gpu_of_its_own(monkeypatch, name, rank, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    compute = resolve_compute(ComputeSettings(device=name, precision="fp32"), Ranks(rank + 2, 4, rank, 2))
    assert str(compute.device) == device


@pytest.mark.parametrize(
    ("name", "ranks", "text"),
    [
        ("cuda", Ranks(2, 4, 2, 4), r"more processes on this machine than GPUs[\s\S]*4 processes, 2 GPUs"),
        ("auto", Ranks(3, 4, 3, 4), "more processes on this machine than GPUs"),
        ("cuda:1", Ranks(0, 2, 0, 2), r"would share one GPU[\s\S]*--device cuda:1[\s\S]*use --device cuda"),
    ],
)
def test_processes_that_would_share_a_gpu_are_refused(monkeypatch, name, ranks, text):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    with pytest.raises(DeviceError, match=text):
        resolve_compute(ComputeSettings(device=name), ranks)


def test_one_process_a_machine_may_name_its_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    compute = resolve_compute(ComputeSettings(device="cuda:1", precision="fp32"), Ranks(1, 2, 0, 1))
    assert str(compute.device) == "cuda:1"


def test_processes_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    resolve_compute(ComputeSettings(device="cpu", precision="fp32"), Ranks(0, 8, 0, 4))
    assert asked == [1]
    resolve_compute(ComputeSettings(device="cpu", precision="fp32"), Ranks(0, 4, 0, 2))
    assert asked == [1, 3]


def test_no_nccl_is_said(monkeypatch):
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    with pytest.raises(DeviceError, match="no NCCL"):
        next(team_of(2)).connect(torch.device("cuda:0"))


def test_a_process_alone_needs_nobody():
    team = Team()
    values = torch.ones(3)
    team.add(values)
    team.agree("settings", {"a": 1})
    team.connect(torch.device("cpu"))
    with team.together():
        assert values.tolist() == [1, 1, 1]
    assert team.alone
    assert team.is_rank_0
    assert dataclasses.replace(team, ranks=Ranks(1, 2)).is_rank_0 is False
