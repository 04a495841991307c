"""Parts of a page that a command writes, between two comments; what stands around them is written by hand."""

from __future__ import annotations

START = "<!-- everylabel benchmark"
END = "<!-- to here -->"


def start(what: str) -> str:
    """The comment that a part begins with; `what` is unique on its page."""
    return f"{START} {what} writes from here -->"


def insert(page: str, what: str, text: str) -> str:
    """Put text between a page's two comments, or at its end where it has none.

    Raises:
        ValueError: the first comment is there and the second is not, or not before another part.
    """
    first = start(what)
    if first not in page:
        page = f"{page.rstrip()}\n\n{first}\n{END}\n"
    before, _, rest = page.partition(first)
    old, end, after = rest.partition(END)
    if not end or START in old:
        raise ValueError(
            f"The page has {first!r} and nothing that ends it: write {END!r} where it is to end."
        )
    return f"{before}{first}\n{text}{END}{after}"
