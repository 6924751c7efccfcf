"""What a person texted -> what they want. Pure; one table a language, and every language is understood at any time.

    text ─plain()─> full-width forms, odd spaces, any script's digits made ordinary, invisible marks gone
         ─exact──> STOP, YES, NO, HELP … only if nothing else is in the text
         ─first word─> ADD, DEL … with the rest read by its shape: a number is found wherever it stands

Chinese needs no space after the keyword ("添加张三 13800138000"). A keyword whose rest makes no sense is a Misuse, with
words that say what is missing and one example.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_ = str  # marks words for the catalogue

TEXT_CHARACTERS_MAX = 2_000  # a text of thirteen parts; nothing that we understand is longer


@dataclass(frozen=True, slots=True)
class Add:
    name: str
    number: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    who: str  # a name or a number


@dataclass(frozen=True, slots=True)
class List:
    """The book from this page on, or one group of it."""

    page: int = 1
    group: str = ""


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups; with a name, who is in it."""

    group: str = ""


@dataclass(frozen=True, slots=True)
class NewGroup:
    group: str


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    group: str


@dataclass(frozen=True, slots=True)
class MoveMember:
    """GROUP ADD or GROUP REMOVE: the group's name comes first, then who; both may have spaces."""

    words: tuple[str, ...]
    into: bool


@dataclass(frozen=True, slots=True)
class Invite:
    who: str  # a number, or a name in the book


@dataclass(frozen=True, slots=True)
class Yes:
    pass


@dataclass(frozen=True, slots=True)
class No:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    pass


@dataclass(frozen=True, slots=True)
class Start:
    name: str = ""  # the sender's own


@dataclass(frozen=True, slots=True)
class Name:
    name: str  # the sender's own


@dataclass(frozen=True, slots=True)
class Language:
    language: str


@dataclass(frozen=True, slots=True)
class Help:
    pass


