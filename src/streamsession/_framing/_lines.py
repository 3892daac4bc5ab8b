"""Lines, cut out of bytes at LF. What is in a line, and how long it may be, is not known here."""

from typing import Final

__all__ = ["LineCutter"]

_BOM: Final = b"\xef\xbb\xbf"


class LineCutter:
    """Cuts chunks into lines, in time linear in their bytes; drops one BOM at the very start.

    Attributes:
        partial: The line that has not ended yet. It grows with every chunk that has no LF, so its
            length is to be checked after each.
    """

    def __init__(self) -> None:
        self.partial = bytearray()
        self._start: bytes | None = b""  # what may yet prove to be a BOM; None once that is decided

    @property
    def between_lines(self) -> bool:
        """True if the next byte begins a line and no BOM."""
        return not self.partial and self._start is None

    def cut(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends, without their LF."""
        if self._start is not None:
            data = self._without_bom(self._start + data)
        lines = data.split(b"\n")
        if self.partial and len(lines) > 1:
            lines[0] = b"".join((self.partial, lines[0]))
            self.partial.clear()
        self.partial += lines.pop()
        return lines

    def _without_bom(self, start: bytes) -> bytes:
        if _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)
