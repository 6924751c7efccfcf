"""The page's words: gettext catalogues read from their .po files at the start, English as the source."""

from gettext import NullTranslations
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

LANGUAGES = {"en": "English", "zh": "中文"}
DOMAIN = "simulator"
_LOCALE = Path(__file__).parent / "locale"

# Words that reach the page through a variable; the test of the catalogues reads them here.
SPOKEN = (
    "on", "off", "out of coverage",
    "asked", "saved", "already there", "refused", "phone book full",
    "yes", "ask", "no",
    "receiver", "transmitter", "transceiver",
    "the phone is off", "the phone is out of coverage", "the text is empty",
    "the number to send to has digits only, {most} at most",
    "the text needs {needed} messages; this phone sends {most} at most",
    "there is no such card", "this card was answered already", "there is no such phone",
    "there is a phone with this number already", "the simulator holds {most} phones at most",
    "the label has {most} characters at most", "a number has 3 to 15 digits",
    "the profile is one of: {choices}", "cards is one of: {choices}", "the state is one of: {choices}",
    "not a vCard", "a card without name and number",
    "the user data header is longer than the message or cut off",
    "must be true or false", "must be a number", "must be whole and not negative", "must be 0 to 86400 seconds",
    "as sent", "doubled", "reversed", "last lost", "as it was", "text", "tlv", "both",
)  # fmt: skip

PROFILE_LABELS = {"s30plus": "Series 30+ phone", "text": "Phone for texts only"}

FAULT_LABELS = {
    "answer_delay_s": "Wait before each answer, seconds",
    "receipt_delay_s": "Wait before each receipt, seconds",
    "throttle_next": "Throttle the next so many messages",
    "throttle_per_s": "Messages a second at most; 0: no limit",
    "throttle_status": "Status for throttled messages",
    "submit_status": "Status for every message; 0: accept",
    "refuse_bind": "Status for every bind; 0: accept",
    "drop_answers": "Leave the next so many unanswered",
    "double_answers": "Answer the next so many twice",
    "drop_receipts": "Lose the next so many receipts",
    "double_receipts": "Send the next so many receipts twice",
    "receipt_before_answer": "Receipt before the answer",
    "cut_after": "Cut the link after so many messages",
    "refuse_after_cut_s": "and let nobody in for so many seconds",
    "cut_loses_answers": "The cut loses answers under way",
    "half_open": "Half-open: connections stay, nothing is answered",
    "message_ids": "Message ids",
    "receipt_form": "Receipts carry",
    "receipt_state": "Receipts say",
    "receipt_not_swapped": "Receipts keep source and destination as sent",
    "receipts_on_transmitter": "Receipts on a transmitter bind too",
    "bind_answer_wrong_id": "Binds are answered with the wrong command",
    "mo_parts": "Parts of the phones' texts arrive",
    "handset_parts": "Parts reach the phones",
    "unknown_number_fails": "Numbers without a phone here: not delivered",
}


def catalogues() -> dict[str, NullTranslations]:
    """A translator for each language."""
    return {one: NullTranslations() if one == "en" else _read(one) for one in LANGUAGES}


def _read(language: str) -> Translations:
    compiled = BytesIO()
    with (_LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po").open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled, domain=DOMAIN)


def chosen(asked: str | None, accepted: str) -> str:
    """The page's language: what the address asks for, else the browser's first that we have."""
    if asked in LANGUAGES:
        return asked
    for part in accepted.split(","):
        language = part.split(";")[0].strip().split("-")[0].lower()
        if language in LANGUAGES:
            return language
    return "en"
