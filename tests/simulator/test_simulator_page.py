"""The page in a real browser, the API over real HTTP, and the command as a process."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from esme import BareSocket, Esme
from playwright.async_api import Browser, async_playwright

import simulator
from simulator import Simulator, words

ZHANG = "+8613800138000"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
Gateways = Callable[..., Awaitable[Esme]]


@pytest.fixture
async def network() -> AsyncIterator[Simulator]:
    """Carrier, two phones and the page."""
    async with Simulator(password="secret", http_port=0) as one:
        one.add_handset(ZHANG, "张三")
        one.add_handset("+254712345678", "Wanjiru", cards="ask")
        yield one


@pytest.fixture
async def http(network: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the page."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{network.http_port}") as session:
        yield session


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield one
        await one.close()


def card(name: str, number: str) -> bytes:
    lines = ("BEGIN:VCARD", "VERSION:2.1", f"N;CHARSET=UTF-8:{name}", f"TEL:{number}", "END:VCARD")
    return bytes.fromhex("06050423f40000") + "\r\n".join(lines).encode()


# -- the API --------------------------------------------------------------------------------------------------------

PHONE = f"/api/handsets/{ZHANG}"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/nothing", None, 404),
        ("DELETE", "/api/handsets", None, 405),
        ("GET", "/api/handsets/+1", None, 404),
        ("POST", "/api/handsets/+1/send", "{}", 404),
        ("POST", "/api/handsets", "not json", 400),
        ("POST", "/api/handsets", "\udcff", 400),
        ("POST", "/api/handsets", "[]", 400),
        ("POST", "/api/handsets", "{}", 422),
        ("POST", "/api/handsets", '{"msisdn": 5}', 422),
        ("POST", "/api/handsets", '{"msisdn": "+4912345", "colour": "red"}', 422),
        ("POST", "/api/handsets", f'{{"msisdn": "{ZHANG}"}}', 422),
        ("POST", "/api/handsets", '{"msisdn": "+4912345", "profile": "smart"}', 422),
        ("POST", PHONE + "/send", '{"text": ""}', 422),
        ("POST", PHONE + "/send", json.dumps({"text": "x" * 5000}), 422),
        ("POST", PHONE + "/send", json.dumps({"text": "x" * 70_000}), 413),
        ("POST", PHONE + "/state", '{"state": "broken"}', 422),
        ("POST", PHONE + "/cards", '{"id": 1, "save": true}', 422),
        ("PUT", PHONE + "/cards", '{"cards": "maybe"}', 422),
        ("PUT", "/api/faults", '{"half_open": "yes"}', 422),
        ("PUT", "/api/faults", '{"answer_delay_s": NaN}', 422),
        ("PUT", "/api/faults", '{"unheard_of": 1}', 422),
        ("POST", "/api/link/cut", '{"refuse_s": -1}', 422),
        ("POST", "/api/link/cut", '{"refuse_s": true}', 422),
        ("POST", "/api/link/outbind", '{"host": "192.0.2.1", "port": 2775}', 422),
        ("POST", "/api/link/outbind", '{"host": "example.org", "port": 2775}', 422),
        ("POST", "/api/link/outbind", '{"port": 1}', 502),
        ("GET", "/api/wire?limit=-1", None, 422),
        ("GET", "/api/messages?after=x", None, 422),
    ],
)
async def test_a_wrong_request_gets_a_problem(
    http: aiohttp.ClientSession, network: Simulator, method: str, path: str, body: str | None, status: int
) -> None:
    before = network.faults.as_json()
    data = body.encode("utf-8", "surrogateescape") if body is not None else None
    async with http.request(method, path, data=data) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["status"] == status
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert network.faults.as_json() == before
    assert len(network.handsets) == 2


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://example.org"},
     {"Origin": "null"}],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/link/cut", "/cut", "/faults", PHONE + "/send"])
async def test_other_sites_press_no_buttons(
    http: aiohttp.ClientSession, network: Simulator, headers: dict[str, str], path: str
) -> None:
    async with http.post(path, headers=headers) as answer:
        assert answer.status == 403
    assert network.carrier.counters.cuts == 0


async def test_our_own_page_may_press_them(http: aiohttp.ClientSession, network: Simulator) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": f"http://127.0.0.1:{network.http_port}"}, {}):
        async with http.post("/api/link/cut", headers=headers) as answer:
            assert answer.status == 200
    assert network.carrier.counters.cuts == 3


async def test_the_story_can_be_told_over_the_api(http: aiohttp.ClientSession, network: Simulator) -> None:
    async with http.post("/api/handsets", json={"msisdn": "+4915112345678", "label": "C", "profile": "text"}) as answer:
        assert answer.status == 201
    async with http.post("/api/handsets/+4915112345678/send", json={"text": "YES"}) as answer:
        assert (answer.status, await answer.json()) == (202, {"segments": 1, "alphabet": "GSM 7-bit"})
    esme = Esme(network.smpp_port)
    await asyncio.to_thread(esme.bind)
    assert (await esme.delivered())[0].short_message == b"YES"
    last = await esme.submit(ZHANG[1:], card("朋友/张三", "+8613800138000"), esm_class=0x40, data_coding=4)
    await esme.answer_to(last)
    async with http.get(PHONE) as answer:
        phone = await answer.json()
    assert [(one["name"], one["numbers"]) for one in phone["phonebook"]] == [("朋友/张三", ["+8613800138000"])]
    assert phone["inbox"][0]["card"] == {"name": "朋友/张三", "numbers": ["+8613800138000"], "saved": "saved"}
    assert {"msisdn", "label", "profile", "state", "inbox", "phonebook", "sent", "cards", "ignored"} == set(phone)
    async with http.get("/api/handsets") as answer:
        assert [one["label"] for one in (await answer.json())["handsets"]] == ["张三", "Wanjiru", "C"]
    async with http.get("/api/links") as answer:
        links = await answer.json()
    assert [(one["system_id"], one["bind_type"], one["submits"]) for one in links["links"]] == [
        ("smsgw", "transceiver", 1)
    ]
    assert links["counters"]["accepted"] == 1
    async with http.get("/api/messages", params={"to": ZHANG}) as answer:
        (message,) = (await answer.json())["messages"]
    assert (message["to"], message["state"], message["esm_class"]) == (ZHANG, "DELIVRD", 0x40)
    async with http.get("/api/wire?limit=50") as answer:
        wire = (await answer.json())["wire"]
    submit = next(one for one in wire if one["name"] == "submit_sm")
    assert ["user data header", "port 9204"] in submit["fields"]
    assert "secret" not in json.dumps([one["fields"] for one in wire])
    await asyncio.to_thread(esme.close)


async def test_faults_states_and_inboxes_are_set_over_the_api(http: aiohttp.ClientSession, network: Simulator) -> None:
    async with http.put("/api/faults", json={"throttle_next": 3, "message_ids": "hex"}) as answer:
        assert (await answer.json())["throttle_next"] == 3
    assert (network.faults.throttle_next, network.faults.message_ids) == (3, "hex")
    async with http.delete("/api/faults") as answer:
        assert (await answer.json())["throttle_next"] == 0
    async with http.post(PHONE + "/state", json={"state": "off"}) as answer:
        assert (await answer.json())["state"] == "off"
    async with http.put(PHONE + "/cards", json={"cards": "ask"}) as answer:
        assert (await answer.json())["cards"] == "ask"
    async with http.delete(PHONE + "/inbox") as answer:
        assert answer.status == 204


async def test_a_watcher_hears_what_changed(http: aiohttp.ClientSession, network: Simulator) -> None:
    async with http.get("/api/events") as answer:
        assert answer.content_type == "text/event-stream"
        await answer.content.readuntil(b"\n\n")  # the retry time: from here on everything is heard
        network.send(ZHANG, "hello")
        async with asyncio.timeout(5):
            said = await answer.content.readuntil(b"\n\n")
    assert json.loads(said.split(b"data: ")[1]) == [f"handset:{ZHANG}"]


async def test_health_readiness_and_metrics_tell_the_truth(http: aiohttp.ClientSession, network: Simulator) -> None:
    async with http.get("/healthz") as answer:
        assert answer.status == 200
    async with http.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["ready"]) == (200, True)
    network.carrier.cut(60)
    network.send(ZHANG, "hello")
    async with http.get("/readyz") as answer:
        assert answer.status == 503
        assert "cut" in (await answer.json())["reasons"][0]
    async with http.get("/metrics") as answer:
        text = await answer.text()
    assert "simulator_mo_total 1.0" in text
    assert 'simulator_owed{system_id="smsgw"} 1.0' in text


# -- the page without a browser's help ------------------------------------------------------------------------------


async def test_every_answer_carries_the_policy_with_a_fresh_nonce(http: aiohttp.ClientSession) -> None:
    policies = set()
    for path in ("/", "/?lang=zh", "/nowhere", "/static/page.css"):
        async with http.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"] == "simulator"
            body = await answer.text()
        policies.add(policy)
        assert "unsafe" not in policy
        for part in ("default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy
        for nonce in re.findall(r'nonce="([^"]+)"', body):
            assert f"script-src 'nonce-{nonce}'" in policy
    assert len(policies) == 4


async def test_forms_work_without_a_script(http: aiohttp.ClientSession, network: Simulator) -> None:
    async with http.post(f"/phones/{ZHANG}/send?lang=zh", data={"to": "20880", "text": "ADD\r\nx"}) as answer:
        assert (answer.status, answer.url.path_qs) == (200, "/?lang=zh")
    assert network.handset(ZHANG).sent[-1]["text"] == "ADD\nx"
    await http.post("/phones", data={"msisdn": "+4915112345678", "label": "C", "profile": "text"})
    await http.post("/phones/+4915112345678/state", data={"state": "off"})
    await http.post("/phones/+4915112345678/policy", data={"cards": "no"})
    assert (network.handset("+4915112345678").state, network.handset("+4915112345678").card_policy) == ("off", "no")
    await http.post("/faults", data=form(network) | {"throttle_next": "7", "refuse_bind": "0x0D", "half_open": "on"})
    assert (network.faults.throttle_next, network.faults.refuse_bind, network.faults.half_open) == (7, 13, True)
    await http.post("/faults/reset")
    assert network.faults.throttle_next == 0
    await http.post("/cut", data={"refuse_s": "1"})
    assert network.carrier.counters.cuts == 1


def form(network: Simulator) -> dict[str, str]:
    """The faults as a browser would post them."""
    shown = network.faults.as_json()
    return {name: str(value) for name, value in shown.items() if not isinstance(value, bool)}


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        (f"/phones/{ZHANG}/send?lang=zh", {"to": "20880", "text": ""}, "短信是空的"),
        (f"/phones/{ZHANG}/send?lang=zh", {"to": "20880", "text": "x" * 5000}, "需要 33 条"),
        (f"/phones/{ZHANG}/send", {"to": "x", "text": "hi"}, "digits only, 20 at most"),
        (f"/phones/{ZHANG}/card", {"id": "99", "save": "yes"}, "no such card"),
        ("/phones", {"msisdn": "12"}, "3 to 15 digits"),
        ("/faults?lang=zh", {"throttle_next": "many"}, "对接下来这么多条短信限流: 必须是数字"),
        ("/cut", {"refuse_s": "-1"}, "must be a number"),
    ],
)
async def test_a_refusal_is_said_on_the_page_in_its_language(
    http: aiohttp.ClientSession, path: str, data: dict[str, str], said: str
) -> None:
    async with http.post(path, data=data) as answer:
        assert answer.status == 422
        assert said in await answer.text()


async def test_a_phone_that_is_not_there_is_not_found(http: aiohttp.ClientSession) -> None:
    for path in ("/phones/+1/send", "/phones/+1/empty"):
        async with http.post(path) as answer:
            assert answer.status == 404


async def test_names_and_texts_are_escaped_and_isolated(http: aiohttp.ClientSession, network: Simulator) -> None:
    network.add_handset("+4915112345678", "<script>alert(1)</script>")
    network.send("+4915112345678", "<b>\u202eevil")
    async with http.get("/") as answer:
        body = await answer.text()
    assert "<script>alert" not in body
    assert "<bdi>&lt;b&gt;\u202eevil</bdi>" in body


@pytest.mark.parametrize(
    ("accepted", "title"), [("zh-CN,en;q=0.5", "模拟手机"), ("fr,en", "Simulated phones"), ("", "Simulated")]
)
async def test_the_browsers_language_is_spoken(http: aiohttp.ClientSession, accepted: str, title: str) -> None:
    async with http.get("/", headers={"Accept-Language": accepted}) as answer:
        assert title in await answer.text()


def test_every_word_of_the_page_is_translated_and_no_other() -> None:
    folder = Path(simulator.__file__).parent
    found = extract_from_dir(folder / "templates", [("**.html", "jinja2")], {"**.html": {"newstyle_gettext": "true"}})
    needed = {one[2] for one in found}
    needed |= {*words.SPOKEN, *words.FAULT_LABELS.values(), *words.PROFILE_LABELS.values()}
    with (folder / "locale/zh/LC_MESSAGES/simulator.po").open("rb") as source:
        catalogue = {one.id: one for one in read_po(source) if one.id}
    assert set(catalogue) == needed
    for one in catalogue.values():
        strings = one.string if isinstance(one.string, tuple) else (one.string,)
        assert all(strings), one.id
        plain = one.id[1] if isinstance(one.id, tuple) else one.id
        assert all(
            sorted(re.findall(r"%\(\w+\)s|{\w+}", text)) == sorted(re.findall(r"%\(\w+\)s|{\w+}", plain))
            for text in strings
        )


# -- the page in a browser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "scheme", "language"), [(320, "light", "en"), (320, "dark", "zh"), (1440, "light", "zh")]
)
async def test_the_page_fits_its_window(
    network: Simulator, browser: Browser, width: int, scheme: str, language: str
) -> None:
    network.send(ZHANG, "长" * 200 + "W" * 100)
    page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    await page.goto(f"http://127.0.0.1:{network.http_port}/?lang={language}")
    # In one go: the page follows the wire and replaces what was found a moment ago.
    opened = """() => { for (const one of document.querySelectorAll("main > section details")) one.open = true;
                       return document.documentElement.scrollWidth }"""
    assert await page.evaluate(opened) <= width


async def test_a_text_and_a_card_appear_while_one_looks(network: Simulator, browser: Browser) -> None:
    said: list[str] = []
    page = await browser.new_page()
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda one: said.append(str(one)))
    await page.goto(f"http://127.0.0.1:{network.http_port}/?lang=en")
    await page.get_by_text("Live: the page follows").wait_for()
    esme = Esme(network.smpp_port)
    await asyncio.to_thread(esme.bind)
    await page.get_by_role("rowheader", name="smsgw").wait_for()
    wanjiru = page.get_by_role("article", name="Wanjiru")
    await wanjiru.get_by_label("Text").fill("HELP")
    await wanjiru.get_by_role("button", name="Send").click()
    assert (await esme.delivered())[0].short_message == b"HELP"
    assert await wanjiru.get_by_label("Text").input_value() == ""
    await wanjiru.get_by_text("Names", exact=True).click()
    await esme.submit("254712345678", card("球队/李四", "+8613900139000"), esm_class=0x40, data_coding=4)
    await wanjiru.locator(".latest").get_by_text("球队/李四").wait_for()
    assert await wanjiru.get_by_role("radio", name="Names").is_checked()
    await wanjiru.get_by_text("Inbox", exact=True).click()
    await wanjiru.get_by_role("button", name="Yes").click()
    await wanjiru.get_by_text("Names", exact=True).click()
    await wanjiru.locator(".names").get_by_text("球队/李四").wait_for()
    await page.locator("#wire summary", has_text="submit_sm").filter(has_not_text="resp").first.click()
    await page.locator("#wire dd", has_text="port 9204").wait_for()
    assert said == []
    await asyncio.to_thread(esme.close)


async def test_a_refusal_is_said_beside_the_form(network: Simulator, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{network.http_port}/?lang=en")
    await page.get_by_text("Live: the page follows").wait_for()
    network.set_state(ZHANG, "off")
    zhang = page.get_by_role("article", name="张三")
    await zhang.get_by_label("Text").fill("hello")
    await zhang.get_by_role("button", name="Send").click()
    await zhang.get_by_text("the phone is off").wait_for()
    assert await zhang.get_by_label("Text").input_value() == "hello"


async def test_the_keyboard_alone_is_enough(network: Simulator, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{network.http_port}/?lang=en")
    await page.get_by_text("Live: the page follows").wait_for()
    zhang = page.get_by_role("article", name="张三")
    await zhang.get_by_role("radio", name="Inbox").focus()
    await page.keyboard.press("ArrowRight")
    assert await zhang.locator(".names").is_visible()
    assert not await zhang.locator(".inbox").is_visible()
    await zhang.get_by_label("Text").focus()
    await page.keyboard.type("LIST")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    async with asyncio.timeout(5):
        await network.events.until(lambda: network.handset(ZHANG).sent, 5)
    assert network.handset(ZHANG).sent[-1]["text"] == "LIST"


async def test_the_page_works_with_scripts_off(network: Simulator, browser: Browser) -> None:
    page = await browser.new_page(java_script_enabled=False)
    await page.goto(f"http://127.0.0.1:{network.http_port}/?lang=en")
    zhang = page.get_by_role("article", name="张三")
    await zhang.get_by_label("Text").fill("HELP")
    await zhang.get_by_role("button", name="Send").click()
    await zhang.get_by_text("Sent", exact=True).click()
    await zhang.locator(".sent").get_by_text("HELP").wait_for()
    assert await page.get_by_role("link", name="Show what is new").is_visible()


# -- the command ----------------------------------------------------------------------------------------------------


async def test_the_command_says_its_ports_serves_and_stops_cleanly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", "--smpp-port", "0", "--http-port", "0", "--password", "secret",
        "--handset", f"{ZHANG}:张三:s30plus", "--handset", "+254712345678",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout
        async with asyncio.timeout(20):
            ports = json.loads(await process.stdout.readline())
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{ports['http']}") as http,
            http.get("/api/handsets") as answer,
        ):
            assert [one["label"] for one in (await answer.json())["handsets"]] == ["张三", "+254712345678"]
        link = await BareSocket.connect(ports["smpp"])
        await link.bind()
        process.send_signal(signal.SIGTERM)
        command_id, _, sequence, _ = await link.read()
        assert command_id == 0x06
        link.pdu(0x80000006, sequence=sequence)
        async with asyncio.timeout(10):
            rest, errors = await process.communicate()
        await link.close()
        assert (process.returncode, rest) == (0, b"")
        assert b"Traceback" not in errors
        assert ZHANG.encode() not in errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--handset", "hello"], "simulator: a number has"),
        (["--handset", "+4912345:x:smart"], "simulator: the profile is"),
        (["--http-port", "99999"], "a port is 0 to 65535"),
        (["--password-file", "/nowhere"], "simulator: [Errno 2]"),
    ],
)
async def test_a_wrong_command_line_is_one_clear_line(wrong: list[str], said: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", "--smpp-port", "0", "--http-port", "0", *wrong,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode in (1, 2)
    assert said in errors.decode().splitlines()[-1]
    assert b"Traceback" not in errors
