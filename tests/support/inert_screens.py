"""Screens in which nothing acts: what p-values are tried on."""

from __future__ import annotations

import numpy as np


def inert_screen(rng, controls, compounds, wells=2, plates=1, width=None):
    """Values of the wells, (N,) or (N, width), the compound of each (controls first, −1), controls, and plates."""
    group = np.concatenate([np.full(controls, -1), np.repeat(np.arange(compounds), wells)])
    values = rng.normal(size=len(group) if width is None else (len(group), width))
    return values, group, group < 0, np.arange(len(group)) % plates
