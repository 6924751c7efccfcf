"""The whole simulated network in one object: carrier, phones, faults and, where asked for, the page.

async with Simulator() as network:
    phone = network.add_handset("+8613800138000", "A")
    … bind to 127.0.0.1:network.smpp_port as system_id "smsgw" …
    await phone.wait_inbox(lambda item: "welcome" in item.text)
"""

import asyncio
from collections.abc import Sequence
from ssl import SSLContext
from types import TracebackType
from typing import Self

from simulator import frames
from simulator.alphabets import Outgoing
from simulator.carrier import HISTORY_MAX, Account, Carrier
from simulator.events import Events
from simulator.faults import Faults
from simulator.handset import CARD_POLICIES, PROFILES, STATES, Handset, Refused
from simulator.web import Page
from simulator.wire import Wire

HANDSETS_MAX = 200
LABEL_CHARS_MAX = 40


class Simulator:
    """A carrier with its phones; an asynchronous context from listening to closed."""

    def __init__(
        self, *, host: str = "127.0.0.1", smpp_port: int = 0, http_port: int | None = None,
        system_id: str = "smsgw", password: str | None = None, short_code: str = "20880",
        accounts: Sequence[Account] = (), tls: SSLContext | None = None, faults: Faults | None = None,
        deliver_window: int = 50, enquire_link_s: float = 30.0, retry_s: float = 1.0, history_max: int = HISTORY_MAX,
    ) -> None:  # fmt: skip
        self.events = Events()
        self.faults = faults or Faults()
        self.wire = Wire(self.events)
        self.handsets: dict[str, Handset] = {}  # by the number's digits
        self.short_code = short_code
        self.carrier = Carrier(
            [Account(system_id, password, short_code), *accounts], self.handsets, self.faults, self.wire,
            deliver_window=deliver_window, enquire_link_s=enquire_link_s, retry_s=retry_s, history_max=history_max,
        )  # fmt: skip
        self.page = Page(self) if http_port is not None else None
        self._host, self._smpp_port, self._http_port, self._tls = host, smpp_port, http_port, tls
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self._running = asyncio.create_task(self._run(ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((self._running, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._running.done():
            try:
                await self._running
            except ExceptionGroup as group:
                raise group.exceptions[0] from None  # what kept it from starting, such as a port in use
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._running:
            await self._running

    async def _run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self.carrier.start(tasks, self._host, self._smpp_port, self._tls)
            try:
                if self.page:
                    await self.page.start(self._host, self._http_port or 0)
                ready.set()
                await self._stop.wait()
            finally:
                if self.page:
                    await self.page.stop()
                await self.carrier.stop()

    @property
    def smpp_port(self) -> int:
        """Where the gateway binds."""
        return self.carrier.port

    @property
    def http_port(self) -> int:
        """Where the page is; 0 without one."""
        return self.page.port if self.page else 0

    def add_handset(self, msisdn: str, label: str = "", profile: str = "s30plus", cards: str = "yes") -> Handset:
        """Put a phone into the network; raises Refused."""
        digits = _digits(msisdn)
        if digits in self.handsets:
            raise Refused("there is a phone with this number already")
        if len(self.handsets) >= HANDSETS_MAX:
            raise Refused("the simulator holds {most} phones at most", most=HANDSETS_MAX)
        if profile not in PROFILES:
            raise Refused("the profile is one of: {choices}", choices=", ".join(PROFILES))
        if cards not in CARD_POLICIES:
            raise Refused("cards is one of: {choices}", choices=", ".join(CARD_POLICIES))
        if len(label) > LABEL_CHARS_MAX:
            raise Refused("the label has {most} characters at most", most=LABEL_CHARS_MAX)
        phone = Handset("+" + digits, label or "+" + digits, profile, self.events, cards)
        self.handsets[digits] = phone
        self.events.tell("handsets")
        return phone

    def handset(self, msisdn: str) -> Handset:
        """The phone with this number; raises KeyError."""
        return self.handsets[msisdn.removeprefix("+")]

    def send(self, msisdn: str, text: str, to: str | None = None) -> Outgoing:
        """The owner of a phone sends a text, to our short code unless told otherwise; raises Refused."""
        return self.carrier.send_text(self.handset(msisdn), text, to)

    def set_state(self, msisdn: str, state: str) -> None:
        """Switch a phone on or off, or take it out of coverage; raises Refused."""
        if state not in STATES:
            raise Refused("the state is one of: {choices}", choices=", ".join(STATES))
        phone = self.handset(msisdn)
        phone.state = state
        phone.changed()
        if state == "on":
            self.carrier.air.reachable(phone)

    def set_cards(self, msisdn: str, policy: str) -> None:
        """What the owner says to "Save business card?"; raises Refused."""
        if policy not in CARD_POLICIES:
            raise Refused("cards is one of: {choices}", choices=", ".join(CARD_POLICIES))
        phone = self.handset(msisdn)
        phone.card_policy = policy
        phone.changed()

    def empty_inbox(self, msisdn: str) -> None:
        """The owner deletes all messages; what waited for room comes in."""
        phone = self.handset(msisdn)
        phone.empty_inbox()
        self.carrier.air.reachable(phone)

    def set_faults(self, changes: dict[str, object]) -> None:
        """Change the carrier's behaviour; raises BadFault."""
        self.faults.update(changes)
        self.carrier.wake()
        self.events.tell("links")

    def reset_faults(self) -> None:
        """Back to a carrier without faults."""
        self.set_faults(Faults().as_json())

    def deliver(self, one: frames.Deliver, system_id: str | None = None) -> None:
        """Send the gateway any deliver_sm."""
        self.carrier.deliver(system_id or next(iter(self.carrier.accounts)), one)


def _digits(msisdn: str) -> str:
    digits = msisdn.removeprefix("+")
    if not digits.isdigit() or not digits.isascii() or not 3 <= len(digits) <= 15:
        raise Refused("a number has 3 to 15 digits")
    return digits
