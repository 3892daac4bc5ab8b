"""What is demanded of ours, as ratios within one run, and whether a run met it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .measures import Row
from .results import FLOOR, OURS, Results, Table, bytes_of

__all__ = ["Bar", "bars"]


@dataclass(frozen=True)
class Bar:
    """A demand, and what a run gave.

    Attributes:
        workload: Its title.
        claim: What is demanded; or only compared, where that helps to judge a demand.
        value: What the run gave.
        limit: What it is to be; None if nothing was demanded.
        at_least: Whether it is to be that or more, instead of that or less.
        unit: Of the value; "" if it is a ratio.
    """

    workload: str
    claim: str
    value: float
    limit: float | None = None
    at_least: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the run gave what is demanded; None if nothing is."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def bars(results: Results) -> Iterator[Bar]:
    """All those for which enough was measured."""
    demands: dict[str, Callable[[Table], Iterator[Bar]]] = {
        "burst-1": _burst_1,
        "burst-50": _burst_50,
        "paced-100": _paced,
        "paced-1000": _paced,
        "memory": _memory,
        "decoder-1": lambda table: _fastest(table, 1.25),
        "decoder-50": lambda table: _fastest(table, 1.75),
        "import": _import,
    }
    for name, table in results.items():
        if name in demands:
            yield from demands[name](table)
    if {"paced-100", "paced-1000"} <= results.keys():
        yield _streams(results["paced-100"], results["paced-1000"])
    for small, large in (("large-8", "large-64"), ("collect-10000", "collect-100000")):
        if {small, large} <= results.keys():
            yield _linear(results[small], results[large])


def _burst_1(table: Table) -> Iterator[Bar]:
    yield from _to_floor(table, "httpx", 1.15)
    yield from _sdks(table, openai=6, anthropic=2)


def _burst_50(table: Table) -> Iterator[Bar]:
    yield from _to_floor(table, "httpx", 1.25)
    yield from _sdks(table, openai=18, anthropic=3.5)
    yield from _to_floor(table, "aiohttp", 1.25)
    yield _peer(table, Row("openai", "openai", "aiohttp"), Row("openai", OURS, "aiohttp"), 18)


def _paced(table: Table) -> Iterator[Bar]:
    yield from _to_floor(table, "httpx", 1.05)
    yield _peer(table, Row("openai", "openai", "httpx2"), Row("openai", OURS, "aiohttp"), 4)
    yield _peer(table, Row("openai", "openai", "aiohttp"), Row("openai", OURS, "aiohttp"))


def _to_floor(table: Table, over: str, limit: float) -> Iterator[Bar]:
    """Ours against the floor, on the bytes of each API."""
    for row in table.rounds:
        if row.name == OURS and row.over == over:
            ratio = table.best(row) / table.best(row._replace(name=FLOOR))
            claim = f"ours ≤ {limit} × floor over {over}, {bytes_of(row)}"
            yield Bar(table.workload.title, claim, ratio, limit)


def _sdks(table: Table, **limits: float) -> Iterator[Bar]:
    """Each SDK against ours: with classes as a user would declare them, and with the SDK's own.

    With the latter, anthropic costs less than the demanded multiple of the floor, too.
    """
    for name, limit in limits.items():
        for ours in ("ours, own classes", OURS):
            yield _peer(table, Row(name, name, "httpx2"), Row(name, ours, "httpx"), limit)


def _peer(table: Table, peer: Row, ours: Row, limit: float | None = None) -> Bar:
    """An SDK against ours, on the same bytes."""
    ratio = table.best(peer) / table.best(ours)
    sign = "÷" if limit is None else f"≥ {limit} ×"
    claim = f"{peer.name} over {peer.over} {sign} {ours.name} over {ours.over}"
    return Bar(table.workload.title, claim, ratio, limit, at_least=True)


def _memory(table: Table) -> Iterator[Bar]:
    """What ours holds besides; with the first events, which it keeps for `reply`."""
    for row in table.rounds:
        if row.name == OURS and row.over == "httpx":
            besides = table.best(row) - table.best(row._replace(name=FLOOR))
            claim = f"ours ≤ floor + 8 KiB over httpx, {bytes_of(row)}"
            yield Bar(table.workload.title, claim, besides, 8, unit="KiB more")


def _fastest(table: Table, limit: float) -> Iterator[Bar]:
    peers = [row for row in table.rounds if row.of == "data" and row.name not in (FLOOR, OURS)]
    fastest = min(peers, key=table.best)
    ratio = table.best(fastest) / table.best(Row("data", OURS))
    claim = f"ours ≥ {limit} × the events per second of {fastest.name}, the fastest peer"
    yield Bar(table.workload.title, claim, ratio, limit, at_least=True)


def _import(table: Table) -> Iterator[Bar]:
    """By what declaring costs: nothing is imported before anything is used of it."""
    for variation, claim, limit in (
        ("", "ours ≤ 1.1 × httpx and pydantic, an event and a client declared", 1.1),
        (", read", "ours ÷ httpx and pydantic, a stream read", None),
        (", alone", "ours ÷ httpx and pydantic, imported alone", None),
    ):
        ours, floor = (table.best(Row("", f"{name}{variation}")) for name in (OURS, FLOOR))
        yield Bar(table.workload.title, claim, ours / floor, limit)


def _streams(few: Table, many: Table) -> Bar:
    row = Row("openai", OURS, "httpx")
    claim = "ours ≤ 1.3 × as much per event as with 100 streams, over httpx"
    return Bar(many.workload.title, claim, many.best(row) / few.best(row), 1.3)


def _linear(small: Table, large: Table) -> Bar:
    """How much more a unit costs in a large workload; the floor's, too, when caches overflow.

    Of what grows as n², it would be eight and ten times as much.
    """
    floor, ours = (
        next(large.best(row) / small.best(row) for row in large.rounds if row.name.startswith(name))
        for name in (FLOOR, OURS)
    )
    claim = f"ours grows ≤ 1.25 × as the floor does, from: {small.workload.title}"
    return Bar(large.workload.title, claim, ours / floor, 1.25)
