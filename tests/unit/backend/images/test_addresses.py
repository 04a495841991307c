"""Addresses in messages: short, without secrets, and at a cost that does not grow with what a stranger wrote."""

from __future__ import annotations

import pytest

from everylabel.backend.images import addresses
from everylabel.backend.images.addresses import shown

SECRET = "a1b2c3d4e5f6g7h8i9j0"


@pytest.mark.parametrize("part", ["a", "", "%41"])
def test_of_an_address_of_a_megabyte_only_the_beginning_is_worked_on(monkeypatch, part):
    looked_at = []
    monkeypatch.setattr(addresses, "_without_secret", lambda one: looked_at.append(one) or one)
    message = shown("http://host.example/" + f"{part}/" * (1_000_000 // (len(part) + 1)))
    assert message.startswith("http://host.example/")
    assert len(message) <= 200
    assert sum(len(one) + 1 for one in looked_at) < 10_000


@pytest.mark.parametrize("before", range(1_950, 2_010))
def test_a_secret_is_not_shown_in_part_where_a_long_address_is_cut(before):
    long_names = "/".join([SECRET] * 200)[:before]
    assert SECRET[:6] not in shown(f"http://host.example/{long_names}/{SECRET}/{SECRET}").removesuffix("…")
    assert SECRET not in shown(f"http://ann:{SECRET * 500}@host.example/x.png")
