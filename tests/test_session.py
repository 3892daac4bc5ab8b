"""A session from entering to leaving, whatever happens in between."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
import respx
from pydantic import SecretStr

from streamsession import (
    AsyncSession,
    BearerAuth,
    InvalidRequest,
    RetryPolicy,
    SessionClosed,
    SessionStateError,
    StatusError,
    Stream,
    TimedOut,
    Timeouts,
)
from streamsession.testing import HOLD, MockStream, mock_stream
from tests.acme import BASE_URL, URL, Acme, Finish, Token, chat, in_turn, token
from tests.canary import CANARY

pytestmark = pytest.mark.anyio


class Transport(httpx.MockTransport):
    """A scripted transport that remembers whether it was closed, and may fail to."""

    def __init__(self, stream: MockStream, *, failure: Exception | None = None) -> None:
        super().__init__(stream)
        self.stream = stream
        self.closed = False
        self._failure = failure

    async def aclose(self) -> None:
        self.closed = True
        if self._failure is not None:
            raise self._failure


class Failing(Acme):
    """Fails to disconnect."""

    async def disconnect(self) -> None:
        raise OSError("the farewell failed")


class Hanging(Acme):
    """Never disconnects by itself."""

    close_timeout = 0.05

    async def disconnect(self) -> None:
        await anyio.sleep_forever()


def notes(exc: BaseException) -> str:
    return "\n".join(getattr(exc, "__notes__", []))


# The lifecycle


class HandbookSession(AsyncSession[Token | Finish]):
    """The handbook's session, which says what it does."""

    base_url = BASE_URL
    final_events = (Finish,)

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said
        self.said.append("[Init]")

    async def connect(self) -> None:
        await super().connect()
        self.said.append("[Enter]")

    async def disconnect(self) -> None:
        await super().disconnect()
        self.said.append("[Exit]")

    def stream(self) -> Stream[Token | Finish]:
        self.said.append("[Stream]")
        return self.open_stream("POST", "/generate")


async def use_as_the_handbook_does(said: list[str]) -> None:
    async with HandbookSession(said) as session:
        said.append("[Logic]")
        async for word in session.stream().text():
            said.append(f"[Received] {word}")  # noqa: PERF401 - as the handbook does it


