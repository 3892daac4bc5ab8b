"""Our names for what an HTTP library raises. It need not be installed to be understood."""

import traceback
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Final, NoReturn

import httpx

from .._errors import (
    ConnectFailed,
    InvalidRequest,
    SessionError,
    StatusError,
    StreamError,
    StreamInterrupted,
    TimedOut,
)
from .._request import origin

__all__ = ["forget_locals", "raise_as_ours", "translate"]

# Exceptions are told by name, so that httpx2 need not be installed. What is not named here is a
# connection that broke: the rest of TransportError, and what stands below httpx.
_LIBRARIES: Final = frozenset(
    {"aiohttp", "anyio", "h11", "h2", "httpcore", "httpcore2", "httpx", "httpx2"}
)
_BELOW: Final = frozenset({__name__.partition(".")[0], "asyncio", "trio"})
_CONNECT_FAILED: Final = frozenset({"ConnectError", "ProxyError"})
_REFUSED: Final = frozenset({"CookieConflict", "InvalidURL", "LocalProtocolError"}) | {
    "RequestNotRead", "UnsupportedProtocol"
}  # fmt: skip


def translate(
    exc: BaseException, *, answered: bool, connected: bool = True, url: str = ""
) -> StreamError | InvalidRequest | None:
    """Our name for what a transport raised; None if it did not come from one.

    Args:
        exc: What was raised.
        answered: Whether the response had begun.
        connected: False if a proxy was still to connect.
        url: What was to be reached; only its origin is shown.
    """
    modules = {cls.__module__.partition(".")[0] for cls in type(exc).__mro__}
    is_bare = isinstance(exc, OSError)  # of a transport of one's own
    is_of_name = isinstance(exc, UnicodeError) and not answered  # which no host can have
    transported = is_bare or is_of_name or not modules.isdisjoint(_LIBRARIES)
    if isinstance(exc, SessionError) or not transported:
        return None
    names = {cls.__name__ for cls in type(exc).__mro__}
    if "RemoteProtocolError" in names and "location header" in str(exc):
        return StatusError("redirected to what is no URL")
    if (is_bare and not answered) or is_of_name or not connected:
        names |= _CONNECT_FAILED
    where = " to {}://{}:{}".format(*origin(url)) if url else ""
    # trio's errors leave it to their cause to say why.
    says = next((text for each in _chain(exc) if (text := str(each))), "")
    what = f"{type(exc).__name__}: {says}" if says else type(exc).__name__
    if "LocalProtocolError" in names:
        what = type(exc).__name__  # h11 quotes the header that it refuses, which may be a secret
    if "TimeoutException" in names and not _is_broken(exc.__cause__):
        late = "idle" if answered else "first_event"
        clock = "connect" if "ConnectTimeout" in names else late
        doing = f"could not connect{where} in time" if clock == "connect" else "timed out"
        return TimedOut(f"{doing} ({what})", clock=clock)
    if names & _CONNECT_FAILED and not answered:
        return ConnectFailed(f"could not connect{where} ({what})")
    if names & _REFUSED and not answered:
        return InvalidRequest(f"the request cannot be sent ({what})")
    return StreamInterrupted(f"the connection broke ({what})")


def _is_broken(cause: BaseException | None) -> bool:
    """Whether it is an error of aiohttp, all of which httpx-aiohttp calls timeouts, and is none."""
    is_theirs = type(cause).__module__.partition(".")[0] == "aiohttp"
    return is_theirs and not isinstance(cause, TimeoutError)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[BaseException] = set()
    cause: BaseException | None = exc
    while cause is not None and cause not in seen and not isinstance(cause, SessionError):
        yield cause
        seen.add(cause)
        cause = cause.__cause__ or cause.__context__


def raise_as_ours(
    exc: BaseException, *, answered: bool, connected: bool = True, url: str = ""
) -> NoReturn:
    """Raise our name for it from it, or itself if it did not come from a transport."""
    exc = _as_httpx(exc)
    ours = translate(exc, answered=answered, connected=connected, url=url)
    if ours is None:
        raise exc
    telling = type(exc).__name__ == "LocalProtocolError" and isinstance(ours, InvalidRequest)
    try:
        raise ours from (None if telling else exc)
    finally:
        ours.__context__ = None if telling else exc


def _as_httpx(exc: BaseException) -> BaseException:
    """What httpx calls an exception of httpcore; any other as it is."""
    if type(exc).__module__.partition(".")[0] != "httpcore":
        return exc
    named: BaseException = getattr(httpx, type(exc).__name__, httpx.TransportError)(str(exc))
    named.__cause__ = exc
    return named.with_traceback(exc.__traceback__)


def forget_locals(exc: BaseException) -> None:
    """Drop the local variables of all that has ended by an exception, and keep its lines.

    They hold credentials and bodies, also deep inside the library, and there are tools that show
    them with a traceback. An exception that it came from is included if it was handled there: one
    from elsewhere, such as what a task was handling as it cancelled this one, belongs to code that
    may only be suspended, and clearing that would end it.
    """
    ended: set[FrameType] = set()
    left: list[BaseException | None] = [exc]
    seen: set[BaseException | None] = {None}
    while left:
        each = left.pop()
        if each is None or each in seen:
            continue
        seen.add(each)
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        if each is exc or (frames and frames[0] in ended):
            ended.update(frames)
            left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
            for frame in filter(_holds_secrets, frames):
                with suppress(RuntimeError):  # it is still running
                    frame.clear()
            if hasattr(each, "_request"):  # with its headers and body
                setattr(each, "request", None)  # noqa: B010 - whatever library it is of


def _holds_secrets(frame: FrameType) -> bool:
    """Whether it is ours or the library's; the caller's own may be only suspended."""
    module: str = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in _LIBRARIES | _BELOW
