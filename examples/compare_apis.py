"""The same prompt to any of the APIs, each chosen by name: all answer with the same typed events.

    python examples/compare_apis.py                        all of them
    python examples/compare_apis.py gemini ollama          two of them
    python examples/compare_apis.py gemini -p "Why is the sky blue?"

Each asks a server inside this program, or the live one if the environment names it, as its own
example says: OPENAI_API_KEY, GEMINI_API_KEY, OLLAMA_BASE_URL, ...
"""

import argparse
import asyncio
from typing import Any, NamedTuple

import offline
from anthropic_messages import AnthropicMessages
from asking import answer, open_session
from bedrock_converse import BedrockConverse
from cohere import Cohere
from gemini import Gemini
from mistral import Mistral
from ollama import Ollama
from openai_chat import OpenAIChat
from openai_responses import OpenAIResponses
from streamsession import AsyncSession, Event, SessionError, TextDelta, ToolCall, Usage
from streamsession.testing import ScriptedResponse


class API(NamedTuple):
    """One of the APIs, and how to reach it."""

    session: type[AsyncSession[Any]]
    offline: ScriptedResponse
    variables: str


APIS = {
    "openai-chat": API(OpenAIChat, offline.OPENAI_CHAT, "OPENAI"),
    "openai-responses": API(OpenAIResponses, offline.OPENAI_RESPONSES, "OPENAI"),
    "anthropic": API(AnthropicMessages, offline.ANTHROPIC_MESSAGES, "ANTHROPIC"),
    "gemini": API(Gemini, offline.GEMINI, "GEMINI"),
    "mistral": API(Mistral, offline.MISTRAL, "MISTRAL"),
    "cohere": API(Cohere, offline.COHERE, "COHERE"),
    "ollama": API(Ollama, offline.OLLAMA, "OLLAMA"),
    "bedrock": API(BedrockConverse, offline.BEDROCK_CONVERSE, "BEDROCK"),
}


async def compare(names: list[str], prompt: str) -> None:
    """Ask one API after the other and print each event as it comes."""
    for name in names:
        print(f"== {name}")
        api = APIS[name]
        try:
            async with open_session(api.session, api.offline, api.variables) as session:
                async for event in answer(session, prompt, api.variables):
                    print(f"{type(event).__name__:<15}{shown(event)}")
        except SessionError as exc:
            print(f"{type(exc).__name__}: {exc}")


def shown(event: Event) -> str:
    """What an event says, whichever API it is of."""
    match event:
        case TextDelta():
            return repr(event.text)
        case ToolCall():
            return f"{event.name}({event.arguments})"
        case Usage():
            return f"{event.input_tokens} in, {event.output_tokens} out"
        case _:
            return event.model_dump_json(exclude={"type", "choice"}, exclude_none=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="API", help=", ".join(APIS))
    parser.add_argument("-p", "--prompt", default="What time is it?")
    options = parser.parse_args()
    if unknown := set(options.names) - set(APIS):
        parser.error(f"no such API: {', '.join(sorted(unknown))}; there are {', '.join(APIS)}")
    asyncio.run(compare(options.names or list(APIS), options.prompt))
