"""The contract: sound sessions keep it, a sloppy one is told which promise it breaks, and how."""

import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, TypeAlias
from unittest import SkipTest

import anyio
import pytest

from streamsession import (
    AsyncSession,
    Decoder,
    EventStreamDecoder,
    JSONArrayDecoder,
    JSONLinesDecoder,
    JSONSeqDecoder,
    Reply,
    Request,
    RetryPolicy,
    SSEDecoder,
    Stream,
    Timeouts,
    UnknownEvent,
)
from streamsession.testing import (
    BrokenPromise,
    RecordedRequest,
    ScriptedResponse,
    SessionContract,
    event_stream,
    event_stream_message,
    json_array,
    json_lines,
    json_seq,
    sse_event,
)
from tests.acme import Acme, Finish, Token, chat


class AcmeContract(SessionContract):
    """The contract for whatever session a test sets."""

    body = chat("Hello", " ", "world")
    of: ClassVar[type[AsyncSession[Any]]] = Acme

    def session(self, url: str) -> AsyncSession[Any]:
        return self.of(base_url=url, api_key=self.secret)


class Tail(AsyncSession[Token]):
    """An API without a final event."""

    framing = JSONLinesDecoder
    final_events = None

    def stream(self) -> Stream[Token]:
        return self.open_stream("GET", "/tail")


class TestTail(AcmeContract):
    """A session whose streams prove nothing keeps the other promises."""

    of = Tail
    body = json_lines(Token(text="a"), Token(text="b"), Token(text="c"))
    proves_its_end = False


class Texts(Acme):
    """An API that streams a JSON text sequence."""

    framing = JSONSeqDecoder


class TextsContract(AcmeContract):
    of = Texts
    body = json_seq(Token(text="a"), Token(text="b"), Finish())


class Elements(Acme):
    """An API that streams a JSON array."""

    framing = JSONArrayDecoder


class ElementsContract(AcmeContract):
    of = Elements
    body = json_array(Token(text="a"), Token(text="b"), Finish())


class Messages(Acme):
    """An API that streams the messages of AWS."""

    framing = EventStreamDecoder


class MessagesContract(AcmeContract):
    of = Messages
    body = event_stream(("token", {"text": "a"}), ("token", {"text": "b"}), ("finish", {}))
    keep_alive = event_stream_message({}, event="ping")  # it has none of its own


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("contract", [TextsContract, ElementsContract, MessagesContract])
@pytest.mark.parametrize(
    "promise",
    [
        "test_a_frame_that_cannot_be_read_is_a_decode_error",
        "test_an_unknown_event_never_becomes_a_known_one",
        "test_a_failure_that_the_server_reports_is_a_remote_error",
        "test_an_event_without_an_end_is_refused_early",
        "test_keep_alives_feed_no_clock",
        "test_what_follows_the_end_is_not_listened_to",
    ],
)
def test_it_knows_the_frames_of_each_framing(
    contract: type[AcmeContract], promise: str, anyio_backend: str
) -> None:
    getattr(contract(), promise)(anyio_backend)


class Greeting(Acme):
    """A session that makes requests on entering and leaving."""

    idempotency_header = "idempotency-key"

    async def connect(self) -> None:
        self.greeting = await self.request("GET", "/hello", result=str)

    async def disconnect(self) -> None:
        await self.request("GET", "/bye", result=str)


class TestGreeting(AcmeContract):
    """A session with a handshake keeps them too; its key makes the attempts of a request one."""

    of = Greeting

    def answer(self, request: RecordedRequest) -> ScriptedResponse | None:
        return ScriptedResponse.json("hello") if request.method == "GET" else None


# Sloppy sessions


Events: TypeAlias = AsyncIterator[Token | Finish | UnknownEvent]


class Sloppy(AsyncSession[Token | Finish]):
    """The base of what breaks promises."""

    final_events = (Finish,)

    def stream(self) -> Stream[Token | Finish]:
        return self.open_stream("POST", "/generate", json={"prompt": "Hello"})


class Believing(AsyncSession[Token | Finish]):
    final_events = None
    stream = Sloppy.stream


class Swallowing(Sloppy):
    async def decode(self, frames: AsyncIterator[Any]) -> Events:
        try:
            async for event in super().decode(frames):
                yield event
        except Exception:  # noqa: BLE001, S110 - that is the fault
            pass


class Guessing(Sloppy):
    async def decode(self, frames: AsyncIterator[Any]) -> Events:
        async for frame in frames:
            data = json.loads(frame.data)
            if data.get("type") == "finish":
                yield Finish()
                return
            yield Token(text=data.get("text", ""))


class Remembering(Sloppy):
    count = 0

    async def decode(self, frames: AsyncIterator[Any]) -> Events:
        async for event in super().decode(frames):
            self.count += 1
            yield event if isinstance(event, Finish) else Token(text=f"{self.count}")


