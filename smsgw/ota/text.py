"""What changed in a book, as texts that a person reads and saves by hand.

    2/3 To save:                       each text is one SMS that stands alone: a phone that loses one loses no
    Zhang San 13800138000 Work         contact of another; no contact is split; numbered when there are several
    To delete:
    Li Si 13900139000

One kind of change after the other. Where it saves texts, lines that need UCS-2 stand apart from those that do not.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from addressbook.numbers import display
from addressbook.pushes import Change, Content
from smsgw import gsm7
from smsgw.carriers import LinkProfile
from smsgw.sms_text import count

LINK = LinkProfile()  # one SMS of this is one SMS on every link that carries its characters
CUT = ".."  # in every alphabet

Translate = Callable[[str], str]

_ = str  # marks words for the catalogue

SAVE = _("To save:")
CHANGED = _("Changed:")
GROUPS = _("Groups:")
DELETE = _("To delete:")
_ORDER = (SAVE, CHANGED, GROUPS, DELETE)


class Line(NamedTuple):
    """One contact's line, its parts apart so that a long one can be cut where it hurts least."""

    label: str  # one of the four above
    contact_id: int
    name: str
    number: str  # as it is dialled; stands whole
    more: str = ""  # groups, what it was before

    def shapes(self) -> Iterator[str]:
        """The line whole, then with less and less of the rest, then with less and less of the name."""
        words = " ".join(filter(None, (self.name, self.number)))
        yield f"{words} {self.more}".rstrip()
        for length in range(len(self.more) - 1, -1, -1):
            yield f"{words} {self.more[:length].rstrip()}{CUT}"
        for length in range(len(self.name) - 1, 0, -1):
            yield f"{self.name[:length]}{CUT} {self.number}"


class Text(NamedTuple):
    words: str
    contact_ids: tuple[int, ...]
    segments: int


def line(change: Change, region: str, translate: Translate) -> Line:
    """A change in words, numbers as a person of the region dials them."""
    before, after = change.before, change.after
    if after is None:
        assert before is not None
        return deletion(change.contact_id, before, region)
    number, groups = display(after.number, region), ",".join(after.groups)
    if before is None:
        return Line(SAVE, change.contact_id, after.name, number, groups)
    if (before.name, before.number) == (after.name, after.number):
        return Line(GROUPS, change.contact_id, after.name, "", groups or translate(_("in no group now")))
    old = [before.name] if before.name != after.name else []
    old += [display(before.number, region)] if before.number != after.number else []
    was = translate(_("(was {old})")).format(old=" ".join(old))
    return Line(CHANGED, change.contact_id, after.name, number, f"{was} {groups}".rstrip())


def deletion(contact_id: int, content: Content, region: str) -> Line:
    """An entry that the owner is to delete by hand."""
    return Line(DELETE, contact_id, content.name, display(content.number, region))


def texts(lines: Sequence[Line], translate: Translate) -> list[Text]:
    """As few texts as these lines take, each of one SMS."""
    by_kind = sorted(lines, key=lambda one: _ORDER.index(one.label))
    best = _pack(by_kind, translate)
    if len(best) > 1:
        apart = _pack(sorted(by_kind, key=lambda one: gsm7.encode(one.name + one.more) is None), translate)
        best = min(best, apart, key=len)
    if len(best) == 1:
        return [Text(best[0].words, tuple(best[0].contact_ids), segments(best[0].words))]
    return [
        Text(words := f"{place}/{len(best)} {page.words}", tuple(page.contact_ids), segments(words))
        for place, page in enumerate(best, 1)
    ]


def segments(words: str) -> int:
    return count(words, LINK).segments


class _Page:
    """A text while it is filled."""

    def __init__(self, room: str) -> None:
        self.room = room  # stands for the number that goes before the words
        self.words = ""
        self.label = ""
        self.contact_ids: list[int] = []

    def take(self, one: Line, shape: str, label: str) -> bool:
        """Put a line on the page if it still fits."""
        head = "" if one.label == self.label else f"{label}\n"
        words = f"{self.words}\n{head}{shape}" if self.words else f"{head}{shape}"
        if segments(self.room + words) > 1 and self.words:
            return False
        self.words, self.label = words, one.label
        self.contact_ids.append(one.contact_id)
        return True


def _pack(lines: Sequence[Line], translate: Translate) -> list[_Page]:
    """Fill pages in the order of the lines; room for the numbering is kept once it is known to be needed."""
    pages = _filled(lines, translate, "")
    digits = 1
    while len(pages) > 1:
        pages = _filled(lines, translate, f"{'9' * digits}/{'9' * digits} ")
        if len(str(len(pages))) <= digits:
            break
        digits += 1
    return pages


def _filled(lines: Sequence[Line], translate: Translate, room: str) -> list[_Page]:
    pages = [_Page(room)]
    for one in lines:
        label = translate(one.label)
        shape = _fitted(one, f"{room}{label}\n")
        if not pages[-1].take(one, shape, label):
            pages.append(_Page(room))
            pages[-1].take(one, shape, label)
    return pages


def _fitted(one: Line, head: str) -> str:
    """The longest shape of the line that stands on a page of its own."""
    shape = ""
    for shape in one.shapes():
        if segments(head + shape) == 1:
            break
    return shape
