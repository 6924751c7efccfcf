"""The GSM 7-bit alphabets against the standard's shape, and against a codec that we did not write."""

import unicodedata

import gsm0338
import pytest
from gsm0338 import SINGLE_SHIFT_CHARACTER_SET_SPANISH
from hypothesis import given
from hypothesis import strategies as st

from smsgw import gsm7

ORACLE = gsm0338.Codec()
SPANISH_ORACLE = gsm0338.Codec(single_shift_decode_map=SINGLE_SHIFT_CHARACTER_SET_SPANISH)
ALPHABET = "".join(ORACLE.decode(bytes((code,)))[0] for code in range(128) if code != gsm7.ESCAPE)
EXTENSION = "\f^{}\\[~]|€"
SCRIPTS = {
    gsm7.BENGALI: "BENGALI", gsm7.GUJARATI: "GUJARATI", gsm7.HINDI: "DEVANAGARI", gsm7.KANNADA: "KANNADA",
    gsm7.MALAYALAM: "MALAYALAM", gsm7.ORIYA: "ORIYA", gsm7.PUNJABI: "GURMUKHI", gsm7.TAMIL: "TAMIL",
    gsm7.TELUGU: "TELUGU", gsm7.URDU: "ARABIC",
}  # fmt: skip
# 3GPP TS 23.038, annex A: some characters of each table and their codes. Letters with a nukta stand by number, so that
# no editor takes them apart.
LOCKING = {
    gsm7.TURKISH: "€04 ı07 Ğ0B ğ0C Ş1C ş1D İ40 ç60 §5F",
    gsm7.PORTUGUESE: "ê04 ç09 Ô0B Á0E ª12 ∞15 €18 |1A Â1C Ê1E º24 Í40 Ú5D ~60 `7D",
    gsm7.BENGALI: "ঁ00 ঌ0B এ0F ও13 চ1A ছ1C ট22 ত27 থ2A ন2F প3D ব40 র44 ল46 শ4A হ4D ়4E া50 ্5F ৎ60 ৱ7F",
    gsm7.GUJARATI: "ઁ00 ઍ0C ઑ11 ચ1A ળ47 વ49 ૅ57 ૉ5B ્5F ૐ60 ૱7F",
    gsm7.HINDI: "ँ00 ऌ0B ऍ0C ऎ0E च1A छ1C ऩ3C प3D फ3E ऱ45 ऴ48 ्5F ॐ60 ॲ7B ॿ7F",
    gsm7.KANNADA: "ಂ01 ಡ24 ಱ45 ಳ47 ಼4E ್5F ೕ60 ೣ7F",
    gsm7.MALAYALAM: "ം01 ഴ48 ഽ4F ്5F ൗ60 ൹7F",
    gsm7.ORIYA: "ଁ00 ଳ47 ଵ49 ୍5F ୖ60 ୣ7F",
    gsm7.PUNJABI: "ਁ00 ਊ08 ਲ46 ਸ4C ਼4E ੍5F ੑ60 ੴ7F",
    gsm7.TAMIL: "ஂ01 எ0E ச1A ஜ1D ன3C ப3D ம42 ஶ4A ்5F ௐ60 ௹7F",
    gsm7.TELUGU: "ఁ00 ళ47 ఽ4F ్5F ౕ60 ౣ7F",
    gsm7.URDU: "ا00 ٹ0B ٺ0E ف45 ل4D و53 ې5A ے5B ٔ60 ٰ7F",
}
SINGLE = {
    gsm7.TURKISH: "Ğ47 İ49 Ş53 ç63 ğ67 ı69 ş73 €65",
    gsm7.SPANISH: "ç09 Á41 Í49 Ó4F Ú55 á61 í69 ó6F ú75",
    gsm7.PORTUGUESE: "ê05 ç09 Ô0B Á0E Φ12 Θ19 Ê1F À41 Ã5B Â61 ã7B â7F",
    gsm7.BENGALI: "০19 ১1A ২1C ৯23 \u09df24 ৣ2A ৺34 A41 Z5A",
    gsm7.GUJARATI: "।19 ॥1A ૦1C ૯25",
    gsm7.HINDI: "।19 ०1C ९25 ॑26 ॓2A \u09582C \u095b30 ॱ3A",
    gsm7.KANNADA: "೦1C ೯25 ೞ26 ೱ27 ೲ2A",
    gsm7.MALAYALAM: "൦1C ൯25 ൰26 ൺ2E ൻ30 ൿ34",
    gsm7.ORIYA: "୦1C \u0b5c26 ୟ2A ୱ2C",
    gsm7.PUNJABI: "੦1C \u0a5926 \u0a5e2C ੵ2D",
    gsm7.TAMIL: "௦1C ௮24 ௳26 ௺2E",
    gsm7.TELUGU: "౦1C ౬22 ౯25 ౘ26 ౸2A ౿32",
    gsm7.URDU: "؀19 ۰1C ۹25 ،26 ؎2A ؓ30 ۔3F",
}  # fmt: skip


