"""Redirects: followed within the origin, refused elsewhere, and never without an end."""

import pytest

from streamsession import (
    RateLimited,
    StatusError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
)
from streamsession.testing import HANG_UP, HOLD, ScriptedResponse, ScriptedServer, Step
from tests.test_faults.apis import (
    KIB,
    ONCE,
    POOL_OF_ONE,
    Api,
    fails,
    failure_in,
    in_both,
    row,
    works,
)
from tests.test_faults.fronts import HOST, Certificates, listening, tls_in_front_of

pytestmark = pytest.mark.anyio


def redirect(location: str | None, status: int = 307, *body: Step) -> ScriptedResponse:
    headers = {} if location is None else {"Location": location}
    return ScriptedResponse(body, status, headers)


# Followed


@in_both
async def test_a_redirect_within_the_origin_is_followed(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(
        base_url=scripted_server.url, limits=POOL_OF_ONE, api_key="key"
    ) as session:
        for location in ("/other", "other?page=2", scripted_server.url, "/other#part", ""):
            scripted_server.play(redirect(location), api.answer(api.chat("next")))
            with row(location):
                await works(session)
                await scripted_server.until_idle()
                first, second = scripted_server.requests[-2:]
                assert (second.method, second.body) == ("POST", first.body)
                for name in ("accept", "authorization", "content-type", "host"):
                    assert second.headers[name] == first.headers[name]


@in_both
@pytest.mark.parametrize("pieces", [1, 3])
async def test_the_body_of_a_redirect_is_not_waited_for(
    scripted_server: ScriptedServer, api: Api, pieces: int
) -> None:
    endless = redirect("/other", 307, *[b"x" * 64 * KIB] * pieces, HOLD)
    scripted_server.play(endless, api.answer(api.chat("next")))
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        await works(session, reused=False)
    assert (await scripted_server.until_closed()).state == "client closed"


@in_both
async def test_what_comes_after_a_redirect_is_told_as_ever(
    scripted_server: ScriptedServer, api: Api
) -> None:
    kinds: dict[type[StreamError], ScriptedResponse] = {
        RateLimited: ScriptedResponse(status=429),
        StreamInterrupted: ScriptedResponse([HANG_UP], framing="raw"),
        StreamTruncated: api.answer(),
    }
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for kind, answer in kinds.items():
            scripted_server.play(redirect("/other"), answer, api.answer(api.chat("next")))
            await failure_in(session, kind)
            await works(session)


# Not followed

ELSEWHERE = {
    "another port": "http://127.0.0.1:{other}/",
    "another host": "http://localhost:{own}/",
    "another scheme": "https://127.0.0.1:{own}/",
    "no scheme": "//localhost:{own}/",
    "no port": "http://127.0.0.1/",
    "behind what looks like ours": "http://127.0.0.1:{own}@localhost:{own}/",
    "no HTTP": "ftp://127.0.0.1:{own}/",
}


@in_both
async def test_a_redirect_to_another_origin_is_refused_at_once(
    scripted_server: ScriptedServer, api: Api
) -> None:
    with ScriptedServer() as other:
        own_port, other_port = (each.url.rpartition(":")[2] for each in (scripted_server, other))
        async with api.session(
            base_url=scripted_server.url, limits=POOL_OF_ONE, api_key="key"
        ) as session:
            for name, location in ELSEWHERE.items():
                with row(name):
                    answer = redirect(location.format(own=own_port, other=other_port))
                    error = await fails(
                        api, session, scripted_server, [answer], StatusError, fate=None
                    )
                    assert error.status == 307
                    assert "redirected to another origin" in str(error)
        assert other.connections == []


NOWHERE = {
    "none": None,
    "no number": "http://127.0.0.1:x/",
    "no port there is": "http://127.0.0.1:99999/",
    "half an address": "http://[::1/",
    "no address": "http://[x]/",
    "no name": "http://xn--/",
    "a script": "javascript:alert(1)",
}


@in_both
async def test_a_redirect_to_nowhere_is_refused_at_once(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name, location in NOWHERE.items():
            with row(name):
                answers = [redirect(location)]
                error = await fails(api, session, scripted_server, answers, StatusError, fate=None)
                assert error.status == 307


@in_both
@pytest.mark.parametrize("locations", [["/generate"], ["/a", "/b"]], ids=["itself", "two"])
async def test_a_redirect_in_a_circle_ends(
    scripted_server: ScriptedServer, api: Api, locations: list[str]
) -> None:
    circle = [redirect(locations[n % len(locations)]) for n in range(6)]
    scripted_server.play(*circle, api.answer(api.chat("next")))
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        error = await failure_in(session, StatusError)
        assert "more than 5 redirects" in str(error)
        assert error.status == 307
        await works(session)
    assert len(scripted_server.requests) == 7


# From TLS to none


@in_both
async def test_a_redirect_from_https_to_http_is_refused(
    scripted_server: ScriptedServer, api: Api, trusted: Certificates
) -> None:
    with ScriptedServer() as plain:
        scripted_server.play(redirect(plain.url), api.answer(api.chat("next")))
        async with (
            listening(tls_in_front_of(scripted_server, trusted.good)) as port,
            api.session(base_url=f"https://{HOST}:{port}", limits=POOL_OF_ONE) as session,
        ):
            error = await failure_in(session, StatusError)
            assert "redirected to another origin, http://" in str(error)
            await works(session)
        assert plain.connections == []
