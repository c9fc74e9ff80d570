"""Letters that a reader cannot see, in text that comes from data or from a stranger.

Two names that look the same may differ in such a letter, and a name that holds nothing else looks empty.
"""

from __future__ import annotations

import re
import unicodedata

# Python calls these printable: the letters of Unicode's Default_Ignorable_Code_Point that are neither format controls
# nor unassigned, and two symbols that are drawn as nothing, the blank Braille pattern and the null notehead.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
# A word of a living language has up to three combining marks on one letter; a flood of them covers the lines around.
MOST_MARKS = 4


def unseen(text: str) -> list[int]:
    """Find letters that cannot be seen, and combining marks that may hide other letters.

    Returns
    -------
    list of int
        Positions of controls, format characters, spaces other than the plain one, private and unassigned code points,
        letters that are drawn as nothing, and combining marks beyond the fourth in a row.
    """
    found, marks = [], 0
    for place, letter in enumerate(text):
        marks = marks + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        if marks > MOST_MARKS or not letter.isprintable() or BLANK.match(letter):
            found.append(place)
    return found


def visible(text: str) -> str:
    """Text in which the replacement character stands for each unseen letter."""
    letters = list(text)
    for place in unseen(text):
        letters[place] = "\N{REPLACEMENT CHARACTER}"
    return "".join(letters)
