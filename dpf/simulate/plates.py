"""The layout of a simulated screen, and the names of its compounds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.errors import UsageError
from dpf.tables.roles.well_names import PLATE_SHAPES

Layout = Literal["scattered", "columns"]


class Sizes(NamedTuple):
    """How many of each a screen holds; the numbers add up."""

    wells: int
    compounds: int
    replicates: int
    doses: int
    controls: int
    plates: int
    rows: int
    columns: int


class Placement(NamedTuple):
    """N wells, plate by plate in row order; all arrays of shape (N,), of integers from 0.

    `compound` is −1 in a control well, and so is `dose`.
    """

    plate: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    compound: NDArray[np.intp]
    dose: NDArray[np.intp]


def plate_shape(wells: int, plates: int) -> tuple[int, int]:
    """Rows and columns of the smallest standard plate of which `plates` hold `wells` wells.

    Raises
    ------
    UsageError
        Even 1,536-well plates are too small.
    """
    most = -(-wells // plates)
    for size, shape in sorted(PLATE_SHAPES.items()):
        if most <= size:
            return shape
    largest = max(PLATE_SHAPES)
    raise UsageError(
        "the wells do not fit on the plates",
        found=f"{wells:,} wells on {plates:,} plates",
        expected=f"at most {plates * largest:,} wells ({largest:,} a plate)",
        hint=f"ask for at least {-(-wells // largest):,} plates",
    )


def place(sizes: Sizes, layout: Layout, rng: np.random.Generator) -> Placement:
    """Deal the wells out over the plates, then give each its position.

    The wells of a compound at one concentration go to as many plates as there are, in turn; plates differ by one
    well at most and are filled from row A on. ``scattered``: positions at random, independently on each plate.
    ``columns``: control wells in the first and the last column only, and replicates in the same position of
    their plates where the plates hold equally many wells.

    Raises
    ------
    UsageError
        ``columns``, and the two columns are too small for the controls.
    """
    compound = np.full(sizes.wells, -1)
    dose = np.full(sizes.wells, -1)
    n_treated = sizes.wells - sizes.controls
    compound[:n_treated] = np.repeat(np.arange(sizes.compounds), sizes.replicates * sizes.doses)
    dose[:n_treated] = np.tile(np.repeat(np.arange(sizes.doses), sizes.replicates), sizes.compounds)
    plate = np.arange(sizes.wells) % sizes.plates
    position = np.empty(sizes.wells, dtype=np.intp)
    capacity = sizes.rows * sizes.columns
    shared_order = rng.permutation(capacity)
    for number in range(sizes.plates):
        members = np.flatnonzero(plate == number)
        own = rng.permutation(members.size)
        if layout == "columns":
            own = _controls_outside(shared_order[shared_order < members.size], compound[members] < 0, sizes.columns)
        position[members] = own
    order = np.lexsort((position, plate))
    row, column = np.divmod(position[order], sizes.columns)
    return Placement(plate[order], row, column, compound[order], dose[order])


def _controls_outside(positions: NDArray[np.intp], is_control: NDArray[np.bool_], n_columns: int) -> NDArray[np.intp]:
    """One of `positions` for each well, the first ones that lie in an outer column for the controls."""
    outer = np.isin(positions % n_columns, (0, n_columns - 1))
    n_controls = int(is_control.sum())
    if n_controls > outer.sum():
        raise UsageError(
            "the controls do not fit into the first and the last column",
            found=f"{n_controls} controls on a plate with {outer.sum()} such positions in use",
            hint="ask for fewer controls, for more plates, or for the layout 'scattered'",
        )
    for_controls = np.flatnonzero(outer)[:n_controls]
    placed = np.empty_like(positions)
    placed[is_control] = positions[for_controls]
    placed[~is_control] = np.delete(positions, for_controls)
    return placed


def _split(names: str, separator: str = " ") -> tuple[str, ...]:
    return tuple(names.split(separator))


_AMINO_ACIDS = _split(
    "alanine arginine asparagine cysteine glutamine histidine isoleucine leucine lysine methionine phenylalanine "
    "proline serine threonine tryptophan tyrosine valine"
)
_NUCLEOSIDES = _split(
    "Adenosine Guanosine Cytidine Uridine Inosine Xanthosine Thymidine 2'-Deoxyadenosine 2'-Deoxyguanosine "
    "2'-Deoxycytidine 2'-Deoxyuridine"
)
_FATTY_ACIDS = _split(
    "Butyric Valeric Hexanoic Octanoic Decanoic Lauric Myristic Palmitic Stearic Oleic Linoleic α-Linolenic "
    "γ-Linolenic Arachidonic Erucic"
)
_SUGARS = _split("D-Glucose D-Mannose D-Galactose D-Fructose D-Ribose D-Xylose L-Arabinose L-Fucose D-Glucosamine")
_ACIDS = _split(
    "α-Ketoglutaric cis,cis-Muconic Succinic Fumaric L-Malic Citric Itaconic Pyruvic L-Lactic α-Ketobutyric "
    "3-Hydroxybutyric Glutaric Adipic Suberic Azelaic Sebacic Malonic Glycolic Glyoxylic D-Gluconic L-Tartaric Maleic"
)
_FLAVONOIDS = _split(
    "Kaempferol Quercetin Luteolin Apigenin Naringenin Genistein Daidzein Isorhamnetin Myricetin Hesperetin Chrysin"
)

#: Real metabolites by class, the ones with commas and Greek letters first. Their effects here are made up.
METABOLITES: Final[dict[str, tuple[str, ...]]] = {
    "amino acid": (
        *("2,6-Diaminoheptanedioic acid", "β-Alanine", "γ-Aminobutyric acid", "Taurine", "L-Ornithine", "Glycine"),
        *(f"L-{name.capitalize()}" for name in _AMINO_ACIDS),
        *(f"N-Acetyl-L-{name}" for name in _AMINO_ACIDS),
        *(f"γ-Glutamyl-L-{name}" for name in _AMINO_ACIDS),
        *(f"D-{name.capitalize()}" for name in _AMINO_ACIDS),
        *(f"Glycyl-L-{name}" for name in _AMINO_ACIDS),
    ),
    "nucleotide": (
        *("β-Nicotinamide mononucleotide", "NAD+", "Adenine", "Guanine", "Hypoxanthine", "Uracil", "Thymine"),
        *(f"{name}{end}" for end in ("", " 5'-monophosphate", " 5'-triphosphate") for name in _NUCLEOSIDES),
        *(f"{name} 5'-diphosphate" for name in _NUCLEOSIDES),
    ),
    "lipid": (
        *("trans,trans-2,4-Decadienal", "17α-Hydroxyprogesterone", "β-Sitosterol", "Cholesterol", "α-Tocotrienol"),
        *(f"{name} acid{end}" for end in ("", " methyl ester", " ethyl ester") for name in _FATTY_ACIDS),
    ),
    "organic acid": (
        *("2,3-Dihydroxy-3-methylbutanoic acid", "3-Hydroxy-3-methylglutaric acid"),
        *(f"{name} acid{end}" for end in ("", ", sodium salt") for name in _ACIDS),
    ),
    "carbohydrate": (
        *("D-Glucono-1,5-lactone", "Maltose", "Lactose", "Sucrose", "Trehalose", "Inulin", "D-Sorbitol", "D-Mannitol"),
        *(f"{name}{end}" for end in ("", " 1-phosphate") for name in _SUGARS),
        *(f"Methyl {a}-D-{s}pyranoside" for a in "αβ" for s in ("gluco", "manno", "galacto", "xylo", "ribo")),
    ),
    "vitamin": _split(
        "α-Lipoic acid|Niacin|Nicotinamide|Retinol|Retinoic acid|Thiamine|Riboflavin|Pyridoxine|Pyridoxal|Biotin|"
        "Folic acid|Folinic acid|7,8-Dihydro-L-biopterin|L-Ascorbic acid|Ergocalciferol|Cholecalciferol|Menaquinone|"
        "Phylloquinone|Pantothenic acid|Cobalamin|Ubiquinone|Lutein|β-Carotene",
        separator="|",
    ),
    "polyphenol": (
        *("(-)-Epigallocatechin", "(E)-Ferulic acid", "Resveratrol", "Ellagic acid", "Curcumin", "Arbutin"),
        *(f"{name}{end}" for end in ("", " 7-O-β-D-glucoside", " 7-O-β-D-glucuronide") for name in _FLAVONOIDS),
    ),
    "terpenoid": _split("α-Humulene Nerol Citral α-Terpineol Thymol Carvone Geraniol Limonene β-Pinene Menthol"),
    "amine": _split(
        "1,3-Diaminopropane|Spermidine|Spermine|Putrescine|Cadaverine|Tyramine|Tryptamine|Histamine|Serotonin|Dopamine|"
        "Melatonin|Choline|Betaine|Carnitine|Creatine|Creatinine|Agmatine|Octopamine",
        separator="|",
    ),
}


def compound_names(count: int) -> list[tuple[str, str]]:
    """`count` unique (compound, class) pairs, the classes in turn; made-up names once the real ones are used up."""
    named = list(_in_turn())[:count]
    return named + [(f"Metabolite {number:04d}", "other") for number in range(len(named) + 1, count + 1)]


def _in_turn() -> Iterator[tuple[str, str]]:
    for names in zip_longest(*METABOLITES.values()):
        for name, pathway in zip(names, METABOLITES, strict=True):
            if name is not None:
                yield name, pathway
