"""Credentials: the headers they send, the silence they keep, and one fetch for all who need it."""

import pickle
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import SecretStr

from streamsession import BearerAuth, Credentials, HeaderAuth, TokenAuth
from streamsession._request import check_headers
from tests.canary import CANARY


async def provide_secret() -> str:
    return CANARY


@dataclass
class Provider:
    """Gives "token-1", "token-2", ... each once `gate` is open, and counts how often it was run."""

    gate: anyio.Event = field(default_factory=anyio.Event)
    runs: int = 0
    failures: int = 0
    """How many of the first runs fail."""

    async def __call__(self) -> str:
        self.runs += 1
        run = self.runs
        await self.gate.wait()
        if run <= self.failures:
            raise OSError(f"run {run} failed")
        return f"token-{run}"


def open_provider(*, failures: int = 0) -> Provider:
    provider = Provider(failures=failures)
    provider.gate.set()
    return provider


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def settle() -> None:
    """Let every other task run until it waits."""
    for _ in range(20):
        await checkpoint()


# What is sent


@pytest.mark.anyio
@pytest.mark.parametrize("secret", [CANARY, SecretStr(CANARY)], ids=["str", "SecretStr"])
async def test_a_bearer_token_goes_into_the_authorization_header(secret: str | SecretStr) -> None:
    assert await BearerAuth(secret).headers() == bearer(CANARY)


@pytest.mark.anyio
@pytest.mark.parametrize("secret", [CANARY, SecretStr(CANARY)], ids=["str", "SecretStr"])
async def test_a_secret_goes_into_a_header_of_its_own(secret: str | SecretStr) -> None:
    assert await HeaderAuth("x-api-key", secret).headers() == {"x-api-key": CANARY}


@pytest.mark.anyio
@pytest.mark.parametrize("secret", [CANARY, SecretStr(CANARY)], ids=["str", "SecretStr"])
async def test_a_provided_token_goes_into_the_authorization_header(
    secret: str | SecretStr,
) -> None:
    async def provide() -> str | SecretStr:
        return secret

    assert await TokenAuth(provide).headers() == bearer(CANARY)


@pytest.mark.anyio
@pytest.mark.parametrize("auth", [BearerAuth(CANARY), HeaderAuth("x-api-key", CANARY)])
async def test_a_fixed_secret_has_no_other_to_try(auth: Credentials) -> None:
    assert await auth.refresh(await auth.headers()) is False


@pytest.mark.anyio
async def test_credentials_of_ones_own_need_only_headers() -> None:
    class Signed(Credentials):
        async def headers(self) -> dict[str, str]:
            return {"x-signature": "1"}

    assert await Signed().headers() == {"x-signature": "1"}
    assert await Signed().refresh({}) is False


def test_credentials_without_headers_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Credentials()  # type: ignore[abstract] # pyright: ignore[reportAbstractUsage]


@pytest.mark.anyio
@pytest.mark.parametrize("space", [" ", "\t", "   "])
async def test_white_space_around_a_token_is_refused_on_either_side(space: str) -> None:
    for token in (CANARY + space, space + CANARY):
        with pytest.raises(ValueError, match="white space"):
            check_headers(await BearerAuth(token).headers())


# What is kept


async def fetched() -> TokenAuth:
    auth = TokenAuth(provide_secret)
    await auth.headers()
    return auth


def writings_of(auth: object) -> Iterator[str]:
    yield repr(auth)
    yield str(auth)
    yield f"{auth}"
    yield f"{auth!r:>200}"
    yield f"{[auth]}"
    yield "%s %r" % (auth, auth)  # noqa: UP031 - as a logger does
    yield repr(vars(auth))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "make",
    [lambda: BearerAuth(CANARY), lambda: HeaderAuth("x-api-key", CANARY), fetched],
    ids=["bearer", "header", "token"],
)
async def test_a_secret_is_in_nothing_that_is_printed(
    make: Callable[[], Credentials | Awaitable[Credentials]],
) -> None:
    made = make()
    auth = made if isinstance(made, Credentials) else await made
    for written in writings_of(auth):
        assert CANARY not in written
    assert CANARY in "".join((await auth.headers()).values())


@pytest.mark.anyio
async def test_a_secret_is_not_in_the_error_of_pickling_it() -> None:
    async def provide() -> str:
        return CANARY

    auth = TokenAuth(provide)
    await auth.headers()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)) as caught:
        pickle.dumps(auth)
    assert CANARY not in str(caught.value)


def test_the_repr_names_the_header() -> None:
    assert repr(HeaderAuth("x-api-key", CANARY)) == "HeaderAuth('x-api-key', '**********')"
    assert repr(BearerAuth(CANARY)) == "BearerAuth('**********')"


@pytest.mark.anyio
async def test_the_repr_of_provided_tokens_says_whether_there_is_one() -> None:
    auth = TokenAuth(provide_secret)
    assert repr(auth) == "TokenAuth(empty)"
    await auth.headers()
    assert repr(auth) == "TokenAuth(**********)"


def test_a_subclass_is_named_in_its_repr() -> None:
    class AcmeAuth(BearerAuth):
        pass

    assert repr(AcmeAuth(CANARY)) == "AcmeAuth('**********')"


# One fetch


@pytest.mark.anyio
async def test_nothing_is_fetched_before_it_is_needed() -> None:
    provider = open_provider()
    auth = TokenAuth(provider)
    assert provider.runs == 0
    await auth.headers()
    await auth.headers()
    assert provider.runs == 1


