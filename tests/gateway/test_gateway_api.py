"""The API: what is answered 202 is committed, what is refused says where and why, and its document is true."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate as validate_document
from rig import AMINA, LI, Rig, Serving, until, words_of

from addressbook import tokens
from simulator import Simulator

MESSAGE = {"to": LI, "text": "hello"}


class Client:
    """Speaks to the API as a client does; every answer is held against the document."""

    def __init__(self, serving: Serving, http: aiohttp.ClientSession, token: str) -> None:
        self.serving = serving
        self.token = token
        self._http = http
        self._document: dict[str, Any] = {}

    async def ask(
        self, method: str, path: str, *, json_body: Any = None, data: Any = None, token: str | None = "",
        **headers: str,
    ) -> tuple[int, Any, dict[str, str]]:  # fmt: skip
        """Status, body and headers. token "": our own; None: none."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        body = json.dumps(json_body).encode() if json_body is not None else data
        async with self._http.request(method, self.serving.url + path, data=body, headers=headers) as answer:
            found = await answer.read()
            parsed = json.loads(found)
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json"
                assert (parsed["status"], parsed["type"]) == (answer.status, "about:blank")
            await self._hold_against_document(method, path, answer.status, parsed)
            return answer.status, parsed, dict(answer.headers)

    async def send(self, json_body: Any = None, **more: Any) -> tuple[int, Any]:
        status, body, _ = await self.ask(
            "POST", "/v1/messages", json_body=MESSAGE if json_body is None and "data" not in more else json_body, **more
        )
        return status, body

    async def _hold_against_document(self, method: str, path: str, status: int, body: Any) -> None:
        if not self._document:
            async with self._http.get(self.serving.url + "/v1/openapi.json") as answer:
                self._document = await answer.json()
        template = "/v1/messages/{id}" if path.startswith("/v1/messages/") else path
        operation = self._document["paths"].get(template, {}).get(method.lower())
        if operation is None:
            return
        assert str(status) in operation["responses"], f"the document does not know of {status}"
        (content,) = operation["responses"][str(status)]["content"].values()
        schema = content["schema"] | {"components": self._document["components"]}  # so that its references resolve
        Draft202012Validator(schema).validate(body)


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[Client]:
    """A gateway without links, and a token for all of it."""
    serving = await rig.serve()
    async with aiohttp.ClientSession() as http:
        yield Client(serving, http, await serving.token())


async def queued(rig: Rig) -> int:
    return int((await rig.rows("select count(*) from outbox"))[0][0])


# ---- who may


async def test_without_a_known_token_nothing_is_taken(rig: Rig, client: Client) -> None:
    for token in (None, "smsgw_unknown", "x" * 500, "t\u00f6ken"):
        status, _, headers = await client.ask("POST", "/v1/messages", json_body=MESSAGE, token=token)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer"), token
    assert await queued(rig) == 0


async def test_another_authorization_is_none(client: Client) -> None:
    for header in ("", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "smsgw_x"):
        status, _, _ = await client.ask("POST", "/v1/messages", json_body=MESSAGE, token=None, Authorization=header)
        assert status == 401, header


async def test_a_token_does_what_its_scopes_say(rig: Rig, client: Client) -> None:
    reader, sender = await client.serving.token("read"), await client.serving.token("send")
    assert (await client.send(token=reader))[0] == 403
    status, body = await client.send(token=sender)
    assert status == 202
    assert (await client.ask("GET", f"/v1/messages/{body['id']}", token=sender))[0] == 403
    assert await queued(rig) == 1


async def test_a_revoked_token_ends_within_seconds(client: Client) -> None:
    token = await client.serving.desk.database.transact(tokens.add, "short")
    assert (await client.send(token=token))[0] == 202
    await client.serving.desk.database.transact(tokens.revoke, "short")

    async def refused() -> bool:
        return (await client.send(token=token))[0] == 401

    await until(refused, 8.0)


async def test_a_message_of_another_token_does_not_exist(client: Client) -> None:
    _, body = await client.send()
    other = await client.serving.token()
    assert (await client.ask("GET", f"/v1/messages/{body['id']}"))[0] == 200
    assert (await client.ask("GET", f"/v1/messages/{body['id']}", token=other))[0] == 404


# ---- what is refused


async def test_an_id_that_names_nothing_is_not_found(client: Client) -> None:
    for number in ("0", "999", "-1", "1.5", "abc", "9" * 30, "%00", "١"):
        assert (await client.ask("GET", f"/v1/messages/{number}"))[0] == 404, number


async def test_a_wrong_way_is_a_problem_too(client: Client) -> None:
    wrong = [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/messages/1", 405),
        ("POST", "/", 404),
    ]
    for method, path, status in wrong:
        found, _, headers = await client.ask(method, path)
        assert (found, "Allow" in headers) == (status, status == 405), path


async def test_what_is_not_json_is_refused(client: Client) -> None:
    for body in (b"", b"{", b"\xff\xfe", b"hello", b'{"to": "+86139", "text": "\\ud800"}', b"nan"):
        assert (await client.send(data=body))[0] == 400, body


WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"to": None}, "to"),
    ({"to": 8613900000001}, "to"),
    ({"to": ""}, "to"),
    ({"text": ""}, "text"),
    ({"text": "x" * 1_531}, "text"),
    ({"text": "a\0b"}, "text"),
    ({"from": "a name that is too long"}, "from"),
    ({"from": "<script>"}, "from"),
    ({"kind": "ussd"}, "kind"),
    ({"kind": 1}, "kind"),
    ({"client_ref": "x" * 65}, "client_ref"),
    ({"client_ref": "a\0b"}, "client_ref"),
    ({"validity_s": 0}, "validity_s"),
    ({"validity_s": 604_801}, "validity_s"),
    ({"validity_s": "60"}, "validity_s"),
    ({"validity_s": 1.5}, "validity_s"),
    ({"validity_s": True}, "validity_s"),
]


async def test_a_wrong_field_is_named(rig: Rig, client: Client) -> None:
    for change, where in WRONG_FIELDS:
        status, body = await client.send(MESSAGE | change)
        assert (status, [error["where"] for error in body["errors"]]) == (422, [where]), change
    assert await queued(rig) == 0


async def test_what_is_no_message_is_refused(client: Client) -> None:
    for body in ([], "text", 7, None, [MESSAGE]):
        assert (await client.send(data=json.dumps(body).encode()))[0] == 422, body


async def test_a_missing_field_is_named(client: Client) -> None:
    status, body = await client.send({"text": "hello"})
    assert (status, body["errors"][0]["where"]) == (422, "to")


async def test_a_number_that_cannot_be_texted_is_refused(rig: Rig, client: Client) -> None:
    for to in ("letters", "+86", "+99999999999", "13900000001 / 13900000002", "+86" + "1" * 16, "()-"):
        status, body = await client.send({"to": to, "text": "hello"})
        assert (status, body["errors"][0]["where"]) == (422, "to"), to
    assert await queued(rig) == 0


async def test_all_wrong_numbers_of_a_batch_are_named_and_none_is_taken(rig: Rig, client: Client) -> None:
    batch = [MESSAGE, {"to": "nobody", "text": "x"}, MESSAGE, {"to": "+1", "text": "x"} | {"to": "+10"}]
    status, body = await client.send({"messages": batch})
    assert status == 422
    assert [error["where"] for error in body["errors"]] == ["messages.1.to", "messages.3.to"]
    assert await queued(rig) == 0


@pytest.mark.parametrize("count", [0, 10_001])
async def test_a_batch_has_one_to_ten_thousand_messages(rig: Rig, client: Client, count: int) -> None:
    status, body = await client.send({"messages": [MESSAGE] * count})
    assert (status, body["errors"][0]["where"]) == (422, "messages")
    assert await queued(rig) == 0


async def test_a_batch_with_a_field_beside_it_is_refused(client: Client) -> None:
    for body in ({"messages": [MESSAGE], "to": LI}, {"to": LI, "messages": [MESSAGE]}):
        assert (await client.send(body))[0] == 422


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    status, body = await client.send(data=io.BytesIO(b" " * (16 * 1024 * 1024 + 1)))
    assert (status, body["title"]) == (413, "Too large")


async def test_a_bad_idempotency_key_is_refused(client: Client) -> None:
    for key in ("x" * 129, "schl\u00fcssel"):
        assert (await client.send(**{"Idempotency-Key": key}))[0] == 400


# ---- what is taken


async def test_one_message_is_queued_with_what_was_asked(rig: Rig, client: Client) -> None:
    status, body = await client.send(
        {"to": "13900000001", "text": "你好", "kind": "otp", "from": "Friends", "client_ref": "r1", "validity_s": 90}
    )
    assert status == 202
    rows = await rig.rows(
        "select id::text, kind, priority, sender, client_ref, number, body, "
        "round(extract(epoch from valid_until - created_at)) from outbox"
    )
    keys = client.serving.desk.keys
    number, text = keys.open_text(b"number", rows[0][5]), keys.open_text(b"text", rows[0][6])
    assert (*rows[0][:5], number, text, int(rows[0][7])) == (body["id"], 0, 0, "Friends", "r1", LI, "你好", 90)


async def test_a_full_batch_is_taken_in_its_order(rig: Rig, client: Client) -> None:
    batch = [{"to": f"+86139{place:08}", "text": "x", "client_ref": str(place)} for place in range(10_000)]
    status, body = await client.send({"messages": batch})
    assert status == 202
    rows = dict(await rig.rows("select id::text, client_ref from outbox"))
    assert [rows[number] for number in body["ids"]] == [str(place) for place in range(10_000)]


async def test_many_requests_at_once_get_each_its_own_id(rig: Rig, client: Client) -> None:
    answers = await asyncio.gather(*[client.send(MESSAGE | {"client_ref": str(place)}) for place in range(60)])
    rows = dict(await rig.rows("select id::text, client_ref from outbox"))
    assert [rows[body["id"]] for _, body in answers] == [str(place) for place in range(60)]