class Restarting(Sloppy):
    def resume_request(self, request: Request, reply: Reply[Any], last_event_id: str) -> Request:
        return request


class Stubborn(Sloppy):
    def stream(self) -> Stream[Token | Finish]:
        policy = RetryPolicy(attempts=5, base_delay=0, max_retry_after=0)
        return self.open_stream("POST", "/generate", json={}, retry=policy)


class SentOnce(Sloppy):
    def stream(self) -> Stream[Token | Finish]:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"{}"

        return self.open_stream("POST", "/generate", content=pieces())


class Hoarding(Sloppy):
    def stream(self) -> Stream[Token | Finish]:
        self.last = super().stream()
        return self.last


class Telling(Sloppy):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.key = options["api_key"]

    def __repr__(self) -> str:
        return f"Telling({self.key})"


class Welcoming(Sloppy):
    content_types = ("text/html", "application/json")


PING = sse_event({}, event="ping")


class Pinging(Sloppy):
    async def decode(self, frames: AsyncIterator[Any]) -> Events:
        async for frame in frames:
            if frame.event == "ping":
                yield Token(text="")
            else:
                data = json.loads(frame.data)
                if data["type"] == "finish":
                    yield Finish()
                    return
                yield Token.model_validate(data)


class Staying(Sloppy):
    async def __aexit__(self, *args: object) -> None:
        """Forget to close anything."""


class Opaque(Token):
    """An event that forgets its text when it is written."""

    def model_dump_json(self, **_: Any) -> str:
        return '{"type": "token", "text": "?"}'


class Forgetful(Sloppy):
    async def decode(self, frames: AsyncIterator[Any]) -> Events:
        async for event in super().decode(frames):
            yield Opaque(text=event.text) if isinstance(event, Token) else event


KEPT = {
    "test_a_whole_body_is_handed_over_and_complete",
    "test_an_unknown_event_never_becomes_a_known_one",
    "test_a_login_page_is_no_stream",
    "test_an_event_without_an_end_is_refused_early",
    "test_two_streams_at_a_time_do_not_mix",
    "test_the_connection_is_used_again_after_a_whole_stream",
    "test_breaking_off_closes_the_connection",
    "test_a_session_that_is_not_open_says_so",
    "test_what_may_pass_is_tried_again",
    "test_no_event_comes_twice",
    "test_the_key_is_in_no_repr_log_or_error",
}
"""Some promises of each kind: what a sloppy session does not break of them, it keeps."""

BROKEN: dict[type[AsyncSession[Any]], set[str]] = {
    Believing: {
        "test_a_body_that_was_cut_is_never_taken_for_whole",
        "test_a_server_that_does_not_hang_up_is_not_waited_for",
        "test_an_answer_without_content_is_no_stream",
        "test_what_follows_the_end_is_not_listened_to",
    },
    Swallowing: {
        "test_a_body_that_was_cut_is_never_taken_for_whole",
        "test_a_connection_that_breaks_is_never_taken_for_the_end",
        "test_a_connection_that_is_reset_is_an_error",
        "test_a_failure_that_the_server_reports_is_a_remote_error",
        "test_a_frame_that_cannot_be_read_is_a_decode_error",
        "test_a_server_that_falls_silent_times_out",
        "test_an_event_without_an_end_is_refused_early",
        "test_closing_in_another_task_ends_the_reader",
        "test_errors_survive_pickling",
        "test_keep_alives_feed_no_clock",
        "test_leaving_the_session_ends_its_streams",
        "test_no_event_comes_twice",
        "test_what_came_before_a_failure_is_on_the_error",
        "test_what_may_pass_is_tried_again",
    },
    Guessing: {
        "test_a_failure_that_the_server_reports_is_a_remote_error",
        "test_an_unknown_event_never_becomes_a_known_one",
    },
    Remembering: {
        "test_a_body_that_was_cut_is_never_taken_for_whole",
        "test_a_connection_that_breaks_is_never_taken_for_the_end",
        "test_an_unknown_event_never_becomes_a_known_one",
        "test_chunks_of_any_size_give_the_same_events",
        "test_two_streams_at_a_time_do_not_mix",
    },
    Restarting: {"test_no_event_comes_twice"},
    Stubborn: {"test_giving_up_is_an_error", "test_the_wait_that_the_server_asks_for_is_kept"},
    SentOnce: {
        "test_giving_up_is_an_error",
        "test_the_wait_that_the_server_asks_for_is_kept",
        "test_what_may_pass_is_tried_again",
    },
    Hoarding: {"test_a_dropped_stream_closes_its_connection"},
    Telling: {"test_the_key_is_in_no_repr_log_or_error"},
    Welcoming: {
        "test_a_json_error_with_status_200_is_no_stream",
        "test_a_login_page_is_no_stream",
    },
    Pinging: {
        "test_a_failure_that_the_server_reports_is_a_remote_error",
        "test_keep_alives_feed_no_clock",
    },
    Staying: {
        "test_a_session_that_is_not_open_says_so",
        "test_leaving_the_session_ends_its_streams",
        "test_leaving_the_session_leaves_nothing_open",
    },
    Forgetful: {"test_events_survive_a_round_trip_through_json"},
}
PROMISES = {name for name in dir(SessionContract) if name.startswith("test_")}


