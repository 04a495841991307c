"""What `everylabel demo` prints once it runs."""

from __future__ import annotations

from types import SimpleNamespace

from rich.console import Console

from everylabel.scripts.commands import demo


def test_the_demo_s_words_fill_their_lines_in_a_narrow_terminal(monkeypatch):
    """As 80 columns are: lines broken by hand were broken once more."""
    terminal = Console(width=80, color_system=None)
    monkeypatch.setattr(demo, "console", terminal)
    server = SimpleNamespace(
        url="http://127.0.0.1:8080", credentials=SimpleNamespace(username="ann", password="s3cret")
    )
    with terminal.capture() as said:
        terminal.print(demo._welcome(server, "http://127.0.0.1:9090", 7, [None] * 1797))
    lines = [line.strip("│ ") for line in said.get().splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("Sign in"))
    words = lines[first:-1]
    assert " ".join(words).endswith("Ctrl-C stops everything.")
    assert min(map(len, words[:-1])) > 60
    assert "the page      http://127.0.0.1:9090/projects/7" in lines
