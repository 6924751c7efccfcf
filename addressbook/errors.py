"""Refusals: what a person asked for and cannot have. Not faults; they carry the reply's words.

The words are English with named fields; they are the message ids of the catalogue `texts`, and
whoever answers the person translates them: `refused.render(translate)`.
"""

from collections.abc import Callable, Mapping


class Refused(Exception):
    """The person's request cannot be done as it stands; nothing was changed. Never retried, never a stack trace."""

    def __init__(self, words: str, **fields: object) -> None:
        super().__init__(words)
        self.words = words
        self.fields: Mapping[str, object] = fields

    def render(self, translate: Callable[[str], str] = str) -> str:
        return translate(self.words).format(**self.fields)


class Conflict(Refused):
    """Somebody else changed the thing since the version that the person saw."""


class NotFound(Refused):
    """There is no such thing in this person's book."""
