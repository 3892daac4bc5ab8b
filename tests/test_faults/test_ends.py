"""Bodies that end too early, at any byte and in any way, and servers that do not end them."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import pytest

from streamsession import StreamError, StreamInterrupted, StreamTruncated
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Ending,
    Gate,
    Pause,
    ScriptedResponse,
    ScriptedServer,
    Step,
)
from tests.acme import Acme, Finish, Token
from tests.test_faults.apis import (
    ONCE,
    PATIENCE,
    PLACES,
    POOL_OF_ONE,
    Api,
    Fate,
    chunk,
    fails,
    in_both,
    row,
    works,
)

pytestmark = pytest.mark.anyio

# At every byte

TEXT = "é"
STEP = 3  # bytes between two cuts, where every byte is cut at elsewhere


@dataclass(frozen=True)
class Outcome:
    """How a stream ended and what had come."""

    end: type[StreamError] | None
    text: str


def expected(early: type[StreamError], cut: int, ends: Sequence[int]) -> Outcome:
    """What comes of a body that is cut there, whose two events are whole after so many bytes."""
    token, final = ends
    return Outcome(None if cut >= final else early, TEXT if cut >= token else "")


async def outcome(session: Acme) -> Outcome:
    stream = session.stream()
    try:
        await stream.collect()
    except StreamError as exc:
        return Outcome(type(exc), exc.partial.text)
    return Outcome(None, stream.reply.text)


def pieces(api: Api) -> list[bytes]:
    """A body that ends with each of its two events; between them is what is none."""
    return [api.tokens(TEXT), next(iter(api.noise.values())) + api.write(Finish())]


@in_both
async def test_a_response_that_is_cut_off_at_any_byte_is_interrupted(
    scripted_server: ScriptedServer, api: Api
) -> None:
    """At any byte on the wire: also of the head, and of what frames the chunks."""
    wire, ends = api.head, list[int]()
    for piece in pieces(api):
        wire += chunk(piece)
        ends.append(len(wire) - len(b"\r\n"))
    wire += b"0\r\n\r\n"
    cuts = range(len(wire))
    scripted_server.play(*[ScriptedResponse([wire[:n], HANG_UP], framing="raw") for n in cuts])
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for cut in cuts:
            assert await outcome(session) == expected(StreamInterrupted, cut, ends), wire[:cut]


@in_both
async def test_a_body_that_is_shorter_than_announced_is_interrupted(
    scripted_server: ScriptedServer, api: Api
) -> None:
    parts = pieces(api)
    ends = [len(parts[0]), len(parts[0] + parts[1])]
    whole = ScriptedResponse(parts, content_type=api.media, framing="length")
    cuts = range(0, whole.size, STEP)
    for cut in cuts:
        scripted_server.play(
            ScriptedResponse(parts, content_type=api.media, framing="length", hang_up_after=cut)
        )
    scripted_server.play(whole)
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for cut in (*cuts, whole.size):
            assert await outcome(session) == expected(StreamInterrupted, cut, ends), cut


@in_both
async def test_a_body_that_the_connection_ends_at_any_byte_is_whole_or_truncated(
    scripted_server: ScriptedServer, api: Api
) -> None:
    """Nothing but the final event tells a whole body without a length from a part of it."""
    body = b"".join(pieces(api))
    whole = len(body.rstrip())  # a final event needs no line end at the end of the body
    cuts = range(0, len(body) + 1, STEP)
    for cut in cuts:
        scripted_server.play(
            ScriptedResponse([body[:cut]], content_type=api.media, framing="close")
        )
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for cut in cuts:
            result = await outcome(session)
            assert result.end is (None if cut >= whole else StreamTruncated), cut
            assert TEXT.startswith(result.text)


# At every place


@in_both
@pytest.mark.parametrize("ending", [HANG_UP, RESET])
async def test_a_connection_that_breaks_is_replaced_until_the_first_event_was_handed_over(
    scripted_server: ScriptedServer, api: Api, ending: Ending
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name, place in PLACES.items():
            with row(name):
                gate = Gate()  # a reset can overtake what was sent before it
                broken = ScriptedResponse([place.before(api), gate, ending], framing="raw")
                breaks = 1 if place.texts else 2
                scripted_server.play(*[broken] * breaks, api.answer(api.chat("next")))
                stream = session.stream()
                if place.texts:
                    assert await anext(stream) == Token(text="Hello")
                    gate.open()
                    with pytest.raises(StreamInterrupted) as caught:
                        await anext(stream)
                    assert (caught.value.partial.text, caught.value.attempts) == ("Hello", 1)
                    await works(session, reused=False)
                else:
                    gate.open()
                    assert (await stream.collect()).text == "next"
                    assert stream.stats.attempts == 3
    ends = {record.state for record in scripted_server.connections[:-1]}
    assert ends == {"server reset" if ending is RESET else "server hung up"}


@in_both
async def test_giving_up_is_an_error_that_says_so(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name, place in PLACES.items():
            with row(name):
                broken = ScriptedResponse([place.before(api), HANG_UP], framing="raw")
                error = await fails(
                    api,
                    session,
                    scripted_server,
                    [broken] * (1 if place.texts else 3),
                    StreamInterrupted,
                    texts=place.texts,
                    fate="server hung up",
                )
                notes = getattr(error, "__notes__", [])
                assert notes == ([] if place.texts else ["Gave up after 3 attempts."])


# What is no HTTP

NO_HTTP = {
    "no status line": b"Hello!\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a header without a name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nContent-Type\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 100_000,
    "a header without an end": b"HTTP/1.1 200 OK\r\nX-Y: " + b"z" * 1_000_000,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
}
NO_CHUNKS = {
    "no number": b"x\r\n",
    "a negative number": b"-1\r\n",
    "too large a number": b"11111111111111111111111\r\n",
    "a number without an end": b"1" * 200_000,
}


@in_both
async def test_what_is_no_http_is_interrupted(scripted_server: ScriptedServer, api: Api) -> None:
    begin = api.head + chunk(api.tokens("Hello"))
    wires = {**NO_HTTP, **{name: begin + size for name, size in NO_CHUNKS.items()}}
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for name, wire in wires.items():
            with row(name):
                answer = ScriptedResponse([wire, HOLD], framing="raw")
                texts = ["Hello"] if name in NO_CHUNKS else []
                await fails(api, session, scripted_server, [answer], StreamInterrupted, texts=texts)


# After the final event


@dataclass(frozen=True)
class Afterwards:
    """What a server does after the final event, and what becomes of the connection."""

    steps: Sequence[Step]
    fate: Fate


def after_the_final_event(api: Api, gate: Gate) -> dict[str, Afterwards]:
    noise = next(iter(api.noise.values()))
    trickle: list[Step] = [Pause(0.01), noise]
    return {
        "ends the body": Afterwards([], "reused"),
        "hangs up": Afterwards([HANG_UP], "server hung up"),
        "resets": Afterwards([gate, RESET], "server reset"),
        "holds the connection": Afterwards([HOLD], "client closed"),
        "trickles": Afterwards([*trickle * 100, HOLD], "client closed"),
        "floods": Afterwards([*[noise * 10_000] * 20, HOLD], "client closed"),
        "sends more events": Afterwards([gate, api.tokens("late"), HOLD], "client closed"),
        "sends what is no event": Afterwards([b"data: {\n\n\xff{\n", HOLD], "client closed"),
        "sends an event without an end": Afterwards([b"x" * 100_000, HOLD], "client closed"),
    }


@in_both
async def test_a_stream_ends_with_its_final_event_whatever_comes_after_it(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name in after_the_final_event(api, Gate()):
            with row(name), anyio.fail_after(PATIENCE):
                gate = Gate()
                after = after_the_final_event(api, gate)[name]
                scripted_server.play(
                    api.answer(api.chat("Hello"), *after.steps), api.answer(api.chat("next"))
                )
                stream = session.stream()
                async for event in stream:
                    if isinstance(event, Finish):
                        gate.open()
                reply = stream.reply
                assert (reply.text, reply.complete, stream.stats.attempts) == ("Hello", True, 1)
                last = scripted_server.requests[-1].connection
                await works(session, reused=after.fate == "reused")
                if after.fate != "reused":
                    assert (await scripted_server.until_closed(last)).state == after.fate
