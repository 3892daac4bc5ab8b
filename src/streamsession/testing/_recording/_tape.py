"""What is kept of the exchanges under way, and made into the content of a file when they are over.

No I/O. It holds data alone, no response or stream, so that it keeps no connection alive.
"""

from collections.abc import Callable, Iterator
from typing import Final

import httpx

from ._cassette import Chunk, End, EndLine, Exchange, RequestLine, ResponseLine, dump
from ._secrets import SecretFound, Secrets, inflated

__all__ = ["Take", "Tape"]

_CHUNK_OVERHEAD: Final = 128  # bytes that Python takes for a kept chunk, whatever its size


class Take:
    """What is kept of one exchange while it goes on."""

    def __init__(self, tape: "Tape", request: RequestLine) -> None:
        self._tape = tape
        self._request = request
        self._response: ResponseLine | None = None
        self._chunks: list[Chunk] = []
        self._end: EndLine | None = None
        self._begun = tape.clock()
        self._elapsed = 0  # ms up to the last thing kept

    def respond(self, response: httpx.Response) -> None:
        """Keep the head of its response."""
        self._response = ResponseLine(
            response=int(response.status_code),
            after=self._after(),
            http=response.http_version,
            headers=self._tape.redact(response.headers),
        )

    def add(self, data: bytes) -> None:
        """Keep a chunk of its body."""
        if data and self._end is None and self._tape.has_room_for(len(data)):
            self._chunks.append(Chunk(self._after(), data))

    def end(self, end: End, *, error: Exception | None = None) -> None:
        """Keep how the body ended; only the first time counts."""
        if self._end is None:
            name = None if error is None else type(error).__name__
            self._end = EndLine(end=end, after=self._after(), error=name)

    def drop(self) -> None:
        """Keep no chunk of those so far."""
        self._chunks.clear()

    def exchange(self) -> Exchange | None:
        """The whole of it, ended if it was not; None if no response came."""
        self.end("left")
        if self._response is None or self._end is None:
            return None
        return Exchange(self._request, self._response, tuple(self._chunks), self._end)

    def _after(self) -> float:
        """Seconds since the last call, in whole ms that add up without drifting."""
        elapsed = round((self._tape.clock() - self._begun) * 1000)
        after, self._elapsed = elapsed - self._elapsed, elapsed
        return after / 1000


class Tape:
    """All takes, in the order of their requests."""

    def __init__(self, secrets: Secrets, *, max_bytes: int, clock: Callable[[], float]) -> None:
        self._secrets = secrets
        self.clock = clock
        self._max_bytes = max_bytes
        self._size = 0
        self._takes: list[Take] = []
        self._is_finished = False

    def begin(self, request: httpx.Request) -> Take:
        """Keep a request; what comes back keeps the rest of its exchange."""
        line = RequestLine(
            request=request.method,
            path=self._secrets.redact_path(request.url),
            headers=self._secrets.redact_headers(request.headers),
        )
        take = Take(self, line)
        if self._is_finished:
            take.end("left")  # so that it keeps nothing
        else:
            self._secrets.learn(request)
            self._takes.append(take)
        return take

    def redact(self, headers: httpx.Headers) -> dict[str, str]:
        """Headers as they may be kept."""
        return self._secrets.redact_headers(headers)

    def has_room_for(self, size: int) -> bool:
        """Count a chunk; once there are too many, all are dropped."""
        self._size += size + _CHUNK_OVERHEAD
        if self._size <= self._max_bytes:
            return True
        for take in self._takes:
            take.drop()
        return False

    def finish(self) -> bytes:
        """The content of the file; nothing is kept from here on.

        Raises:
            SecretFound: A secret is in it.
            ValueError: There is nothing to write, too much, or what cannot be searched.
        """
        self._is_finished = True
        if self._size > self._max_bytes:
            raise ValueError(f"the recording has more than {self._max_bytes} bytes (max_bytes)")
        if not self._takes:
            raise ValueError(
                "nothing was recorded: give the transport that `record` yields to the session or "
                "the client, as transport=..."
            )
        exchanges = [each for take in self._takes if (each := take.exchange()) is not None]
        if not exchanges:
            raise ValueError("nothing was recorded: no request got a response")
        for number, exchange in enumerate(exchanges, 1):
            if where := self._secret_in(exchange):
                raise SecretFound(f"in exchange {number}, {where}: nothing was written")
        return dump(exchanges)

    def _secret_in(self, exchange: Exchange) -> str | None:
        for place, text in self._texts(exchange):
            if kind := self._secrets.find(text):
                return f"{place} holds {kind}"
        return None

    def _texts(self, exchange: Exchange) -> Iterator[tuple[str, str]]:
        """Where a secret could be, and what is there; the body with and without compression."""
        request, response = exchange.request, exchange.response
        yield "the path", request.path
        for what, headers in (("request", request.headers), ("response", response.headers)):
            for name, value in headers.items():
                yield f"the {what}'s header {name!r}", f"{name}: {value}"
        body = exchange.body
        yield "the body", body.decode(errors="replace")
        if encoding := response.headers.get("content-encoding"):
            plain = inflated(body, encoding, limit=self._max_bytes)
            yield "the compressed body", plain.decode(errors="replace")