@pytest.mark.anyio
async def test_however_many_need_it_at_once_the_token_is_fetched_once() -> None:
    provider = Provider()
    auth = TokenAuth(provider)
    got: list[dict[str, str]] = []

    async def need() -> None:
        got.append(dict(await auth.headers()))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(need)
        await settle()
        provider.gate.set()
    assert provider.runs == 1
    assert got == [bearer("token-1")] * 50


def test_it_can_be_made_before_there_is_an_event_loop() -> None:
    auth = TokenAuth(provide_secret)
    assert anyio.run(auth.headers) == bearer(CANARY)
    assert anyio.run(auth.headers) == bearer(CANARY)


@pytest.mark.anyio
async def test_what_the_provider_raises_reaches_the_caller_unchanged() -> None:
    auth = TokenAuth(open_provider(failures=1))
    with pytest.raises(OSError, match="run 1 failed"):
        await auth.headers()
    assert await auth.headers() == bearer("token-2")


@pytest.mark.anyio
async def test_when_the_provider_fails_the_next_in_line_runs_it_again() -> None:
    provider = Provider(failures=2)
    auth = TokenAuth(provider)
    outcomes: list[str] = []

    async def need() -> None:
        try:
            outcomes.append((await auth.headers())["Authorization"])
        except OSError as exc:
            outcomes.append(str(exc))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(need)
        await settle()
        provider.gate.set()
    assert outcomes == ["run 1 failed", "run 2 failed", *["Bearer token-3"] * 3]
    assert provider.runs == 3


@pytest.mark.anyio
async def test_when_the_provider_is_cancelled_the_next_in_line_runs_it_again() -> None:
    provider = Provider()
    auth = TokenAuth(provider)
    got: list[dict[str, str]] = []
    first = anyio.CancelScope()

    async def need(scope: anyio.CancelScope) -> None:
        with scope:
            got.append(dict(await auth.headers()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(need, first)
        await settle()
        for _ in range(5):
            tasks.start_soon(need, anyio.CancelScope())
        await settle()
        assert provider.runs == 1
        first.cancel()
        await settle()
        assert provider.runs == 2
        provider.gate.set()
    assert got == [bearer("token-2")] * 5


@pytest.mark.anyio
async def test_one_who_is_cancelled_in_line_leaves_the_others_alone() -> None:
    provider = Provider()
    auth = TokenAuth(provider)
    got: list[dict[str, str]] = []
    impatient = anyio.CancelScope()

    async def need(scope: anyio.CancelScope) -> None:
        with scope:
            got.append(dict(await auth.headers()))

    async with anyio.create_task_group() as tasks:
        for scope in (anyio.CancelScope(), impatient, anyio.CancelScope()):
            tasks.start_soon(need, scope)
            await settle()
        impatient.cancel()
        await settle()
        provider.gate.set()
    assert provider.runs == 1
    assert got == [bearer("token-1")] * 2


@pytest.mark.anyio
@pytest.mark.parametrize("token", [None, CANARY.encode(), 5], ids=["None", "bytes", "int"])
async def test_a_provider_that_returns_no_text_is_told_so(token: Any) -> None:
    async def provide() -> str:
        return token  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match=f"must return a str, not {type(token).__name__}") as caught:
        await TokenAuth(provide).headers()
    assert CANARY not in str(caught.value)


# After a 401


@pytest.mark.anyio
async def test_a_rejected_token_is_replaced() -> None:
    auth = TokenAuth(open_provider())
    assert await auth.refresh(await auth.headers()) is True
    assert await auth.headers() == bearer("token-2")


@pytest.mark.anyio
async def test_a_token_that_was_replaced_already_is_not_fetched_again() -> None:
    provider = open_provider()
    auth = TokenAuth(provider)
    rejected = await auth.headers()
    assert await auth.refresh(rejected) is True
    assert await auth.refresh(rejected) is True
    assert provider.runs == 2
    assert await auth.headers() == bearer("token-2")


@pytest.mark.anyio
async def test_however_many_are_rejected_at_once_the_token_is_replaced_once() -> None:
    provider = open_provider()
    auth = TokenAuth(provider)
    rejected = await auth.headers()
    provider.gate = anyio.Event()
    got: list[dict[str, str]] = []

    async def try_again() -> None:
        assert await auth.refresh(rejected)
        got.append(dict(await auth.headers()))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(try_again)
        await settle()
        provider.gate.set()
    assert provider.runs == 2
    assert got == [bearer("token-2")] * 50


@pytest.mark.anyio
async def test_what_the_provider_raises_when_replacing_reaches_the_caller_unchanged() -> None:
    provider = open_provider()
    auth = TokenAuth(provider)
    rejected = await auth.headers()
    provider.failures = 2
    with pytest.raises(OSError, match="run 2 failed"):
        await auth.refresh(rejected)
    assert await auth.refresh(rejected) is True
    assert await auth.headers() == bearer("token-3")


@pytest.mark.anyio
async def test_a_refresh_that_is_cancelled_leaves_it_to_the_next() -> None:
    provider = open_provider()
    auth = TokenAuth(provider)
    rejected = await auth.headers()
    provider.gate = anyio.Event()
    first = anyio.CancelScope()

    async def refresh(scope: anyio.CancelScope) -> None:
        with scope:
            await auth.refresh(rejected)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refresh, first)
        await settle()
        tasks.start_soon(refresh, anyio.CancelScope())
        await settle()
        first.cancel()
        await settle()
        provider.gate.set()
    assert provider.runs == 3
    assert await auth.headers() == bearer("token-3")
