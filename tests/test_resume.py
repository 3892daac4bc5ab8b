"""What a resumed stream repeats: a model of honest and of generous servers, cut anywhere."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from streamsession import ServerSentEvent, SSEDecoder
from streamsession._resume import ReplayFilter

moderate = settings(deadline=None, max_examples=150)


@dataclass(frozen=True)
class Sent:
    """One event that the server has; its data is its place, so that no two are the same."""

    id: str | None
    data: str

    @property
    def wire(self) -> bytes:
        named = "" if self.id is None else f"id: {self.id}\n"
        return f"{named}data: {self.data}\n\n".encode()


@dataclass
class Client:
    """Reads responses one after the other, and remembers what of them was new."""

    filter: ReplayFilter = field(default_factory=ReplayFilter)
    handed_over: list[str] = field(default_factory=list[str])

    def read(self, events: list[Sent]) -> None:
        for frame in SSEDecoder().decode(b"".join(event.wire for event in events)):
            self.handed_over += [new.data for new in self.filter.new(frame)]

    def resume(self, *, by_id: bool = True) -> None:
        self.filter.resume(after=self.filter.last_id if by_id else None)


def events(*ids: str | None) -> list[Sent]:
    return [Sent(each, str(place)) for place, each in enumerate(ids)]


def data_of(sent: list[Sent]) -> list[str]:
    return [event.data for event in sent]


def place_of(wanted: str, sequence: list[Sent]) -> int:
    return next(place for place, event in enumerate(sequence) if event.id == wanted)


@st.composite
def sequences(draw: st.DrawFn, *, all_named: bool = False) -> list[Sent]:
    """Events, some with an id of their own and some without."""
    named = draw(st.lists(st.just(value=True) if all_named else st.booleans(), max_size=12))
    return events(*(f"id-{place}" if has else None for place, has in enumerate(named)))


# Once


@moderate
@given(sequences())
def test_everything_of_the_first_response_is_new(sequence: list[Sent]) -> None:
    client = Client()
    client.read(sequence)
    assert client.handed_over == data_of(sequence)


@moderate
@given(sequences(), st.lists(st.integers(0, 13), max_size=5))
def test_what_follows_the_last_id_goes_on_without_gap_or_repeat(
    sequence: list[Sent], cuts: list[int]
) -> None:
    client, start = Client(), 0
    for cut in cuts:
        client.read(sequence[start : start + cut])
        if client.filter.last_id:
            start = place_of(client.filter.last_id, sequence) + 1
            client.resume()
        else:  # nothing to resume after: the stream could not go on, and a new one begins
            client, start = Client(), 0
    client.read(sequence[start:])
    assert client.handed_over == data_of(sequence)


@moderate
@given(st.data())
def test_a_server_that_goes_back_to_an_earlier_id_repeats_nothing(data: st.DataObject) -> None:
    sequence = [Sent("first", "first"), *data.draw(sequences())]
    cut = data.draw(st.integers(1, len(sequence)))
    client = Client()
    client.read(sequence[:cut])
    seen = [event.id for event in sequence[:cut] if event.id is not None]
    start = place_of(data.draw(st.sampled_from(seen)), sequence)
    client.resume()
    client.read(sequence[start:])
    assert client.handed_over == data_of(sequence)


@moderate
@given(st.data())
def test_a_server_that_goes_back_may_be_cut_in_what_it_repeats(data: st.DataObject) -> None:
    sequence = [Sent("first", "first"), *data.draw(sequences(all_named=True))]
    client, start = Client(), 0
    for cut in data.draw(st.lists(st.integers(1, 13), max_size=5)):
        client.read(sequence[start : start + cut])
        start = data.draw(st.integers(0, place_of(client.filter.last_id, sequence)))
        client.resume()
    client.read(sequence[start:])
    assert client.handed_over == data_of(sequence)


def test_the_last_id_does_not_go_back_with_a_server_that_does() -> None:
    sequence = events("a", None, "b")
    client = Client()
    client.read(sequence)
    client.resume()
    client.read(sequence[:1])  # goes back to "a", and breaks
    assert client.filter.last_id == "b"


# Resuming


def test_a_server_may_repeat_the_event_that_it_was_to_resume_after() -> None:
    sequence = events("a", "b", None, None, "c")
    client = Client()
    client.read(sequence[:3])
    client.resume()
    client.read(sequence[1:])
    assert client.handed_over == data_of(sequence)


def test_a_break_before_anything_new_changes_nothing() -> None:
    sequence = events("a", None, None, "b")
    client = Client()
    client.read(sequence[:2])
    for _ in range(3):
        client.resume()
        client.read([])
    client.resume()
    client.read(sequence[1:2])
    client.resume()
    client.read(sequence[1:])
    assert client.handed_over == data_of(sequence)


def test_after_a_cursor_of_the_apis_own_events_without_ids_are_all_new() -> None:
    sequence = events("a", None, None, "b")
    client = Client()
    client.read(sequence[:2])
    client.resume(by_id=False)
    client.read(sequence[2:])
    assert client.handed_over == data_of(sequence)


def test_after_a_cursor_of_the_apis_own_ids_are_told_apart() -> None:
    sequence = events("a", "b", "c")
    client = Client()
    client.read(sequence[:2])
    client.resume(by_id=False)
    client.read(sequence)
    assert client.handed_over == data_of(sequence)


def test_ids_are_remembered_a_thousand_events_back() -> None:
    sequence = events(*map(str, range(3000)))
    client = Client()
    client.read(sequence[:2000])
    client.resume()
    client.read(sequence[1000:])
    assert client.handed_over == data_of(sequence)


def test_the_very_first_ids_are_remembered_to_know_a_new_beginning() -> None:
    sequence = events(*map(str, range(3000)))
    client = Client()
    client.read(sequence[:2000])
    client.resume()
    client.read(sequence)
    assert client.handed_over == data_of(sequence)


def test_more_events_after_an_id_than_are_remembered_are_counted() -> None:
    sequence = events("a", *[None] * 3000)
    client = Client()
    client.read(sequence[:2500])
    client.resume()
    client.read(sequence[1:])
    assert client.handed_over == data_of(sequence)


def test_an_id_that_came_twice_is_the_last_one_all_the_same() -> None:
    sequence = events("a", "b", "a", None, None)
    client = Client()
    client.read(sequence[:4])
    client.resume()
    client.read(sequence[2:])
    assert client.handed_over == data_of(sequence)


# Other frames


def test_a_frame_that_is_no_server_sent_event_is_always_new() -> None:
    replay = ReplayFilter()
    assert replay.new(b"{}")
    replay.resume(after=replay.last_id)
    assert replay.new(b"{}")
    assert replay.last_id == ""


def test_a_server_can_take_its_id_back() -> None:
    replay = ReplayFilter()
    assert replay.new(ServerSentEvent(id="a"))
    assert replay.last_id == "a"
    assert replay.new(ServerSentEvent(id=""))
    assert replay.last_id == ""


def test_resuming_does_not_take_the_id_back() -> None:
    replay = ReplayFilter()
    assert replay.new(ServerSentEvent(id="a"))
    replay.resume(after=replay.last_id)
    assert replay.new(ServerSentEvent(data="new"))
    assert replay.last_id == "a"
