"""The Celery application, made by a call: nothing is configured at import."""

from __future__ import annotations

from celery import Celery

from moderation.settings import Settings
from moderation.tasks.config import celery_config


def make_app(settings: Settings) -> Celery:
    """A Celery application on the settings' broker, without tasks."""
    app = Celery("moderation", set_as_current=False)
    app.conf.update(celery_config(settings.broker))
    return app
