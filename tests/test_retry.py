"""When to try again and how long to wait: the formula, its bounds, and what servers ask for."""

import math
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsession import (
    AuthenticationError,
    Conflict,
    ConnectFailed,
    DecodeError,
    EventTooLarge,
    NotFound,
    PermissionDenied,
    RateLimited,
    RemoteError,
    RetryPolicy,
    ServerError,
    SessionClosed,
    StatusError,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    UnexpectedContent,
    UnprocessableContent,
)
from streamsession._errors import Clock
from streamsession._retry import retry_after

moderate = settings(deadline=None)

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


def always(number: float) -> Any:
    return lambda: number


# The wait


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (99, 8.0)]
)
def test_the_longest_wait_doubles_up_to_the_cap(attempt: int, seconds: float) -> None:
    policy = RetryPolicy(attempts=100, base_delay=0.5, max_delay=8.0, random=always(1.0))
    assert policy.delay(attempt) == seconds


@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.999])
def test_the_jitter_is_full(jitter: float) -> None:
    policy = RetryPolicy(attempts=9, base_delay=1.0, max_delay=100.0, random=always(jitter))
    assert policy.delay(4) == jitter * 8.0


def test_each_wait_draws_its_own_jitter() -> None:
    numbers = iter([0.1, 0.2, 0.3])
    policy = RetryPolicy(attempts=9, base_delay=1.0, random=lambda: next(numbers))
    assert [policy.delay(1), policy.delay(1), policy.delay(1)] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_as_many_requests_are_sent_as_there_are_attempts(attempts: int) -> None:
    policy = RetryPolicy(attempts=attempts)
    tries = 1
    while policy.delay(tries) is not None:
        tries += 1
    assert tries == attempts


@moderate
@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_no_wait_is_longer_than_the_cap_or_negative(attempt: int, jitter: float) -> None:
    policy = RetryPolicy(attempts=10**9 + 1, random=always(jitter))
    delay = policy.delay(attempt)
    assert delay is not None
    assert 0 <= delay <= policy.max_delay


def test_a_base_of_zero_never_waits() -> None:
    policy = RetryPolicy(attempts=5000, base_delay=0, random=always(1.0))
    assert policy.delay(4999) == 0


def test_the_default_jitter_varies() -> None:
    policy = RetryPolicy(attempts=2)
    assert len({policy.delay(1) for _ in range(20)}) > 1


# A wait that the server asks for


def test_what_the_server_asks_takes_the_place_of_our_own_wait() -> None:
    policy = RetryPolicy(attempts=3, random=always(1.0))
    assert policy.delay(1, asked=17.0) == 17.0
    assert policy.delay(1, asked=0.0) == 0.0


def test_our_own_cap_does_not_shorten_what_the_server_asks() -> None:
    assert RetryPolicy(max_delay=1.0).delay(1, asked=30.0) == 30.0


@pytest.mark.parametrize(("asked", "delay"), [(59.9, 59.9), (60.0, 60.0), (60.1, None)])
def test_a_server_that_asks_for_too_long_ends_the_trying(asked: float, delay: float | None) -> None:
    assert RetryPolicy(max_retry_after=60.0).delay(1, asked=asked) == delay


@pytest.mark.parametrize("asked", [math.inf, math.nan])
def test_a_wait_without_end_ends_the_trying(asked: float) -> None:
    assert RetryPolicy().delay(1, asked=asked) is None


def test_the_last_attempt_is_the_last_whatever_the_server_asks() -> None:
    assert RetryPolicy(attempts=2).delay(2, asked=0.0) is None


# The policy itself


@pytest.mark.parametrize("attempts", [0, -1])
def test_a_policy_that_never_tries_is_refused(attempts: int) -> None:
    with pytest.raises(ValueError, match=f"1 or more, got {attempts}"):
        RetryPolicy(attempts=attempts)


@pytest.mark.parametrize("name", ["base_delay", "max_delay", "max_retry_after"])
@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_a_policy_that_waits_no_real_time_is_refused(name: str, seconds: float) -> None:
    options: dict[str, Any] = {name: seconds}
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**options)


def test_a_policy_is_frozen() -> None:
    with pytest.raises(AttributeError):
        setattr(RetryPolicy(), "attempts", 4)  # noqa: B010 - type checkers refuse it, too


# Which failures pass


