"""What a representation keeps together: replicates, compounds of a class, controls. The same numbers for any of them.

To compare the latent with others, hand in the same wells each time: the latent, principal components of the
expression of as many dimensions, the scores alone. Members have different latent bases:
measure each member on the wells it held out and average the numbers, never the latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import pairwise_distances, silhouette_samples

from dpf.analysis.latent.distances import unit_rows
from dpf.analysis.ranking.replicates import average_precision

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Precision:
    """Mean average precision: do wells of one kind come first when the others are ranked by similarity?

    Attributes
    ----------
    mean_ap
        In (0, 1], higher is better; mean over wells, then over groups; nan where no well has a partner or a rival.
    chance
        What a random ranking gives on the same numbers of wells: 0.5 and more where partners are many.
    wells
        How many wells were asked.
    """

    mean_ap: float
    chance: float
    wells: int


@dataclass(frozen=True)
class LatentQuality:
    """How well a representation of N wells keeps together what belongs together.

    Attributes
    ----------
    replicates
        Other wells of the compound among the controls, by cosine: does the compound have a profile at all?
    compounds
        Other wells of the compound among the wells of other compounds, by cosine: is it its own?
    classes
        Wells of other compounds of the class among those of other classes, by cosine.
    controls
        The other controls among all compound wells, by Euclidean distance: controls lie close to the centre, where a
        cosine means nothing. Inert compounds lie there too, so 1 is not to be had.
    silhouette_compounds, silhouette_classes, silhouette_controls
        Silhouette (Rousseeuw 1987; Euclidean) in [−1, 1], higher is better: mean over the wells of compounds with
        several wells; of classes; of the controls against the compound wells. nan where there is nothing to part.
    """

    replicates: Precision
    compounds: Precision
    classes: Precision
    controls: Precision
    silhouette_compounds: float
    silhouette_classes: float
    silhouette_controls: float


def latent_quality(
    profiles: ArrayLike,
    group: NDArray[np.intp],
    is_control: Mask,
    *,
    classes: Sequence[str | None] | None = None,
    centre: ArrayLike | None = None,
) -> LatentQuality:
    """Measure a representation.

    Parameters
    ----------
    profiles
        Shape (N, L), finite. For members: the wells that the member held out.
    group, is_control
        Shape (N,): the compound of each well, and which are controls.
    classes
        Length N: the class of each well's compound; None or empty where unknown. Controls have none.
    centre
        Shape (L,): the centre of the controls that cosines are taken from, best of the training controls; the mean of
        the controls at hand where None (of all wells where there is none).
    """
    x = np.asarray(profiles, dtype=np.float64)
    control = np.asarray(is_control, dtype=bool)
    origin = (x[control] if control.any() else x).mean(axis=0) if centre is None else np.asarray(centre)
    unit = unit_rows(x - origin)  # a profile of length 0 is as similar (0) to every other
    cosine = unit @ unit.T
    distance = pairwise_distances(x)
    compound = np.where(control, -1, np.unique(group, return_inverse=True)[1])
    kind = _classes(classes, control)
    rivals_are_controls = np.broadcast_to(control, (len(x), len(x)))
    same = (compound[:, None] == compound) & ~control
    other_compound = ~same & ~control & ~control[:, None]
    alike = kind[:, None] == kind
    return LatentQuality(
        replicates=_precision(cosine, same, rivals_are_controls, compound),
        compounds=_precision(cosine, same, other_compound, compound),
        classes=_precision(cosine, alike & ~same, other_compound & ~alike & (kind >= 0), kind),
        controls=_precision(
            -distance,
            np.logical_and.outer(control, control),
            np.broadcast_to(~control, same.shape),
            np.where(control, 0, -1),
        ),
        silhouette_compounds=_silhouette(distance, _shared(compound)),
        silhouette_classes=_silhouette(distance, kind),
        silhouette_controls=_silhouette(distance, np.where(control, 0, 1), of=0),
    )


def chance_precision(positives: int, negatives: int) -> float:
    """Expected average precision of a random ranking, `H_n/n + (m−1)/(n−1) · (1 − H_n/n)` (m of n are positive)."""
    n = positives + negatives
    harmonic = float((1 / np.arange(1, n + 1)).sum()) / n
    return 1.0 if n == 1 else harmonic + (positives - 1) / (n - 1) * (1 - harmonic)


def _precision(similarity: Floats, partner: Mask, rival: Mask, group: NDArray[np.intp]) -> Precision:
    """Mean AP over the wells with group ≥ 0 that have a partner and a rival."""
    found: dict[int, list[tuple[float, float]]] = {}
    for well in np.flatnonzero(group >= 0):
        positive = np.flatnonzero(partner[well])
        positive = positive[positive != well]
        negative = np.flatnonzero(rival[well])
        if positive.size and negative.size:
            ap = average_precision(similarity[well, positive], similarity[well, negative])
            found.setdefault(int(group[well]), []).append((ap, chance_precision(positive.size, negative.size)))
    if not found:
        return Precision(float("nan"), float("nan"), 0)
    mean_ap, chance = np.mean([np.mean(pairs, axis=0) for pairs in found.values()], axis=0)
    return Precision(float(mean_ap), float(chance), sum(map(len, found.values())))


def _silhouette(distance: Floats, cluster: NDArray[np.intp], of: int | None = None) -> float:
    """Mean silhouette of the wells with cluster ≥ 0, or of one cluster's wells."""
    wells = np.flatnonzero(cluster >= 0)
    clusters = np.unique(cluster[wells])
    if not 2 <= clusters.size < wells.size:
        return float("nan")
    values = silhouette_samples(distance[np.ix_(wells, wells)], cluster[wells], metric="precomputed")
    return float(values.mean() if of is None else values[cluster[wells] == of].mean())


def _shared(compound: NDArray[np.intp]) -> NDArray[np.intp]:
    """−1 for compounds of a single well."""
    size = np.bincount(compound[compound >= 0], minlength=int(compound.max(initial=0)) + 1)
    return np.where((compound >= 0) & (size[compound] > 1), compound, -1)


def _classes(classes: Sequence[str | None] | None, control: Mask) -> NDArray[np.intp]:
    if classes is None:
        return np.full(control.size, -1, dtype=np.intp)
    names = np.array(["" if name is None else str(name) for name in classes])
    return np.where(control | (names == ""), -1, np.unique(names, return_inverse=True)[1])
