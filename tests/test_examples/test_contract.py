"""The sessions of the examples keep every promise of the contract."""

from anthropic_messages import AnthropicMessages, MessageEvent
from jsonlines import OFFLINE as BUILD
from jsonlines import BuildEvent, Forge
from offline import ANTHROPIC_MESSAGES
from openai_chat import ChatEvent, OpenAIChat
from quickstart import OFFLINE as TOKENS
from quickstart import Acme, Done, Token
from streamsession import Stream
from streamsession.testing import SessionContract, sse, sse_event

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
