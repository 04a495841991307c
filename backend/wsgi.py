"""What gunicorn serves: `gunicorn "backend.wsgi:application()"`."""

from __future__ import annotations

import os
import sys

from flask import Flask

from backend import logs
from backend.app import create_app
from backend.private_files import OTHERS
from backend.services import Services
from backend.settings import Settings


def application() -> Flask:
    """The web side of a backend with settings from the environment; a trainer runs beside it."""
    # Webhooks come together and share one interpreter: by default one of them may keep it for 5 ms.
    sys.setswitchinterval(0.0005)
    os.umask(OTHERS)
    settings = Settings()
    logs.configure(settings)
    services = Services(settings)
    services.trainer.wake()  # webhooks found nobody while this process was away, even where the trainer went on
    return create_app(services)
