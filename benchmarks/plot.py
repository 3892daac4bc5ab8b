"""A picture of what was measured, as SVG: bars on a logarithmic scale, one panel a workload."""

import math
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from .results import Results, Table, bytes_of

__all__ = ["picture"]

_PANELS: Final = ("burst-1", "burst-50", "paced-100", "paced-1000")
_WIDTH, _NAMES, _VALUES = 860, 330, 70  # pixels: all of it, the names to the left, the values
_LINE, _BAR, _HEAD, _GAP = 18, 12, 28, 14  # pixels: of a row, its bar, a title, between panels
_COLOURS: Final = {"ours": "#2f7d4f", "floor": "#8a8f98"}
_PEERS: Final = "#c96f3b"


def picture(results: Results) -> str:
    """The workloads that are compared most; those that were not run are left out."""
    tables = [results[name] for name in _PANELS if name in results]
    top, parts = _GAP, list[str]()
    for table in tables:
        parts += _panel(table, top)
        top += _HEAD + _LINE * len(table.rounds) + _GAP
    size = f'width="{_WIDTH}" height="{top}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" {size} '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect {size} fill="#fff"/>', *parts, "</svg>\n"])


def _panel(table: Table, top: int) -> Iterator[str]:
    workload = table.workload
    unit = next(iter(workload.columns.values()))
    title = f"{workload.title}: {unit}, on a logarithmic scale"
    yield f'<text x="{_GAP}" y="{top + 14}" font-weight="bold">{escape(title)}</text>'
    values = [table.best(row) for row in table.rounds]
    least, most = math.log(min(values)) - 0.5, math.log(max(values))
    room = _WIDTH - _NAMES - _VALUES
    for number, (row, value) in enumerate(zip(table.rounds, values, strict=True)):
        y = top + _HEAD + number * _LINE
        width = room * (math.log(value) - least) / (most - least)
        colour = _COLOURS.get(row.name.partition(",")[0], _PEERS)
        label = escape(f"{row.name} ({row.over}, {bytes_of(row)})")
        yield f'<text x="{_NAMES - 6}" y="{y + 10}" text-anchor="end">{label}</text>'
        yield f'<rect x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
        yield f'<text x="{_NAMES + width + 5:.1f}" y="{y + 10}">{value:.3g}</text>'
