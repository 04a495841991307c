"""Make the WSGI application for gunicorn: `gunicorn "everylabel.backend.wsgi:application()"`."""

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
    """Make the web application of a backend, with settings from the environment; the trainer is another process.

    Raises:
        pydantic.ValidationError: A setting has an invalid value.
        StorageError: The store is damaged, or cannot be reached or written to.
    """
    # Webhooks come in bursts and share one interpreter: by default one of them may keep it for 5 ms.
    sys.setswitchinterval(0.0005)
    os.umask(OTHERS)
    settings = Settings()
    logs.configure(settings)
    backend = build(settings)
    # Webhooks reached nobody while this process was down, even if the trainer kept running.
    backend.trainer.request_sync()
    return create_app(backend)
