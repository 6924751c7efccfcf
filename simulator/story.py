"""The demo's story: what a newcomer should see, done with the simulated phones and checked at them.

    ok <step> <what was seen>          a step is ok only if the phones show it
    FAILED <step> <what was missing>

Each step does what its people would do: texts from one phone, then looks at inboxes and phone books. Where a step needs
more than a phone can show (a receipt, a row in the consent ledger), that is looked at beside it, never instead of it.
"""

import argparse
import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString

import aiohttp
import psycopg

A, B, C, D = "8613900000001", "254712000002", "8613900000003", "8613900000004"
STEP_TIMEOUT_S = 20.0
POLL_S = 0.05
SILENCE_S = 3.0  # how long a phone is watched for what must not come
PUSHES = 20


class NotSeen(Exception):
    """What a step waited for did not show; the message says what."""


class Phones:
    """The simulated phones and faults, by the simulator's API."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def call(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, self._base + path, json=body) as answer:
            if answer.status >= 400:
                raise NotSeen(f"{method} {path}: {await answer.text()}")
            return json.loads(await answer.text() or "null")

    async def text(self, phone: str, words: str) -> int:
        """Send a text from this phone to the service; its segments."""
        sent = await self.call("POST", f"/api/handsets/{phone}/send", {"text": words})
        return int(sent["segments"])

    async def phone(self, phone: str) -> Any:
        return await self.call("GET", f"/api/handsets/{phone}")

    async def texts(self, phone: str) -> list[Any]:
        return [item for item in (await self.phone(phone))["inbox"] if item["kind"] == "text"]

    async def book(self, phone: str) -> list[Any]:
        return list((await self.phone(phone))["phonebook"])

    async def wait_text(self, phone: str, pattern: str, what: str) -> Any:
        """The first text at this phone that matches. Raises NotSeen."""

        async def look() -> Any:
            return next((item for item in await self.texts(phone) if re.search(pattern, item["text"])), None)

        return await wait(look, what)

    async def wait_entry(self, phone: str, name: str, digits: str, what: str) -> Any:
        """The entry of the phone book with this name and number. Raises NotSeen."""

        async def look() -> Any:
            for entry in await self.book(phone):
                numbers = " ".join(re.sub(r"\D", "", number) for number in entry["numbers"])
                if name in entry["name"] and digits in numbers:
                    return entry
            return None

        return await wait(look, what)


async def wait(look: Callable[[], Awaitable[Any]], what: str, timeout_s: float = STEP_TIMEOUT_S) -> Any:
    """What `look` finds, as soon as it finds something. Raises NotSeen."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = await look()
        if found:
            return found
        await asyncio.sleep(POLL_S)
    raise NotSeen(f"{what}: not within {timeout_s:.0f} s")


