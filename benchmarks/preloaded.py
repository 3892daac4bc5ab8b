"""What the processes of a run have in memory from the start: they are forked off one that has it.

It is frozen: how much that is then makes no difference to the collector of any of them.
"""

import gc

from . import decoders, server, worker
from .apis import anthropic, openai, tokens

__all__ = ["anthropic", "decoders", "openai", "server", "tokens", "worker"]

gc.collect()
gc.freeze()
