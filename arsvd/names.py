"""Names that a folder, a registered model and an address can all hold, in letters of any script."""

import unicodedata

_PLAIN = "._-"


def plain(text: str, kept: str = _PLAIN) -> str:
    """Replace what is neither a letter nor a digit by hyphens, each run of it by one.

    Args:
        text: in any script; its vowel signs and accents count as letters.
        kept: characters that stay beside letters and digits.
    """
    result: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        # letters, marks and numbers of Unicode
        if character in kept or unicodedata.category(character)[0] in "LMN":
            result.append(character)
        elif not result or result[-1] != "\0":
            result.append("\0")
    return "".join(result).replace("\0", "-")
