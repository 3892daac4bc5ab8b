"""The command `streamsession`, also `python -m streamsession`."""

import argparse
import sys
from collections.abc import Sequence

from ._scaffold import prepare_new, prepare_update

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Args:
        argv: The arguments; None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="streamsession", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="stream typed tokens, from an embedded server or a live API",
        description="Stream a reply as typed events. Without --api, from a server that the demo "
        "starts itself on this machine; it needs no network and no key.",
    )
    demo.add_argument("--api", choices=["openai", "anthropic"], help="a live API, or one like it")
    demo.add_argument("--base-url", help="of the live server; by default the API's own")
    demo.add_argument("--model", help="the model to ask; by default a small one")
    demo.add_argument("prompt", nargs="?", default="Say hello to the human.", metavar="PROMPT")
    prepare_new(commands.add_parser("new", help="write a new SDK"))
    prepare_update(commands.add_parser("update", help="bring what is new in the template into one"))
    options = parser.parse_args(argv)
    if options.command != "demo":
        status: int = options.run(options)
        return status
    if options.api is None and (options.base_url or options.model):
        demo.error("--base-url and --model go with --api")

    from ._demo import run  # noqa: PLC0415 - `streamsession --help` need not load it all

    return run(
        api=options.api, base_url=options.base_url, model=options.model, prompt=options.prompt
    )


if __name__ == "__main__":
    sys.exit(main())
