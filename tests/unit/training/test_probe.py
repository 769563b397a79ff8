"""Measuring what a run will cost leaves the run as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dpf.errors import DeviceError
from dpf.training.compute.device import PassMemory
from dpf.training.probe import pass_memory, probe
from tests.support import tiny


def test_the_estimate_is_of_the_right_size():
    estimate = probe(tiny.training())
    assert 0 < estimate.seconds_per_well < 1
    assert 0.01 < estimate.gib < 100


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not inherit the peak of its parent")
def test_the_memory_is_that_of_the_process_itself():
    child = "from dpf.training.probe import process_peak_gib; print(process_peak_gib())"
    parent = (
        "import subprocess, sys; held = b'x' * 2**30; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", parent, child], capture_output=True, text=True, check=True)
    assert 0.02 < float(done.stdout) < 0.9


def test_a_probed_run_is_bit_for_bit_the_one_that_was_not():
    probed, plain = tiny.training(), tiny.training()
    before = tiny.digest(probed.network.state_dict())
    probe(probed)
    assert tiny.digest(probed.network.state_dict()) == before
    assert not probed.optimizer.state_dict()["state"]
    assert all(weight.grad is None for weight in probed.network.parameters())
    for _ in range(2):
        probed.run_epoch()
        plain.run_epoch()
    assert tiny.digest(probed.network.state_dict()) == tiny.digest(plain.network.state_dict())


def test_running_out_of_memory_is_said_before_the_run(monkeypatch):
    training = tiny.training()

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(training.network, "forward", fail)
    with pytest.raises(DeviceError, match=r"ran out of memory[\s\S]*8 wells x 7 genes"):
        probe(training)


def test_memory_is_a_line_through_two_passes():
    measured = pass_memory(one=1000 + 50, three=1000 + 150, weights=20)
    assert measured == PassMemory(1060.0, 50.0)
    assert measured.wells_in((1060 + 7 * 50) / 0.9 + 1) == 7
    assert measured.wells_in(1060) == 0
    assert pass_memory(100, 100, 0).per_well == 1.0  # nothing measurable: no division by 0
