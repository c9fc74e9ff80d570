"""Invisible letters in text from data or from untrusted people.

Two names that look the same may differ in such a letter, and a name that contains nothing else looks empty.
"""

from __future__ import annotations

import re
import unicodedata

# Python considers these printable: letters of Unicode's Default_Ignorable_Code_Point that are neither format controls
# nor unassigned, and two symbols without a glyph, the blank Braille pattern and the null notehead.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
# Words of living languages have at most three combining marks on one letter; many more cover the lines around them.
MOST_MARKS = 4


def unseen(text: str) -> list[int]:
    """Find invisible letters, and combining marks that may hide other letters.

    Returns
    -------
    list of int
        Positions of controls, format characters, spaces other than the plain one, private and unassigned code points,
        letters without a glyph, and combining marks beyond the fourth in a row.
    """
    found, marks = [], 0
    for place, letter in enumerate(text):
        marks = marks + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        if marks > MOST_MARKS or not letter.isprintable() or BLANK.match(letter):
            found.append(place)
    return found


def visible(text: str) -> str:
    """Text with every invisible letter replaced by the replacement character."""
    letters = list(text)
    for place in unseen(text):
        letters[place] = "\N{REPLACEMENT CHARACTER}"
    return "".join(letters)
