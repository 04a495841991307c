"""The bytes of an image file -> upright RGB pixels, within limits; and what can be wrong with an image."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from model.encoders.pixels import to_rgb

Image.init()
# What a browser shows an annotator, and TIFF; AVIF where Pillow has it. Not EPS, which goes to Ghostscript.
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "MPO") if name in Image.OPEN
)
DRAFTED = ("JPEG", "MPO")
"""Formats that can be decoded at a half, a quarter or an eighth of their size."""


class ImageError(Exception):
    """An image of a task cannot be had. The message says what is wrong and what helps, and holds no token."""

    retry = False
    """Whether the same request may well succeed later, with nothing changed in the task."""

    def __init__(self, reason: str, way_out: str) -> None:
        super().__init__(f"{reason}. {way_out}")
        self.reason = reason
        self.way_out = way_out


class ImageMissingError(ImageError):
    """There is no image where the task says."""


class ImageTooLargeError(ImageError):
    """The file has too many bytes, or the picture too many pixels."""


class NotAnImageError(ImageError):
    """What was found is not an image, a damaged one, or of a format that is not read."""


class AddressRefusedError(ImageError):
    """The address is of a kind that is not fetched: a scheme, or a private network."""


class ImageUnreachableError(ImageError):
    """The host did not answer, not in time, or with a failure of its own."""

    retry = True


class ImageTokenError(ImageError):
    """Label Studio wants a token, or a better one, for this image."""

    retry = True


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes of the file, pixels of the decoded picture, seconds of the request."""

    max_bytes: int = 50_000_000
    max_pixels: int = 100_000_000
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    total_seconds: float = 60.0


def decode(
    content: bytes, limits: ImageLimits, name: str = "The image", *, enough: int | None = None
) -> Image.Image:
    """Turn the bytes of an image file into upright RGB pixels: the first frame, as a browser shows it.

    Args:
        content: the file.
        limits: how many pixels are decoded; checked before any memory is taken for them.
        name: what messages call the image.
        enough: pixels the longer side needs. A much larger JPEG is decoded at a half, a quarter or an eighth of its
            size, which its format makes cheap; None decodes every pixel.

    Raises:
        NotAnImageError: empty, damaged, or of a format that is not read.
        ImageTooLargeError: too many pixels.
    """
    if not content:
        raise NotAnImageError(f"{name} is an empty file", "Upload the image again, or delete the task")
    # Pillow's own limit (89 million pixels, a warning) must not undercut a larger one that was asked for.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limits.max_pixels)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > limits.max_pixels:
                raise _too_many_pixels(name, f"{width} x {height} pixels", limits)
            if enough is not None and image.format in DRAFTED:
                scale = enough / max(width, height)
                image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
            image.load()
            return to_rgb(image)
    except ImageError:
        raise
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


def _too_many_pixels(name: str, found: str, limits: ImageLimits) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"{name} has {found}; {limits.max_pixels / 1e6:g} million are read",
        "Shrink the image, or set EVERYLABEL_MAX_IMAGE_MEGAPIXELS",
    )
