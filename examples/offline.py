"""What each API sends, for the examples to run without a network: the same little answer."""

from streamsession.testing import Pause, ScriptedResponse, event_stream

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
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
    {"type": "content_block_delta", "index": 0, "delta": {"thinking": "Ask the clock."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_stop", "index": 1},
    '{"type": "content_block_start", "index": 2,'
    ' "content_block": {"type": "tool_use", "id": "c1", "name": "time"}}',
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 34}},
    {"type": "message_stop"},
    pause=0.05,
)

OLLAMA = ScriptedResponse.json_lines(
    {"message": {"thinking": "Ask the clock."}, "done": False},
    {"message": {"content": "Let me "}, "done": False},
    {"message": {"content": "look."}, "done": False},
    b'{"message": {"tool_calls": [{"id": "c1", "function": {"name": "time", "arguments": {}}}]}}\n',
    {"done": True, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 34},
    pause=0.05,
)

MISTRAL = ScriptedResponse.sse(
    '{"choices": [{"delta": {"content": [{"type": "thinking",'
    ' "thinking": [{"type": "text", "text": "Ask the clock."}]}]}}]}',
    '{"choices": [{"delta": {"content": "Let me "}}]}',
    '{"choices": [{"delta": {"content": "look."}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"id": "c1",'
    ' "function": {"name": "time", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}],'
    ' "usage": {"prompt_tokens": 12, "completion_tokens": 34}}',
    "[DONE]",
    pause=0.05,
)

COHERE = ScriptedResponse.sse(
    {"type": "message-start", "delta": {"message": {"content": []}}},
    '{"type": "content-delta", "delta": {"message": {"content": {"thinking": "Ask the clock."}}}}',
    {"type": "content-delta", "delta": {"message": {"content": {"text": "Let me "}}}},
    {"type": "content-delta", "delta": {"message": {"content": {"text": "look."}}}},
    '{"type": "tool-call-start", "index": 0,'
    ' "delta": {"message": {"tool_calls": {"id": "c1", "function": {"name": "time"}}}}}',
    '{"type": "tool-call-delta", "index": 0,'
    ' "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}}}',
    {"type": "tool-call-end", "index": 0},
    '{"type": "message-end", "delta": {"finish_reason": "TOOL_CALL",'
    ' "usage": {"tokens": {"input_tokens": 12, "output_tokens": 34}}}}',
    "[DONE]",
    pause=0.05,
)

OPENAI_RESPONSES = ScriptedResponse.sse(
    {"type": "response.created", "response": {"status": "in_progress"}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Ask the clock."},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "Let me "},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "look."},
    '{"type": "response.output_item.added", "output_index": 2,'
    ' "item": {"type": "function_call", "call_id": "c1", "name": "time"}}',
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
    '{"type": "response.output_item.done", "output_index": 2,'
    ' "item": {"type": "function_call", "call_id": "c1", "name": "time", "arguments": "{}"}}',
    '{"type": "response.completed", "response":'
    ' {"status": "completed", "usage": {"input_tokens": 12, "output_tokens": 34}}}',
    pause=0.05,
)

BEDROCK_CONVERSE = ScriptedResponse(
    [
        step
        for event in (
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"delta": {"reasoningContent": {"text": "Ask the clock."}}}),
            ("contentBlockDelta", {"delta": {"text": "Let me "}, "contentBlockIndex": 1}),
            ("contentBlockDelta", {"delta": {"text": "look."}, "contentBlockIndex": 1}),
            (
                "contentBlockStart",
                {"start": {"toolUse": {"toolUseId": "c1", "name": "time"}}, "contentBlockIndex": 2},
            ),
            ("contentBlockDelta", {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": 2}),
            ("contentBlockStop", {"contentBlockIndex": 2}),
            ("messageStop", {"stopReason": "tool_use"}),
            ("metadata", {"usage": {"inputTokens": 12, "outputTokens": 34}}),
        )
        for step in (event_stream(event), Pause(0.05))
    ],
    content_type="application/vnd.amazon.eventstream",
)

GEMINI = ScriptedResponse.sse(
    '{"candidates": [{"content": {"parts": [{"text": "Ask the clock.", "thought": true}]}}]}',
    {"candidates": [{"content": {"parts": [{"text": "Let me "}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "look."}]}}]},
    '{"candidates": [{"content": {"parts": [{"functionCall": {"id": "c1", "name": "time"}}]}}]}',
    '{"candidates": [{"finishReason": "STOP"}],'
    ' "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 34}}',
    pause=0.05,
)
