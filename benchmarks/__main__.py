"""Measures and prints: `python -m benchmarks [--quick] [--rounds N] [--only WORKLOAD ...]`.

A run of everything that is not quick also writes RESULTS.md and RESULTS.svg, beside this file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .plot import picture
from .report import demands, page, table_of
from .results import Table
from .running import measured, server
from .workloads import workloads

_HERE: Final = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the workloads that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What streams cost.")
    parser.add_argument(
        "--quick", action="store_true", help="about a minute and a half instead of twelve"
    )
    parser.add_argument("--rounds", type=int, help="of each row, at most; 7, or 2 if it is quick")
    parser.add_argument("--only", nargs="+", default=(), metavar="WORKLOAD", help="by their names")
    options = parser.parse_args(arguments)
    known = workloads(quick=options.quick)
    if unknown := sorted(set(options.only) - known.keys()):
        parser.error(f"no such workload: {', '.join(unknown)}; there are: {', '.join(known)}")
    rounds = options.rounds or (2 if options.quick else 7)
    results: dict[str, Table] = {}
    with server() as address:
        for name in options.only or known:
            results[name] = measured(known[name], address, rounds=rounds, quick=options.quick)
            print(table_of(results[name]), flush=True)
    print(demands(results))
    if not options.quick and results.keys() == known.keys():
        (_HERE / "RESULTS.svg").write_text(picture(results), encoding="utf-8")
        (_HERE / "RESULTS.md").write_text(page(results, picture="RESULTS.svg"), encoding="utf-8")


if __name__ == "__main__":
    main()
