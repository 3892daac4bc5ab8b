"""Promises about the ends of a stream: each has a name, and none is taken for another."""

import gzip

from ..._errors import (
    AuthenticationError,
    Conflict,
    DecodeError,
    NotFound,
    PermissionDenied,
    RateLimited,
    RemoteError,
    ServerError,
    StatusError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    UnexpectedContent,
    UnprocessableContent,
)
from ..._events import Event, UnknownEvent
from .._builders import chunks_of
from .._script import HANG_UP, HOLD, RESET, ScriptedResponse
from ._bench import Bench, ends_badly, expect, is_prefix
from ._promise import BrokenPromise, promise

__all__ = ["Ends"]

_MOST_CUTS = 12  # places at which a body is cut, besides those around the ends of its frames
_SMALLEST_LIMIT = 64 * 1024
_FLOOD = 64  # times the limit
_TEXT_BEGINS = b"\x1e"  # in a JSON text sequence, which skips all that does not begin with it
_STATUSES = {
    400: StatusError,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    422: UnprocessableContent,
    429: RateLimited,
    500: ServerError,
    503: ServerError,
}
_TRUTH = (
    "declare what proves a stream complete with final_events or final_marker; a decode() of your "
    "own returns only when that has come, and runs off the frames otherwise"
)
_LET_THROUGH = "let errors pass: no `except Exception` in decode() or around open_stream()"


