"""A basic phone: what it makes of the messages it gets, and the texts that its owner types.

    message → header → parts joined → card port? ── 8-bit, and it knows cards → "Save business card?" → phone book
                                         └───────── no → text → inbox

What a phone does with a card for a name it already has: the same name and number again changes nothing; anything
else is a new entry beside the old one. Phones do not merge, and the sender must live with that.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from simulator import alphabets, cards, frames
from simulator.alphabets import Alphabet
from simulator.events import Events

MO_PARTS_MAX = 10  # keypad phones stop typing at about this many parts
SETS_MAX = 20  # incomplete messages that a phone holds; the oldest goes first
SET_KEPT_S = 24 * 3600.0
SENT_KEPT = 50
IGNORED_KEPT = 50
ADDRESS_CHARS_MAX = 20  # SMPP 3.4, 5.2.9
STATES = ("on", "off", "out of coverage")
CARD_POLICIES = ("yes", "ask", "no")


@dataclass(frozen=True, slots=True)
class Profile:
    """What one family of phones can do."""

    cards: bool  # shows "Save business card?" for vCards on port 9204
    name_chars_max: int
    numbers_max: int  # of one phone-book entry
    phonebook_max: int
    inbox_max: int


PROFILES = {
    # Nokia Series 30+: one number an entry, no groups
    "s30plus": Profile(cards=True, name_chars_max=50, numbers_max=1, phonebook_max=2000, inbox_max=500),
    # a phone that knows texts only: port-addressed octets are dropped without a word
    "text": Profile(cards=False, name_chars_max=20, numbers_max=1, phonebook_max=250, inbox_max=100),
}


class Outcome(Enum):
    """What became of a message at the phone: TAKEN is final; the others let the carrier keep it."""

    TAKEN = "taken"
    ABSENT = "absent"
    FULL = "memory full"


class Refused(ValueError):
    """The phone or its owner cannot do that; `words` are for the person at the page, in English, with {places}."""

    def __init__(self, words: str, **values: object) -> None:
        super().__init__(words.format(**values))
        self.words = words
        self.values = values


@dataclass(frozen=True, slots=True)
class ShortMessage:
    """One message as the carrier hands it to the phone."""

    source: frames.Address
    esm_class: int
    data_coding: int
    user_data: bytes
    tlvs: dict[int, bytes]
    alphabet: Alphabet


@dataclass(slots=True)
class Item:
    """An entry of the inbox."""

    id: int
    sender: str
    text: str
    at: float
    segments: int
    alphabet: str
    kind: str = "text"  # "text" or "card"
    card: cards.Card | None = None
    saved: str = ""  # of a card: asked, saved, already there, refused, phone book full

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        shown = {"id": self.id, "from": self.sender, "text": self.text, "at": self.at, "segments": self.segments}
        shown |= {"alphabet": self.alphabet, "kind": self.kind}
        if self.card:
            shown["card"] = {"name": self.card.name, "numbers": list(self.card.numbers), "saved": self.saved}
        return shown


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in the phone book."""

    name: str
    numbers: tuple[str, ...]
    at: float


@dataclass(slots=True)
class _Set:
    """Parts of one message that came so far."""

    first_at: float
    parts: dict[int, bytes] = field(default_factory=dict)


