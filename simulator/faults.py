"""What goes wrong on purpose: the carrier's faults, settable while it runs, in and out as JSON.

A count ("the next n …") goes down by one each time it strikes, so a fault can be set once and ends by itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SECONDS_MAX = 86_400.0  # no fault waits longer than a day
COUNT_MAX = 1_000_000_000

ID_FORMS = ("decimal", "hex", "hex response, decimal receipt", "zero padded upper", "uuid", "useless")
RECEIPT_FORMS = ("text", "tlv", "both")
PART_FAULTS = ("as sent", "doubled", "reversed", "last lost")
RECEIPT_STATES = ("as it was", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD")


class BadFault(ValueError):
    """A fault that cannot be set; `problems` maps the field to the reason."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in problems.items()))
        self.problems = dict(problems)


def _one_of(*choices: str) -> Any:
    return field(default=choices[0], metadata={"choices": choices})


@dataclass
class Faults:
    """The carrier's present behaviour; the defaults are a carrier without faults."""

    answer_delay_s: float = 0.0
    receipt_delay_s: float = 0.0
    throttle_next: int = 0  # so many submit_sm get throttle_status
    throttle_per_s: int = 0  # more submit_sm than this in a second get throttle_status; 0: no limit
    throttle_status: int = 0x58  # SMPP 3.4, 5.1.3: ESME_RTHROTTLED; 0x14 is a full queue
    submit_status: int = 0  # every submit_sm gets this status
    refuse_bind: int = 0  # every bind gets this status
    drop_answers: int = 0  # so many submit_sm are accepted and never answered
    double_answers: int = 0
    drop_receipts: int = 0
    double_receipts: int = 0
    receipt_before_answer: bool = False
    cut_after: int = 0  # after so many accepted submit_sm the TCP connections end
    refuse_after_cut_s: float = 0.0  # and so long nobody gets in again
    cut_loses_answers: bool = False  # the cut is a reset: answers on their way are lost
    half_open: bool = False  # connections stay, nothing is answered or sent
    message_ids: str = _one_of(*ID_FORMS)
    receipt_form: str = field(default="both", metadata={"choices": RECEIPT_FORMS})
    receipt_state: str = _one_of(*RECEIPT_STATES)
    receipt_not_swapped: bool = False  # source and destination stand as in the submit_sm
    receipts_on_transmitter: bool = False
    bind_answer_wrong_id: bool = False  # a bind is answered with another bind's response
    mo_parts: str = _one_of(*PART_FAULTS)
    handset_parts: str = _one_of(*PART_FAULTS)
    unknown_number_fails: bool = False  # numbers without a handset: UNDELIV instead of DELIVRD

    def as_json(self) -> dict[str, Any]:
        """Every fault by its name."""
        return asdict(self)

    def update(self, changes: Mapping[str, object]) -> None:
        """Set the faults that are named; raises BadFault and changes nothing where one is wrong."""
        known = {one.name: one for one in fields(self)}
        problems: dict[str, str] = {}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                problems[name] = "no such fault"
                continue
            choices = known[name].metadata.get("choices")
            try:
                values[name] = _checked(type(getattr(self, name)), choices, value)
            except ValueError as error:
                problems[name] = str(error)
        if problems:
            raise BadFault(problems)
        for name, value in values.items():
            setattr(self, name, value)

    def strikes(self, name: str) -> bool:
        """True when the counted fault `name` still has a stroke left; takes it."""
        left: int = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True


def _checked(kind: type, choices: tuple[str, ...] | None, value: object) -> bool | int | float | str:
    """The value in the field's own type, or ValueError in words for the person who set it."""
    if choices is not None:
        if value not in choices:
            raise ValueError("must be one of: " + ", ".join(choices))
        return str(value)
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")  # noqa: TRY004 - BadFault gathers ValueErrors; a person reads it
    if kind is int:
        if not 0 <= value <= COUNT_MAX or value != int(value):
            raise ValueError("must be whole and not negative")
        return int(value)
    if not 0 <= value <= SECONDS_MAX:
        raise ValueError("must be 0 to 86400 seconds")
    return float(value)
