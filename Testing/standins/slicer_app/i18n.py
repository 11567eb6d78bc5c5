"""The module ``slicer.i18n``: texts in the user's language.

Imitates ``Base/Python/slicer/i18n.py`` of Slicer.  Left out: the languages; a text is returned as it is.  A text that is
no plain string is refused, so that a message that was formatted before it is translated is seen in a test.
"""

from __future__ import annotations


def translate(context: str, text: str) -> str:
    """The text, for the context that Qt's ``lupdate`` files it under."""
    if not isinstance(context, str) or not isinstance(text, str):
        raise TypeError("translate() takes the context and the text, both strings.")
    return text


def tr(text: str) -> str:
    """The text, for the context of the calling file."""
    return translate("", text)
