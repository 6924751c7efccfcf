"""What changed in a book and what the handset takes -> the messages that bring it up to date.

    "card"   one business card for each contact that is new or shown differently, and one summary text of what a card
             cannot do: entries that are to be deleted, those among them whose name or number changed
    "text"   texts alone

Pure: nothing is asked of the database, and the plan's cost is known before anything is sent.
"""

from collections.abc import Sequence

from addressbook.outbox import Encoding
from addressbook.pushes import Change, Message, Plan, Recipient
from smsgw.dialogue import texts as catalogue
from smsgw.ota import text, vcard


def plan(recipient: Recipient, changes: Sequence[Change]) -> Plan:
    """The messages for this handset. A change that it would not show has none."""
    if recipient.handset == "card":
        messages = [message for change in changes if (message := _card(change)) is not None]
        gone = [
            text.deletion(change.contact_id, change.before, recipient.region)
            for change in changes
            if change.before is not None and _leaves_an_old_entry(change)
        ]
        told = {change.contact_id for change in changes if change.after is None}
        messages += _texts(recipient, gone, told)
    else:
        translate = catalogue().translate(recipient.language)
        lines = [text.line(change, recipient.region, translate) for change in changes]
        messages = _texts(recipient, lines, {change.contact_id for change in changes})
    return Plan(tuple(messages))


def _card(change: Change) -> Message | None:
    if change.after is None:
        return None
    card = vcard.card(change.after.name, change.after.number, change.after.groups)
    before = change.before
    if before is not None and vcard.card(before.name, before.number, before.groups).data == card.data:
        return None
    body = bytes((len(card.elements),)) + card.elements + card.data
    return Message(Encoding.BINARY, body, (change.contact_id,), card.parts)


def _leaves_an_old_entry(change: Change) -> bool:
    """Phones keep a card beside the entry that it replaces. Where only the group before the name differs, that does
    no harm; an old number does."""
    before, after = change.before, change.after
    assert before is not None
    return after is None or (before.name, before.number) != (after.name, after.number)


def _texts(recipient: Recipient, lines: Sequence[text.Line], carried: set[int]) -> list[Message]:
    """carried: the contacts whose change these texts are the bearer of."""
    if not lines:
        return []
    translate = catalogue().translate(recipient.language)
    return [
        Message(
            Encoding.TEXT, one.words.encode(), tuple(each for each in one.contact_ids if each in carried), one.segments
        )
        for one in text.texts(lines, translate)
    ]
