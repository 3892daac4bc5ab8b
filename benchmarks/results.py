"""What a run gave, and how its rows compare. A row's best round counts: noise only adds."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from .measures import Row, Values
from .workloads import Workload

__all__ = ["FLOOR", "OURS", "Results", "Table", "bytes_of"]

FLOOR: Final = "floor"
OURS: Final = "ours"
_APIS: Final = {"tokens": "own events", "openai": "OpenAI chunks", "anthropic": "Anthropic events"}


@dataclass(frozen=True)
class Table:
    """What a workload gave: of each row, in each round."""

    workload: Workload
    rounds: Mapping[Row, list[Values]]

    def best(self, row: Row, column: str = "") -> float:
        """The lowest value of a row in a column; "" is the first one, which is compared."""
        column = column or next(iter(self.workload.columns))
        return min(values[column] for values in self.rounds[row])

    def spread(self, row: Row) -> float:
        """How far the median round was above the best, in percent."""
        column = next(iter(self.workload.columns))
        median = statistics.median(values[column] for values in self.rounds[row])
        return 100 * (median / self.best(row) - 1)

    def ratio(self, row: Row, name: str) -> float | None:
        """How many times the cost of who of this name is closest to a row; None if nobody is.

        It reads the same bytes. Closest is who stands on the same library, then who has the same
        variation. The SDKs stand on httpx2, which nobody else does: closest to it is httpx.
        """
        wanted = "" if _kind(row) == name else _variation(row)

        def distance(other: Row) -> tuple[bool, ...]:
            varies = _variation(other) != wanted, bool(_variation(other))
            return other.over != row.over, other.over != "httpx", *varies

        rivals = [each for each in self.rounds if _kind(each) == name and each.of == row.of]
        return self.best(row) / self.best(min(rivals, key=distance)) if rivals else None


def _kind(row: Row) -> str:
    return row.name.partition(", ")[0]


def _variation(row: Row) -> str:
    return row.name.partition(", ")[2]


def bytes_of(row: Row) -> str:
    """Whose bytes a row reads, for people."""
    return _APIS.get(row.of, row.of)


Results: TypeAlias = Mapping[str, Table]
"""By the names of the workloads."""
