"""Frames to events: what a payload is, by the standard library's reading of it, and nothing else.

A case is the name of a server-sent event and its data.
"""

import json
from random import Random
from typing import Any, Final

from pydantic import TypeAdapter

from streamsession import DecodeError, Event, RemoteError, ServerSentEvent, UnknownEvent
from streamsession._json import is_object
from streamsession._reports import reported_error
from streamsession._validate import EventReader
from tests.acme import Finish, Token

from .engine import Case, mutated

__all__ = ["PAYLOADS", "check", "expected", "make"]

_NAMES: Final = [b"", b"message", b"error", b"token", b"finish", b"ping", b'a"b\\', b"\xc3\xa9"]
PAYLOADS: Final = [
    b'{"type":"token","text":"caf\xc3\xa9 \\ud83d\\ude00"}',
    b' { "text" : "a" , "type" : "token" } ',
    b'{"type":"finish","usage":{"input":1,"output":[2.5e3,-0,null,true]}}',
    b'{"type":"token","type":"finish","text":"x","text":3}',
    b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    b'{"error":{"code":529,"status":"UNAVAILABLE","detail":["x"]}}',
    b'{"error":"it broke"}',
    b'{"error":null,"type":"token","text":""}',
    b'{"type":"ping"}',
    b'{"text":"a"}',
    b"{}",
    b"[DONE]",
]
_PARTS: Final = [
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u0065", b"\\ud800", b"\\udc00", b"\\x"),
    *(b"0", b"-", b"1e999", b"9" * 30, b"9" * 4301, b"NaN", b"-Infinity", b"null", b"true", b"{}"),
    *(b" ", b"\n", b"\t", b"\x0b", b"\xc2\xa0", b"\x1c", b"\0", b"\xff", b"\xef\xbb\xbf"),
    *(b"[" * 250, b'{"a":' * 250, b'"type":', b'"text":', b'"error":', b'"token"', b'"error"'),
]

_DECLARED: Final[Any] = TypeAdapter(Token | Finish)
_READER: Final[EventReader[Any]] = EventReader(_DECLARED)


def make(rng: Random) -> Case:
    name = mutated(rng, _NAMES, _NAMES) if rng.random() < 0.2 else rng.choice(_NAMES)
    return name, mutated(rng, PAYLOADS, _PARTS)


def check(case: Case) -> None:
    name, data = (b"".join(case[:1]).decode(errors="replace"), b"".join(case[1:]))
    text = data.decode(errors="replace")
    for payload in (text, data) if text.encode() == data else (text,):
        try:
            event = _READER.read(payload, name)
        except DecodeError:
            event = None
        assert event == expected(payload, name)
    error = reported_error(ServerSentEvent(name, text))
    assert isinstance(error, RemoteError | None)
    if name != "error":
        again = reported_error(text)
        assert (error is None) is (again is None)
        assert str(again) == str(error) == str(reported_error(text.encode()))
        assert error is None or '"error"' in text


def expected(payload: str | bytes, name: str) -> Event | None:
    """The event; None if it is to be refused."""
    text = payload if isinstance(payload, str) else payload.decode(errors="replace")
    own_name = name not in ("", "token", "finish")
    value = _parsed(payload)
    if not is_object(value):
        return UnknownEvent(type=name, data=text) if own_name else None
    match value.get("type", name or None), value.get("text"):
        case "token", str(said):
            return Token(text=said)
        case "finish", _:
            return Finish()
        case str(kind), _ if kind != "token":
            return UnknownEvent(type=kind, data=text)
        case _:
            return None


def _parsed(payload: str | bytes) -> Any:
    """The value of a JSON text; None if it is none."""
    try:
        text = payload if isinstance(payload, str) else payload.decode()
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    json.dumps(pairs, ensure_ascii=False).encode()  # refuses half a surrogate pair
    return dict(pairs)
