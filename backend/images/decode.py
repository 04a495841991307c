"""The bytes of an image file -> upright RGB pixels, within limits; and what can be wrong with an image."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

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

log = logging.getLogger(__name__)

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


class UnexpectedImageError(ImageError):
    """Something nobody has foreseen went wrong with one crop: a fault of ours, and no reason to stop the others."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(
            f"{what} could not be read: unexpected {type(error).__name__}",
            "Correct or delete the task; the backend's log has the traceback, which a report of this fault needs",
        )


@contextmanager
def one_crop_only(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an `ImageError`: the fault of one crop never stops the others.

    The traceback is logged the first time that a line of the code fails in this way, and not for each crop.

    Args:
        what: what messages call the crop; no address, which may hold a secret.

    Raises:
        ImageError: as it is, or an `UnexpectedImageError` in the place of any other exception.
    """
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        _log_once(error)
        raise UnexpectedImageError(what, error) from error


_logged: set[tuple[str, str, int]] = set()
_logging = Lock()
MOST_LOGGED = 100
"""Tracebacks of unexpected errors that one process logs: each comes from another line of the code."""


def _log_once(error: Exception) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    with _logging:
        known = (type(error).__name__, *where) in _logged or len(_logged) >= MOST_LOGGED
        _logged.add((type(error).__name__, *where))
    if not known:
        # Its text may quote an address with a signature: the lines of the code are enough.
        log.error(
            "a crop could not be read: unexpected %s; others that fail in the same place are not logged again\n%s",
            type(error).__name__,
            "".join(traceback.format_tb(error.__traceback__)),
        )


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes of the file, pixels of the decoded picture, seconds of request and decoding."""

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
    """Turn the bytes of an image file into upright RGB pixels: the first frame, as a browser shows it.

    Args:
        content: the file.
        limits: how many pixels are decoded; checked before any memory is taken for them.
        name: what messages call the image.
        enough: pixels the longer side needs. A much larger JPEG is decoded at a half, a quarter or an eighth of its
            size, which its format makes cheap; a huge picture of any format is given back smaller. None gives every
            pixel.

    All threads of the process share the memory of `decoding_memory`: this waits until what the picture takes is
    left, and holds it until it returns or, inside a `decoding_memory.scope()`, until that ends.

    Raises:
        NotAnImageError: empty, damaged, or of a format that is not read.
        ImageTooLargeError: too many pixels, too many scans, too much memory or too long a time to decode it.
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
    """Return by how much a picture is made smaller before it is made RGB; 1 leaves every pixel."""
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
