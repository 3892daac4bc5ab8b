import httpx

from streamsession.testing import ScriptedResponse, ScriptedServer

pytest_plugins = ["streamsession.testing.fixtures"]


def test_the_fixture_is_a_running_server(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse.json({"ok": True}))
    response = httpx.get(scripted_server.url)
    assert response.json() == {"ok": True}


def test_the_fixture_has_no_answers_of_its_own(scripted_server: ScriptedServer) -> None:
    response = httpx.get(scripted_server.url)
    assert response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert "no answer is left" in response.text
