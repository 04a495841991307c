"""Image files of a few kilobytes or megabytes made to cost far more than their header says."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

from PIL import Image

LETTERS = {3: "H", 4: "I"}  # TIFF's types SHORT and LONG
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES = 256, 257, 258, 259, 262, 273, 277
ROWS_A_STRIP, STRIP_BYTES, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 278, 279, 322, 323, 324, 325
JPEG_IN_TIFF = 7


def tiff(tags: Mapping[int, tuple[int, bytes]], data: bytes = b"") -> bytes:
    """A TIFF file of one directory; what `tags` holds is its values as they are stored, by their type."""
    values, entries = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for tag, (kind, stored) in sorted(tags.items()):
        count = len(stored) // struct.calcsize(LETTERS[kind])
        if len(stored) <= 4:
            entries += struct.pack("<HHI", tag, kind, count) + stored.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", tag, kind, count, start + len(values))
            values += stored
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return header + entries + bytes(4) + values + data


def short(n: int) -> tuple[int, bytes]:
    return 3, struct.pack("<H", n)


def long(*numbers: int, times: int = 1) -> tuple[int, bytes]:
    return 4, struct.pack(f"<{len(numbers)}I", *numbers) * times


def tiff_of_strips(n: int) -> bytes:
    """A grey TIFF one pixel wide, each of whose rows is a strip: Pillow keeps hundreds of bytes for each."""
    grey = {BITS: short(8), COMPRESSION: short(1), PHOTOMETRIC: short(1), SAMPLES: short(1)}
    size = {WIDTH: long(1), LENGTH: long(n), ROWS_A_STRIP: long(1)}
    return tiff({**grey, **size, STRIPS: long(8, times=n), STRIP_BYTES: long(1, times=n)})


def tiff_of_scans(tiles_a_side: int, scans: int) -> bytes:
    """A TIFF whose tiles are all the same progressive JPEG, whose last scan comes again and again."""
    side = 1024
    stored = io.BytesIO()
    Image.effect_noise((side, side), 90).save(stored, "JPEG", progressive=True, quality=30)
    jpeg = stored.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    jpeg = jpeg[:-2] + scan * (scans - jpeg.count(b"\xff\xda")) + b"\xff\xd9"
    n, width = tiles_a_side**2, tiles_a_side * side
    tags = {
        **{BITS: short(8), COMPRESSION: short(JPEG_IN_TIFF), PHOTOMETRIC: short(1), SAMPLES: short(1)},
        **{WIDTH: long(width), LENGTH: long(width), TILE_WIDTH: long(side), TILE_LENGTH: long(side)},
        TILE_BYTES: long(len(jpeg), times=n),
    }
    at = len(tiff({**tags, TILES: long(0, times=n)}))
    return tiff({**tags, TILES: long(at, times=n)}, jpeg)


def bmp_of_runs(side: int, runs: int) -> bytes:
    """A run-length coded BMP whose runs hold one pixel each, or none beyond its first row: decoded in Python."""
    palette, data = bytes(range(256)) * 4, bytes([1, 7]) * runs + b"\0\1"
    start = 14 + 40 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return header + palette + data


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_chunks(n: int) -> bytes:
    """A PNG with so many texts of a letter before its pixels."""
    stored = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stored, "PNG")
    png = stored.getvalue()
    return png[:33] + chunk(b"tEXt", b"a\0b") * n + png[33:]


def jpeg_of_comments(n: int) -> bytes:
    """A JPEG with so many empty comments before its pixels."""
    stored = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stored, "JPEG")
    jpeg = stored.getvalue()
    return jpeg[:2] + b"\xff\xfe\x00\x02" * n + jpeg[2:]


def gif_of_comments(n: int) -> bytes:
    """A GIF with a comment of so many blocks of a letter before its pixels."""
    stored = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stored, "GIF")
    gif = stored.getvalue()
    pixels = 13 + 3 * (2 << (gif[10] & 7))
    return gif[:pixels] + b"!\xfe" + b"\x01a" * n + b"\0" + gif[pixels:]


def exif_that_repeats_itself(entries: int, size: int, orientation: int) -> bytes:
    """An EXIF block whose many tags all point at the same bytes."""
    tags = [struct.pack("<HHIHH", 274, 3, 1, orientation, 0)]
    tags += [struct.pack("<HHII", 300 + i, 7, size, 8) for i in range(entries)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(tags) + bytes(4)
    return head + bytes(max(0, size + 8 - len(head)))
