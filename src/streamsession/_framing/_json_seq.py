"""JSON text sequences: texts between record separators, each parsed to know that it is whole.

The standard: https://www.rfc-editor.org/rfc/rfc7464
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic_core import from_json

from ._decoder import DEFAULT_MAX_EVENT_BYTES
from ._limit import EventLimit

__all__ = ["JSONSeqDecoder"]

_RS: Final = b"\x1e"
_LF: Final = b"\n"
_WHITE_SPACE: Final = b" \t\n\r"  # RFC 8259, section 2
_ANYTHING: Final = bytes(range(256))
_RS_OR_LINE: Final = re.compile(rb"\x1e|[^\x1e\n]++\n?|\n")

# What a whole text ends with. A number or a literal without white space behind it may go on, and
# must be dropped: RFC 7464, section 2.4.
_ENDS: Final = tuple(bytes([end]) for end in b'}]"' + _WHITE_SPACE)

# Past strings, to the next brackets that open (1) and close (2).
_BRACKETS: Final = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"?)*+([\[{]*+)([\]}]*+)')


class JSONSeqDecoder:
    """Cuts a body into texts, each the `bytes` of one JSON text without white space around it.

    A text is due with the first LF behind it, else with the next RS or the end of the body. What
    is no JSON text, or may be less than the whole of one, is dropped and counted, and the next RS
    begins anew. So is what stands in front of the first RS, and what follows a text on a new line,
    unless it is white space. The size of an event is that of all between its RS and what it is due
    with.

    Attributes:
        skipped: How many items were dropped so far.
    """

    # All that https://www.iana.org/assignments/media-types lists with this suffix, of RFC 8091.
    content_types: ClassVar[tuple[str, ...]] = (
        "application/json-seq",
        "application/geo+json-seq",
        "application/city+json-seq",
        "application/prs.implied-object+json-seq",
    )

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self.skipped = 0
        self._limit = EventLimit(max_event_bytes)
        # What has come of a text, how much of it in whole lines, and how many brackets these left
        # open.
        self._text = bytearray()
        self._in_lines = 0
        self._depth = 0
        # None while a text may come; else the bytes that need not be counted up to the next RS.
        self._ignored: bytes | None = b""

    def decode(self, data: bytes) -> list[bytes]:
        """The texts that these bytes complete; raises as `Decoder.decode` says."""
        return self._limit.hand_over([] if self._limit.exceeded else list(self._cut(data)))

    def flush(self) -> list[bytes]:
        """The last text if it is whole but lacked its LF; raises as `Decoder.flush` says."""
        return self.decode(_RS)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        for item in _RS_OR_LINE.findall(data):
            if item == _RS:
                if self._text:
                    yield from self._end_text()
                self._ignored = None
            elif self._ignored is not None:
                if item.strip(self._ignored):
                    self._skip()
            else:
                self._text += item
                if len(self._text) - item.endswith(_LF) > self._limit.max_bytes:
                    self._limit.exceeded = True
                    return
                if item.endswith(_LF) and self._is_balanced():
                    yield from self._end_text()

    def _is_balanced(self) -> bool:
        """Whether no bracket is open at the end of this line, and so a text, if there is one.

        No string can be open: JSON has no line breaks in strings.
        """
        line = self._text[self._in_lines :]
        self._in_lines = len(self._text)
        for brackets in _BRACKETS.finditer(line):
            self._depth += len(brackets[1]) - len(brackets[2])
        return self._depth <= 0 and bool(line.strip(_WHITE_SPACE))

    def _end_text(self) -> Iterator[bytes]:
        text = bytes(self._text)
        self._text.clear()
        self._in_lines = self._depth = 0
        self._ignored = _WHITE_SPACE
        if text.endswith(_ENDS) and _is_json(text):
            yield text.strip(_WHITE_SPACE)
        else:
            self._skip()

    def _skip(self) -> None:
        self.skipped += 1
        self._ignored = _ANYTHING


def _is_json(text: bytes) -> bool:
    """Whether Pydantic can parse it, as it will have to; it refuses some texts for their depth."""
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True
