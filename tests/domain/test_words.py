"""Every text that people read is in every catalogue, whole, and keeps its fields."""

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from addressbook import invitations
from runtime.words import Words
from smsgw.dialogue import texts

ROOT = Path(__file__).parents[2]
MARKERS = {"_", "Refused", "Conflict", "NotFound"}
OPERATORS = {"tokens.py"}  # refusals that only the command prints, in English
GSM_7BIT = frozenset(  # 3GPP TS 23.038, 6.2.1 and 6.2.1.1
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€"
)


def used_words() -> Iterator[str]:
    """The constant first argument of each call that marks words for a person."""
    for path in [*(ROOT / "addressbook").glob("*.py"), *(ROOT / "smsgw").rglob("*.py")]:
        if path.name in OPERATORS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKERS):
                continue
            match node.args:
                case [ast.Constant(value=str(words)), *_]:
                    yield words


def fields(words: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(words) if field}


def test_words_without_a_translation_stay_english() -> None:
    assert texts().translate("zh")("never written") == "never written"
    assert texts().translate("sw")("Saved: {entry}") == "Saved: {entry}"


def test_a_folder_without_catalogues_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Words(tmp_path, "texts")


@pytest.mark.parametrize("language", texts().languages[1:])
def test_a_catalogue_has_exactly_the_words_that_are_used(language: str) -> None:
    used = set(used_words())
    assert len(used) > 60  # the walk found them
    assert set(texts().catalogue(language)) == used


@pytest.mark.parametrize("language", texts().languages[1:])
def test_a_translation_keeps_the_fields(language: str) -> None:
    for words, translation in texts().catalogue(language).items():
        assert fields(words) == fields(translation), words


def test_english_texts_need_no_ucs2() -> None:
    assert {words for words in used_words() if not set(words) <= GSM_7BIT} == set()


@pytest.mark.parametrize(
    ("language", "inviter", "limit"),
    [("en", "Amina W. Kamau (+254712345678)", 160), ("zh", "王小明 (13800138000)", 70)],
)
def test_an_invitation_is_one_sms_and_says_how_to_join_and_to_stop(language: str, inviter: str, limit: int) -> None:
    words = texts().translate(language)(invitations._INVITATION).format(inviter=inviter, service="Friend Book")
    assert len(words) <= limit
    assert "YES" in words
    assert "STOP" in words
    if language == "zh":
        assert "退订" in words and "TD" in words


def test_texts_without_fields_are_one_sms_in_each_language() -> None:
    plain = [words for words in used_words() if not fields(words)]
    assert len(plain) > 20
    assert {words for words in plain if sum(2 if letter in "^{}\\[~]|€" else 1 for letter in words) > 160} == set()
    chinese = texts().translate("zh")
    assert {chinese(words) for words in plain if len(chinese(words)) > 70} == set()
