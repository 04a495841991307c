"""Decode an image file into upright RGB pixels, within limits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from everylabel.backend.images.decoding_limits import (
    BYTES_A_PIXEL,
    MOST_SCANS,
    SCANS_OF_THE_LARGEST,
    DecodingTooLongError,
    TimedFile,
    decoding_bytes,
    decoding_memory,
    return_large_blocks,
    scans,
)
from everylabel.backend.images.errors import ImageTooLargeError, NotAnImageError
from everylabel.backend.label_studio.crop_errors import ImageError

Image.init()
return_large_blocks()
# What a browser shows an annotator, and TIFF; AVIF where Pillow has it. Not EPS, which goes to Ghostscript.
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "MPO") if name in Image.OPEN
)
DRAFTED = ("JPEG", "MPO")
"""Formats that can be decoded at a half, a quarter or an eighth of their size."""
LARGE_PIXELS = 8_000_000
"""Pictures with more are made smaller tile by tile before anything else, where not every pixel is needed."""
SPARE = 2
"""How many times what is enough a picture keeps that was made smaller so."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits of an image: bytes of the file, pixels of the decoded image, seconds of request and decoding."""

    max_bytes: int = 50_000_000
    max_pixels: int = 100_000_000
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    total_seconds: float = 60.0
    decode_seconds: float = 30.0
    """Of processor time; it is checked whenever the decoder wants more of the file."""


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
    """
    if not content:
        raise NotAnImageError(f"{name} is an empty file", "Upload the image again, or delete the task")
    # Pillow's own limit (89 million pixels, a warning) must not undercut a larger one that was asked for.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limits.max_pixels)
    try:
        with decoding_memory.scope():  # what it takes is free again when this returns
            return _decoded(content, limits, name, enough)
    except ImageError:
        raise
    except DecodingTooLongError as error:
        raise ImageTooLargeError(
            f"{name} takes longer than {limits.decode_seconds:g} s to decode",
            "Save the image anew in another program, or smaller",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name, "far more pixels than its bytes suggest", limits) from error
    except UnidentifiedImageError as error:
        found = "a web page" if content.lstrip()[:1] == b"<" else "not an image of a format that is read"
        raise NotAnImageError(
            f"{name} is {found}", f"Give the task an image in one of these formats: {', '.join(FORMATS)}"
        ) from error
    except Exception as error:  # a decoder fed hostile bytes raises anything
        raise NotAnImageError(
            f"{name} is a damaged or cut-off image ({type(error).__name__})",
            "Upload the image again, or delete the task",
        ) from error


def _decoded(content: bytes, limits: ImageLimits, name: str, enough: int | None) -> Image.Image:
    from everylabel.model.encoders.pixels import to_rgb  # noqa: PLC0415 - takes long to load

    with Image.open(TimedFile(content, limits.decode_seconds), formats=FORMATS) as image:
        pixels_of_file = image.width * image.height
        if pixels_of_file > limits.max_pixels:
            raise _too_many_pixels(name, f"{image.width} x {image.height} pixels", limits)
        if image.format in DRAFTED:
            _check_scans(content, pixels_of_file, name, limits)
            if enough is not None:
                scale = enough / max(image.size)
                image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        factor = _factor(image, enough)
        needed = decoding_bytes(image, content, pixels_of_file, shrunk=factor > 1)
        if needed > BYTES_A_PIXEL * limits.max_pixels:
            raise ImageTooLargeError(
                f"{name} takes {needed / 1e9:.1f} GB of memory to decode; "
                f"{BYTES_A_PIXEL * limits.max_pixels / 1e9:.1f} GB are allowed",
                "Shrink the image or save it without layers of refinement (not progressive), "
                "or set EVERYLABEL_MAX_IMAGE_MEGAPIXELS",
            )
        decoding_memory.take(needed)
        image.load()
        return to_rgb(image, factor)


def _factor(image: Image.Image, enough: int | None) -> int:
    """Return by how much an image is reduced before it becomes RGB; 1 keeps every pixel."""
    if enough is None or image.width * image.height <= LARGE_PIXELS:
        return 1
    return max(1, max(image.size) // (SPARE * enough))


def _check_scans(content: bytes, pixels: int, name: str, limits: ImageLimits) -> None:
    """Refuse a JPEG of very many scans: each is another pass over all pixels, and costs next to no bytes."""
    found = scans(content)
    if found > MOST_SCANS or found * pixels > SCANS_OF_THE_LARGEST * limits.max_pixels:
        raise ImageTooLargeError(
            f"{name} is a JPEG of {found:,} scans, which would take minutes to decode",
            "Save the image anew, as a JPEG that is not progressive",
        )


def _too_many_pixels(name: str, found: str, limits: ImageLimits) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"{name} has {found}; {limits.max_pixels / 1e6:g} million are read",
        "Shrink the image, or set EVERYLABEL_MAX_IMAGE_MEGAPIXELS",
    )
