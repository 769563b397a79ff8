"""`python -m dpf` and the `dpf` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from dpf.cli.app import app

    app()


if __name__ == "__main__":
    main()
