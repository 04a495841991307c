"""Decode an image file into upright RGB pixels, within limits."""

from __future__ import annotations

from PIL import Image, UnidentifiedImageError

from everylabel.backend.images.decoding_limits import ImageLimits, decoding_memory, return_large_blocks
from everylabel.backend.images.decoding_process import decoding_processes
from everylabel.backend.images.errors import NotAnImageError
from everylabel.backend.images.load import load_rgb

return_large_blocks()
# What a browser shows an annotator, and TIFF; AVIF where Pillow has it. Not EPS, which goes to Ghostscript.
FORMATS_HERE = tuple(name for name in ("JPEG", "PNG", "WEBP", "GIF") if name in Image.OPEN)
"""Formats whose cost their header bounds: decoded in this process."""
FORMATS_APART = tuple(name for name in ("TIFF", "BMP", "AVIF") if name in Image.OPEN)
"""Formats whose header says little about the cost: decoded in a process that can be killed.

A TIFF may have a million strips, or hide JPEG pictures of many scans; a run-length coded BMP is decoded in Python; an
AVIF may hold frames that are decoded and never shown.
"""
FORMATS = FORMATS_HERE + FORMATS_APART


def decode(
    content: bytes, limits: ImageLimits, name: str = "The image", *, enough: int | None = None
) -> Image.Image:
    """Decode an image file into upright RGB pixels: the first frame, as a browser shows it.

    All threads of the process share the memory of `decoding_memory`: this waits until there is enough for the image,
    and holds it until it returns or, inside a `decoding_memory.scope()`, until that ends.

    Args:
        content: the file.
        limits: how many pixels are decoded; checked before any memory is taken for them.
        name: what messages call the image.
        enough: pixels the longer side needs. A much larger JPEG is decoded at a half, a quarter or an eighth of its
            size, which its format makes cheap; a huge image of any format is returned smaller. None gives every
            pixel.

    Raises:
        NotAnImageError: empty, damaged, or of a format that is not read.
        ImageTooLargeError: too many pixels or scans, or too much memory or time to decode.
        DecodingUnavailableError: no process could be started to decode it.
    """
    if not content:
        raise NotAnImageError(f"{name} is an empty file", "Upload the image again, or delete the task")
    with decoding_memory.scope():  # what it takes is free again when this returns
        try:
            return load_rgb(content, limits, name, enough, FORMATS_HERE, decoding_memory.take)
        except UnidentifiedImageError:
            pass
        try:
            return decoding_processes.decode(content, limits, name, enough, FORMATS_APART, decoding_memory)
        except UnidentifiedImageError as error:
            found = "a web page" if content.lstrip()[:1] == b"<" else "not an image of a format that is read"
            raise NotAnImageError(
                f"{name} is {found}", f"Give the task an image in one of these formats: {', '.join(FORMATS)}"
            ) from error