Command = (
    Add | Delete | List | Groups | NewGroup | DeleteGroup | MoveMember | Invite | Yes | No | Stop | Start | Name
    | Language | Help
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Misuse:
    """The keyword is known, the rest is not enough or too much; or nothing is known. words: a message id."""

    words: str


# --- the tables -----------------------------------------------------------------------------------------------------

# First words; what follows is read by the function of this name in _READERS.
_FIRST: dict[str, dict[str, str]] = {
    "en": {
        "ADD": "add",
        "DEL": "delete", "DELETE": "delete", "REMOVE": "delete",
        "LIST": "list",
        "GROUP": "group", "GROUPS": "group",
        "INVITE": "invite",
        "START": "start", "JOIN": "start", "UNSTOP": "start",
        "NAME": "name",
        "HELP": "help", "INFO": "help",
    },
    "zh": {
        "添加": "add", "加": "add", "新增": "add", "增加": "add",
        "删除": "delete", "删": "delete",
        "列表": "list", "名单": "list", "通讯录": "list",
        "群组": "group", "分组": "group", "组": "group",
        "邀请": "invite",
        "开始": "start", "加入": "start",
        "名字": "name", "我叫": "name",
        "帮助": "help",
    },
}  # fmt: skip

# The whole text, or it is not meant. STOP in every language that the service is to speak, and the words that
# carriers require; saying it by mistake costs a START, missing it costs a person's peace.
_EXACT: dict[str, tuple[str, ...]] = {
    "stop": (
        "STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "UNSUB", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT", "OPT OUT",
        "退订", "停止", "取消订阅", "T", "TD", "回T", "回复TD",
        "ARRET", "ARRÊT", "DESABONNER", "BAJA", "ALTO", "PARAR", "SAIR", "CANCELAR",
        "ACHA", "SIMAMA", "KOMESHA", "ONDOA", "BERHENTI",
        "रोकें", "रोको", "बंद", "बंद करें", "توقف", "إيقاف", "ايقاف", "الغاء", "إلغاء", "СТОП",
    ),
    "yes": ("YES", "Y", "YEP", "YEAH", "OK", "OKAY", "SURE", "1", "是", "是的", "好", "好的", "同意", "可以",
            "OUI", "NDIYO", "NDIO", "हाँ", "हां", "نعم"),
    "no": ("NO", "N", "NOPE", "2", "否", "不", "不要", "不用", "不同意", "取消", "NON", "HAPANA", "नहीं", "لا"),
    "english": ("ENGLISH", "英文", "英语"),
    "chinese": ("CHINESE", "中文", "汉语"),
}  # fmt: skip

# The second word after GROUP.
_OF_GROUP: dict[str, dict[str, str]] = {
    "en": {
        "NEW": "new", "CREATE": "new", "ADD": "put", "REMOVE": "take", "DEL": "drop", "DELETE": "drop",
    },
    "zh": {
        "新建": "new", "创建": "new", "添加": "put", "加": "put", "移除": "take", "移出": "take",
        "删除": "drop", "删": "drop",
    },
}  # fmt: skip

_UNKNOWN = Misuse(_("That was not understood. Text HELP for what you can do here."))
_ADD_WHAT = Misuse(_("To add an entry send ADD, the name and the number, e.g. ADD Amina 0712345678"))
_ADD_NUMBER = Misuse(_("The number is missing. Send ADD, the name and the number, e.g. ADD Amina 0712345678"))
_ADD_NAME = Misuse(_("The name is missing. Send ADD, the name and the number, e.g. ADD Amina 0712345678"))
_ADD_ONE = Misuse(_("One entry at a time, please: ADD, one name and one number, e.g. ADD Amina 0712345678"))
_DELETE_WHOM = Misuse(_("To delete an entry send DEL and its name or number, e.g. DEL Amina"))
_INVITE_WHOM = Misuse(_("To invite somebody send INVITE and the number, e.g. INVITE 0712345678"))
_NAME_WHAT = Misuse(_("To say your own name send NAME and the name, e.g. NAME Amina"))
_GROUP_WHICH = Misuse(_("Which group? E.g. GROUP NEW Choir"))
_GROUP_WHOM = Misuse(_("Which group, and whom? E.g. GROUP ADD Choir, Amina or GROUP REMOVE Choir, Amina"))
_STOP_ALONE = Misuse(_("To get no more texts from us send the one word STOP, nothing else."))


# --- reading --------------------------------------------------------------------------------------------------------


def parse(text: str, language: str | None = None) -> Command | Misuse:
    """What this text wants. `language` (of the sender, if known) decides where two tables disagree. Never raises."""
    words = plain(text[:TEXT_CHARACTERS_MAX])
    if exact := _exact(words):
        return exact
    tokens = words.split()
    if not tokens:
        return _UNKNOWN
    word, rest = _first(words, _first_words(language))
    if word:
        return _READERS[word](rest.strip(" ,:.!-"))
    if _folded(tokens[0]) in _STOP_WORDS:
        return _STOP_ALONE
    return _UNKNOWN


def plain(text: str) -> str:
    """Full-width forms narrow, every space a space, any script's digits 0-9, list commas ",", invisible marks gone."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    if "!" <= character <= "~":
        return character
    if "\uff01" <= character <= "\uff5e":  # full-width ASCII
        return chr(ord(character) - 0xFEE0)
    if character.isspace():
        return " "
    if character in "、،﹐﹑;；":
        return ","
    digit = unicodedata.decimal(character, -1)
    if digit >= 0:
        return str(digit)
    category = unicodedata.category(character)
    if category in ("Cc", "Cs") or (category == "Cf" and character != "\u200d"):  # a joiner holds an emoji together
        return ""
    return character


def _folded(text: str) -> str:
    """Letters and digits alone, without case, accents, spaces and punctuation: "S.t.o.p!" is "stop"."""
    if text.isascii():
        return "".join(filter(str.isalnum, text)).casefold()
    return "".join(
        character
        for character in unicodedata.normalize("NFKD", text).casefold()
        if unicodedata.category(character)[0] in "LMN" and not _is_accent(character)
    )


def _is_accent(character: str) -> bool:
    return "\u0300" <= character <= "\u036f" or "\u064b" <= character <= "\u0655" or "\ufe00" <= character <= "\ufe0f"


_EXACT_COMMANDS: Mapping[str, Command] = {
    "stop": Stop(), "yes": Yes(), "no": No(), "english": Language("en"), "chinese": Language("zh"),
}  # fmt: skip
_BY_EXACT_TEXT: dict[str, Command] = {
    _folded(text): _EXACT_COMMANDS[meaning] for meaning, texts in _EXACT.items() for text in texts
}
_EXACT_CHARACTERS_MAX = 40
_STOP_WORDS = frozenset(_folded(word) for word in ("STOP", "STOPALL", "UNSUBSCRIBE", "退订", "ARRET"))


def _exact(words: str) -> Command | None:
    if len(words) > _EXACT_CHARACTERS_MAX:
        return None
    folded = _folded(words)
    if not folded and "?" in words:
        return Help()
    return _BY_EXACT_TEXT.get(folded)


Table = Mapping[str, str]


def _merged(tables: Mapping[str, Mapping[str, str]], language: str | None) -> Table:
    merged: dict[str, str] = {}
    for name in sorted(tables, key=lambda name: name == language):  # the sender's own last: it wins
        merged |= {word.casefold(): meaning for word, meaning in tables[name].items()}
    return merged


_FIRST_WORDS = {language: _merged(_FIRST, language) for language in (None, *_FIRST)}
_GROUP_WORDS = _merged(_OF_GROUP, None)
_LATIN_WORD = re.compile(r"[ ,.:!-]*([A-Za-z]+)")
_LONGEST = 3  # characters of a Chinese keyword


def _first_words(language: str | None) -> Table:
    return _FIRST_WORDS.get(language, _FIRST_WORDS[None])


def _first(words: str, table: Table) -> tuple[str, str]:
    """The meaning of the first word, and the rest. "" if it is no keyword."""
    if latin := _LATIN_WORD.match(words):
        meaning = table.get(latin[1].casefold(), "")
        after = words[latin.end() :]
        # "ADDIS" is no ADD, "Add's" neither; "ADD张三" and "LIST2" are meant.
        return (meaning, after) if not after or not after[0].isalpha() or not after[0].isascii() else ("", words)
    start = words.lstrip(" ,.:!-")
    for length in range(_LONGEST, 0, -1):
        if meaning := table.get(start[:length], ""):
            return meaning, start[length:]
    return "", words


# --- what follows ADD -----------------------------------------------------------------------------------------------

_NUMBER_PIECE = re.compile(r"\+?[0-9().\-]*[0-9][0-9().\-]*").fullmatch
_LETTERS_AND_DIGITS = re.compile(r"[A-Za-z0-9+().\-]+").fullmatch
_NEAR_NUMBER_DIGITS = 5  # "07I2345678" was meant as a number, "Room12b" was not
_GLUED_BEFORE = re.compile(r"(?<=[^\x00-\x7f])(?=\+?[0-9]{7})")  # "张三13800138000"
_GLUED_AFTER = re.compile(r"(?<=[0-9]{7})(?=[^\x00-\x7f])")  # "13800138000朋友"
_WHOLE_NUMBER_DIGITS = 7
_COMMAS = re.compile(r"\s*,\s*")


def _add(rest: str) -> Command | Misuse:
    if not rest:
        return _ADD_WHAT
    rest = _GLUED_AFTER.sub(" ", _GLUED_BEFORE.sub(" ", rest))
    tokens = rest.replace(",", " , ").split()
    numbers = _number_runs(tokens)
    if not numbers:
        return _ADD_NUMBER
    whole = [run for run in numbers if _digits(tokens, run) >= _WHOLE_NUMBER_DIGITS]
    if len(whole) > 1:
        return _ADD_ONE
    start, end = (whole or numbers[-1:])[0]
    name = " ".join(piece for piece in tokens[:start] if piece != ",")
    if not name:
        return _ADD_NAME
    groups = tuple(filter(None, _COMMAS.split(" ".join(tokens[end:]).strip(" ,"))))
    return Add(name, "".join(tokens[start:end]), groups)


Run = tuple[int, int]


def _number_runs(tokens: list[str]) -> list[Run]:
    """Where numbers stand, each perhaps in pieces ("138 0013 8000"); start and end within the tokens."""
    runs: list[Run] = []
    at = 0
    while at < len(tokens):
        end = at
        while end < len(tokens) and _NUMBER_PIECE(tokens[end]):
            end += 1
        if end > at:
            runs += _split_run(tokens, at, end)
        elif _LETTERS_AND_DIGITS(tokens[at]) and _digits(tokens, (at, at + 1)) >= _NEAR_NUMBER_DIGITS:
            runs.append((at, at + 1))
        at = max(end, at + 1)
    return runs


def _split_run(tokens: list[str], start: int, end: int) -> list[Run]:
    """Pieces side by side: one number, or a number beside digits of a name or a group ("Class 2 0712345678 2026")."""
    whole = [at for at in range(start, end) if _digits(tokens, (at, at + 1)) >= _WHOLE_NUMBER_DIGITS]
    if not whole:
        # "138 0013 8000"; but "Team 7 110" is the number 110.
        return [(start, end)] if _digits(tokens, (start, end)) >= _WHOLE_NUMBER_DIGITS else [(end - 1, end)]
    runs = []
    for at in whole:
        # "+254 712345678", "(010) 88001234", "010 88001234": a code belongs to the piece after it.
        code = at - 1
        first = code if code >= start and code not in whole and tokens[code][0] in "+0(" else at
        runs.append((first, at + 1))
    return runs


def _digits(tokens: list[str], run: Run) -> int:
    return sum(map(str.isdigit, "".join(tokens[run[0] : run[1]])))


# --- what follows the others ----------------------------------------------------------------------------------------


def _delete(rest: str) -> Command | Misuse:
    return Delete(rest) if rest else _DELETE_WHOM


_PAGE_DIGITS_MAX = 4


def _list(rest: str) -> Command | Misuse:
    if rest.isdigit() and len(rest) <= _PAGE_DIGITS_MAX:
        return List(page=max(1, int(rest)))
    return List(group=rest)


def _group(rest: str) -> Command | Misuse:
    word, after = _first(rest, _GROUP_WORDS)
    after = after.strip(" ,:")
    if not word:
        return Groups(rest)
    if word == "new":
        return NewGroup(after) if after else _GROUP_WHICH
    if word == "drop":
        return DeleteGroup(after) if after else _GROUP_WHICH
    if "," in after:
        words = tuple(filter(None, _COMMAS.split(after, maxsplit=1)))
    else:
        words = tuple(_GLUED_BEFORE.sub(" ", after).split())
    return MoveMember(words, into=word == "put") if len(words) > 1 else _GROUP_WHOM


def _invite(rest: str) -> Command | Misuse:
    return Invite(rest) if rest else _INVITE_WHOM


def _name(rest: str) -> Command | Misuse:
    return Name(rest) if rest else _NAME_WHAT


_READERS: Mapping[str, Callable[[str], Command | Misuse]] = {
    "add": _add,
    "delete": _delete,
    "list": _list,
    "group": _group,
    "invite": _invite,
    "start": Start,
    "name": _name,
    "help": lambda _rest: Help(),
}
