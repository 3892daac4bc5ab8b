"""The sessions of the examples keep every promise of the contract."""

from typing import Any

import pytest

from anthropic_messages import AnthropicMessages, MessageEvent
from bedrock_converse import BedrockConverse, ConverseEvent
from cohere import Cohere, CohereEvent
from gemini import Gemini, GeminiEvent
from jsonlines import OFFLINE as BUILD
from jsonlines import BuildEvent, Forge
from mistral import Mistral, MistralEvent
from offline import ANTHROPIC_MESSAGES, COHERE, GEMINI, OLLAMA, OPENAI_RESPONSES
from ollama import Ollama
from openai_chat import ChatEvent, OpenAIChat
from openai_responses import OpenAIResponses, ResponseEvent
from quickstart import OFFLINE as TOKENS
from quickstart import Acme, Done, Token
from streamsession import JSONArrayDecoder, Stream, TokenEvent
from streamsession.testing import (
    SessionContract,
    event_stream,
    event_stream_message,
    sse,
    sse_event,
)

pytestmark = pytest.mark.usefixtures("hurried")

PROMPT = [{"role": "user", "content": "Hello"}]


class TestQuickstart(SessionContract):
    body = TOKENS.body

    def session(self, url: str) -> Acme:
        return Acme(base_url=url, api_key=self.secret)

    def stream(self, session: Acme) -> Stream[Token | Done]:
        return session.stream("Hello")


class TestForge(SessionContract):
    body = BUILD[1].body

    def session(self, url: str) -> Forge:
        return Forge(base_url=url, api_key=self.secret)

    def stream(self, session: Forge) -> Stream[BuildEvent]:
        return session.stream("b/17")


class TestAnthropicMessages(SessionContract):
    body = ANTHROPIC_MESSAGES.body
    keep_alive = sse_event({"type": "ping"}, event="ping")
    error_frame = sse_event(
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        event="error",
    )

    def session(self, url: str) -> AnthropicMessages:
        return AnthropicMessages(base_url=url, api_key=self.secret)

    def stream(self, session: AnthropicMessages) -> Stream[MessageEvent]:
        return session.stream(PROMPT, model="claude")


class TestOpenAIChat(SessionContract):
    # Of compatible servers that say no `[DONE]`, the finish_reason is the last that is needed.
    body = sse(
        {"choices": [{"delta": {"content": "Let me "}}]},
        {"choices": [{"delta": {"content": "look."}}]},
        {"choices": [{"delta": {"tool_calls": [{"id": "c1", "function": {"name": "time"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]},
        {"choices": [{"finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 12}},
        "[DONE]",
    )

    def session(self, url: str) -> OpenAIChat:
        return OpenAIChat(base_url=url, api_key=self.secret)

    def stream(self, session: OpenAIChat) -> Stream[ChatEvent]:
        return session.stream(PROMPT, model="gpt")


class TestOllama(SessionContract):
    body = OLLAMA.body

    def session(self, url: str) -> Ollama:
        return Ollama(base_url=url, api_key=self.secret)

    def stream(self, session: Ollama) -> Stream[TokenEvent]:
        return session.stream(PROMPT, model="qwen")


class TestMistral(SessionContract):
    # Without `[DONE]`, the finish_reason is the last that is needed.
    body = sse(
        {"choices": [{"delta": {"content": "Let me "}}]},
        {"choices": [{"delta": {"content": "look."}}]},
        {"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]},
        "[DONE]",
    )

    def session(self, url: str) -> Mistral:
        return Mistral(base_url=url, api_key=self.secret)

    def stream(self, session: Mistral) -> Stream[MistralEvent]:
        return session.stream(PROMPT, model="mistral")


class TestCohere(SessionContract):
    body = COHERE.body.removesuffix(sse("[DONE]"))  # which is sent, but proves nothing

    def session(self, url: str) -> Cohere:
        return Cohere(base_url=url, api_key=self.secret)

    def stream(self, session: Cohere) -> Stream[CohereEvent]:
        return session.stream(PROMPT, model="command")


class TestOpenAIResponses(SessionContract):
    body = OPENAI_RESPONSES.body
    keep_alive = sse({"type": "keepalive", "sequence_number": 3})
    error_frame = sse(
        {
            "type": "response.failed",
            "response": {"error": {"code": "server_error", "message": "No"}},
        }
    )

    def session(self, url: str) -> OpenAIResponses:
        return OpenAIResponses(base_url=url, api_key=self.secret)

    def stream(self, session: OpenAIResponses) -> Stream[ResponseEvent]:
        return session.stream(PROMPT, model="gpt")


class TestOpenAIResponsesInTheBackground(TestOpenAIResponses):
    body = sse(
        '{"type": "response.created", "sequence_number": 0,'
        ' "response": {"id": "r1", "background": true}}',
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Let me "},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "look."},
        {"type": "response.completed", "sequence_number": 3},
    )


class TestBedrockConverse(SessionContract):
    # Of gateways that say what was spent before the end, nothing is needed behind that.
    body = event_stream(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"delta": {"text": "Let me "}}),
        ("contentBlockDelta", {"delta": {"text": "look."}}),
        ("contentBlockStop", {}),
        ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "c1", "name": "time"}}}),
        ("contentBlockStop", {}),
        ("metadata", {"usage": {"inputTokens": 12, "outputTokens": 34}}),
        ("messageStop", {"stopReason": "tool_use"}),
    )
    keep_alive = event_stream(("ping", {}))
    unknown_frame = event_stream(("weather", {"text": "fine"}))
    broken_frame = event_stream(("contentBlockDelta", b'{"delta": {'))
    error_frame = event_stream_message(
        {"message": "Model stream failed"}, exception="modelStreamErrorException"
    )

    def session(self, url: str) -> BedrockConverse:
        return BedrockConverse(base_url=url, api_key=self.secret)

    def stream(self, session: BedrockConverse) -> Stream[ConverseEvent]:
        return session.stream(PROMPT, model="nova")


class TestGemini(SessionContract):
    # Its answer may go on after every sign of an end but the end of the body, which is waited for.
    test_a_server_that_does_not_hang_up_is_not_waited_for: Any = None
    test_what_follows_the_end_is_not_listened_to: Any = None
    body = GEMINI.body
    error_frame = (
        b'{\n  "error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}\n}\n\n'
    )

    def session(self, url: str) -> Gemini:
        return Gemini(base_url=url, api_key=self.secret)

    def stream(self, session: Gemini) -> Stream[GeminiEvent]:
        return session.stream("Hello", model="gemini")


class TestGeminiArray(TestGemini):
    body = b"""[{"candidates": [{"content": {"parts": [{"text": "Let me "}]}}]}
,
{"candidates": [{"content": {"parts": [{"text": "look."}]}}]}
,
{"candidates": [{"content": {"parts": [{"functionCall": {"name": "time"}}]}}]}
,
{"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 12}}
]"""
    framing = JSONArrayDecoder
    keep_alive = b"\n"
    broken_frame = b',{"candidates": {}}'
    unknown_frame = b',{"type": "streamsession.unknown"}'
    error_frame = b',{"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}'

    def stream(self, session: Gemini) -> Stream[GeminiEvent]:
        return session.stream("Hello", model="gemini", sse=False)
