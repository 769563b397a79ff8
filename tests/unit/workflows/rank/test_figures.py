"""Which hits a map names."""

from __future__ import annotations

import numpy as np

from dpf.workflows.rank.figures import named_hits


def test_the_strongest_hits_are_named_whatever_their_number_of_wells() -> None:
    t = np.concatenate([[22.0, 3.0], np.full(20, 2.0), [30.0, 40.0]])
    # The strongest hit has few wells, and so a larger q; the last two are no hit and not tested.
    q = np.concatenate([[0.011, 0.002], np.full(20, 0.0017), [0.2, np.nan]])
    named = named_hits(q, t, 0.05)
    assert named[:2].tolist() == [0, 1]
    assert not {22, 23} & set(named.tolist())


def test_no_hit_names_nothing() -> None:
    assert named_hits(np.array([0.2, np.nan]), np.array([1.0, 2.0]), 0.05).size == 0
