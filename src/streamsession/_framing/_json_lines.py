"""JSON Lines, also called NDJSON. Cuts lines and parses none: that is for the validation of events.

The formats: https://jsonlines.org and https://github.com/ndjson/ndjson-spec
"""

from itertools import takewhile
from typing import ClassVar, Final

from ._decoder import DEFAULT_MAX_EVENT_BYTES
from ._limit import EventLimit
from ._lines import LineCutter

__all__ = ["JSONLinesDecoder"]

# That of RFC 8259, section 2, but for the LF.
_WHITE_SPACE: Final = b" \t\r"


class JSONLinesDecoder:
    """Cuts a body into lines, each the `bytes` of one JSON text without white space around it.

    Only LF ends a line, blank lines are skipped, one BOM in front of the first is ignored. A frame
    need not be JSON, nor even UTF-8: whoever parses it has to refuse both. The size of an event is
    that of its line without the line end, LF or CRLF.
    """

    # None is registered. The first two are in https://spec.openapis.org/registry/media-type/,
    # the third is what Anthropic's batches come as, the fourth Amazon SageMaker's.
    content_types: ClassVar[tuple[str, ...]] = (
        "application/jsonl",
        "application/x-ndjson",
        "application/x-jsonl",
        "application/jsonlines",
        "application/ndjson",
        "application/x-jsonlines",
    )

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._lines = LineCutter()
        self._limit = EventLimit(max_event_bytes)

    def decode(self, data: bytes) -> list[bytes]:
        """The lines that these bytes end; raises as `Decoder.decode` says."""
        lines = [] if self._limit.exceeded else self._lines.cut(data)
        fitting = list(takewhile(self._fits, lines))
        if len(fitting) < len(lines) or not self._fits(self._lines.partial):
            self._limit.exceeded = True
        stripped = (line.strip(_WHITE_SPACE) for line in fitting)
        return self._limit.hand_over([line for line in stripped if line])

    def flush(self) -> list[bytes]:
        """The last line if it lacked its line end; raises as `Decoder.flush` says."""
        return self.decode(b"\n")

    def _fits(self, line: bytes | bytearray) -> bool:
        return len(line) - line.endswith(b"\r") <= self._limit.max_bytes
