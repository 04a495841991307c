"""Generate docs/settings.md, docs/reference.md and the floor plan of docs/architecture.md from the program.

Run `python -m everylabel.scripts.docs.reference`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from everylabel.backend.app import create_app
from everylabel.backend.bootstrap import build
from everylabel.backend.openapi import DESCRIPTION
from everylabel.backend.settings import Settings
from everylabel.scripts import cli
from everylabel.scripts.docs import floor_plan

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIGNS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
MADE = "<!-- Made by `python -m everylabel.scripts.docs.reference`: change the program, then run it. -->"


def settings_page() -> str:
    """Return a page with every setting in a table."""
    rows = [
        f"| {_variables(name, field)} | {_default(field)} | {field.description} {_range(field)}|"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            MADE,
            "",
            "Environment variables, read when a command starts. Where two are named, either will do. A value that cannot be is",
            "refused with the variable's name.",
            "",
            "| variable | default | |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def reference_page() -> str:
    """Return a page with every command, its options, and every route."""
    return "\n".join(["# Commands and routes", "", MADE, "", *_commands(), *_routes()])


def _variables(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return ", ".join(f"`{choice}`" for choice in alias.choices)
    return f"`{alias}`" if isinstance(alias, str) else f"`EVERYLABEL_{name.upper()}`"


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`" if value not in ("", None) else ""


def _range(field: FieldInfo) -> str:
    bounds = [
        f"{SIGNS[type(bound)]} {getattr(bound, type(bound).__name__.lower()):g}"
        for bound in field.metadata
        if type(bound) in SIGNS
    ]
    return f"({', '.join(bounds)}) " if bounds else ""


def _commands() -> list[str]:
    lines = ["## Commands", ""]
    group: Any = typer.main.get_command(cli.app)
    for name in cli.COMMANDS:
        _, command, _ = group.resolve_command(None, [name])
        lines += _command(name, command)
        for below, other in getattr(command, "commands", {}).items():
            lines += _command(f"{name} {below}", other)
    return lines


def _command(name: str, command: Any) -> list[str]:
    lines = [f"### everylabel {name}", "", command.help.strip(), ""]
    options = [option for option in command.params if option.name != "help"]
    if options:
        lines += ["| option | default | |", "|---|---|---|", *map(_option, options), ""]
    return lines


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    default = option.default() if callable(option.default) else option.default
    if option.required:
        shown = "required"
    elif default in (None, False, "", ()) or "Sentinel" in type(default).__name__:
        shown = ""
    else:
        default = (
            ", ".join(default) if isinstance(default, (list, tuple)) else getattr(default, "value", default)
        )
        shown = f"`{default}`".replace(str(Path.home()), "~")
    return f"| {names} | {shown} | {getattr(option, 'help', None) or ''} |"


def _routes() -> list[str]:
    lines = [
        "## Routes",
        "",
        "All but `/health` ask for `BASIC_AUTH_USER` and `BASIC_AUTH_PASS`, or for `EVERYLABEL_BEARER_SECRET`, where these are",
        "set. What Label Studio calls is described as OpenAPI at `/openapi.json`.",
        "",
        "| route | |",
        "|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        backend = build(Settings(model_dir=Path(folder)))
        app = create_app(backend)
        rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]  # Flask's own: empty
        for rule in sorted(rules, key=lambda rule: rule.rule):
            method = "POST" if "POST" in (rule.methods or ()) else "GET"
            said = DESCRIPTION["paths"].get(rule.rule, {}).get(method.lower(), {}).get("summary")
            about = said or (app.view_functions[rule.endpoint].__doc__ or "").strip().split("\n")[0]
            lines.append(f"| `{method} {rule.rule}` | {_ABOUT.get(rule.rule, about)} |")
        backend.store.close()
    return [*lines, ""]


_ABOUT = {
    "/openapi.json": "The routes Label Studio calls, as OpenAPI 3.1.",
    "/static/page/<path:filename>": "The page's own scripts, styles and pictures.",
}
"""What is said of routes that have no description of their own."""


def main() -> None:
    """Write both pages, and the floor plan."""
    (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    (DOCS / "reference.md").write_text(reference_page(), encoding="utf-8")
    page = floor_plan.PAGE
    page.write_text(floor_plan.architecture_page(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
