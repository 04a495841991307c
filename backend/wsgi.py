"""What gunicorn serves: `gunicorn "backend.wsgi:application()"`."""

from __future__ import annotations

from flask import Flask

from backend import logs
from backend.app import create_app
from backend.services import Services
from backend.settings import Settings


def application() -> Flask:
    """The web side of a backend with settings from the environment; a trainer runs beside it."""
    settings = Settings()
    logs.configure(settings.log_level)
    services = Services(settings)
    services.wake()  # webhooks found nobody while this process was away, even where the trainer went on
    return create_app(services)
