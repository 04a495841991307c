"""Generated parts of a page, each between two comments; the text around them is written by hand."""

from __future__ import annotations

BENCHMARK = "everylabel benchmark"
END = "<!-- to here -->"


def start(what: str, by: str = BENCHMARK) -> str:
    """Return the comment that begins a generated part; `what` is unique on its page, `by` the program that writes it."""
    return f"<!-- {by} {what} writes from here -->"


def insert(page: str, what: str, text: str, by: str = BENCHMARK) -> str:
    """Return the page with `text` between its two comments, or at its end where it has none.

    Raises:
        ValueError: the first comment is there, but the second is missing or comes after another part.
    """
    first = start(what, by)
    if first not in page:
        page = f"{page.rstrip()}\n\n{first}\n{END}\n"
    before, _, rest = page.partition(first)
    old, end, after = rest.partition(END)
    if not end or f"<!-- {by}" in old:
        raise ValueError(
            f"The page has {first!r} and nothing that ends it: write {END!r} where it is to end."
        )
    return f"{before}{first}\n{text}{END}{after}"
