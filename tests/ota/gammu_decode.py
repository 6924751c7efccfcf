"""A program of its own around python-gammu (GPL): parts of a message in, the business card in it out.

One JSON list of TPDUs in hexadecimal a line; one JSON line back: {"name", "number"} or {"error"}.
"""

import json
import sys

import gammu


def decode(tpdus: list[bytes]) -> dict[str, str]:
    """The card, as Gammu would store it in a phone."""
    parts = [gammu.DecodePDU(b"\0" + tpdu, True) for tpdu in tpdus]
    (message,) = gammu.LinkSMS([[part] for part in parts], True)
    text = "".join(part["Text"] if isinstance(part["Text"], str) else part["Text"].decode() for part in message)
    card = gammu.DecodeVCARD(text)
    entries = {entry["Type"]: entry["Value"] for entry in card["Entries"]}
    return {"text": text, "entries": entries, "header": message[0]["UDH"]["Type"]}


for line in sys.stdin:
    try:
        answer = decode([bytes.fromhex(one) for one in json.loads(line)])
    except (gammu.GSMError, ValueError, KeyError, TypeError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, default=str), flush=True)