async def test_the_handbooks_lifecycle_runs_in_its_order(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hello", "Human", "!")))
    said: list[str] = []
    await use_as_the_handbook_does(said)
    assert said == [
        "[Init]",
        "[Enter]",
        "[Logic]",
        "[Stream]",
        "[Received] Hello",
        "[Received] Human",
        "[Received] !",
        "[Exit]",
    ]


async def test_a_block_that_raises_is_left_like_any_other(respx_mock: respx.MockRouter) -> None:
    stream = mock_stream(token("Hello"), HOLD)
    respx_mock.post(URL).mock(side_effect=stream)
    said: list[str] = []
    with suppress(ZeroDivisionError):
        async with HandbookSession(said) as session:
            async for _ in session.stream():
                raise ZeroDivisionError
    assert said == ["[Init]", "[Enter]", "[Stream]", "[Exit]"]
    assert stream.closed


async def test_a_block_that_is_left_by_no_ordinary_exception_is_left_like_any_other() -> None:
    class Odd(BaseException):
        pass

    said: list[str] = []
    with suppress(Odd):
        async with HandbookSession(said):
            raise Odd
    assert said == ["[Init]", "[Enter]", "[Exit]"]


async def test_a_session_that_is_not_subclassed_streams_neutral_tokens(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.post(URL).mock(
        side_effect=mock_stream(
            b'data: {"type": "text", "text": "Hi"}\n\n',
            b'data: {"type": "done", "finish_reason": "stop"}\n\n',
        )
    )
    async with AsyncSession(base_url=BASE_URL) as session:
        reply = await session.stream("POST", "/generate").collect()
    assert (reply.text, reply.finish_reason) == ("Hi", "stop")


async def test_nothing_is_sent_before_a_stream_is_read(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hello")))
    async with Acme() as session:
        stream = session.stream()
        await anyio.wait_all_tasks_blocked()
        assert route.call_count == 0
        await anext(stream)
        assert route.call_count == 1


async def test_connect_may_use_the_session(respx_mock: respx.MockRouter) -> None:
    class Handshaking(Acme):
        async def connect(self) -> None:
            self.greeting = await self.request("GET", "/hello", result=str)

    respx_mock.get(f"{BASE_URL}/hello").mock(return_value=httpx.Response(200, json="welcome"))
    async with Handshaking() as session:
        assert session.greeting == "welcome"


async def test_the_streams_have_ended_when_disconnect_is_awaited() -> None:
    class Looking(Acme):
        async def disconnect(self) -> None:
            seen.append((transport.stream.closed, transport.closed))

    seen: list[tuple[bool, bool]] = []
    transport = Transport(mock_stream(token("Hello"), HOLD))
    async with Looking(transport=transport) as session:
        await anext(session.stream())
    assert seen == [(True, False)], "the pool is closed last"


async def test_tasks_share_a_session(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hello")))
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with Acme() as session, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(read, session)
    assert texts == ["Hello"] * 5


# States


async def test_a_session_that_is_not_open_says_how_to_open_it() -> None:
    session = Acme()
    with pytest.raises(SessionStateError, match="not open: use `async with`"):
        await anext(session.stream())
    with pytest.raises(SessionStateError, match="not open"):
        await session.request("GET", "/x", result=str)


async def test_a_closed_session_says_to_open_a_new_one() -> None:
    async with Acme() as session:
        stream = session.stream()
    for late in (stream, session.stream()):
        with pytest.raises(SessionStateError, match="closed: open a new one"):
            await anext(late)


async def test_a_session_is_entered_once() -> None:
    session = Acme()
    async with session:
        with pytest.raises(SessionStateError, match="entered once, this one is open"):
            await session.__aenter__()
    with pytest.raises(SessionStateError, match="entered once, this one is closed"):
        await session.__aenter__()


async def test_a_refused_second_entry_leaves_the_session_open(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hello")))
    async with Acme() as session:
        with suppress(SessionStateError):
            await session.__aenter__()
        assert (await session.stream().collect()).text == "Hello"


async def test_its_repr_tells_its_state() -> None:
    session = Acme()
    assert repr(session) == f"<Acme new id={session.id} base_url='{BASE_URL}'>"
    async with session:
        assert repr(session).startswith("<Acme open ")
    assert repr(session).startswith("<Acme closed ")


def test_every_session_has_an_id_of_its_own() -> None:
    assert len({Acme().id for _ in range(100)}) == 100


# connect() that fails


async def test_a_failing_connect_leaves_nothing_open() -> None:
    left: list[str] = []

    class Refused(Acme):
        async def connect(self) -> None:
            await anext(self.stream())
            raise PermissionError("who are you?")

        async def disconnect(self) -> None:
            left.append("disconnect")

    transport = Transport(mock_stream(token("Hello"), HOLD))
    session = Refused(transport=transport)
    with pytest.raises(PermissionError, match="who are you"):
        await session.__aenter__()
    assert transport.closed
    assert transport.stream.closed
    assert left == [], "what was not connected is not disconnected"
    with pytest.raises(SessionStateError, match="closed"):
        await anext(session.stream())


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    class Waiting(Acme):
        async def connect(self) -> None:
            await anext(self.stream())
            await anyio.sleep_forever()

    transport = Transport(mock_stream(token("Hello"), HOLD))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(Waiting(transport=transport).__aenter__)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert transport.closed
    assert transport.stream.closed


async def test_what_fails_after_a_failing_connect_is_noted_on_it() -> None:
    class Refused(Acme):
        async def connect(self) -> None:
            raise PermissionError("who are you?")

    transport = Transport(mock_stream(), failure=OSError("the pool is stuck"))
    with pytest.raises(PermissionError) as caught:
        await Refused(transport=transport).__aenter__()
    assert "the pool is stuck" in notes(caught.value)


# disconnect() that fails


async def test_a_failing_disconnect_is_raised_once_the_pool_is_closed() -> None:
    transport = Transport(mock_stream())
    with pytest.raises(OSError, match="the farewell failed"):
        async with Failing(transport=transport):
            pass
    assert transport.closed


async def test_the_exception_of_the_block_survives_a_failing_teardown() -> None:
    transport = Transport(mock_stream(), failure=OSError("the pool is stuck"))
    with pytest.raises(ZeroDivisionError) as caught:
        async with Failing(transport=transport):
            raise ZeroDivisionError
    assert "the farewell failed" in notes(caught.value)
    assert "the pool is stuck" in notes(caught.value)


async def test_of_two_failures_of_a_teardown_none_is_lost() -> None:
    transport = Transport(mock_stream(), failure=OSError("the pool is stuck"))
    with pytest.raises(OSError, match="the farewell failed") as caught:
        async with Failing(transport=transport):
            pass
    assert "the pool is stuck" in notes(caught.value)


async def test_a_hanging_disconnect_is_given_up() -> None:
    transport = Transport(mock_stream())
    with pytest.raises(TimedOut, match="disconnect took longer") as caught:
        async with Hanging(transport=transport):
            pass
    assert (caught.value.clock, caught.value.seconds) == ("close", 0.05)
    assert transport.closed


async def test_a_hanging_disconnect_is_noted_on_the_exception_of_the_block() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with Hanging(transport=Transport(mock_stream())):
            raise ZeroDivisionError
    assert "disconnect took longer" in notes(caught.value)


async def test_a_cancelled_session_hangs_no_longer_than_its_teardown_may() -> None:
    transport = Transport(mock_stream())
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with Hanging(transport=transport):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert transport.closed


async def test_a_cancelled_session_is_disconnected_to_the_end() -> None:
    done: list[str] = []

    class Slow(Acme):
        async def disconnect(self) -> None:
            for step in ("one", "two"):
                await anyio.lowlevel.checkpoint()
                done.append(step)

    transport = Transport(mock_stream())
    with anyio.CancelScope() as scope:
        async with Slow(transport=transport):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert done == ["one", "two"]
    assert transport.closed


async def test_a_cancelled_session_that_fails_to_disconnect_stays_cancelled() -> None:
    transport = Transport(mock_stream())
    with anyio.CancelScope() as scope:
        async with Failing(transport=transport):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert transport.closed


async def test_cancelling_a_teardown_does_not_stop_it() -> None:
    entered = anyio.Event()
    may_end = anyio.Event()
    done: list[str] = []

    class Slow(Acme):
        async def disconnect(self) -> None:
            entered.set()
            await may_end.wait()
            done.append("disconnect")

    transport = Transport(mock_stream())

    async def use() -> None:
        async with Slow(transport=transport):
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        await entered.wait()
        group.cancel_scope.cancel()
        may_end.set()
    assert done == ["disconnect"]
    assert transport.closed


# Leaving with streams open


async def test_leaving_ends_a_stream_that_another_task_reads() -> None:
    transport = Transport(mock_stream(token("Hello"), HOLD))
    ends: list[BaseException] = []

    async def read(stream: Stream[Token | Finish]) -> None:
        try:
            async for _ in stream:
                pass
        except SessionClosed as exc:
            ends.append(exc)

    async with anyio.create_task_group() as group:
        async with Acme(transport=transport) as session:
            for _ in range(3):
                group.start_soon(read, session.stream())
            await anyio.wait_all_tasks_blocked()
        assert len(ends) == 3, "leaving waits for them"
    assert all(isinstance(end, SessionClosed) and end.partial.text == "Hello" for end in ends)
    assert transport.stream.closed


async def test_a_stream_that_its_session_has_left_behind_says_so() -> None:
    transport = Transport(mock_stream(token("Hello"), HOLD))
    async with Acme(transport=transport) as session:
        stream = session.stream()
        await anext(stream)
    with pytest.raises(SessionClosed, match="session was left") as caught:
        await anext(stream)
    assert caught.value.partial.text == "Hello"


async def test_leaving_is_not_held_up_by_a_decode_that_waits_for_something_else() -> None:
    class Stuck(Acme):
        close_timeout = 0.05

        async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[Token | Finish]:
            async for frame in frames:
                yield Token.model_validate_json(frame.data)
                with anyio.CancelScope(shield=True):
                    await may_end.wait()

    may_end = anyio.Event()
    transport = Transport(mock_stream(token("Hello"), HOLD))

    async def read(stream: Stream[Token | Finish]) -> None:
        with suppress(SessionClosed):
            await stream.collect()

    async with anyio.create_task_group() as group:
        with anyio.fail_after(5), suppress(TimedOut):
            async with Stuck(transport=transport) as session:
                group.start_soon(read, session.stream())
                await anyio.wait_all_tasks_blocked()
        assert transport.closed
        may_end.set()


# Class attributes and the constructor


async def test_the_constructor_goes_over_the_class() -> None:
    class Tuned(Acme):
        headers: Mapping[str, str] = {"X-Class": "class", "X-Both": "class"}
        timeout = Timeouts(idle=1)
        retry = RetryPolicy(attempts=7)
        max_event_bytes = 10
        keep_reply = False

    plain, tuned = (
        Tuned(),
        Tuned(
            base_url="https://eu.acme.example/v2/",
            headers={"x-both": "instance"},
            timeout=Timeouts(idle=2),
            retry=RetryPolicy(attempts=8),
            max_event_bytes=20,
            keep_reply=True,
        ),
    )
    assert plain.base_url == BASE_URL
    assert plain.headers == {"x-class": "class", "x-both": "class"}
    assert (plain.timeout.idle, plain.retry.attempts) == (1, 7)
    assert (plain.max_event_bytes, plain.keep_reply) == (10, False)
    assert tuned.base_url == "https://eu.acme.example/v2"
    assert tuned.headers == {"x-class": "class", "x-both": "instance"}
    assert (tuned.timeout.idle, tuned.retry.attempts) == (2, 8)
    assert (tuned.max_event_bytes, tuned.keep_reply) == (20, True)
    assert Tuned.headers == {"X-Class": "class", "X-Both": "class"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "set it on the class or pass base_url="),
        ("api.acme.example", "absolute URL"),
        ("ftp://api.acme.example", "absolute URL"),
        ("https://", "absolute URL"),
        ("https://api.acme.example:port", "absolute URL"),
        ("https://api.acme.example/a b", "absolute URL"),
        ("https://api.acme.example/#top", "absolute URL"),
        ("https://user:hunter2@api.acme.example", "must not hold credentials"),
        ("https://api.acme.example/?key=hunter2", "must not hold a query"),
    ],
)
def test_a_base_url_that_cannot_be_one_is_refused_at_once(url: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        Acme(base_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{"x y": "a"}, {"x": "a\nb: c"}, {"": "a"}, {"x": "ключ-hunter2"}]
)
def test_a_header_that_cannot_be_sent_is_refused_at_once(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="header") as caught:
        Acme(headers=headers)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1])
def test_a_limit_of_no_bytes_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="max_event_bytes"):
        Acme(max_event_bytes=size)


