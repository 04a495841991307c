"""Make the clients that fetch crops from the settings, in this process or in one of a cluster."""

from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.settings import Settings


def make_label_studio(settings: Settings) -> LabelStudio:
    """Make the client for the Label Studio that these settings name."""
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())


def image_limits(settings: Settings) -> ImageLimits:
    """Return the limits of a picture that these settings name."""
    return ImageLimits(
        max_bytes=int(settings.max_image_megabytes * 1_000_000),
        max_pixels=int(settings.max_image_megapixels * 1_000_000),
    )


def make_reader(settings: Settings, label_studio: LabelStudio) -> ImageReader:
    """Make the reader of the pictures of tasks, within the limits of these settings.

    Args:
        settings: The limits, and whether private addresses are allowed.
        label_studio: The client, whose token opens Label Studio's own files.
    """
    return ImageReader(
        settings.label_studio_url,
        authorization=label_studio.authorization,
        limits=image_limits(settings),
        allow_private_addresses=settings.allow_private_addresses,
    )