def status(cls: type[StatusError], number: int) -> StatusError:
    return cls("", status=number)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (StreamError(""), False),
        (ConnectFailed(""), True),
        (StreamInterrupted(""), True),
        (StreamTruncated(""), True),
        (status(StatusError, 302), False),
        (status(StatusError, 400), False),
        (status(AuthenticationError, 401), False),
        (status(PermissionDenied, 403), False),
        (status(NotFound, 404), False),
        (status(StatusError, 408), True),
        (status(Conflict, 409), True),
        (status(UnprocessableContent, 422), False),
        (status(StatusError, 425), False),
        (status(RateLimited, 429), True),
        (status(ServerError, 500), True),
        (status(ServerError, 503), True),
        (status(ServerError, 529), True),
        (UnexpectedContent(""), False),
        (RemoteError("", retryable=True), True),
        (RemoteError("", retryable=False), False),
        (RemoteError(""), False),
        (TimedOut("", clock="connect"), True),
        (TimedOut("", clock="first_event"), False),
        (TimedOut("", clock="idle"), False),
        (TimedOut("", clock="total"), False),
        (TimedOut("", clock="close"), False),
        (DecodeError(""), False),
        (EventTooLarge(""), False),
        (StreamClosed(""), False),
        (SessionClosed(""), False),
    ],
    ids=lambda value: value if isinstance(value, bool) else f"{type(value).__name__}",
)
def test_only_failures_that_may_pass_are_transient(error: StreamError, transient: bool) -> None:  # noqa: FBT001
    assert RetryPolicy().is_transient(error) is transient


def test_every_clock_has_been_thought_of() -> None:
    transient = {
        clock for clock in get_args(Clock) if RetryPolicy().is_transient(TimedOut("", clock=clock))
    }
    assert transient == {"connect"}


def test_the_statuses_tried_again_can_be_chosen() -> None:
    policy = RetryPolicy(statuses=frozenset({425}))
    assert policy.is_transient(status(StatusError, 425))
    assert not policy.is_transient(status(RateLimited, 429))
    assert policy.is_transient(status(ServerError, 500))


# Reading Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("5", 5.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("-3", 0.0),
        ("-0", 0.0),
        ("-1.5", 0.0),
        ("00005", 5.0),
        ("5.", 5.0),
        ("0.0001", 0.0001),
        ("60.0000001", 60.0000001),
        ("\t7", 7.0),
        ("99999999999", 99_999_999_999.0),
        ("9" * 300, float("9" * 300)),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e400", None),
        ("9" * 400, None),
        ("9" * 5000, None),
        ("", None),
        (" ", None),
        ("soon", None),
        ("5, 6", None),
        ("5 seconds", None),
        ("+5", None),
        ("--1", None),
        (".5", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("\u0663", None),
        ("\uff15", None),
        ("1994-11-06T08:50:37Z", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-44 08:50:37 GMT", 1_577_923_260.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Sun, 06 Nov 1994 09:50:37 +0100", 60.0),
        ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_a_response_that_asks_for_nothing_asks_for_no_wait() -> None:
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize(
    ("milliseconds", "value", "seconds"),
    [
        ("1500", "9", 1.5),
        ("0", "9", 0.0),
        ("-20", "9", 0.0),
        ("0.5", "9", 0.0005),
        ("", "9", 9.0),
        ("soon", "9", 9.0),
        ("nan", "9", 9.0),
        ("inf", "9", 9.0),
        ("1_500", "9", 9.0),
        ("\u0663", "9", 9.0),
        ("9" * 400, "9", 9.0),
        ("1500", "", 1.5),
        ("1500", "soon", 1.5),
        ("61000", "1", 61.0),
        ("soon", "Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
    ],
)
def test_milliseconds_come_before_seconds(milliseconds: str, value: str, seconds: float) -> None:
    headers = {"retry-after-ms": milliseconds, "retry-after": value}
    assert retry_after(headers, NOW) == seconds


def test_two_headers_that_are_both_illegible_ask_for_nothing() -> None:
    assert retry_after({"retry-after-ms": "soon", "retry-after": "later"}, NOW) is None


@pytest.mark.parametrize("space", ["\x1c", "\x1d", "\x1e", "\x1f"])
@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
def test_a_separator_around_a_number_is_no_error(name: str, space: str) -> None:
    assert retry_after({name: f"5{space}"}, NOW) in (None, 5.0, 0.005)
    assert retry_after({name: f"{space}5"}, NOW) in (None, 5.0, 0.005)


@pytest.fixture
def _far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_from_greenwich")
@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:50:37 GMT",
        "Sun, 06 Nov 1994 08:50:37 +0000",
        "Sunday, 06-Nov-94 08:50:37 GMT",
        # asctime, always in UTC: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
        "Sun Nov  6 08:50:37 1994",
        "Sun, 06 Nov 1994 08:50:37 -0000",
    ],
)
def test_a_date_means_the_same_wherever_it_is_read(value: str) -> None:
    assert retry_after({"retry-after": value}, NOW) == 60.0


@moderate
@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000))
def test_a_date_is_measured_from_now_and_never_in_the_past(then: int, now: int) -> None:
    headers = {"retry-after": formatdate(then, usegmt=True)}
    assert retry_after(headers, now) == max(0, then - now)


date_like = st.lists(
    st.sampled_from(
        [" ", ",", "-", ":", "+", "Sun", "06", "Nov", "1994", "08:49:37", "GMT", "0", "99999", "-1"]
    ),
    max_size=9,
).map("".join)


@moderate
@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms"]),
        st.text(max_size=40) | date_like | st.floats().map(str) | st.integers().map(str),
    ),
    st.floats(0, 1e10),
)
def test_whatever_the_server_writes_it_is_a_wait_or_nothing(
    headers: dict[str, str], now: float
) -> None:
    seconds = retry_after(headers, now)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
