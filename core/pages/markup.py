"""HTML that cannot be broken by what it shows: whatever is not markup already is escaped."""

from html import escape

EMPTY = frozenset({"br", "img", "meta"})
"""Elements without an end tag."""
UNPRINTABLE = {
    code: "\N{REPLACEMENT CHARACTER}" for code in range(160) if (code < 32 or code > 126) and code not in (9, 10)
}
UNPRINTABLE |= dict.fromkeys((*range(55296, 57344), *range(8234, 8239)), "�")
"""Control characters, halves of characters that file names may hold, and overrides of the direction of writing."""


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element; children that are no Markup are escaped, and so are attributes. A trailing `_` of a name is left out.

    >>> element("p", "a < b", element("br"), class_="x")
    '<p class="x">a &lt; b<br></p>'
    """
    listed = "".join(f' {key.rstrip("_")}="{_escaped(value)}"' for key, value in attributes.items())
    if name in EMPTY:
        return Markup(f"<{name}{listed}>")
    return Markup(f"<{name}{listed}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """Children one after the other.

    >>> joined("<", Markup("<br>"))
    '&lt;<br>'
    """
    return Markup("".join(child if isinstance(child, Markup) else _escaped(child) for child in children))


def _escaped(text: str) -> str:
    return escape(text.translate(UNPRINTABLE), quote=True)
