"""Thumbnails: small, made once, bounded in number, and not at the cost of webhooks."""

from __future__ import annotations

import io
import threading
import time

import pytest
from PIL import Image

from everylabel.backend.images.errors import AddressRefusedError
from everylabel.backend.page import thumbnails
from everylabel.backend.page.thumbnails import SIDE, BusyError, Thumbnails, thumbnail
from everylabel.backend.store import Task


def opened(content):
    return Image.open(io.BytesIO(content))


def test_a_large_crop_becomes_small_and_keeps_its_proportions():
    found = opened(thumbnail(Image.effect_noise((900, 300), 60).convert("RGB")))
    assert (found.format, found.size) == ("WEBP", (SIDE, 43))


def test_a_tiny_crop_grows_by_whole_pixels():
    assert opened(thumbnail(Image.new("RGB", (8, 6)))).size == (SIDE, 96)


def test_a_crop_is_fetched_once(services, digit_crops, monkeypatch):
    read, asked = services.reader.read, []
    monkeypatch.setattr(
        services.reader, "read", lambda *given, **options: asked.append(given) or read(*given, **options)
    )
    made = Thumbnails(services.files, services.reader)
    task = Task(5, digit_crops[0][0])
    assert made.get(1, task) == made.get(1, task)
    assert Thumbnails(services.files, services.reader).get(1, task) == made.get(1, task), (
        "also after a restart"
    )
    assert len(asked) == 1


def test_a_task_that_got_another_image_shows_that_one(services, digit_crops):
    made = Thumbnails(services.files, services.reader)
    assert made.get(1, Task(5, digit_crops[0][0])) != made.get(1, Task(5, digit_crops[1][0]))


def test_the_guard_of_addresses_holds_here_too(services):
    with pytest.raises(AddressRefusedError):
        Thumbnails(services.files, services.reader).get(1, Task(5, "http://127.0.0.1:1/picture.png"))


def test_the_oldest_make_room(services, digit_crops, monkeypatch):
    monkeypatch.setattr(thumbnails, "PRUNE_EVERY", 1)
    made = Thumbnails(services.files, services.reader, kept=3)
    for number, (image, _) in enumerate(digit_crops[:6]):
        made.get(1, Task(number, image))
    assert len(list((services.files(1).folder / "thumbnails").iterdir())) == 3


def test_more_than_a_few_at_a_time_are_told_to_come_again_before_label_studio_gives_up(
    services, digit_crops, monkeypatch
):
    holding, entered = threading.Event(), threading.Semaphore(0)
    read = services.reader.read

    def slow(*given, **options):
        entered.release()
        holding.wait(60)
        return read(*given, **options)

    monkeypatch.setattr(services.reader, "read", slow)
    made = Thumbnails(services.files, services.reader)
    threads = [
        threading.Thread(target=made.get, args=(1, Task(number, digit_crops[number][0])))
        for number in range(thumbnails.MAKERS)
    ]
    for thread in threads:
        thread.start()
        assert entered.acquire(timeout=60)
    began = time.monotonic()
    with pytest.raises(BusyError):
        made.get(1, Task(99, digit_crops[9][0]))
    assert time.monotonic() - began < 30, "a webhook behind it would be given up"
    holding.set()
    for thread in threads:
        thread.join(10)
    assert made.get(1, Task(99, digit_crops[9][0]))
