"""What is handed over is a prefix of what is true, whatever a server does wrong in between.

A script says what is true and what goes wrong with one request after the other; a server plays it,
a session reads it, and what came of it is held against the truth.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, Literal, TypeAlias, TypeVar

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamsession import (
    JSONLinesDecoder,
    Reply,
    Request,
    RetryPolicy,
    StreamError,
    StreamTruncated,
)
from streamsession.testing import (
    HANG_UP,
    RESET,
    Ending,
    MockStream,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
    Step,
    chunks_of,
    json_lines,
    sse_event,
)
from tests.acme import BASE_URL, Acme, Finish, Token, Waits

T = TypeVar("T")

# Who reads it


class Plain(Acme):
    """Server-sent events that cannot be resumed."""

    idempotency_header = "Idempotency-Key"


class ById(Plain):
    """They are resumed by the last id."""

    resumable = True


class ByCount(Plain):
    """They are resumed by how many events came."""

    def resume_request(
        self, request: Request, reply: Reply[Token | Finish], last_event_id: str
    ) -> Request:
        return replace(request, params={"from": len(reply.events)})


class ByField(Plain):
    """They are resumed by a field of the last event."""

    def resume_request(
        self, request: Request, reply: Reply[Token | Finish], last_event_id: str
    ) -> Request:
        last = reply.events[-1]
        assert isinstance(last, Token), "after the final event there is nothing to resume"
        return replace(request, params={"after": last.text})


class Lines(Plain):
    """JSON Lines that cannot be resumed."""

    framing = JSONLinesDecoder


class LinesByCount(ByCount):
    framing = JSONLinesDecoder


class LinesByField(ByField):
    framing = JSONLinesDecoder


# What is true


@dataclass(frozen=True)
class Block:
    """A piece of the true body; one without an event says an id only."""

    wire: bytes
    event: Token | Finish | None
    id: str | None = None


SHAPES: Final = (*("plain", "typed", "lines", "comments") * 5, "retry", "retry", "patience")
SAID: Final = {1.5, 90.0}  # seconds that the last two shapes ask for


def sse_block(event: Token | Finish, name: str | None, shape: str) -> Block:
    """An event in one of the many ways to write it."""
    id_line = [] if name is None else [f"id: {name}"]
    lines = [*id_line, f"data: {event.model_dump_json()}"]
    match shape:
        case "typed":
            untyped = event.model_dump_json(exclude={"type"})
            lines = [f"event: {event.type}", *id_line, f"data: {untyped}"]
        case "lines":
            text = event.model_dump_json(indent=1)
            lines = [*(f"data:{line}" for line in text.split("\n")), *id_line]
        case "comments":
            lines = [": ping", "", ":", *lines, "unknown: field"]
        case "retry":
            lines = ["retry: 1500", *lines]
        case "patience":
            lines = [*lines, "retry: 90000"]
        case _:
            pass
    return Block(("\n".join(lines) + "\n\n").encode(), event, name)


PING: Final = sse_event({"type": "ping"}, event="ping")

# What goes wrong


@dataclass(frozen=True)
class Cut:
    """An answer ends after some bytes; it may begin further back than it was asked to."""

    after: int
    ending: Ending | None
    back: int = 0
    ping: int | None = None


@dataclass(frozen=True)
class Reported:
    """An answer goes on after some blocks with something else than the truth."""

    after: int
    data: object


@dataclass(frozen=True)
class Refused:
    """An answer is something else altogether."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    asked: float | None = None


@dataclass(frozen=True)
class Unreached:
    """There is no answer."""

    kind: type[httpx.TransportError]


Fault: TypeAlias = Cut | Reported | Refused | Unreached

OVERLOADED: Final = {"error": {"type": "overloaded"}}
REPORTS: Final = [OVERLOADED, {"error": {"type": "invalid_request"}}, "{garbage"]
NOW: Final = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 GMT
REFUSALS: Final = [
    Refused(503),
    Refused(500),
    Refused(529, {"Retry-After": "soon"}),
    Refused(429, {"Retry-After": "7"}, asked=7.0),
    Refused(503, {"Retry-After": "9", "Retry-After-Ms": "250"}, asked=0.25),
    Refused(503, {"Retry-After": "Thu, 01 Jan 2026 00:00:20 GMT"}, asked=20.0),
    Refused(429, {"Retry-After": "3600"}, asked=3600.0),
    Refused(404),
    Refused(200),
]
UNREACHED: Final = [
    Unreached(httpx.ConnectError),
    Unreached(httpx.ConnectTimeout),
    Unreached(httpx.ReadError),
    Unreached(httpx.RemoteProtocolError),
]


