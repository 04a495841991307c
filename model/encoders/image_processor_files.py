"""The files of a model's folder that say how pictures are made ready for it. It loads no torch."""

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where an image processor's fields lie in a folder; in the second under `image_processor`."""
CONFIG_FILE = "config.json"
"""A model's configuration; timm's models have the fields of their image processor there."""
