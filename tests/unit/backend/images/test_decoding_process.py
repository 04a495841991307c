"""Formats whose cost no header tells are decoded where they can be stopped: a hostile file costs its own crop alone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from everylabel.backend.images import decode as decode_module
from everylabel.backend.images import decoding_child
from everylabel.backend.images.decode import FORMATS_APART, FORMATS_HERE, decode
from everylabel.backend.images.decoding_limits import ImageLimits, MemoryBudget, decoding_memory
from everylabel.backend.images.decoding_process import DecodingProcesses
from everylabel.backend.images.errors import DecodingUnavailableError, ImageTooLargeError, NotAnImageError
from everylabel.backend.images.load import load_rgb
from tests.everylabel_process import wait_until
from tests.hostile_images import bmp_of_runs, tiff_of_scans, tiff_of_strips
from tests.unit.backend.images.test_decode import photograph, stored

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ONE_SECOND = ImageLimits(decode_seconds=1.0)
HOSTILE = {
    "a TIFF of two million strips": lambda: tiff_of_strips(2_000_000),
    "a TIFF of JPEG pictures of 95 scans": lambda: tiff_of_scans(9, 95),
    "a BMP of ten million runs": lambda: bmp_of_runs(4000, 10_000_000),
}


@pytest.fixture
def processes(monkeypatch):
    """One process at a time, in the place of this process's own."""
    found = DecodingProcesses(1)
    monkeypatch.setattr(decode_module, "decoding_processes", found)
    yield found
    found.close()


def pid_of(processes):
    """The process that waits for work."""
    (process,) = processes._free
    return process._process.pid


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_ends_within_its_limits_and_the_next_is_decoded(kind, processes):
    content = HOSTILE[kind]()
    before, started = time.thread_time(), time.monotonic()
    with pytest.raises(ImageTooLargeError, match=r"takes (longer than 1 s|far more memory)") as caught:
        decode(content, ONE_SECOND)
    assert time.thread_time() - before < 1.0, "it costs this process next to nothing"
    assert time.monotonic() - started < 30, "on a machine where every core has ten others to serve"
    assert caught.value.way_out
    assert decoding_memory.in_flight == 0
    assert decode(stored(photograph(60, 40), "TIFF"), ONE_SECOND).size == (60, 40)


@LINUX
def test_a_file_made_to_take_memory_takes_little(processes):
    peak = subprocess.run(
        [sys.executable, "-c", PEAK], input=tiff_of_strips(3_000_000), capture_output=True, check=True
    )
    assert int(peak.stdout) < 400_000, "kilobytes; without the limit 950,000"


