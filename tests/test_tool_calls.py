"""Tool calls: whatever fragments they come in, what runs is what the model wrote."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsession import ToolCall, ToolCallDelta, ToolCalls, ToolCallStart

texts = st.text(max_size=20)
json_objects = st.dictionaries(
    texts, st.none() | st.booleans() | texts | st.lists(texts), max_size=4
)


def test_a_call_begins_goes_on_and_is_whole() -> None:
    calls = ToolCalls()
    assert calls.begin(0, id="t1", name="now") == ToolCallStart(id="t1", name="now")
    assert calls.add(0, '{"zone": ') == ToolCallDelta(id="t1", arguments='{"zone": ')
    assert calls.add(0, '"UTC"}') == ToolCallDelta(id="t1", arguments='"UTC"}')
    assert calls.finish(0) == ToolCall(
        id="t1", name="now", arguments={"zone": "UTC"}, raw_arguments='{"zone": "UTC"}'
    )


def test_all_its_events_belong_to_the_choice() -> None:
    calls = ToolCalls(choice=2)
    events = [calls.begin(0, id="t1", name="now"), calls.add(0, "{}"), calls.finish(0)]
    assert [event.choice for event in events] == [2, 2, 2]


def test_its_events_reach_what_they_were_made_from() -> None:
    calls = ToolCalls()
    assert calls.begin("a", id="t1", name="now", wire="begins").wire == "begins"
    assert calls.add("a", "{}", "goes on").wire == "goes on"
    assert calls.finish("a").wire == "begins"


def test_a_call_without_fragments_has_the_arguments_it_began_with() -> None:
    calls = ToolCalls()
    calls.begin(0, id="t1", name="now", arguments='{"zone": "UTC"}')
    assert calls.finish(0).arguments == {"zone": "UTC"}


def test_fragments_replace_the_arguments_it_began_with() -> None:
    calls = ToolCalls()
    calls.begin(0, id="t1", name="now", arguments="{}")
    calls.add(0, '{"zone": "UTC"}')
    assert calls.finish(0).raw_arguments == '{"zone": "UTC"}'


def test_arguments_that_were_cut_are_none() -> None:
    calls = ToolCalls()
    calls.begin(0, id="t1", name="now", arguments="{}")
    calls.add(0, '{"zone": "U')
    call = calls.finish(0)
    assert (call.arguments, call.raw_arguments) == (None, '{"zone": "U')


def test_it_knows_which_are_under_way() -> None:
    calls = ToolCalls()
    assert 0 not in calls
    calls.begin(0, id="t1", name="now")
    assert 0 in calls
    calls.finish(0)
    assert 0 not in calls


def test_what_has_not_begun_cannot_go_on_nor_be_whole() -> None:
    calls = ToolCalls()
    with pytest.raises(KeyError):
        calls.add(0, "{}")
    with pytest.raises(KeyError):
        calls.finish(0)


def test_the_rest_is_finished_in_the_order_in_which_it_began() -> None:
    calls = ToolCalls()
    for key in (2, 0, 1):
        calls.begin(key, id=f"t{key}", name="now")
    calls.finish(0)
    assert [call.id for call in calls.finish_all()] == ["t2", "t1"]
    assert list(calls.finish_all()) == []


@settings(deadline=None, max_examples=150)
@given(st.lists(json_objects, max_size=4), st.integers(1, 7))
def test_calls_that_come_in_turns_are_kept_apart(sent: list[dict[str, object]], size: int) -> None:
    texts = [json.dumps(arguments) for arguments in sent]
    calls = ToolCalls()
    for key in range(len(texts)):
        calls.begin(key, id=str(key), name="tool")
    for start in range(0, max(map(len, texts), default=0), size):
        for key, text in enumerate(texts):
            if piece := text[start : start + size]:
                calls.add(key, piece)
    assert [call.arguments for call in calls.finish_all()] == sent
