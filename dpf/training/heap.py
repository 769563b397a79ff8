"""Memory that is freed is kept for the next step, where the C library would give it back to the system each time.

A training step on the CPU takes and frees tensors of tens of MB. glibc asks the system for each of them anew, which
hands out page after page of zeros: a quarter of an induced step, a tenth of an exact one, went into that.
"""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes: larger tensors are the system's again as soon as they are freed.
KEPT_AT_MOST = 1 << 30


def keep_freed_memory() -> bool:
    """Tell the C library so, for the rest of the process; False where it is another one, which is left as it is.

    At most the process's peak stays with it, and of the end of its heap at most `KEPT_AT_MOST`.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(which, KEPT_AT_MOST) == 1 for which in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
