"""`python -m tests.bench [engine] [program] [scale]`: measure and print; the JSON says of which machine it is."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch

from dpf.cli.memory import keep_freed_memory
from tests.bench import engine

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the parts that were asked for (all of them by default)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["engine", "program", "scale", []], default=[])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--genes", type=int, nargs="+", default=[500, 1000, 2541, 5000])
    parser.add_argument("--induced", type=int, nargs="*", default=[2541, 5000, 20000])
    parser.add_argument("--wells", type=int, nargs="+", default=[2000, 10_000, 50_000, 200_000])
    asked = parser.parse_args()
    keep_freed_memory()  # as dpf train does
    parts = asked.parts or ["engine", "program"]
    result: dict[str, Any] = {"machine": engine.machine()}
    if "engine" in parts:
        wells, plain_batch = (128, 32) if asked.device.startswith("cuda") else (32, 4)
        result["engine"] = engine.measure(asked.device, asked.genes, asked.induced, wells, 5, plain_batch)
        result["engine"]["peak_gib_batch_32"] = engine.peak_gib(2541, 32, asked.device, "auto", "exact")
    if "program" in parts:
        from tests.bench import program  # the engine is measured on machines that have PyTorch and little else, too

        result["program"] = program.measure()
    if "scale" in parts:
        from tests.bench import scale

        result["scale"] = scale.measure(asked.wells)
        print(scale.table(result["scale"]))
    print(json.dumps(result, indent=1))
    if "engine" in parts:
        print(engine.table(result["engine"]))
    machine = result["machine"]
    name = re.sub(r"\W+", "-", f"{machine['gpu'] or machine['cpu']}-{machine['cores']}-cores".lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "scale" in result:  # sizes that were measured before stay
        result["scale"] = kept.get("scale", {}) | result["scale"]
    path.write_text(json.dumps(kept | result, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {path}")


if __name__ == "__main__":
    main()
