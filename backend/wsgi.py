"""What gunicorn serves: `gunicorn "everylabel.backend.wsgi:application()"`."""

from __future__ import annotations

import os
import sys

from flask import Flask

from everylabel.backend import logs
from everylabel.backend.app import create_app
from everylabel.backend.bootstrap import build
from everylabel.backend.settings import Settings
from everylabel.backend.store.private_files import OTHERS


def application() -> Flask:
    """The web side of a backend with settings from the environment; a trainer runs beside it."""
    # Webhooks come together and share one interpreter: by default one of them may keep it for 5 ms.
    sys.setswitchinterval(0.0005)
    os.umask(OTHERS)
    settings = Settings()
    logs.configure(settings)
    backend = build(settings)
    backend.trainer.wake()  # webhooks found nobody while this process was away, even where the trainer went on
    return create_app(backend)
