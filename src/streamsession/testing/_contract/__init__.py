"""The promises of this package, as tests that the author of a session runs on their own."""

from ._closing import Closing
from ._ends import Ends
from ._promise import BrokenPromise
from ._secrecy import Secrecy
from ._tries import Tries
from ._waits import Waits

__all__ = ["BrokenPromise", "SessionContract"]


class SessionContract(Ends, Waits, Closing, Tries, Secrecy):
    """Runs the promises of this package against a session of yours, on asyncio and trio.

    Subclass it where pytest finds it, and give it one good response body, your session, and the
    stream that the body answers::

        class TestAcme(SessionContract):
            body = Path("tests/data/hello.sse").read_bytes()

            def session(self, url: str) -> Acme:
                return Acme(base_url=url, api_key=self.secret)

            def stream(self, session: Acme) -> Stream[Token | Done]:
                return session.stream("Hello")

    Each test is one promise. It plays faults of all kinds from a server on a real socket, needs no
    network, and when it fails, says which promise was broken, what happened, and how to mend it.
    It sets `timeout`, `retry` and `max_event_bytes` on the session, so that nothing waits long.

    An API that is different by design says so with `proves_its_end` or `tries_again`; one whose
    frames of a kind look different gives `keep_alive`, `broken_frame`, `unknown_frame` or
    `error_frame`; a session that makes requests of its own on entering answers them in `answer`. A
    single promise is left out by `test_name = None`.
    """
