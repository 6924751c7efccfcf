"""What people read, in their language: gettext catalogues read from their .po files, English as the source.

No compiled catalogues: a .po file is the whole truth, and reading one takes some milliseconds at the start.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from babel.messages.pofile import read_po

Translate = Callable[[str], str]

ENGLISH = "en"


class Words:
    """One domain of catalogues: directory/<language>/LC_MESSAGES/<domain>.po. Raises OSError if there is none."""

    def __init__(self, directory: Path, domain: str) -> None:
        self._catalogues = {
            path.parent.parent.name: _read(path) for path in sorted(directory.glob(f"*/LC_MESSAGES/{domain}.po"))
        }
        if not self._catalogues:
            raise FileNotFoundError(f"no catalogue {domain}.po under {directory.name}/")

    @property
    def languages(self) -> tuple[str, ...]:
        return (ENGLISH, *self._catalogues)

    def translate(self, language: str) -> Translate:
        """The function from an English text to this language's; what has no translation stays English."""
        catalogue = self._catalogues.get(language)
        if catalogue is None:
            return str
        return lambda words: catalogue.get(words, words)

    def catalogue(self, language: str) -> Mapping[str, str]:
        """Every translation there is, for checks."""
        return dict(self._catalogues.get(language, {}))


def _read(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        catalogue = read_po(file, abort_invalid=True)
    return {
        message.id: message.string
        for message in catalogue
        if isinstance(message.id, str) and isinstance(message.string, str) and message.id and message.string
        if not message.fuzzy
    }
