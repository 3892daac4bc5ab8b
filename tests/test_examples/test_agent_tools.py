"""Tools made of functions: how they are described, called, and what the model is told."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue

from agent_tools import Progress, Tool, ToolError
from streamsession import ToolCall

pytestmark = pytest.mark.anyio


class Place(BaseModel):
    """A place."""

    city: str
    country: str = "Norway"


async def forecast(
    place: Place,
    day: Annotated[date, Field(description="Not in the past.")],
    progress: Progress,
    unit: Literal["C", "F"] = "C",
    *,
    hours: Annotated[list[int], Field(max_length=2)] = [],  # noqa: B006 - pydantic copies it
) -> dict[str, Any]:
    """The weather to come.

    As far as it is known.
    """
    await progress({"asked for": place.city})
    return {"place": place, "day": day, "unit": unit, "hours": hours}


async def run(tool: Tool, arguments: str) -> tuple[str, list[JsonValue]]:
    """What the tool returns, and what it has told."""
    told: list[JsonValue] = []

    async def progress(value: JsonValue, /) -> None:
        told.append(value)

    call = ToolCall.parse(id="c", name=tool.name, raw_arguments=arguments)
    return await tool.run(tool.read(call), progress), told


def test_a_tool_is_described_by_its_signature_and_docstring() -> None:
    function = Tool(forecast).definition["function"]

    assert function["name"] == "forecast"
    assert function["description"] == "The weather to come.\n\nAs far as it is known."
    assert function["parameters"] == {
        "title": "forecast",
        "type": "object",
        "additionalProperties": False,
        "required": ["place", "day"],
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "day": {
                "title": "Day",
                "type": "string",
                "format": "date",
                "description": "Not in the past.",
            },
            "unit": {"title": "Unit", "type": "string", "enum": ["C", "F"], "default": "C"},
            "hours": {
                "title": "Hours",
                "type": "array",
                "items": {"type": "integer"},
                "maxItems": 2,
                "default": [],
            },
        },
        "$defs": {
            "Place": {
                "title": "Place",
                "description": "A place.",
                "type": "object",
                "required": ["city"],
                "properties": {
                    "city": {"title": "City", "type": "string"},
                    "country": {"title": "Country", "type": "string", "default": "Norway"},
                },
            }
        },
    }


async def test_a_tool_gets_typed_arguments_and_its_defaults() -> None:
    tool = Tool(forecast)

    result, told = await run(tool, '{"place": {"city": "Oslo"}, "day": "2030-01-31"}')

    place = '{"city":"Oslo","country":"Norway"}'
    assert result == f'{{"place":{place},"day":"2030-01-31","unit":"C","hours":[]}}'
    assert told == [{"asked for": "Oslo"}]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ('"day": "soon"', "day: Input should be a valid date"),
        ('"day": 1', "day: Input should be a valid date"),
        ('"unit": "K"', "unit: Input should be 'C' or 'F'"),
        ('"hours": ["1"]', "hours.0: Input should be a valid integer"),
        ('"hours": [1, 2, 3]', "hours: List should have at most 2 items"),
        ('"place": {"city": 1}', "place.city: Input should be a valid string"),
        ('"place": null', "place: Input should be"),
    ],
)
async def test_arguments_are_validated_strictly(changed: str, why: str) -> None:
    with pytest.raises(ToolError, match="forecast was not run for its arguments: ") as caught:
        await run(Tool(forecast), f'{{"place": {{"city": "A"}}, "day": "2030-01-31", {changed}}}')

    assert why in str(caught.value)


def returning(value: object) -> Callable[[], Awaitable[object]]:
    async def tool() -> object:
        return value

    return tool


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "null"),
        ([1, "ü"], '[1,"ü"]'),
        (Place(city="Oslo"), '{"city":"Oslo","country":"Norway"}'),
        (date(2030, 1, 31), '"2030-01-31"'),
    ],
)
async def test_a_result_is_text_or_json(value: object, told: str) -> None:
    assert await run(Tool(returning(value)), "") == (told, [])


async def test_a_result_without_a_json_form_is_an_error() -> None:
    with pytest.raises(ToolError, match="PydanticSerializationError: Unable to serialize"):
        await run(Tool(returning(object())), "")


async def test_a_tool_may_say_itself_what_the_model_is_told() -> None:
    async def tool() -> None:
        raise ToolError("ask for another city")

    with pytest.raises(ToolError, match=r"^ask for another city$"):
        await run(Tool(tool), "{}")


async def test_a_method_is_a_tool_and_may_have_another_name() -> None:
    class Counter:
        count = 0

        async def add(self, number: int) -> int:
            self.count += number
            return self.count

    counter = Counter()
    tool = Tool(counter.add, name="sum_up")

    assert (await run(tool, '{"number": 2}'), await run(tool, '{"number": 3}')) == (
        ("2", []),
        ("5", []),
    )
    assert tool.definition["function"]["name"] == "sum_up"
    assert tool.definition["function"]["description"] == ""


async def test_annotations_may_be_text() -> None:
    async def tool(number: "int", progress: "Progress") -> "int":
        await progress("soon")
        return number

    assert await run(Tool(tool), '{"number": 1}') == ("1", ["soon"])


def test_a_function_that_could_not_be_a_tool_is_refused() -> None:
    def blocking() -> None: ...

    async def positional(number: int, /) -> None: ...

    async def starred(*numbers: int) -> None: ...

    async def double_starred(**numbers: int) -> None: ...

    async def unannotated(number: int) -> None: ...

    unannotated.__annotations__.clear()
    functions: list[Any] = [unannotated, positional, starred, double_starred]
    for function in functions:
        with pytest.raises(TypeError, match=r"annotate .*number"):
            Tool(function)
    anything: Any = blocking
    with pytest.raises(TypeError, match="blocking is no async function"):
        Tool(anything)
