"""The names we give to what an HTTP library and all that it stands on can raise."""

import builtins
import inspect
import socket
import ssl
from collections.abc import Iterator
from types import ModuleType

import anyio
import h11
import httpcore
import httpcore2
import httpx
import httpx2
import pydantic
import pytest

from streamsession import (
    ConnectFailed,
    InvalidRequest,
    SessionClosed,
    SessionError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
)
from streamsession._http import translate
from streamsession._http._translate import raise_as_ours

LIBRARIES = [httpx, httpx2]
BENEATH = [httpcore, httpcore2, h11, anyio]
OURS = (ConnectFailed, InvalidRequest, StreamInterrupted, TimedOut)

either_phase = pytest.mark.parametrize("answered", [False, True], ids=["before", "answered"])


def public_exceptions(module: ModuleType) -> Iterator[type[Exception]]:
    for name in sorted(dir(module)):
        value = getattr(module, name)
        if not name.startswith("_") and inspect.isclass(value) and issubclass(value, Exception):
            yield value


def with_subclasses(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(with_subclasses(each) for each in cls.__subclasses__()))


def made(cls: type[Exception]) -> Exception:
    """An instance, whatever its constructor asks for."""
    exc = cls.__new__(cls)
    exc.args = ("why",)
    return exc


def as_parameters(*modules: ModuleType) -> list[object]:
    return [
        pytest.param(cls, id=f"{module.__name__}.{cls.__name__}")
        for module in modules
        for cls in public_exceptions(module)
        if not issubclass(cls, Warning)
    ]


def test_the_libraries_have_exceptions_to_be_named() -> None:
    for module in LIBRARIES:
        names = {cls.__name__ for cls in public_exceptions(module)}
        assert {"ConnectError", "ReadTimeout", "InvalidURL", "StreamClosed"} < names
        assert len(names) > 25
    assert all(list(public_exceptions(module)) for module in BENEATH)


@either_phase
@pytest.mark.parametrize("cls", as_parameters(*LIBRARIES, *BENEATH))
def test_every_exception_of_the_library_has_a_name_of_ours(
    cls: type[Exception], *, answered: bool
) -> None:
    ours = translate(made(cls), answered=answered)
    assert isinstance(ours, OURS)
    assert cls.__name__ in str(ours)
    assert not answered or not isinstance(ours, ConnectFailed | InvalidRequest)


@either_phase
@pytest.mark.parametrize("module", LIBRARIES, ids=lambda module: module.__name__)
def test_no_transport_error_is_missed(module: ModuleType, *, answered: bool) -> None:
    for cls in with_subclasses(module.TransportError):
        assert isinstance(translate(made(cls), answered=answered), OURS), cls


@either_phase
@pytest.mark.parametrize(
    "exc",
    [
        OSError("why"),
        ConnectionResetError("why"),
        ConnectionRefusedError("why"),
        BrokenPipeError("why"),
        TimeoutError("why"),
        socket.gaierror("why"),
        ssl.SSLError("why"),
        ssl.SSLCertVerificationError("why"),
        anyio.EndOfStream(),
        anyio.ClosedResourceError(),
    ],
    ids=repr,
)
def test_what_stands_below_the_library_has_a_name_of_ours(
    exc: Exception, *, answered: bool
) -> None:
    assert isinstance(translate(exc, answered=answered), OURS)


@pytest.mark.parametrize("module", LIBRARIES, ids=lambda module: module.__name__)
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("ConnectError", ConnectFailed, StreamInterrupted),
        ("ProxyError", ConnectFailed, StreamInterrupted),
        ("ReadError", StreamInterrupted, StreamInterrupted),
        ("WriteError", StreamInterrupted, StreamInterrupted),
        ("CloseError", StreamInterrupted, StreamInterrupted),
        ("RemoteProtocolError", StreamInterrupted, StreamInterrupted),
        ("LocalProtocolError", InvalidRequest, StreamInterrupted),
        ("UnsupportedProtocol", InvalidRequest, StreamInterrupted),
        ("InvalidURL", InvalidRequest, StreamInterrupted),
        ("CookieConflict", InvalidRequest, StreamInterrupted),
        ("RequestNotRead", InvalidRequest, StreamInterrupted),
        ("DecodingError", StreamInterrupted, StreamInterrupted),
        ("StreamClosed", StreamInterrupted, StreamInterrupted),
    ],
)
def test_the_name_depends_on_whether_the_answer_had_begun(
    module: ModuleType, name: str, before: type[Exception], after: type[Exception]
) -> None:
    exc = made(getattr(module, name))
    assert type(translate(exc, answered=False)) is before
    assert type(translate(exc, answered=True)) is after