def may_pass(fault: Fault, *, events: int) -> bool:
    """Whether the same request may succeed later."""
    match fault:
        case Reported(data=data):
            return data is OVERLOADED and not events  # what is reported later is final
        case Refused(status=status):
            return status >= 429
        case _:
            return True


# Scripts


@dataclass(frozen=True)
class World:
    """What a server may do besides failing."""

    sessions: Sequence[type[Plain]]
    ids: Literal["all", "some", "none"] = "some"
    """Which events have one of their own."""
    back: bool = False
    """A resumed stream may begin before the place asked for, or at the very start."""
    batches: bool = False
    """Some ids come on their own."""
    pings: bool = False
    """There are events besides the true ones."""


@dataclass(frozen=True)
class Script:
    """One stream, from its first request to its end."""

    session: type[Plain]
    truth: Sequence[Block]
    faults: Sequence[Fault]
    newline: bytes
    chunk: int
    attempts: int
    sent_once: bool

    @property
    def events(self) -> list[Token | Finish]:
        return [block.event for block in self.truth if block.event is not None]


class Choices:
    """Bytes read as choices, so that hypothesis draws a script fast and shrinks it well."""

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def below(self, limit: int) -> int:
        byte = next(self._left, 0)
        return (byte if limit <= 256 else byte * 256 + next(self._left, 0)) % limit

    def of(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def script(self, world: World) -> Script:
        session = self.of(world.sessions)
        return Script(
            session=session,
            newline=self.of([b"\n", b"\r\n"]),
            chunk=self.of([10_000, 10_000, 50, 11]),
            attempts=self.of([3, 5, 2, 4, 1]),
            sent_once=self.below(20) == 19,
            faults=[self.fault(world) for _ in range(self.below(7))],
            truth=self.truth(world, session),
        )

    def fault(self, world: World) -> Fault:
        match self.below(16):
            case 15:
                return self.of(REFUSALS)
            case 14:
                return self.of(UNREACHED)
            case 13:
                return Reported(self.below(8), self.of(REPORTS))
            case _:
                ending = self.of([HANG_UP, RESET, None])
                back = self.of([0, 1, 2, 3, 99]) if world.back else 0
                ping = self.of([None, *range(8)]) if world.pings else None
                return Cut(self.below(600), ending, back, ping)

    def truth(self, world: World, session: type[Plain]) -> Sequence[Block]:
        """Several events with the same text are told apart by nothing but their place."""
        texts = 100 if issubclass(session, ByField) else self.of([100, 2, 1])
        size = 1 + self.below(8)
        events: list[Token | Finish] = [Token(text=f"{n % texts}") for n in range(size)]
        events.append(Finish())
        if session.framing is JSONLinesDecoder:
            return [Block(json_lines(event), event) for event in events]
        blocks: list[Block] = []
        for place, event in enumerate(events):
            is_named = self.below(2) == 1 if world.ids == "some" else world.ids == "all"
            blocks.append(sse_block(event, f"id-{place}" if is_named else None, self.of(SHAPES)))
            if world.batches and self.below(2):
                blocks.append(Block(sse_event(id=f"batch-{place}"), None, f"batch-{place}"))
        return blocks


# Playing them


class Server:
    """Plays a script, and keeps what it was asked for."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.handed_over: list[Token | Finish] = []
        self.had: list[int] = []  # how many events were handed over when a request came
        self.keys: list[str] = []
        self.played: list[MockStream] = []

    def in_memory(self, request: httpx.Request) -> httpx.Response:
        answer = self.answer(request.headers, request.url.params)
        if not isinstance(answer, ScriptedResponse):
            raise answer("as scripted")
        self.played.append(MockStream(answer))
        return self.played[-1](request)

    def on_the_wire(self, request: RecordedRequest) -> ScriptedResponse:
        answer = self.answer(request.headers, httpx.URL(request.path).params)
        if isinstance(answer, ScriptedResponse):
            return answer
        return ScriptedResponse([RESET if answer is httpx.ReadError else HANG_UP], framing="raw")

    def answer(
        self, headers: httpx.Headers, params: httpx.QueryParams
    ) -> ScriptedResponse | type[httpx.TransportError]:
        fault = self.fault(len(self.had))
        self.had.append(len(self.handed_over))
        self.keys.append(headers["idempotency-key"])
        match fault:
            case Unreached(kind=kind):
                return kind
            case Refused(status=status, headers=more):
                return ScriptedResponse.html("<p>no</p>", status=status, headers=more)
            case _:
                steps = self.steps(fault, self.place(headers, params))
                media = self.script.session.framing.content_types[0]
                return ScriptedResponse(steps, content_type=media)

    def fault(self, request: int) -> Fault | None:
        """What goes wrong with a request; in the end nothing does."""
        faults = self.script.faults
        return faults[request] if request < len(faults) else None

    def place(self, headers: httpx.Headers, params: httpx.QueryParams) -> int:
        """Where in the truth a request asks to go on."""
        truth = self.script.truth
        if "last-event-id" in headers:
            return 1 + [block.id for block in truth].index(headers["last-event-id"])
        if "after" in params:
            return 1 + self.script.events.index(Token(text=params["after"]))
        return int(params.get("from", "0"))

    def steps(self, fault: Cut | Reported | None, place: int) -> Sequence[Step]:
        is_sse = self.script.session.framing is not JSONLinesDecoder
        blocks = [block.wire for block in self.script.truth]
        ending: Sequence[Ending] = []
        if isinstance(fault, Cut):
            blocks = blocks[max(0, place - fault.back) if place else 0 :]
            if fault.ping is not None:
                blocks.insert(fault.ping % (len(blocks) + 1), PING)
            ending = [] if fault.ending is None else [fault.ending]
        elif isinstance(fault, Reported):
            data = fault.data
            block = sse_event(data, event="error" if data in REPORTS[:2] else None)
            blocks = [*blocks[place:][: fault.after], block if is_sse else json_lines(data)]
        else:
            blocks = blocks[place:]
        body = b"".join(blocks).replace(b"\n", self.script.newline)
        if isinstance(fault, Cut):
            body = body[: fault.after % (len(body) + 1)]
        return [*chunks_of(body, self.script.chunk), *ending]


async def once() -> AsyncIterator[bytes]:
    yield b"Hello"


async def play(
    server: Server, base_url: str, transport: httpx.AsyncBaseTransport | None = None
) -> tuple[list[float], StreamError | None]:
    """Read the stream of a server to its end: what was waited, and why it failed."""
    script, waits, error = server.script, Waits(), None
    policy = RetryPolicy(
        attempts=script.attempts, random=lambda: 1.0, sleep=waits, clock=lambda: NOW
    )
    async with script.session(base_url=base_url, transport=transport, retry=policy) as session:
        content = once() if script.sent_once else b"Hello"
        stream = session.open_stream("POST", "/generate", content=content)
        try:
            async for event in stream:
                server.handed_over.append(event)
        except StreamError as exc:
            error = exc
    assert stream.stats.attempts == len(server.had)
    assert stream.reply.events == server.handed_over
    assert stream.reply.complete == (error is None)
    assert all(answer.closed for answer in server.played)
    return waits.seconds, error


# What must be so


def check(server: Server, waits: Sequence[float], error: StreamError | None) -> None:
    script, truth, came = server.script, server.script.events, server.handed_over
    assert came == truth[: len(came)], "a gap or a repeat"
    if error is None:
        assert len(came) == len(truth), "ended as if complete"
    else:
        assert type(error) is not StreamError, "without a name"
        assert (error.events, error.attempts) == (came, len(server.had))
    assert len(set(server.keys)) == 1
    assert not (script.sent_once and len(server.had) > 1)
    assert len(waits) == len(server.had) - 1
    failures = 0  # since there was progress
    for number, (before, after) in enumerate(
        zip(server.had, [*server.had[1:], len(came)], strict=True)
    ):
        fault = server.fault(number)
        failures = 1 if after > before else failures + 1
        if number < len(waits):
            assert fault is not None
            assert may_pass(fault, events=after)
            assert failures < script.attempts
            assert waits[number] in allowed_waits(fault, failures)
        elif error is not None:
            assert fault is not None
            assert gives_up(script, fault, failures, error), "gave up too early"


def allowed_waits(fault: Fault, failures: int) -> set[float]:
    if isinstance(fault, Refused) and fault.asked is not None:
        return {fault.asked}
    return {min(8.0, 0.5 * 2 ** (failures - 1)), *SAID}


def gives_up(script: Script, fault: Fault, failures: int, error: StreamError) -> bool:
    """Whether there was a reason to."""
    no_way_on = script.session in (Plain, Lines) or (
        script.session is ById and not error.last_event_id
    )
    # A first event whose line was cut before its end is handed over, and then it is too late.
    late = script.session.framing is JSONLinesDecoder and len(error.events) == 1
    return (
        not may_pass(fault, events=len(error.events))
        or failures == script.attempts
        or script.sent_once
        or (no_way_on and len(error.events) > 0)
        or (late and isinstance(error, StreamTruncated))
        or any("asked to wait" in note for note in getattr(error, "__notes__", []))
    )


@pytest.fixture
def portal(anyio_backend: str) -> Iterator[BlockingPortal]:
    """An event loop in a thread, for all examples of a test: one for each would take longer."""
    with start_blocking_portal(anyio_backend) as portal:
        yield portal


async def play_all(scripts: Sequence[Script]) -> None:
    """Play scripts without sockets; a note on the error says which one went wrong."""
    for script in scripts:
        server = Server(script)
        try:
            waits, error = await play(server, BASE_URL, httpx.MockTransport(server.in_memory))
            check(server, waits, error)
        except AssertionError as exc:
            exc.add_note(str(script))
            raise


# In any world

NOT_RESUMED: Final = World([Plain, Lines])
BY_CURSOR: Final = World([ByCount, ByField, LinesByCount, LinesByField])
BY_ID: Final = World([ById], ids="all", back=True)

WORLDS: Final = [
    pytest.param(NOT_RESUMED, id="not resumed"),
    pytest.param(BY_CURSOR, id="by a cursor"),
    pytest.param(World([ByCount, ByField], ids="all", back=True), id="by a cursor, back"),
    pytest.param(BY_ID, id="all ids, back"),
    pytest.param(World([ById]), id="some ids"),
    pytest.param(World([ById], batches=True), id="batches"),
    pytest.param(World([ById], back=True), id="some ids, back"),
    pytest.param(World([ById], ids="none", batches=True, back=True), id="batches, back"),
    pytest.param(World([ById], pings=True), id="some ids, pings"),
    pytest.param(World([ById], ids="all", back=True, pings=True), id="all ids, back, pings"),
]

# Each example is about six scripts: that takes less time than as many examples.
drawn: Final = given(
    choices=st.lists(st.binary(min_size=80, max_size=80).map(Choices), min_size=1, max_size=40)
)
thorough: Final = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("world", WORLDS)
@thorough
@drawn
def test_what_is_handed_over_is_a_prefix_of_the_truth(
    portal: BlockingPortal, world: World, choices: list[Choices]
) -> None:
    portal.call(play_all, [each.script(world) for each in choices])


@pytest.mark.anyio
@pytest.mark.parametrize("world", [NOT_RESUMED, BY_CURSOR, BY_ID], ids=["not", "cursor", "id"])
async def test_it_is_over_sockets(world: World) -> None:
    random = Random("over sockets")  # noqa: S311 - these are scripts, no secrets
    keys: list[str] = []
    servers: list[Server] = []

    def answer(request: RecordedRequest) -> ScriptedResponse:
        return servers[-1].on_the_wire(request)

    with ScriptedServer(answer, repeat=True) as wire:
        for _ in range(15):
            servers.append(Server(Choices(random.randbytes(80)).script(world)))
            waits, error = await play(servers[-1], wire.url)
            check(servers[-1], waits, error)
            keys.append(servers[-1].keys[0])
    assert len(set(keys)) == len(keys), "each stream has an idempotency key of its own"
    assert len(wire.requests) == sum(len(server.had) for server in servers)
