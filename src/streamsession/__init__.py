"""The skeleton of a streaming-API SDK: a guarded async session that streams typed events.

`AsyncSession` guards an httpx connection pool and hands over typed Pydantic events one at a time
while it stays open. Subclass it for an API. The public names are those of `streamsession.__all__`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._public import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        """Load the package when a name of it is first used: importing it alone costs nothing."""
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(name)
        public = import_module("._public", __name__)
        globals().update({each: getattr(public, each) for each in public.__all__})
        return getattr(public, name)
