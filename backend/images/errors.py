"""Errors of fetching and decoding an image: why there is none, and the way out."""

from __future__ import annotations

from everylabel.backend.label_studio.crop_errors import ImageError


class ImageMissingError(ImageError):
    """There is no image where the task says."""


class ImageTooLargeError(ImageError):
    """The file has too many bytes, or the picture too many pixels."""


class NotAnImageError(ImageError):
    """The file is not an image, is damaged, or is of a format that is not read."""


class AddressRefusedError(ImageError):
    """The address is not fetched: its scheme is unknown, or it is on a private network."""


class ImageUnreachableError(ImageError):
    """The host did not answer, did not answer in time, or failed."""

    retry = True


class ImageTokenError(ImageError):
    """Label Studio wants a token, or another one, for this image."""

    retry = True


class DecodingUnavailableError(ImageError):
    """No process could be started to decode the image: the machine's fault, not the image's."""

    retry = True