class Handset:
    """One phone; it decodes what it gets and remembers what its owner would see."""

    def __init__(self, msisdn: str, label: str, profile: str, events: Events, card_policy: str = "yes") -> None:
        self.msisdn = msisdn
        self.label = label
        self.profile = profile
        self.card_policy = card_policy
        self.state = "on"
        self.inbox: list[Item] = []
        self.phonebook: list[Entry] = []
        self.sent: deque[dict[str, Any]] = deque(maxlen=SENT_KEPT)
        self.ignored: deque[dict[str, Any]] = deque(maxlen=IGNORED_KEPT)
        self._sets: dict[tuple[object, ...], _Set] = {}
        self._events = events
        self._ids = 0
        self._references = 0

    @property
    def can(self) -> Profile:
        """The limits of this phone's family."""
        return PROFILES[self.profile]

    def as_json(self) -> dict[str, Any]:
        """Everything its owner sees, for the API."""
        return {
            "msisdn": self.msisdn,
            "label": self.label,
            "profile": self.profile,
            "state": self.state,
            "cards": self.card_policy,
            "inbox": [one.as_json() for one in self.inbox],
            "phonebook": [{"name": one.name, "numbers": list(one.numbers), "at": one.at} for one in self.phonebook],
            "sent": list(self.sent),
            "ignored": list(self.ignored),
        }

    def receive(self, message: ShortMessage) -> Outcome:
        """Take one short message off the air; ABSENT and FULL leave it with the carrier."""
        if self.state != "on":
            return Outcome.ABSENT
        if len(self.inbox) >= self.can.inbox_max:
            return Outcome.FULL
        try:
            header, data = opened(message)
        except alphabets.Unreadable as error:
            self._ignore(message, str(error))
            return Outcome.TAKEN
        whole = self._joined(message, header, data)
        if whole is not None:
            self._show(message, header, *whole)
        return Outcome.TAKEN

    def _joined(self, message: ShortMessage, header: alphabets.Header, data: bytes) -> tuple[bytes, int] | None:
        """The whole user data and its number of short messages, or None while parts are missing."""
        if header.total == 1:
            whole = alphabets.segments_of(len(data), message.alphabet) if _is_payload(message) else 1
            return data, whole
        now = time.monotonic()
        key = (message.source, header.reference, header.total, header.port, message.alphabet)
        for old in [key for key, held in self._sets.items() if now - held.first_at > SET_KEPT_S]:
            del self._sets[old]
        if key not in self._sets and len(self._sets) >= SETS_MAX:
            del self._sets[min(self._sets, key=lambda one: self._sets[one].first_at)]
        held = self._sets.setdefault(key, _Set(now))
        held.parts.setdefault(header.number, data)
        if len(held.parts) < header.total:
            return None
        del self._sets[key]
        return b"".join(held.parts[n] for n in range(1, header.total + 1)), header.total

    def _show(self, message: ShortMessage, header: alphabets.Header, data: bytes, segments: int) -> None:
        """A whole message: to the inbox, or to the card application."""
        octets = message.alphabet is Alphabet.OCTETS
        if octets and header.port == cards.CARD_PORT and self.can.cards:
            self._take_card(message, data, segments)
        elif octets and header.port is not None:
            self._ignore(message, f"no application at port {header.port}")
        else:
            # a card in a text alphabet is shown as the text it is, as real phones do
            self._keep(message, alphabets.read_text(data, message.alphabet, header), segments)

    def _take_card(self, message: ShortMessage, data: bytes, segments: int) -> None:
        limits = self.can
        try:
            card = cards.read_card(data, name_chars_max=limits.name_chars_max, numbers_max=limits.numbers_max)
        except cards.NotACard as error:
            self._ignore(message, str(error))
            return
        item = self._keep(message, " ".join((card.name, *card.numbers)), segments)
        item.kind, item.card, item.saved = "card", card, "asked"
        if self.card_policy != "ask":
            self.answer_card(item.id, save=self.card_policy == "yes")

    def _keep(self, message: ShortMessage, text: str, segments: int) -> Item:
        self._ids += 1
        item = Item(self._ids, message.source.shown, text, time.time(), segments, message.alphabet.value)
        self.inbox.append(item)
        self.changed()
        return item

    def _ignore(self, message: ShortMessage, reason: str) -> None:
        self.ignored.append({"from": message.source.shown, "at": time.time(), "reason": reason})
        self.changed()

    def answer_card(self, item_id: int, *, save: bool) -> str:
        """The owner's yes or no to "Save business card?"; returns what became of the card."""
        item = next((one for one in self.inbox if one.id == item_id and one.card), None)
        if item is None or item.card is None:
            raise Refused("there is no such card")
        if item.saved not in ("asked", "phone book full"):
            raise Refused("this card was answered already")
        item.saved = self._save(item.card) if save else "refused"
        self.changed()
        return item.saved

    def _save(self, card: cards.Card) -> str:
        if any((one.name, one.numbers) == (card.name, card.numbers) for one in self.phonebook):
            return "already there"
        if len(self.phonebook) >= self.can.phonebook_max:
            return "phone book full"
        self.phonebook.append(Entry(card.name, card.numbers, time.time()))
        return "saved"

    def empty_inbox(self) -> None:
        """The owner deletes all messages."""
        self.inbox.clear()
        self.changed()

    def write(self, text: str, to: str) -> alphabets.Outgoing:
        """Put a text of the owner into parts; raises Refused where a phone would not send it."""
        if self.state != "on":
            raise Refused("the phone is off" if self.state == "off" else "the phone is out of coverage")
        if not text:
            raise Refused("the text is empty")
        if not to.removeprefix("+").isdigit() or not to.isascii() or len(to) > ADDRESS_CHARS_MAX:
            raise Refused("the number to send to has digits only, {most} at most", most=ADDRESS_CHARS_MAX)
        self._references = self._references % 0xFF + 1
        outgoing = alphabets.write_text(text, self._references)
        if len(outgoing.parts) > MO_PARTS_MAX:
            needed = len(outgoing.parts)
            raise Refused(
                "the text needs {needed} messages; this phone sends {most} at most", needed=needed, most=MO_PARTS_MAX
            )
        record = {"to": to, "text": text, "at": time.time(), "segments": len(outgoing.parts)}
        self.sent.append(record | {"alphabet": outgoing.alphabet.value})
        self.changed()
        return outgoing

    def changed(self) -> None:
        """Tell those who watch this phone."""
        self._events.tell(f"handset:{self.msisdn}")

    async def wait_inbox(self, predicate: Callable[[Item], bool], timeout_s: float = 5.0) -> Item:
        """The first inbox entry for which `predicate(entry)` holds; raises TimeoutError."""
        return await self._events.until(lambda: next((m for m in self.inbox if predicate(m)), None), timeout_s)

    async def wait_phonebook(self, predicate: Callable[[Entry], bool], timeout_s: float = 5.0) -> Entry:
        """The first phone-book entry for which `predicate(entry)` holds; raises TimeoutError."""
        return await self._events.until(lambda: next((e for e in self.phonebook if predicate(e)), None), timeout_s)


def _is_payload(message: ShortMessage) -> bool:
    return frames.MESSAGE_PAYLOAD in message.tlvs


def opened(message: ShortMessage) -> tuple[alphabets.Header, bytes]:
    """The header, from the user data or from the optional parameters that stand for it, and what follows it."""
    if message.esm_class & 0x40:  # SMPP 3.4, 5.2.12: UDHI
        header = alphabets.read_header(message.user_data)
        return header, message.user_data[header.octets :]
    tlvs = message.tlvs
    port = tlvs.get(frames.DESTINATION_PORT)
    reference, total, number = (
        int.from_bytes(tlvs[tag], "big") if tag in tlvs else None
        for tag in (frames.SAR_MSG_REF_NUM, frames.SAR_TOTAL_SEGMENTS, frames.SAR_SEGMENT_SEQNUM)
    )
    header = alphabets.Header(port=int.from_bytes(port, "big") if port else None)
    if reference is not None and total and number is not None:
        if not 1 <= number <= total:
            raise alphabets.Unreadable(f"part {number} of {total}")
        header = alphabets.Header(("sar", reference), total, number, header.port)
    return header, message.user_data
