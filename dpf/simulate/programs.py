"""Gene programs of a simulated T-cell screen: which genes move together, in which direction, how far.

The symbols are genes that publications name in these connections; every number about them is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ACTIVATION: Final = "activation"
#: Read by CytoTRACE only: the part of that score that does not follow activation.
DIFFERENTIATION: Final = "differentiation"
#: The two programs whose product is the non-linear part of the phenotype.
INTERACTING: Final = ("costimulation", "nutrient")
OFF_AXIS: Final = ("interferon", "stress", "hypoxia", "sterol")


@dataclass(frozen=True)
class Program:
    """Genes that move together.

    Attributes
    ----------
    name
        The program's name, also in the truth.
    share
        The share of the G genes that belong to it. A gene belongs to one program at most.
    up, down
        Symbols given to its rising and falling genes, first to last; padded with names like ``GENE0001``.
    down_share
        The share of its genes that fall.
    loading
        Median absolute log2 fold change of its genes per unit of the program's state.
    well_spread
        Standard deviation of its state between wells that were treated alike.
    """

    name: str
    share: float
    up: tuple[str, ...]
    down: tuple[str, ...]
    down_share: float
    loading: float
    well_spread: float


def _split(symbols: str) -> tuple[str, ...]:
    return tuple(symbols.split())


def _program(
    name: str, up: str, down: str = "", *, share: float = 0.05, down_share: float = 0.2, loading: float, spread: float
) -> Program:
    return Program(name, share, _split(up), _split(down), down_share, loading, spread)


PROGRAMS: Final[tuple[Program, ...]] = (
    _program(
        ACTIVATION,
        "IL2RA CD69 IFNG GZMB MKI67 TNFRSF9 TNFRSF4 ICOS IL2 TNF CD40LG NR4A1 NR4A3 EGR1 EGR2 EGR3 CD38 HLA-DRA LAG3 "
        "CTLA4 PDCD1 TBX21 IRF4 BATF PRF1 CCL3 CCL4 XCL1 XCL2 TOP2A CCNB1 CDK1 CD83 CRTAM ZBED2 TNFRSF18 IL21R LTA",
        "SELL CCR7 TCF7 IL7R KLF2 LEF1 BACH2 FOXO1 S1PR1 TXNIP KLF3 PIK3IP1 MAL NOSIP SATB1 CD27 BTG1 PDCD4 TSC22D3 "
        "ITGA6 FOXP1 LDLRAP1 RIPOR2 CXCR4 FAM117B",
        share=0.16,
        down_share=0.4,
        loading=0.25,
        spread=0.7,
    ),
    _program(
        DIFFERENTIATION,
        "NPM1 NCL FBL DKC1 NOP56 NOP58 RRP9 POLR1B GNL3 NOLC1 WDR43 BOP1 PES1 HSPD1 HSPE1 EIF4A1 EIF5A RANBP1 SRM ODC1",
        "KLRG1 B3GAT1 CX3CR1 ZEB2 GNLY NKG7 FGFBP2 KLRD1 S1PR5 ADGRG1",
        loading=0.35,
        spread=1.0,
    ),
    _program(
        INTERACTING[0],
        "CISH SOCS1 SOCS2 SOCS3 PIM1 PIM2 BCL2 BCL2L1 OSM LIF CCND2 CCND3 FURIN IL4R IL2RB STAT5A GADD45B TNFSF8 DUSP4",
        "SESN3 BCL6 PDE4B ARRB1 RASA2 CBLB",
        loading=0.45,
        spread=1.0,
    ),
    _program(
        INTERACTING[1],
        "SLC7A5 SLC3A2 SLC1A5 SLC7A1 PSAT1 PHGDH SHMT2 MTHFD2 ASNS PYCR1 ALDH18A1 SLC2A1 TFAP4 MYC PPAT CAD DHFR ATIC",
        "ULK1 SQSTM1 MAP1LC3B GABARAPL1 LAMP1 TP53INP1",
        loading=0.45,
        spread=1.0,
    ),
    _program(
        OFF_AXIS[0],
        "ISG15 IFIT1 IFIT2 IFIT3 MX1 MX2 OAS1 OAS2 OAS3 OASL IFI6 IFI27 IFI44 IFI44L RSAD2 STAT1 IRF7 USP18 XAF1 BST2",
        "IL7 EPSTI1 RGS2 CD9",
        loading=0.45,
        spread=0.3,
    ),
    _program(
        OFF_AXIS[1],
        "DDIT3 ATF3 ATF4 ATF5 TRIB3 CHAC1 SESN2 PPP1R15A HERPUD1 HSPA5 HSPA1A HSPA1B DNAJB1 BAG3 HMOX1 GDF15 SLC7A11",
        "CCNE2 POLE2 MCM10 E2F8",
        loading=0.45,
        spread=0.3,
    ),
    _program(
        OFF_AXIS[2],
        "VEGFA CA9 NDRG1 EGLN3 BNIP3 BNIP3L PDK1 ANKRD37 KDM3A P4HA1 ADM LDHA ENO2 PFKFB3 PFKFB4 ALDOC MIR210HG ERO1A",
        "COX4I1 NDUFA8 ATP5F1B SDHB",
        loading=0.45,
        spread=0.3,
    ),
    _program(
        OFF_AXIS[3],
        "HMGCR HMGCS1 LDLR INSIG1 SQLE IDI1 FDFT1 FDPS LSS CYP51A1 DHCR7 DHCR24 MSMO1 SC5D NSDHL STARD4 PCSK9 SREBF2",
        "ABCA1 ABCG1 MYLIP NR1H3",
        loading=0.45,
        spread=0.3,
    ),
)

_BACKGROUND = _split(
    "ACTB GAPDH B2M EEF1A1 TPT1 PPIA UBC PGK1 TBP HPRT1 RPL13A RPLP0 YWHAZ SDHA GUSB TFRC PTPRC CD3D CD3E CD3G CD2 "
    "CD247 LCK ZAP70 LAT ITK CORO1A PFN1 CFL1 TMSB4X TMSB10 ARPC2 ACTR3 MYH9 VIM LGALS1 S100A4 S100A6 ANXA1 CD52"
)

#: Below this a program would have no gene of its own in each direction.
MINIMUM_GENES: Final = 20
_LOADING_SPREAD = 0.5  # standard deviation of ln |loading|


@dataclass(frozen=True)
class ProgramGenes:
    """The genes of a simulated screen, and what each does in which program.

    Attributes
    ----------
    names
        G unique gene names.
    programs
        G program names, None for a gene of no program.
    loadings
        float64 array of shape (P, G): log2 fold change of gene g per unit of the state of program p, with the
        programs in the order of `PROGRAMS`. Every gene has one loading other than 0 at most.
    """

    names: list[str]
    programs: list[str | None]
    loadings: NDArray[np.float64]


def draw_programs(n_genes: int, rng: np.random.Generator) -> ProgramGenes:
    """Give `n_genes` genes to the programs, in random order.

    A program gets its share of the genes and at least two. ``|loading|`` is log-normal about the program's median.
    """
    names: list[str | None] = []
    owners: list[str | None] = []
    loadings = np.zeros((len(PROGRAMS), n_genes))
    for index, program in enumerate(PROGRAMS):
        size = max(2, round(program.share * n_genes))
        n_down = max(1, round(program.down_share * size))
        sizes = program.loading * np.exp(_LOADING_SPREAD * rng.standard_normal(size))
        members = slice(len(names), len(names) + size)
        loadings[index, members] = np.where(np.arange(size) < size - n_down, sizes, -sizes)
        names += _first(program.up, size - n_down) + _first(program.down, n_down)
        owners += [program.name] * size
    n_background = n_genes - len(names)
    names += _first(_BACKGROUND, n_background)
    owners += [None] * n_background
    order = rng.permutation(n_genes)
    return ProgramGenes(_named([names[i] for i in order]), [owners[i] for i in order], loadings[:, order])


def _first(symbols: tuple[str, ...], count: int) -> list[str | None]:
    """`count` names: the first symbols, then None for each name still to be made."""
    return [*symbols[:count], *([None] * (count - len(symbols)))]


def _named(names: list[str | None]) -> list[str]:
    """Number the nameless genes in their order: a made-up name does not reveal the gene's program."""
    width = max(4, len(str(len(names))))
    numbers = iter(range(1, len(names) + 1))
    return [f"GENE{next(numbers):0{width}d}" if name is None else name for name in names]
