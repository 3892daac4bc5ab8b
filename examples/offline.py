"""What each API sends, for the examples to run without a network: the same little answer."""

from streamsession.testing import ScriptedResponse

OPENAI_CHAT = ScriptedResponse.sse(
    '{"choices": [{"delta": {"reasoning_content": "Ask the clock."}}]}',
    '{"choices": [{"delta": {"content": "Let me "}}]}',
    '{"choices": [{"delta": {"content": "look."}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"id": "c1", "function": {"name": "time"}}]}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
    '{"choices": [{"finish_reason": "tool_calls"}]}',
    '{"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 34}}',
    "[DONE]",
    pause=0.05,
)

ANTHROPIC_MESSAGES = ScriptedResponse.sse(
    {"type": "message_start", "message": {"usage": {"input_tokens": 12}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_stop", "index": 0},
    '{"type": "content_block_start", "index": 1,'
    ' "content_block": {"type": "tool_use", "id": "c1", "name": "time"}}',
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 34}},
    {"type": "message_stop"},
    pause=0.05,
)
