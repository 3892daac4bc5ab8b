"""Promises about secrets: a key goes to its server and nowhere else."""

import logging
import pickle
import traceback
from collections.abc import Generator
from contextlib import contextmanager

from ..._errors import StatusError, StreamError
from .._script import HANG_UP, HOLD, ScriptedResponse
from ._bench import Bench, Outcome, ends_badly, expect
from ._promise import promise

__all__ = ["Secrecy"]

_KEEP = (
    "hand the key to AsyncSession as api_key= or auth=, keep it in no attribute, and put it into "
    "no message"
)


class Secrecy(Bench):
    """Where the session's key turns up."""

    @promise("hand the key to AsyncSession as api_key= or auth=; it follows no redirect elsewhere")
    async def test_neither_key_nor_body_reaches_another_origin(self) -> None:
        """A redirect to another origin is refused: nothing is sent there."""
        for status in (301, 302, 303, 307, 308):
            with self.server(self.reply()) as other:
                headers = {"location": f"{other.url}/elsewhere"}
                answer = ScriptedResponse((), status, headers, content_type=None, framing="length")
                seen = await self.outcome(answer)
                expect(not other.requests, f"{len(other.requests)} requests reached it")
            ends_badly(seen, StatusError)

    @promise(_KEEP)
    async def test_the_key_is_in_no_repr_log_or_error(self) -> None:
        """The key is in no repr, log line, error, traceback or pickled error."""
        shown: dict[str, str] = {}
        with _logged() as lines:
            for answer in self._failures():
                with self.server(answer) as server:
                    async with self.opened(server.url) as session:
                        seen = await self.drained(session)
                        shown["repr(session)"] = repr(session)
                    sent = repr([request.headers.multi_items() for request in server.requests])
                    expect(server.requests, f"nothing was sent: {seen}")
                if self.secret not in sent:
                    self.skip("session() does not send self.secret, so it cannot be looked for")
                shown |= _shown(seen)
                shown["the log"] = "\n".join(lines)
                for where, text in shown.items():
                    expect(self.secret not in text, f"it is in {where}")

    @promise("raise the package's errors; a subclass takes (message, **details) as they do")
    async def test_errors_survive_pickling(self) -> None:
        """An error can be sent to another process, with what had come before it."""
        for seen in await self.outcomes(*self._failures()):
            ends_badly(seen, StreamError)
            again = pickle.loads(pickle.dumps(seen.error))  # noqa: S301 - our own
            expect(str(again) == str(seen.error), f"{seen.error!r} came back as {again!r}")
            kept = list(again.events)
            expect(kept == seen.events, f"of {len(seen.events)} events {len(kept)} came back")

    def _failures(self) -> list[ScriptedResponse]:
        return [
            ScriptedResponse.json({"error": {"message": "bad key"}}, status=401),
            ScriptedResponse.html("<html>Sign in</html>"),
            self.reply(self.halves()[0], HANG_UP),
            ScriptedResponse([b"HTTP/1.1 2oo what\r\n\r\n", HOLD], framing="raw"),
        ]


def _shown(seen: Outcome) -> dict[str, str]:
    error = seen.error
    if error is None:
        return {}
    return {
        "repr(stream)": repr(seen.stream),
        "repr(error)": repr(error),
        "its attributes": repr(vars(error)),
        "its traceback": "".join(traceback.format_exception(error)),
        "the pickled error": repr(pickle.dumps(error)),
    }


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@contextmanager
def _logged() -> Generator[list[str]]:
    """All that is logged meanwhile, by anyone, at any level."""
    lines: list[str] = []
    root = logging.getLogger()
    handler, level = _Lines(lines), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