PEAK = """
import resource, sys
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.decoding_process import decoding_processes
from everylabel.backend.images.errors import ImageTooLargeError
try:
    decode(sys.stdin.buffer.read(), ImageLimits(decode_seconds=3.0))
except ImageTooLargeError as error:
    # Where not a byte is left, CPython 3.11 may try to raise its MemoryError for ever, until its time is up.
    assert "takes far more memory" in str(error) or "takes longer than 3 s" in str(error), error
    decoding_processes.close()
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("kind", FORMATS_APART)
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_every_pixel_is_the_one_this_process_would_have_decoded(kind, mode, processes):
    content = stored(photograph(700, 500).convert(mode if kind != "AVIF" else "RGB"), kind)
    expected = load_rgb(content, ImageLimits(), "The image", None, FORMATS_APART, lambda _: None)
    found = decode(content, ImageLimits())
    assert found.mode == "RGB"
    assert (np.asarray(found) == np.asarray(expected)).all()


def test_a_turned_and_a_huge_one_arrive_upright_and_small(processes):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = stored(photograph(90, 40), "TIFF", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert (np.asarray(decode(content, ImageLimits())) == np.asarray(upright)).all()
    huge = stored(Image.new("RGB", (4000, 3000), (9, 99, 199)), "TIFF", compression="tiff_adobe_deflate")
    found = decode(huge, ImageLimits(), enough=320)
    assert max(found.size) <= 3 * 320
    assert found.getpixel((3, 3)) == (9, 99, 199)


def test_a_large_picture_in_one_strip_is_within_the_limits(processes):
    picture = photograph(3000, 2000)
    one_strip = stored(picture, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 2000})
    assert (np.asarray(decode(one_strip, ImageLimits())) == np.asarray(picture)).all()


def test_ordinary_formats_start_no_process(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(decode_module.decoding_processes, "decode", refuse)
    for kind in FORMATS_HERE:
        assert decode(stored(photograph(60, 40), kind), ImageLimits()).size == (60, 40)


def test_one_process_decodes_picture_after_picture(processes):
    decode(stored(photograph(60, 40), "TIFF"), ImageLimits())
    first = pid_of(processes)
    for _ in range(5):
        decode(stored(photograph(60, 40), "BMP"), ImageLimits())
    with pytest.raises(NotAnImageError, match="not an image"):
        decode(b"no picture at all", ImageLimits())
    with pytest.raises(NotAnImageError, match="damaged"):
        decode(stored(photograph(60, 40), "TIFF")[:3000], ImageLimits())
    assert pid_of(processes) == first


def test_a_decoder_that_crashes_takes_its_own_picture_along(processes):
    decode(stored(photograph(60, 40), "TIFF"), ImageLimits())
    pid = pid_of(processes)
    threading.Timer(0.3, os.kill, (pid, signal.SIGSEGV)).start()
    with pytest.raises(NotAnImageError, match=f"makes the program end that decodes it .*{-signal.SIGSEGV}"):
        decode(HOSTILE["a BMP of ten million runs"](), ImageLimits())
    assert decode(stored(photograph(60, 40), "TIFF"), ImageLimits()).size == (60, 40)
    assert pid_of(processes) != pid


def test_one_that_has_gone_meanwhile_is_replaced(processes):
    decode(stored(photograph(60, 40), "TIFF"), ImageLimits())
    os.kill(pid_of(processes), signal.SIGKILL)
    assert decode(stored(photograph(60, 40), "TIFF"), ImageLimits()).size == (60, 40)


def test_a_process_without_work_ends(monkeypatch):
    monkeypatch.setattr(decoding_child, "IDLE_SECONDS", 0.05)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as requests, os.fdopen(writing, "wb"):
        decoding_child.serve(requests, io.BytesIO())  # returns, though nobody has ended


def test_who_holds_memory_never_waits_for_one_who_waits_for_memory(processes):
    """One process, one budget of one picture: the thread that holds it wants a second, and another its first."""
    content, budget = stored(photograph(600, 400), "TIFF"), MemoryBudget(1)
    arguments = (ImageLimits(), "The image", None, FORMATS_APART, budget)
    held, asked = threading.Event(), threading.Event()

    def holder():
        with budget.scope():
            budget.take(1)
            held.set()
            asked.wait(10)
            time.sleep(0.5)  # until the other has the process, and waits for memory
            return processes.decode(content, *arguments)

    def other():
        held.wait(10)
        with budget.scope():
            asked.set()
            return processes.decode(content, *arguments)

    with ThreadPoolExecutor(2) as threads:
        for found in [threads.submit(holder), threads.submit(other)]:
            assert found.result(timeout=60).size == (600, 400)


def test_threads_share_the_processes(processes):
    content = stored(photograph(60, 40), "TIFF")
    with ThreadPoolExecutor(8) as threads:
        sizes = {picture.size for picture in threads.map(lambda _: decode(content, ImageLimits()), range(40))}
    assert sizes == {(60, 40)}
    assert pid_of(processes)


def test_no_process_to_be_had_is_not_the_pictures_fault(processes, monkeypatch):
    def refuse(*_, **__):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(DecodingUnavailableError) as caught:
        decode(stored(photograph(60, 40), "TIFF"), ImageLimits())
    assert caught.value.retry


PARENT = """
import sys, threading
from everylabel.backend.images.decode import decode, decoding_processes
from everylabel.backend.images.decoding_limits import ImageLimits
threading.Thread(target=decode, args=(bytes.fromhex(sys.argv[1]), ImageLimits())).start()
while not decoding_processes._free:
    pass
print(decoding_processes._free[0]._process.pid, flush=True)
decode(sys.stdin.buffer.read(), ImageLimits(decode_seconds=300.0))
"""


@LINUX
@pytest.mark.parametrize("busy", [False, True])
def test_a_process_ends_with_its_parent_and_knows_none_of_its_secrets(busy):
    small = stored(photograph(6, 4), "TIFF")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, small.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "LABEL_STUDIO_API_KEY": "not-for-decoders"},
    )
    child = Path("/proc") / parent.stdout.readline().decode().strip()
    try:
        assert b"not-for-decoders" not in (child / "environ").read_bytes()
        if busy:
            parent.stdin.write(tiff_of_scans(9, 95))
            parent.stdin.close()
            before = ticks(child)
            wait_until(lambda: ticks(child) > before + 50, "the picture is being decoded")
        parent.kill()
        parent.wait()
        wait_until(lambda: is_gone(child), "the process that decodes ends", 10)
    finally:
        parent.kill()
        parent.wait()
        with suppress(OSError):
            os.kill(int(child.name), signal.SIGKILL)


def ticks(process: Path) -> int:
    return int((process / "stat").read_text().rsplit(")", 1)[1].split()[11])


def is_gone(process: Path) -> bool:
    """Whether a process has ended; nobody may have asked for its exit status yet."""
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
