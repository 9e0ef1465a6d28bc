"""Text that came from outside, made to be shown: an event's name is never markup, a command or a line of its own.

What belongs here: one function that makes any text harmless and visible, and a thin one per surface on top of it. What does
not: choosing what is shown. Whatever came from data, files, receivers or configuration goes through here on its way to people.
"""

import re
from html import escape

MOST = 200
"""Characters of one text that are shown, unless said."""
MOST_LOGGED = 1000

_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: ESC, BEL, CR, LF, NUL, and C1
    "\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # takes no room: soft hyphens, joiners, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero-width, line separators, marks and overrides of direction
    "\u2800\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # half a character: no UTF-8 can be made of it
    f"\ufdd0-\ufdef{''.join(f'{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}' for plane in range(17))}"  # no characters
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Characters that do something, or hide something, where they are shown; among them all that XML 1.0 does not allow."""

_MARKUP = re.compile(r"[\\*\[\]<>&~]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown takes for markup wherever it stands; an underscore within a word it does not."""
_REFERRED = str.maketrans({"`": "&#96;", "|": "&#124;"})
_LINKED = re.compile(r"(?:(?<=http)://|(?<=https)://|(?<=www)\.|@)+", re.IGNORECASE)
_OPENS = re.compile(r"\A(?:[-+](?= |\Z)|[-=]+(?=[-= ]*\Z)|#+(?= |\Z)|\d+(?=[.)](?: |\Z))| +)")
"""And what only where a line begins: lists, headings, rules, code."""


def plain(text: str, most: int | None = MOST) -> str:
    r"""Write characters that act or hide as their escapes (``\n``, ``\x1b``, ``\u202e``); cut what is longer than ``most``, and say so."""
    if most is not None and len(text) > most:
        return f"{_visible(text[:most])}… ({len(text):,} characters)"
    return _visible(text)


def _visible(text: str) -> str:
    return _ACTS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def markdown(text: str, most: int | None = MOST) -> str:
    r"""Write text that Markdown takes for nothing but text, in a paragraph, a list or a cell of a table.

    Dagster's page reads CommonMark with GitHub's tables and links, and then makes links of whatever looks like an address, however
    it was escaped: only what parts the address, here a piece of code, keeps it text.
    """
    # Backticks and bars as references: an escape of theirs is read otherwise in code than out of it, and in a table than outside.
    escaped = _MARKUP.sub(r"\\\g<0>", plain(text, most)).translate(_REFERRED)
    parted = _LINKED.sub(r"`\g<0>`", escaped)
    return _OPENS.sub(lambda match: "".join(f"&#{ord(letter)};" for letter in match[0]), parted)


def xml(text: str, most: int | None = MOST) -> str:
    """Write text for XML, SVG and HTML, inside an element or a quoted attribute."""
    return escape(plain(text, most), quote=True)


def terminal(text: str) -> str:
    """Write a page for a terminal: its lines stay, nothing else that acts does, and nothing is cut."""
    return "\n".join(plain(line, None) for line in text.split("\n"))


def log_line(text: str) -> str:
    """Write text for one line of a log."""
    return plain(text, MOST_LOGGED)
