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


def as_png(width: int, height: int, data: bytes, *before: bytes) -> bytes:
    """A grey PNG that says a size, whatever its pixels are."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(before)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def zeros(megabytes: int) -> bytes:
    """So many megabytes of nothing, packed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


def noise(kind: str, **options: object) -> bytes:
    """A small picture of noise, in a format of Pillow's."""
    stored = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(stored, kind, **options)
    return stored.getvalue()


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG of 36 million pixels whose last scan comes so many times again."""
    stored = io.BytesIO()
    Image.new("L", (6000, 6000), 99).save(stored, "JPEG", progressive=True)
    jpeg = stored.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * scans + b"\xff\xd9"


def gif_of_frames(frames: int) -> bytes:
    """A GIF of so many pictures."""
    stored = io.BytesIO()
    first, *more = (Image.new("L", (2, 2), i % 256) for i in range(frames))
    first.save(stored, "GIF", save_all=True, append_images=more)
    return stored.getvalue()


FILES = {
    "pixels.png": lambda: as_png(10_000, 10_000, zeros(100)),
    "one-row.png": lambda: as_png(100_000_000, 1, zeros(100)),
    "one-column.png": lambda: as_png(1, 30_000_000, zeros(60)),
    "no-pixels.png": lambda: as_png(0, 0, b""),
    "huge.png": lambda: as_png(2**31 - 1, 2**31 - 1, zeros(1)),
    "profile.png": lambda: as_png(8, 8, zlib.compress(bytes(72)), chunk(b"iCCP", b"a\0\0" + zeros(200))),
    "text.png": lambda: as_png(8, 8, zlib.compress(bytes(72)), chunk(b"zTXt", b"a\0\0" + zeros(200))),
    "chunks.png": lambda: png_of_chunks(400_000),
    "comments.jpg": lambda: jpeg_of_comments(1_000_000),
    "comments.gif": lambda: gif_of_comments(2_000_000),
    "scans.jpg": lambda: jpeg_of_scans(3000),
    "strips.png": lambda: tiff_of_strips(2_000_000),
    "runs.bmp": lambda: bmp_of_runs(200, 200_000),
    "exif.jpg": lambda: noise("JPEG", exif=b"Exif\0\0" + exif_that_repeats_itself(3000, 20_000, 6)[:60_000]),
    "half.jpg": lambda: noise("JPEG")[:900],
    "half.webp": lambda: noise("WEBP")[:400],
    "frames.gif": lambda: gif_of_frames(3000),
    "zip.png": lambda: b"PK\x03\x04" + bytes(500),
    "script.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
}
"""Files that are no pictures, or cost far more than they look, by name."""
READABLE = {
    "one-column.png",
    "profile.png",
    "text.png",
    "chunks.png",
    "comments.jpg",
    "comments.gif",
    "exif.jpg",
    "frames.gif",
    "runs.bmp",
}
"""Those that may be read after all; of each other there must be a problem."""
