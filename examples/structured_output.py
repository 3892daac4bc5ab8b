"""An answer as data: a Pydantic model at its end, and a view of it while it grows.

Asks a server inside this program; or, with a key in OPENAI_API_KEY, the live one; a prompt is an
argument. OPENAI_BASE_URL names another server, OPENAI_MODEL another model.

The schema: https://platform.openai.com/docs/guides/structured-outputs
"""

import asyncio
import sys
from typing import Any

from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict

from asking import answer, open_session
from openai_chat import OpenAIChat
from streamsession.testing import ScriptedResponse


class Recipe(BaseModel, extra="forbid"):
    """What the model is asked for."""

    title: str
    minutes: int
    steps: list[str]


class Draft(TypedDict, total=False):
    """What there may be of it: a field that has not come is no mistake yet."""

    title: str
    steps: list[str]


DRAFT = TypeAdapter(Draft)  # made once: it is looked at again and again
SCHEMA = {"name": "recipe", "strict": True, "schema": Recipe.model_json_schema()}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": SCHEMA}


async def main(prompt: str) -> Recipe:
    """Print each step of a recipe as soon as it is whole; return the recipe once it is."""
    async with open_session(OpenAIChat, OFFLINE, "OPENAI") as session:
        stream = answer(session, prompt, "OPENAI", response_format=FORMAT)
        printed = 0
        async for _ in stream.text():
            draft = stream.reply.preview(DRAFT) or {}
            for step in draft.get("steps", [])[printed:-1]:  # the last one may still grow
                print(f"{draft.get('title')}: {step} ...")
                printed += 1
    return stream.reply.parse(Recipe)


OFFLINE = ScriptedResponse.sse(
    *(
        {"choices": [{"delta": {"content": text}}]}
        for text in (
            '{"title": "To',
            'ast", "minutes"',
            ': 3, "steps": ["Cu',
            "t the ",
            'bread", "Toa',
        )
    ),
    {"choices": [{"delta": {"content": 'st it"]}'}, "finish_reason": "stop"}]},
    "[DONE]",
    pause=0.05,
)

if __name__ == "__main__":
    print(asyncio.run(main(" ".join(sys.argv[1:]) or "How do I make toast?")))
