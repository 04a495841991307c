"""Import what takes seconds to load: processes that answer requests or train import this module at their start.

Commands do not import it, and so start at once. A module that a function of this package imports inside because it
takes long to load belongs here too: no annotator's click waits for an import.
"""

# ruff: noqa: F401 - to import is all it does
from __future__ import annotations

import label_studio_sdk.core.api_error
import label_studio_sdk.label_interface
import label_studio_sdk.tokens.client_ext

import everylabel.model.classifiers.embedding
import everylabel.model.classifiers.multi_label
import everylabel.model.encoders.pixels
import everylabel.model.evaluation.stopping
import everylabel.model.label_quality.consensus
import everylabel.model.label_quality.set_consensus
import everylabel.model.query.auto
import everylabel.model.session