@pytest.mark.parametrize("module", LIBRARIES, ids=lambda module: module.__name__)
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("ConnectTimeout", "connect", "connect"),
        ("PoolTimeout", "first_event", "idle"),
        ("ReadTimeout", "first_event", "idle"),
        ("WriteTimeout", "first_event", "idle"),
    ],
)
def test_a_time_limit_of_the_library_has_the_name_of_a_clock(
    module: ModuleType, name: str, before: str, after: str
) -> None:
    exc = made(getattr(module, name))
    for clock, answered in ((before, False), (after, True)):
        ours = translate(exc, answered=answered)
        assert isinstance(ours, TimedOut)
        assert ours.clock == clock


@either_phase
@pytest.mark.parametrize("base", [httpx.ConnectError, httpx2.ReadTimeout, httpcore.ReadError])
def test_an_exception_that_a_transport_derives_is_named_like_its_parent(
    base: type[Exception], *, answered: bool
) -> None:
    class Derived(base):  # type: ignore[valid-type, misc]
        pass

    ours, of_parent = (translate(made(cls), answered=answered) for cls in (Derived, base))
    assert type(ours) is type(of_parent)


@either_phase
@pytest.mark.parametrize(
    "exc",
    [
        SessionError("ours"),
        StreamTruncated("ours"),
        StreamInterrupted("ours, and a ConnectionError"),
        ConnectFailed("ours, and a ConnectionError"),
        TimedOut("ours, and a TimeoutError"),
        SessionClosed("ours"),
        InvalidRequest("ours"),
    ],
    ids=repr,
)
def test_what_is_ours_passes_unchanged(exc: Exception, *, answered: bool) -> None:
    assert translate(exc, answered=answered) is None
    with pytest.raises(type(exc)) as caught:
        raise_as_ours(exc, answered=answered)
    assert caught.value is exc
    assert exc.__cause__ is None


class ConnectError(Exception):
    """Of an author's own, by chance with a name that the library uses."""


def foreign_exceptions() -> list[Exception]:
    named = [value for value in vars(builtins).values() if inspect.isclass(value)]
    classes = [
        cls
        for cls in named
        if issubclass(cls, Exception) and not issubclass(cls, OSError | Warning | ExceptionGroup)
    ]
    return [ConnectError("why"), *map(made, classes)]


@either_phase
@pytest.mark.parametrize("exc", foreign_exceptions(), ids=repr)
def test_what_is_foreign_passes_unchanged(exc: Exception, *, answered: bool) -> None:
    if isinstance(exc, UnicodeError) and not answered:
        assert isinstance(translate(exc, answered=False), ConnectFailed)  # no name of a host
        return
    assert translate(exc, answered=answered) is None
    with pytest.raises(type(exc)) as caught:
        raise_as_ours(exc, answered=answered)
    assert caught.value is exc


def test_a_validation_error_passes_unchanged() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("x")
    assert translate(caught.value, answered=True) is None


def test_ours_is_raised_from_what_it_names() -> None:
    cause = httpx.ReadError("connection reset")
    with pytest.raises(StreamInterrupted, match=r"\(ReadError: connection reset\)") as caught:
        raise_as_ours(cause, answered=True)
    assert caught.value.__cause__ is cause


def test_an_exception_without_words_is_told_by_its_name() -> None:
    assert str(translate(httpx.ReadError(""), answered=True)) == "the connection broke (ReadError)"