def pairs(listed: str) -> list[tuple[str, int]]:
    return [(item[:-2], int(item[-2:], 16)) for item in listed.split()]


@pytest.mark.parametrize("text", ["张", "a\0b", "\x1b", "ç", "`", "😀", "\ud83d", "\xa0"])
def test_what_the_default_alphabet_lacks_is_not_encoded(text: str) -> None:
    assert gsm7.encode(text) is None


@pytest.mark.parametrize(
    ("septets", "text"),
    [(b"a\x1b", "a\ufffd"), (b"a\x1b\x1bb", "a b"), (b"\x1bA", "A"), (b"\x1b\x00", "@"),
     (b"a\x80\xff", "a\ufffd\ufffd"), (b"\x1b\xe5", "\ufffd"), (b"\x1b<\x1b>", "[]"), (b"", "")],
)  # fmt: skip
def test_broken_escapes_and_octets_are_shown_as_the_standard_says(septets: bytes, text: str) -> None:
    assert gsm7.decode(septets) == text


@given(st.binary(max_size=60), st.integers(0, 255), st.integers(0, 255))
def test_no_octets_and_no_language_make_decoding_fail(septets: bytes, locking: int, single: int) -> None:
    assert isinstance(gsm7.decode(septets, locking, single), str)


@given(st.text(ALPHABET + EXTENSION))
def test_the_default_alphabet_is_that_of_gsm0338(text: str) -> None:
    assert gsm7.encode(text) == ORACLE.encode(text)[0]
    assert gsm7.decode(ORACLE.encode(text)[0]) == text


@given(st.text(ALPHABET + EXTENSION + "çÁÍÓÚáíóú"))
def test_the_spanish_table_is_that_of_gsm0338(text: str) -> None:
    assert gsm7.encode(text, 0, gsm7.SPANISH) == SPANISH_ORACLE.encode(text)[0]


@given(st.text())
def test_only_texts_that_gsm0338_can_encode_are_encoded(text: str) -> None:
    assert (gsm7.encode(text) is None) == any(char not in ALPHABET + EXTENSION for char in text)


@pytest.mark.parametrize("language", list(LOCKING))
def test_a_locking_table_has_its_characters_in_their_places(language: int) -> None:
    for char, code in pairs(LOCKING[language]):
        assert gsm7.decode(bytes((code,)), language) == char
        assert gsm7.encode(char, language) == bytes((code,))


@pytest.mark.parametrize("language", list(SINGLE))
def test_a_single_shift_table_has_its_characters_in_their_places(language: int) -> None:
    for char, code in pairs(SINGLE[language]):
        assert gsm7.decode(bytes((gsm7.ESCAPE, code)), 0, language) == char


@pytest.mark.parametrize(("language", "script"), SCRIPTS.items())
def test_the_letters_of_a_table_are_of_its_script_and_stand_once(language: int, script: str) -> None:
    letters = [char for char in gsm7._LOCKING[language] if ord(char) > 127 and char != "\ufffe"]
    assert len(letters) == len(set(letters))
    assert all(unicodedata.name(char).startswith(script) for char in letters)
    shifted = [char for char in gsm7._SINGLE[language] if ord(char) > 0x100 and char not in "€\ufffe।॥"]
    assert len(shifted) == len(set(shifted))
    assert all(unicodedata.name(char).startswith((script, "EXTENDED ARABIC")) for char in shifted)
    assert not set(letters) & set(shifted)


@pytest.mark.parametrize("language", gsm7.LANGUAGES)
def test_every_character_of_a_table_comes_back(language: int) -> None:
    locking = language if gsm7.locking_exists(language) else 0
    chars = [char for char in gsm7._LOCKING[locking] + gsm7._SINGLE[language] if char != "\ufffe"]
    text = "".join(chars)
    septets = gsm7.encode(text, locking, language)
    assert septets is not None
    assert gsm7.decode(septets, locking, language) == text
    assert language in gsm7.languages_of(text)


def test_a_text_in_two_scripts_has_no_language() -> None:
    assert gsm7.languages_of("नमस्ते বাংলা") == []
    assert gsm7.languages_of("नमस्ते") == [gsm7.HINDI]
