"""How Celery is configured, the same for those who send and those who consume.

The database is the truth, so Celery is kept to what a hint needs: no results, no events, no
remote control, late acknowledgement, and the same visibility timeout in every process (with
Redis the shortest value among them would win).
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Queue

from moderation.tasks.messages import INFER, LIGHT, MAX_PRIORITY

VISIBILITY_TIMEOUT_S: Final = 300
"""A delivered message that nobody acknowledged comes back after this. Jobs last seconds, and
the sweeper is much quicker, so this is only a net under the net."""

SOCKET_TIMEOUT_S: Final = 5.0
"""Longer than the 1 s that a consumer's blocking read lasts, short enough to notice."""

CONNECT_TIMEOUT_S: Final = 2.0


def celery_config(broker_url: str, *, socket_timeout_s: float = SOCKET_TIMEOUT_S) -> dict[str, Any]:
    """The configuration that producers and workers share."""
    return {
        "broker_url": broker_url,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": socket_timeout_s,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "priority_steps": list(range(MAX_PRIORITY + 1)),
            "queue_order_strategy": "priority",
        },
        "broker_connection_timeout": CONNECT_TIMEOUT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_track_started": False,
        "task_send_sent_event": False,
        "task_create_missing_queues": False,
        "task_queues": [Queue(name) for name in (INFER, LIGHT)],
        "task_default_queue": LIGHT,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }


def broker_priority(priority: int) -> int:
    """Our priority (9 is most urgent) as Redis queues count it (0 comes first)."""
    return MAX_PRIORITY - max(0, min(MAX_PRIORITY, priority))
