"""The skeleton of a streaming-API SDK: a guarded async session that streams typed events.

`AsyncSession` guards an httpx connection pool and hands over typed Pydantic events one at a time
while it stays open. Subclass it for an API. The public names are those of `streamsession.__all__`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._framing._more import *  # noqa: F403
    from ._public import *  # noqa: F403
else:
    _OFFERING = ("._public", "._framing._more")  # the names, in the order in which one is sought

    def __getattr__(name: str) -> object:
        """Load a name when it is first used: importing the package alone costs nothing."""
        if name == "__all__":
            return __dir__()
        if name == "__version__" or not name.startswith("__"):
            for path in _OFFERING:
                module = import_module(path, __name__)
                if name in module.__all__:
                    globals()[name] = getattr(module, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Every public name, loaded or not."""
        modules = (import_module(path, __name__) for path in _OFFERING)
        return sorted(name for module in modules for name in module.__all__)
