"""What several test files need."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the dpf command does, before torch is imported

from pathlib import Path

import hypothesis
import pytest

# The same examples every time: what a test draws must not decide whether a change lands.
hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None)
hypothesis.settings.load_profile("seeded")

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real screens: not part of the project, so tests on them run only where it is."""
    folder = Path(os.environ.get("DPF_REAL_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real screens at {folder} (set DPF_REAL_DATA to their folder)")
    return folder
