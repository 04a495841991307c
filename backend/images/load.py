"""Load an image file of given formats into upright RGB pixels; every failure is an `ImageError` with its way out."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from everylabel.backend.images.decoding_limits import (
    BYTES_A_PIXEL,
    MOST_SCANS,
    SCANS_OF_THE_LARGEST,
    DecodingTooLongError,
    ImageLimits,
    TimedFile,
    TooManyPiecesError,
    decoding_bytes,
    most_reads,
    scans,
)
from everylabel.backend.images.errors import ImageTooLargeError, NotAnImageError
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.model.encoders.rgb import to_rgb

Image.init()
# A JPEG's resolution and its further pictures do not count here, and to find them Pillow parses what strangers wrote: before 13 it
# keeps what each of thousands of tags points at, though it be the same.
JpegImagePlugin.JpegImageFile._read_dpi_from_exif = lambda self: None  # type: ignore[method-assign]
JpegImagePlugin.JpegImageFile._getmp = lambda self: None  # type: ignore[method-assign]
DRAFTED = ("JPEG", "MPO")
"""Formats that can be decoded at a half, a quarter or an eighth of their size."""
LARGE_PIXELS = 8_000_000
"""Pictures with more are made smaller tile by tile before anything else, where not every pixel is needed."""
SPARE = 2
"""How many times what is enough a picture keeps that was made smaller so."""


def load_rgb(
    content: bytes,
    limits: ImageLimits,
    name: str,
    enough: int | None,
    formats: tuple[str, ...],
    take: Callable[[int], None],
) -> Image.Image:
    """Load an image file in this process.

    Args:
        content: the file.
        limits: how many pixels are decoded, and for how long.
        name: what messages call the image.
        enough: pixels the longer side needs; None gives every pixel.
        formats: the formats that are tried, as Pillow names them.
        take: called with the bytes that decoding takes, before it takes them; may wait.

    Returns:
        The first frame, upright, RGB.

    Raises:
        UnidentifiedImageError: the file is of none of these formats.
        ImageError: it is damaged or too large, or takes too long.
    """
    # Pillow's own limit (89 million pixels, a warning) must not undercut a larger one that was asked for.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limits.max_pixels)
    try:
        return _load(content, limits, name, enough, formats, take)
    except (ImageError, UnidentifiedImageError):
        raise
    except DecodingTooLongError as error:
        raise too_long(name, limits) from error
    except TooManyPiecesError as error:
        raise ImageTooLargeError(
            f"{name} is made of very many small pieces, which take long to read",
            "Save the image anew in another program",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name, "far more pixels than its bytes suggest", limits) from error
    except MemoryError as error:
        raise ImageTooLargeError(
            f"{name} takes far more memory to decode than its pixels need",
            "Save the image anew in another program",
        ) from error
    except Exception as error:  # a decoder fed hostile bytes raises anything
        raise NotAnImageError(
            f"{name} is a damaged or cut-off image ({type(error).__name__})",
            "Upload the image again, or delete the task",
        ) from error


def too_long(name: str, limits: ImageLimits) -> ImageTooLargeError:
    """Return the error for an image that takes longer than it may."""
    return ImageTooLargeError(
        f"{name} takes longer than {limits.decode_seconds:g} s to decode",
        "Save the image anew in another program, or smaller",
    )


def _load(
    content: bytes,
    limits: ImageLimits,
    name: str,
    enough: int | None,
    formats: tuple[str, ...],
    take: Callable[[int], None],
) -> Image.Image:
    with Image.open(TimedFile(content, limits.decode_seconds, most_reads(content)), formats=formats) as image:
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
        take(needed)
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