def test_arguments_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="api_key= or auth="):
        Acme(api_key=CANARY, auth=BearerAuth(CANARY))
    client = httpx.AsyncClient()
    with pytest.raises(ValueError, match="http_client="):
        Acme(http_client=client, transport=Transport(mock_stream()))
    with pytest.raises(ValueError, match="http_client="):
        Acme(http_client=client, limits=httpx.Limits())


async def test_a_handed_in_transport_carries_the_requests_and_is_closed() -> None:
    transport = Transport(mock_stream(chat("Hello")))
    async with Acme(transport=transport) as session:
        assert (await session.stream().collect()).text == "Hello"
        assert not transport.closed
    assert transport.closed


# What is logged


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The lines of the package's logger; filled when it is asked for."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, keeper = logging.getLogger("streamsession"), Keeper()
    with caplog.at_level(logging.DEBUG, "streamsession"):
        logger.addHandler(keeper)
        yield lines
        logger.removeHandler(keeper)


async def test_the_log_tells_the_lifecycle(respx_mock: respx.MockRouter, log: list[str]) -> None:
    respx_mock.post(URL).mock(
        side_effect=in_turn(
            mock_stream(status=503, headers={"X-Request-Id": "req-1"}),
            mock_stream(chat("Hello"), headers={"X-Request-Id": "req-2"}),
        )
    )
    async with Acme() as session:
        await session.stream().collect()
    said = [line.partition(": ")[2] for line in log]
    assert [line.split(" ")[0] for line in said] == [
        "enter",
        "attempt",
        "trying",
        "attempt",
        "first",
        "end",
        "exit,",
    ]
    assert "ServerError" in said[2]
    assert all(line.startswith(f"session {session.id} request ") for line in log)
    assert "request req-1:" in log[2]
    assert "request req-2:" in log[4]
    assert "request req-2:" in log[5]