class Story:
    """The steps, in order; later ones stand on earlier ones."""

    def __init__(self, phones: Phones, session: aiohttp.ClientSession, arguments: argparse.Namespace) -> None:
        self._phones = phones
        self._session = session
        self._gateway = arguments.gateway
        self._token = os.environ["SMSGW_STORY_TOKEN"]
        self._database = os.environ["SMSGW_DATABASE_URL"]
        self.steps: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("spine.add", self.add),
            ("spine.group", self.group),
            ("spine.invite", self.invite),
            ("spine.stop", self.stop),
            ("spine.relink", self.relink),
        ]

    async def add(self) -> str:
        """A joins and saves a friend, in Chinese; the friend stands in A's phone book."""
        phones = self._phones
        await phones.text(A, "START 小红")
        await phones.wait_text(A, "欢迎", "A is welcomed in Chinese")
        before = await self._pushes_delivered()
        began = time.monotonic()
        await phones.text(A, "ADD 张三 13800138000 朋友")
        await phones.wait_text(A, "已保存.*张三", "A's confirmation in Chinese")
        entry = await phones.wait_entry(A, "张三", "13800138000", "张三 in A's phone book")
        seconds = time.monotonic() - began

        async def delivered() -> bool:
            return await self._pushes_delivered() > before

        await wait(delivered, "the push shown as delivered")
        return f"{entry['name']} {entry['numbers'][0]} in A's phone book after {seconds:.2f} s, push delivered"

    async def group(self) -> str:
        """B's name and group need several segments in both directions."""
        phones = self._phones
        name, group = "Wanjikũ wa Ng'ang'a Mũrang'a Kamaũ", "Mũrang'a Road Choir and Savings Circle"
        await phones.text(B, "START Baraka")
        await phones.wait_text(B, "Welcome", "B is welcomed in English")
        segments = await phones.text(B, f"ADD {name} 0712345678 {group}")
        confirmed = await phones.wait_text(B, f"Saved: .*{re.escape(name)}", "B's confirmation")
        await phones.wait_entry(B, "Wanjik", "712345678", "Wanjikũ in B's phone book")
        await phones.call("DELETE", f"/api/handsets/{B}/inbox")
        await phones.text(B, "LIST")
        listed = await phones.wait_text(B, re.escape(name), "the entry by LIST")
        await phones.text(B, "GROUP")
        await phones.wait_text(B, re.escape(group), "the group by GROUP")
        if segments < 2 or confirmed["segments"] < 2:
            raise NotSeen(f"several segments: {segments} up, {confirmed['segments']} down")
        return (
            f"{segments} segments up, {confirmed['segments']} down, LIST in {listed['segments']}, GROUP names {group}"
        )

    async def invite(self) -> str:
        """A invites C, who sees who asks, says yes, and is a member; A is told."""
        phones = self._phones
        await phones.text(A, "INVITE 13900000003")
        await phones.wait_text(A, "13900000003|139 0000 0003", "A sees the words first")
        if await phones.texts(C):
            raise NotSeen("nothing at C before A has confirmed")
        await phones.text(A, "YES")
        invitation = await phones.wait_text(C, "小红", "C's invitation, naming A")
        await phones.text(C, "YES")
        await phones.wait_text(C, "欢迎", "C is welcomed")
        await phones.wait_text(A, "(接受|加入)", "A is told that C accepted")
        await phones.text(C, "ADD 李四 13700137000")
        await phones.wait_entry(C, "李四", "13700137000", "C uses the book as a member")
        rows = await self._consents()
        if rows < 3:
            raise NotSeen(f"consent of A, B and C in the ledger: {rows} rows")
        return f"C read {invitation['text'][:24]!r}…, said YES, is a member; A was told; {rows} rows of consent"

    async def stop(self) -> str:
        """D is invited, says STOP while a text for D is queued, and never hears anything again."""
        phones = self._phones
        await phones.text(A, "INVITE 13900000004")
        await phones.wait_text(A, "13900000004|139 0000 0004", "A sees the words for D")
        await phones.text(A, "YES")
        await phones.wait_text(D, "小红", "D's invitation")
        await phones.call("PUT", "/api/faults", {"throttle_next": 1_000_000})
        try:
            queued = await self._send(D, "This waits in the queue")
            await phones.text(D, "退订")

            async def stopped() -> bool:
                return await self._state(queued) == "cancelled"

            await wait(stopped, "the queued text cancelled")
            heard_before = len(await phones.texts(D))
        finally:
            await phones.call("DELETE", "/api/faults")
        later = await self._send(D, "This comes after STOP")
        await self._send(B, "A control that must arrive")
        await phones.wait_text(B, "A control that must arrive", "the control text at B")
        await phones.text(A, "INVITE 13900000004")
        await asyncio.sleep(SILENCE_S)
        if len(await phones.texts(D)) != heard_before:
            raise NotSeen("silence at D: something came after STOP")
        return f"D heard nothing after STOP: queued text cancelled, later one {await self._state(later)}"

    async def relink(self) -> str:
        """The carrier drops the link in the middle of twenty pushes; all twenty arrive once."""
        phones = self._phones
        cut_before = (await phones.call("GET", "/api/links"))["counters"].get("cuts", 0)
        for number in range(PUSHES):
            await phones.text(C, f"ADD 朋友{number:02} 139111111{number:02}")

        async def all_confirmed() -> bool:
            said = " ".join(item["text"] for item in await phones.texts(C))
            return all(f"朋友{number:02}" in said for number in range(PUSHES))

        # The confirmations come first; the pushes of all edits but the first follow two seconds after the first one.
        await wait(all_confirmed, "twenty confirmations at C")
        await phones.call("PUT", "/api/faults", {"cut_after": 8, "refuse_after_cut_s": 1.5})

        async def all_there() -> bool:
            names = [entry["name"] for entry in await phones.book(C)]
            return all(any(f"朋友{number:02}" in name for name in names) for number in range(PUSHES))

        try:
            await wait(all_there, "twenty entries in C's phone book", 60.0)
        finally:
            links = await phones.call("GET", "/api/links")
            await phones.call("DELETE", "/api/faults")
        cards = [item for item in (await phones.phone(C))["inbox"] if item["kind"] == "card"]
        counts = {
            f"朋友{number:02}": sum(f"朋友{number:02}" in json.dumps(card, ensure_ascii=False) for card in cards)
            for number in range(PUSHES)
        }
        if any(count != 1 for count in counts.values()):
            raise NotSeen(f"each card once: {counts}")
        cuts = links["counters"].get("cuts", 0) - cut_before
        if not cuts:
            raise NotSeen("the cut in the middle")
        return f"{len(counts)} cards arrived once each, link cut {cuts} time(s) on the way"

    # ---- what the phones cannot show

    async def _pushes_delivered(self) -> int:
        return await self._count("select count(*) from push where state = 'delivered'")

    async def _send(self, phone: str, words: str) -> str:
        async with self._session.post(
            self._gateway + "/v1/messages", json={"to": "+" + phone, "text": words}, headers=self._authorised()
        ) as answer:
            return str((await answer.json())["id"])

    async def _state(self, message: str) -> str:
        async with self._session.get(f"{self._gateway}/v1/messages/{message}", headers=self._authorised()) as answer:
            return str((await answer.json())["state"])

    def _authorised(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    async def _consents(self) -> int:
        return await self._count("select count(*) from consent where answer = 'yes'")

    async def _count(self, query: LiteralString) -> int:
        async with await psycopg.AsyncConnection.connect(self._database) as connection:
            row = await (await connection.execute(query)).fetchone()
        return int(row[0]) if row else 0


async def play(arguments: argparse.Namespace) -> bool:
    """Play every step; whether all were seen. After a step that failed the others are still tried."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        story = Story(Phones(session, arguments.simulator), session, arguments)
        fine = True
        for name, step in story.steps:
            try:
                print(f"ok {name} {await step()}", flush=True)
            except (NotSeen, aiohttp.ClientError, TimeoutError, KeyError) as error:
                print(f"FAILED {name} {type(error).__name__}: {error}", flush=True)
                fine = False
    return fine


def main() -> None:
    """Parse the command line and play."""
    parser = argparse.ArgumentParser(prog="python -m simulator.story")
    for name in ("simulator", "gateway"):
        parser.add_argument(f"--{name}", required=True, metavar="URL")
    raise SystemExit(0 if asyncio.run(play(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
