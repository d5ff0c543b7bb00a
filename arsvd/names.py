"""Names that work for a folder, a registered model and an address, in letters of any script."""

import unicodedata

_PLAIN = "._-"


def plain(text: str, kept: str = _PLAIN) -> str:
    """Replace each run of characters that are neither letters nor digits by one hyphen.

    Args:
        text: text in any script; vowel signs and accents count as letters.
        kept: other characters that stay.
    """
    result: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        # letters, marks and numbers in Unicode
        if character in kept or unicodedata.category(character)[0] in "LMN":
            result.append(character)
        elif not result or result[-1] != "\0":
            result.append("\0")
    return "".join(result).replace("\0", "-")