class Ends(Bench):
    """What a consumer sees when a stream ends."""

    @promise("compare final_events, final_marker and decode() with what the body really ends with")
    async def test_a_whole_body_is_handed_over_and_complete(self) -> None:
        """A whole body is handed over to its last event, and the reply is complete."""
        seen = await self.outcome(self.reply())
        expect(seen.error is None, f"{seen}")
        expect(seen.events, "no event was handed over")
        expect(seen.stream.reply.complete, "the reply is not marked complete")

    @promise("cut frames only in the framing: decode() must not look at how bytes came")
    async def test_chunks_of_any_size_give_the_same_events(self) -> None:
        """The same bytes give the same events, however the network cuts them."""
        events = await self.good_events()
        sizes = (1, 2, 3, 7, 64)
        answers = [self.reply(*chunks_of(self.body, size)) for size in sizes]
        for size, seen in zip(sizes, await self.outcomes(*answers), strict=True):
            expect(seen.events == events and not seen.error, f"in chunks of {size}, {seen}")

    @promise("read the body through Stream only, which inflates it")
    async def test_a_compressed_body_gives_the_same_events(self) -> None:
        """A proxy may compress the body: the events are the same."""
        events = await self.good_events()
        headers = {"content-encoding": "gzip"}
        seen = await self.outcome(self.reply(gzip.compress(self.body), headers=headers))
        expect(seen.events == events and not seen.error, f"compressed, {seen}")

    @promise(_TRUTH)
    async def test_a_body_that_was_cut_is_never_taken_for_whole(self) -> None:
        """A body that ends cleanly, but early, is no complete stream."""
        events = await self.good_events()
        cuts = self._cuts()
        answers = [self.reply(self.body[:cut]) for cut in cuts]
        for cut, seen in zip(cuts, await self.outcomes(*answers), strict=True):
            where = f"cut after {cut} of {len(self.body)} bytes, {seen}"
            expect(is_prefix(seen.events, events), f"{where}, which are not the first ones")
            if seen.error is not None:
                ends_badly(seen, StreamTruncated, DecodeError)
            elif self.proves_its_end:
                expect(seen.events == events, where)

    @promise(_LET_THROUGH)
    async def test_a_connection_that_breaks_is_never_taken_for_the_end(self) -> None:
        """A connection that breaks before the stream is complete is an error, at any byte."""
        events = await self.good_events()
        cuts = self._cuts()
        answers = [self.reply(hang_up_after=cut) for cut in cuts]
        for cut, seen in zip(cuts, await self.outcomes(*answers), strict=True):
            where = f"broken after {cut} of {len(self.body)} bytes, {seen}"
            expect(is_prefix(seen.events, events), f"{where}, which are not the first ones")
            if seen.error is not None:
                ends_badly(seen, StreamInterrupted)
            else:
                expect(seen.events == events and self.proves_its_end, where)

    @promise(_LET_THROUGH)
    async def test_a_connection_that_is_reset_is_an_error(self) -> None:
        """A reset is an error, before the response as in the middle of it."""
        before = ScriptedResponse([RESET], framing="raw")
        for seen in await self.outcomes(before, self.reply(self.halves()[0], RESET)):
            ends_badly(seen, StreamInterrupted)

    @promise("raise the package's errors on as they are, or `raise ... from` them with `partial`")
    async def test_what_came_before_a_failure_is_on_the_error(self) -> None:
        """An error in the middle of a stream carries the events that had come."""
        seen = await self.outcome(self.reply(self.halves()[0], HANG_UP))
        ends_badly(seen, StreamError)
        kept = list(getattr(seen.error, "events", ()))
        expect(kept == seen.events, f"{seen}, of which the error carries {len(kept)}")

    @promise(_TRUTH)
    async def test_an_answer_without_content_is_no_stream(self) -> None:
        """An empty body and 204 are errors where a stream has to prove its end."""
        if not self.proves_its_end:
            self.skip("an empty body is a complete stream of this API")
        no_content = ScriptedResponse((), 204, content_type=None)
        for seen in await self.outcomes(self.reply(b""), no_content):
            ends_badly(seen, StreamError)

    @promise("keep content_types to what the API streams; text/html is never among them")
    async def test_a_login_page_is_no_stream(self) -> None:
        """A page with status 200, as a proxy or a login sends it, is UnexpectedContent."""
        page = ScriptedResponse.html("<html><title>Sign in</title></html>")
        seen = await self.outcome(page)
        ends_badly(seen, UnexpectedContent)
        expect("Sign in" in str(seen.error), f"{seen}, which does not quote the page")

    @promise("do not accept application/json for a stream, or let remote_error() see each frame")
    async def test_a_json_error_with_status_200_is_no_stream(self) -> None:
        """A JSON object that reports an error in place of the stream is an error."""
        body = {"error": {"type": "invalid_request", "message": "no such model"}}
        seen = await self.outcome(ScriptedResponse.json(body))
        ends_badly(seen, UnexpectedContent, RemoteError, DecodeError)

    @promise("leave statuses to open_stream(); do not turn StatusError into something else")
    async def test_every_error_status_has_its_error(self) -> None:
        """A 4xx or 5xx is the error of its status, whatever its body is."""
        for status, kind in _STATUSES.items():
            answers = (
                ScriptedResponse.json({"error": {"message": "refused"}}, status=status),
                ScriptedResponse.html("<html>refused</html>", status=status),
                ScriptedResponse((), status, content_type=None, framing="length"),
            )
            for seen in await self.outcomes(*answers):
                ends_badly(seen, kind)
                got = getattr(seen.error, "status", None)
                expect(got == status, f"status {status} became {got}")

    @promise("validate what frames carry, strictly, and do not skip what cannot be read")
    async def test_a_frame_that_cannot_be_read_is_a_decode_error(self) -> None:
        """A broken frame is a DecodeError that shows it; it is neither skipped nor guessed at."""
        events = await self.good_events()
        seen = await self.outcome(self.reply(self.with_frame(self.made("broken_frame"))))
        ends_badly(seen, DecodeError)
        expect(getattr(seen.error, "frame", None) is not None, "the error does not carry the frame")
        expect(is_prefix(seen.events, events), f"{seen}, which are not the first ones")

    @promise("give each event class its own `type: Literal[...]`, and required fields")
    async def test_an_unknown_event_never_becomes_a_known_one(self) -> None:
        """An event of a type that the session does not know is skipped, or an UnknownEvent."""
        events = await self.good_events()
        seen = await self.outcome(self.reply(self.with_frame(self.made("unknown_frame"))))
        if seen.error is not None:
            ends_badly(seen, DecodeError)
            return
        known = [event for event in seen.events if not isinstance(event, UnknownEvent)]
        new = [event for event in known if event not in events]
        expect(known == events, f"it was handed over as {new or known}")

    @promise("override remote_error() to know the frame with which the API reports failures")
    async def test_a_failure_that_the_server_reports_is_a_remote_error(self) -> None:
        """A failure that is reported inside the stream is a RemoteError."""
        seen = await self.outcome(self.reply(self.with_frame(self.made("error_frame"))))
        ends_badly(seen, RemoteError)

    @promise("do not collect bytes or frames without a bound in a framing or decode() of your own")
    async def test_an_event_without_an_end_is_refused_early(self) -> None:
        """An event that never ends is refused at `max_event_bytes`, not when memory is out."""
        limit = max(_SMALLEST_LIMIT, len(self.body))
        first = self.body[: self.frame_ends()[0]]
        endless = [_TEXT_BEGINS, *[b"x" * limit] * _FLOOD]
        with self.server(self.reply(first, *endless, HOLD)) as server:
            async with self.opened(server.url) as session:
                session.max_event_bytes = limit
                seen = await self.drained(session)
        ends_badly(seen, DecodeError)
        read = seen.stream.stats.bytes
        expect(read <= 4 * limit, f"it was refused after {read} bytes, of a limit of {limit}")

    @promise("use field types that JSON can hold, or give them a serializer and a validator")
    async def test_events_survive_a_round_trip_through_json(self) -> None:
        """Every event can be written as JSON, and read back it is equal."""
        for event in await self.good_events():
            if not isinstance(event, Event):
                raise BrokenPromise(f"{event!r} is no Event")
            again = type(event).model_validate_json(event.model_dump_json())
            expect(again == event, f"{event!r} came back as {again!r}")

    @promise("keep the state of a stream in local variables of decode(), not on the session")
    async def test_two_streams_at_a_time_do_not_mix(self) -> None:
        """Two streams of one session, read in turns, each give their own events."""
        events = await self.good_events()
        seen: list[list[Event]] = [[], []]
        with self.server(self.reply(*chunks_of(self.body, 16))) as server:
            async with (
                self.opened(server.url) as session,
                self.stream(session) as one,
                self.stream(session) as other,
            ):
                for _ in range(len(events) + 1):
                    for stream, got in zip((one, other), seen, strict=True):
                        event = await anext(stream, None)
                        got.extend([] if event is None else [event])
        for got in seen:
            expect(got == events, f"one of them gave {len(got)} events, alone it is {len(events)}")

    def _cuts(self) -> list[int]:
        """Where to cut the body: around the ends of frames, and evenly in between."""
        size = len(self.body)
        around = {end + step for end in self.frame_ends() for step in (-2, -1, 0, 1)}
        evenly = range(1, size, max(1, size // _MOST_CUTS))
        return sorted(cut for cut in {*around, *evenly} if 0 < cut < size)
