"""Faults planted in the source, one at a time: the tests must notice each of them.

Run `make planted`, or `python -m tests.planted WORD...` for those whose line holds the words. Slow,
so no part of `make test`, and no test module, so that pytest does not collect it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
SRC: Final = Path("src", "streamsession")


class Fault(NamedTuple):
    """A fault, and the tests that are to notice it.

    Attributes:
        file: Where it is planted, in the package.
        right: The text that stands there, once.
        wrong: The text that takes its place.
        tests: Test files or folders, those that should fail first.
    """

    file: str
    right: str
    wrong: str
    tests: str


FAULTS: Final = (
    # What is not closed
    Fault("_http/_response.py", "await self._raw.aclose()", "pass", "test_connections.py"),
    Fault(
        "_http/_response.py",
        "finally:\n            on_close()",
        "finally:\n            pass",
        "test_connections.py",
    ),
    Fault("_http/_response.py", "await self._body.unwind()", "pass", "test_connections.py"),
    Fault(
        "_transport/_pools.py",
        "if share is not None:\n                share.room += 1",
        "pass",
        "test_transport.py",
    ),
    Fault(
        "_http/_pool.py",
        "await self._client.aclose()",
        "pass",
        "test_session.py test_connections.py",
    ),
    Fault(
        "_http/_pool.py",
        "            await raw.aclose()\n            url =",
        "            url =",
        "test_connections.py test_session_requests.py test_faults",
    ),
    Fault("_source.py", "await self.closing(self.response.aclose)", "pass", "test_connections.py"),
    Fault(
        "_exchange.py",
        "await self._source.closing(self._decoding.aclose)",
        "pass",
        "test_session_requests.py test_stream.py",
    ),
    Fault("_exchange.py", "run_later(self._loop, self._end_abandoned)", "pass", "test_stream.py"),
    Fault("_exchange.py", "self._plan.on_end(self)", "pass", "test_stream.py test_session.py"),
    Fault(
        "_guard.py",
        "await self._leave(exc, self._close, self._pool.aclose)",
        "pass",
        "test_session.py",
    ),
    Fault(
        "_guard.py", "exchange.interrupt(why)", "pass", "test_session.py test_connections_cancel.py"
    ),
    Fault(
        "_guard.py",
        "        for exchange in exchanges:\n            await exchange.end()",
        "        pass",
        "test_session.py test_connections_cancel.py",
    ),
    # What is swallowed
    Fault(
        "_decoding.py", "            raise broken\n", "            pass\n", "test_stream_ends.py"
    ),
    Fault("_decoding.py", "if self._ran_off and not proved:", "if False:", "test_stream_ends.py"),
    Fault(
        "_decoding.py",
        "self._ran_off = True  # nothing of it",
        "pass  # nothing of it",
        "test_stream_ends.py",
    ),
    Fault(
        "_decoding.py",
        "            if isinstance(exc, SessionError):\n                raise\n",
        "            return self._end()\n",
        "test_stream_ends.py",
    ),
    Fault("_guard.py", "failures.append(exc)", "pass", "test_session.py"),
    Fault(
        "_exchange.py",
        "                    if delay is None:\n                        raise\n",
        "                    delay = delay or 0\n",
        "test_stream_retry.py test_stream_ends.py",
    ),
    Fault(
        "_validate.py",
        "            raise error\n",
        "            return await anext(self)\n",
        "test_stream_ends.py",
    ),
    Fault(
        "_http/_response.py",
        "self.pending or not (self._stream is None or self._stream.eof)",
        "False",
        "test_connections_bodies.py",
    ),
    # What is forgotten
    Fault("_exchange.py", "exc.partial = self.reply", "pass", "test_stream_ends.py"),
    Fault("_exchange.py", "exc.attempts = self.stats.attempts", "pass", "test_stream_retry.py"),
    Fault(
        "_exchange.py",
        "self._backoff.failures = 0",
        "pass",
        "test_stream_retry.py",
    ),
    Fault(
        "_exchange.py",
        '        self._source.clocks.begin("idle")\n        if stats',
        "        if stats",
        "test_stream_clocks.py",
    ),
    Fault(
        "_source.py",
        "self._stats.bytes += len(data)\n        self.skipping",
        'self._stats.bytes += len(data)\n        self.clocks.begin("idle")\n        self.skipping',
        "test_stream_clocks.py",
    ),
    Fault(
        "_exchange.py",
        "await self._source.drain()\n            finally:\n                self.interrupt",
        "pass\n            finally:\n                self.interrupt",
        "test_connections.py",
    ),
    Fault(
        "_exchange.py",
        "None if self.stats.events else self._delay(exc)",
        "self._delay(exc)",
        "test_stream_retry.py",
    ),
    Fault(
        "_framing/_sse.py",
        'self._after_cr = data.endswith(b"\\r")',
        "self._after_cr = False",
        "test_framing",
    ),
    Fault(
        "_framing/_sse.py",
        '        self._type = ""\n        self._size = 0',
        "        self._size = 0",
        "test_framing",
    ),
    Fault("_framing/_lines.py", "self._start = None\n        return", "return", "test_framing"),
    Fault("_guard.py", 'self._state = "closed"\n        await', "await", "test_session.py"),
    Fault(
        "_resume.py",
        "return self._by_id.get(hash(last_id)) is not None",
        "return False",
        "test_resume.py test_prefix.py",
    ),
    # What is off by one
    Fault(
        "_framing/_sse.py",
        "_cost(line, ended=ended) <= room",
        "_cost(line, ended=ended) < room",
        "test_framing",
    ),
    Fault(
        "_framing/_json_lines.py",
        "<= self._limit.max_bytes",
        "< self._limit.max_bytes",
        "test_framing",
    ),
    Fault(
        "_retry.py", "if attempt >= self.attempts:", "if attempt > self.attempts:", "test_retry.py"
    ),
    Fault("_retry.py", "2.0**doublings", "2.0 ** (doublings + 1)", "test_retry.py"),
    Fault("_decoding.py", "                    self.index += 1\n", "", "test_stream_ends.py"),
    # What is let through
    Fault("_request.py", "_NOT_IN_VALUE.search(value) or ", "", "test_request.py"),
    Fault("_request.py", ' or path.startswith("//")', "", "test_request.py"),
    Fault(
        "_http/_pool.py",
        "if (scheme, host, port) == origin(url):",
        "if host:",
        "test_connections.py",
    ),
    Fault(
        "_reports.py", "(not media or media in accepted or as_json)", "True", "test_stream_ends.py"
    ),
    Fault("_runtime.py", "await Guarded(work, cancels=0)", "await work", "test_runtime.py"),
    Fault(
        "_runtime.py",
        "CancelScope(shield=True, deadline=",
        "CancelScope(deadline=",
        "test_runtime.py",
    ),
    Fault(
        "_auth.py",
        "return f\"{type(self).__name__}({self._header!r}, '**********')\"",
        "return repr(vars(self) | {0: self._secret.get_secret_value()})",
        "test_auth.py",
    ),
    Fault(
        "_http/_translate.py",
        "frame.clear()",
        "pass",
        "test_secrets.py",
    ),
    Fault(
        "_validate.py",
        "self.is_complete = isinstance(event, self._final_events)",
        "pass",
        "test_stream_ahead.py test_stream_ends.py",
    ),
    Fault(
        "_validate.py",
        "return UnknownEvent(type=unknown, data=data)",
        "return self._validate(self._named(payload, min(self._tags)))",
        "test_validate.py",
    ),
    # The rooms below a stream
    Fault(
        "_transport/_sockets.py",
        "self._transport.pause_reading()",
        "pass",
        "test_sockets.py",
    ),
    Fault(
        "_transport/_sockets.py",
        "self._transport.resume_reading()",
        "pass",
        "test_sockets.py",
    ),
    Fault(
        "_transport/_sockets.py",
        "        while not self._arrived:",
        "        while not self._arrived or self._error:",
        "test_sockets.py",
    ),
    Fault(
        "_transport/_sockets.py",
        "        _wake(self._sender)\n\n    def pause",
        "\n    def pause",
        "test_sockets.py",
    ),
    Fault(
        "_transport/_sockets.py",
        "        except BaseException:\n            self._socket.abort()\n            raise\n",
        "        except ZeroDivisionError:\n            raise\n",
        "test_sockets.py",
    ),
    Fault(
        "_transport/_sockets.py",
        "            late.abort()",
        "            pass",
        "test_sockets.py",
    ),
    Fault("_http/_body.py", "range(_MOST_TURNS)", "range(1)", "test_body.py"),
    Fault("_http/_body.py", "            self._error = exc\n", "", "test_body.py"),
    Fault("_http/_body.py", "with unseen_generators():", "if True:", "test_body.py"),
    Fault(
        "_events.py",
        "len(self._ahead) - len(self._ready)",
        "len(self._ahead)",
        "test_stream_ahead.py",
    ),
    Fault(
        "_validate.py",
        "kind.startswith(_OWN_KINDS) or any(map(schema.get, _OWN_CODE))",
        "kind.startswith(_OWN_KINDS)",
        "test_stream_ahead.py",
    ),
    Fault(
        "_guard.py",
        'if self._state == "open":\n                await',
        "if False:\n                await",
        "test_closing_kinds.py",
    ),
)


def main(words: list[str]) -> int:
    """Plant each fault in turn; returns how many the tests did not notice."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        for number, fault in enumerate(FAULTS, 1):
            line = f"{number:2} {fault.file}: {' '.join(fault.right.split())}"
            if all(word in line for word in words):
                noticed_by = _noticed_by(copy, fault)
                missed += noticed_by is None
                print(f"{line}\n     {noticed_by or 'NOT NOTICED'}", flush=True)
    return missed


def _noticed_by(copy: Path, fault: Fault) -> str | None:
    """The first test that fails with the fault; None if none does."""
    path = copy / SRC / fault.file
    source = path.read_text(encoding="utf-8")
    if source.count(fault.right) != 1:
        raise SystemExit(f"{fault.file} holds {source.count(fault.right)} times: {fault.right}")
    path.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    files = [str(Path("tests", each)) for each in fault.tests.split()]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-xq", "-ofaulthandler_timeout=15", *files],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    path.write_text(source, encoding="utf-8")
    if run.returncode > 1:
        raise SystemExit(f"pytest could not run: {run.stdout}{run.stderr}")
    told = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return None if run.returncode == 0 else [*told, "a test that hangs"][0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
