"""The tree of errors: as it is drawn, in full, and with all that an error carries."""

import copy
import pickle
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamsession
from streamsession import (
    AuthenticationError,
    Conflict,
    ConnectFailed,
    DecodeError,
    Event,
    EventTooLarge,
    NotFound,
    PermissionDenied,
    RateLimited,
    RemoteError,
    Reply,
    ServerError,
    SessionClosed,
    SessionError,
    StatusError,
    StreamError,
    StreamInterrupted,
    TextDelta,
    TimedOut,
    UnexpectedContent,
    UnprocessableContent,
    _errors,
)
from streamsession._errors import status_error
from streamsession._public import __all__ as public_names

_NODE = re.compile(r"(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:.* also (?P<builtin>\w+))?")


class Node(NamedTuple):
    name: str
    parent: str
    builtin: str | None


def drawn() -> set[Node]:
    """The tree in the module's docstring; each level is indented by four characters."""
    assert _errors.__doc__ is not None
    nodes: set[Node] = set()
    path: list[str] = []
    for line in _errors.__doc__.partition("\n\n")[2].splitlines():
        found = _NODE.match(line)
        assert found is not None, line
        level = len(found["branch"]) // 4
        path[level:] = [found["name"]]
        nodes.add(Node(found["name"], path[level - 1] if level else "", found["builtin"]))
    return nodes


def descendants(cls: type[SessionError]) -> set[type[SessionError]]:
    children = {each for each in cls.__subclasses__() if each.__module__ == _errors.__name__}
    return {cls}.union(*map(descendants, children))


ERRORS = sorted(descendants(SessionError), key=lambda cls: cls.__name__)
STREAM_ERRORS = [cls for cls in ERRORS if issubclass(cls, StreamError)]

every_error = pytest.mark.parametrize("cls", ERRORS)
every_stream_error = pytest.mark.parametrize("cls", STREAM_ERRORS)


def reply_of(*events: Event) -> Reply[Event]:
    reply = Reply[Event]()
    reply.events.extend(events)
    return reply


def documented_attributes(cls: type) -> set[str]:
    """The attributes that a class and its parents annotate: the details of an error."""
    return {name for each in cls.__mro__ for name in vars(each).get("__annotations__", {})}


# The tree


def test_the_tree_drawn_in_the_docstring_is_the_real_one() -> None:
    real = {
        Node(
            cls.__name__,
            "" if cls is SessionError else cls.__bases__[0].__name__,
            cls.__bases__[1].__name__ if len(cls.__bases__) > 1 else None,
        )
        for cls in ERRORS
    }
    assert drawn() == real


@every_error
def test_every_error_is_public(cls: type[SessionError]) -> None:
    assert cls.__name__ in public_names
    assert getattr(streamsession, cls.__name__) is cls


@every_error
def test_every_error_says_what_happened(cls: type[SessionError]) -> None:
    assert cls.__doc__ is not None
    assert cls.__doc__.split("\n")[0].endswith(".")


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (streamsession.InvalidRequest, ValueError),
        (ConnectFailed, ConnectionError),
        (StreamInterrupted, ConnectionError),
        (TimedOut, TimeoutError),
    ],
)
def test_an_error_is_also_what_python_calls_it(
    cls: type[SessionError], builtin: type[Exception]
) -> None:
    with pytest.raises(builtin, match=r"^what happened$"):
        raise cls("what happened")


def test_no_other_error_is_an_os_error() -> None:
    known = {cls.__name__ for cls in ERRORS if issubclass(cls, OSError)}
    assert known == {"ConnectFailed", "StreamInterrupted", "TimedOut"}


@every_error
def test_the_message_is_all_that_is_printed(cls: type[SessionError]) -> None:
    assert str(cls("what happened")) == "what happened"
    assert cls("what happened").args == ("what happened",)


# What an error carries


@every_stream_error
def test_an_error_carries_nothing_if_nothing_had_arrived(cls: type[StreamError]) -> None:
    error = cls("what happened")
    assert error.partial.text == ""
    assert list(error.partial.events) == []
    assert list(error.events) == []
    assert error.last_event_id is None
    assert error.request_id is None
    assert error.attempts == 0