def contract_of(session: type[AsyncSession[Any]], **facts: Any) -> SessionContract:
    contract: SessionContract = type("Contract", (AcmeContract,), {"of": session, **facts})()
    return contract


def broken(contract: SessionContract, names: set[str], backend: str = "asyncio") -> dict[str, str]:
    """Which promises the session breaks, and what its author is told."""
    told: dict[str, str] = {}
    for name in sorted(names):
        test: Callable[[str], None] = getattr(contract, name)
        try:
            test(backend)
        except BrokenPromise as exc:
            told[name] = str(exc)
        except SkipTest:
            pass
    return told


@pytest.mark.parametrize("session", BROKEN, ids=lambda session: session.__name__)
@pytest.mark.usefixtures("hurried")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_sloppy_session_breaks_just_these_promises(
    session: type[AsyncSession[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who breaks a promise to end soon is waited for as long.
    monkeypatch.setattr("streamsession.testing._contract._closing._SOON", 0.3)
    unhurried = Timeouts(connect=10, first_event=0.3, idle=0.3)
    monkeypatch.setattr("streamsession.testing._contract._waits._UNHURRIED", unhurried)
    facts = {"keep_alive": PING} if session is Pinging else {}
    told = broken(contract_of(session, **facts), KEPT | BROKEN[session])
    gc.collect()  # what it leaked is not to be found by another test
    assert set(told) == BROKEN[session]


def test_the_author_is_told_the_promise_what_happened_and_how_to_mend_it() -> None:
    name = "test_a_login_page_is_no_stream"
    assert broken(contract_of(Welcoming), {name})[name] == (
        "A page with status 200, as a proxy or a login sends it, is UnexpectedContent.\n"
        "  What happened: the stream raised StreamTruncated('the body ended after 0 frames: Finish "
        "had not come') after 0 events; expected UnexpectedContent\n"
        "  To mend it: keep content_types to what the API streams; text/html is never among them"
    )


def test_every_promise_says_what_it_promises() -> None:
    assert len(PROMISES) >= 25
    for name in PROMISES:
        said = getattr(SessionContract, name).__doc__
        assert said.endswith("."), name


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"body": b""}, "Contract has no `body`: give it a recorded one"),
        ({"body": chat()}, "`body` holds 1 whole frames: give one of two or more"),
        ({"body": b"data: what\n\n" * 2}, "of the good body, the stream raised DecodeError"),
    ],
)
def test_a_body_that_will_not_do_is_explained(facts: dict[str, Any], told: str) -> None:
    name = "test_a_body_that_was_cut_is_never_taken_for_whole"
    assert told in broken(contract_of(Acme, **facts), {name})[name]


def test_a_contract_without_a_session_says_how_to_give_one() -> None:
    class Bare(SessionContract):
        body = chat("Hello")

    with pytest.raises(BrokenPromise, match=r"give Bare a method `session\(self, url\)`"):
        Bare().test_a_whole_body_is_handed_over_and_complete("asyncio")


@pytest.mark.parametrize("fact", ["broken_frame", "unknown_frame", "error_frame", "keep_alive"])
def test_what_cannot_be_made_for_a_framing_is_asked_for(fact: str) -> None:
    class Blocks(SSEDecoder):
        pass

    class Raw(Decoder[bytes]):
        content_types = ("text/event-stream",)

        def __init__(self, *, max_event_bytes: int = 1 << 20) -> None:
            self._blocks = Blocks(max_event_bytes=max_event_bytes)

        def decode(self, data: bytes) -> list[bytes]:
            return [block.data.encode() for block in self._blocks.decode(data)]

        def flush(self) -> list[bytes]:
            return []

    assert contract_of(Acme, framing=Blocks).made(fact)
    contract = contract_of(Acme, framing=Raw)
    with pytest.raises(SkipTest, match=f"Contract.{fact} is needed for this framing"):
        contract.made(fact)
    assert contract_of(Acme, framing=Raw, **{fact: b"mine"}).made(fact) == b"mine"


def test_what_hangs_is_told_from_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamsession.testing._contract._promise._PATIENCE", 0.05)

    class Hanging(Sloppy):
        async def connect(self) -> None:
            await anyio.sleep_forever()

    name = "test_a_stream_is_read_once"
    assert "it hung: nothing came of it within 0.05 s" in broken(contract_of(Hanging), {name})[name]
