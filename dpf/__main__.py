"""`python -m dpf` and the `dpf` command."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line."""
    # Idle OpenMP threads spin by default. On a machine that is shared, or when two runs meet on one, they spin against
    # each other: measured on two busy cores, training fell from 75 to 7 wells a second. It must be set before the
    # library is loaded, and whatever the user has set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from dpf.cli import app

    app.main()


if __name__ == "__main__":
    main()