@every_stream_error
def test_an_error_carries_what_had_arrived(cls: type[StreamError]) -> None:
    error = cls("what happened", partial=reply_of(TextDelta(text="Hel"), TextDelta(text="lo")))
    assert error.partial.text == "Hello"
    assert error.events == [TextDelta(text="Hel"), TextDelta(text="lo")]


@every_stream_error
def test_details_belong_to_one_error_only(cls: type[StreamError]) -> None:
    reply = reply_of(TextDelta(text="Hello"))
    cls("what happened", partial=reply, attempts=7)
    assert cls("what happened").attempts == 0
    assert cls("what happened").partial.text == ""


@every_stream_error
def test_every_detail_has_a_default(cls: type[StreamError]) -> None:
    error = cls("what happened")
    for name in documented_attributes(cls):
        getattr(error, name)


@pytest.mark.parametrize(
    ("cls", "defaults"),
    [
        (StatusError, {"status": 0, "body": "", "data": None, "retry_after": None}),
        (UnexpectedContent, {"content_type": "", "body": "", "data": None}),
        (RemoteError, {"type": "", "retryable": False, "data": None}),
        (TimedOut, {"clock": "total", "seconds": 0.0}),
        (DecodeError, {"frame": None, "index": 0, "reason": ""}),
        (EventTooLarge, {"frame": None, "index": 0, "reason": "", "limit": 0}),
    ],
)
def test_details_that_were_not_given_have_their_documented_defaults(
    cls: type[StreamError], defaults: dict[str, Any]
) -> None:
    error = cls("what happened")
    assert {name: getattr(error, name) for name in defaults} == defaults


@every_stream_error
def test_an_error_survives_pickling_with_all_its_details(cls: type[StreamError]) -> None:
    details = {name: f"the {name}" for name in documented_attributes(cls)}
    error = cls("what happened", **details)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is cls
    assert again.args == error.args
    assert {name: getattr(again, name) for name in details} == details
    assert again.__notes__ == ["a note"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@every_stream_error
def test_a_copy_of_an_error_has_all_its_details(cls: type[StreamError], copied: Any) -> None:
    details = {name: f"the {name}" for name in documented_attributes(cls)}
    again = copied(cls("what happened", **details))
    assert type(again) is cls
    assert str(again) == "what happened"
    assert {name: getattr(again, name) for name in details} == details


def test_the_reply_so_far_survives_pickling() -> None:
    reply = reply_of(TextDelta(text="Hel"), TextDelta(text="lo"))
    assert reply.text == "Hello"
    error = StreamInterrupted("broke", partial=reply)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert again.partial.text == "Hello"
    assert again.events == error.events
    again.partial.events.append(TextDelta(text="!"))
    assert again.partial.text == "Hello!"


@pytest.mark.parametrize("cls", [cls for cls in ERRORS if not issubclass(cls, StreamError)])
def test_errors_without_details_survive_pickling(cls: type[SessionError]) -> None:
    again = pickle.loads(pickle.dumps(cls("what happened")))  # noqa: S301 - our own
    assert type(again) is cls
    assert str(again) == "what happened"


# By status


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (301, StatusError),
        (308, StatusError),
        (400, StatusError),
        (401, AuthenticationError),
        (402, StatusError),
        (403, PermissionDenied),
        (404, NotFound),
        (405, StatusError),
        (408, StatusError),
        (409, Conflict),
        (410, StatusError),
        (422, UnprocessableContent),
        (429, RateLimited),
        (499, StatusError),
        (500, ServerError),
        (502, ServerError),
        (529, ServerError),
        (599, ServerError),
    ],
)
def test_a_status_has_a_name(status: int, cls: type[StatusError]) -> None:
    assert status_error(status) is cls


@given(st.integers(300, 599))
def test_every_status_is_a_status_error(status: int) -> None:
    cls = status_error(status)
    assert issubclass(cls, StatusError)
    assert issubclass(cls, ServerError) == (status >= 500)


def test_leaving_the_session_is_a_way_of_closing_the_stream() -> None:
    with pytest.raises(streamsession.StreamClosed, match="left"):
        raise SessionClosed("the session was left")


def test_an_error_takes_only_details_that_it_documents() -> None:
    with pytest.raises(TypeError, match="StreamError has no attribute 'reson'"):
        StreamError("failed", reson="misspelt")