async def test_the_log_holds_no_secret_no_payload_and_no_query(
    respx_mock: respx.MockRouter, log: list[str]
) -> None:
    respx_mock.post(URL, params={"q": "hunter-query"}).mock(
        side_effect=in_turn(
            mock_stream(b'{"error": "hunter-error"}', status=503, content_type="application/json"),
            mock_stream(token("hunter-token"), b"data: hunter-frame\n\n"),
        )
    )
    async with Acme(api_key=CANARY, headers={"x-team": "hunter-header"}) as session:
        stream = session.open_stream(
            "POST", "/generate", json={"prompt": "hunter-prompt"}, params={"q": "hunter-query"}
        )
        with suppress(Exception):
            await stream.collect()
    assert any("trying again" in line for line in log)
    assert not any("hunter" in line or CANARY in line for line in log)


async def test_a_secret_is_in_no_repr_and_in_no_exception(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(return_value=httpx.Response(403, json={"error": "no"}))
    for session in (
        Acme(api_key=CANARY),
        Acme(api_key=SecretStr(CANARY)),
        Acme(auth=BearerAuth(CANARY)),
    ):
        async with session:
            stream = session.stream()
            with pytest.raises(StatusError) as caught:
                await stream.collect()
        shown = f"{session!r} {session.__dict__!r} {stream!r} {caught.value!r} {vars(caught.value)}"
        assert CANARY not in shown
        assert CANARY not in repr(stream.response)


async def test_nothing_is_formatted_for_a_log_that_nobody_reads(
    respx_mock: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hello")))
    with caplog.at_level(logging.INFO, "streamsession"):
        async with Acme() as session:
            await session.stream().collect()
    assert not [record for record in caplog.records if record.name == "streamsession"]


async def test_a_session_that_was_not_entered_can_be_left() -> None:
    """As an `AsyncExitStack` does that was given its `__aexit__` too early."""
    await Acme().__aexit__(None, None, None)