async def test_a_number_that_said_stop_is_taken_and_cancelled(rig: Rig, client: Client) -> None:
    digest = client.serving.desk.keys.number_digest(LI)
    await rig.run("insert into stopped (number_digest) values (%s)", digest)
    _, body = await client.send()
    _, found, _ = await client.ask("GET", f"/v1/messages/{body['id']}")
    assert (found["state"], found["error"]) == ("cancelled", "the number said STOP")


async def test_the_state_of_a_message_goes_from_queued_to_delivered(rig: Rig, network: Simulator) -> None:
    serving = await rig.serve({"port": network.smpp_port})
    async with aiohttp.ClientSession() as http:
        client = Client(serving, http, await serving.token())
        network.set_state(AMINA, "off")
        _, body = await client.send({"to": AMINA, "text": "a long text " * 30, "client_ref": "r1"})
        seen: list[str] = []

        async def reached(state: str) -> bool:
            _, found, _ = await client.ask("GET", f"/v1/messages/{body['id']}")
            seen.append(found["state"])
            return bool(found["state"] == state)

        await until(lambda: reached("sent"))
        network.set_state(AMINA, "on")
        await until(lambda: reached("delivered"))
        assert list(dict.fromkeys(seen)) in (
            ["queued", "claimed", "sent", "delivered"], ["claimed", "sent", "delivered"],
            ["queued", "sent", "delivered"], ["sent", "delivered"],
        )  # fmt: skip
        _, found, _ = await client.ask("GET", f"/v1/messages/{body['id']}")
        assert [(part["number"], part["of"], part["state"]) for part in found["segments"]] == [
            (number, 3, "delivered") for number in (1, 2, 3)
        ]
        assert (found["client_ref"], found["attempts"], found["kind"]) == ("r1", 1, "notice")
        assert words_of(network.handset(AMINA)) == ["a long text " * 30]


# ---- once


async def test_the_same_key_gets_the_same_answer_and_sends_once(rig: Rig, client: Client) -> None:
    first = await client.send(**{"Idempotency-Key": "k1"})
    again = await client.send(**{"Idempotency-Key": "k1"})
    assert first == again
    assert await queued(rig) == 1


async def test_the_same_key_at_the_same_moment_sends_once(rig: Rig, client: Client) -> None:
    answers = await asyncio.gather(*[client.send(**{"Idempotency-Key": "k1"}) for _ in range(8)])
    assert {(status, body["id"]) for status, body in answers} == {(202, answers[0][1]["id"])}
    assert await queued(rig) == 1


async def test_the_same_key_with_another_body_is_refused(rig: Rig, client: Client) -> None:
    await client.send(**{"Idempotency-Key": "k1"})
    assert (await client.send(MESSAGE | {"text": "other"}, **{"Idempotency-Key": "k1"}))[0] == 422
    assert await queued(rig) == 1


async def test_a_key_belongs_to_its_token(rig: Rig, client: Client) -> None:
    other = await client.serving.token()
    first = await client.send(**{"Idempotency-Key": "k1"})
    second = await client.send(token=other, **{"Idempotency-Key": "k1"})
    assert first[1]["id"] != second[1]["id"]
    assert await queued(rig) == 2


# ---- trouble


async def test_without_the_database_a_client_is_told_to_try_again(rig: Rig, client: Client) -> None:
    assert (await client.send())[0] == 202
    async with rig.locked_out():
        for more in ({}, {"Idempotency-Key": "k1"}):
            status, _, headers = await client.ask("POST", "/v1/messages", json_body=MESSAGE, **more)
            assert (status, headers["Retry-After"]) == (503, "2")

    async def taken() -> bool:
        return (await client.send())[0] == 202

    await until(taken)
    assert await queued(rig) == 2


async def test_a_fault_of_ours_is_a_problem_and_no_secret(rig: Rig, client: Client) -> None:
    await rig.run("alter table outbox add constraint a_fault check (client_ref <> 'broken')")
    status, body = await client.send(MESSAGE | {"client_ref": "broken", "text": "secret words"})
    assert status == 500
    assert "secret" not in json.dumps(body)
    assert LI not in json.dumps(body)
    assert (await client.send())[0] == 202


async def test_the_document_is_valid_openapi(client: Client) -> None:
    _, document, _ = await client.ask("GET", "/v1/openapi.json", token=None)
    validate_document(document)


async def test_the_documents_example_is_taken(client: Client) -> None:
    _, document, _ = await client.ask("GET", "/v1/openapi.json", token=None)
    schema = document["components"]["schemas"]["MessageIn"]
    for example in schema["properties"]["to"]["examples"]:
        assert (await client.send({"to": example, "text": "hello"}))[0] == 202


async def test_health_needs_no_token(client: Client) -> None:
    status, body, _ = await client.ask("GET", "/healthz", token=None)
    assert (status, body) == (200, {"status": "alive"})
