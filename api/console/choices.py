"""What a reviewer chose, from a form; and what there is to choose."""

from __future__ import annotations

import re
from typing import Final

from api.console.access import Form
from api.schemas.reviews import LABEL
from moderation.errors import InputError
from moderation.labels import LABELS
from moderation.store.review_records import Action, Choice
from moderation.types import Verdict

NOTE_LENGTH: Final = 2000
MAX_LABELS: Final = 64


def choice_of(form: Form) -> Choice:
    """Fields: action, label, note; `known`, and for each `right:LABEL`. Raises InputError."""
    try:
        action = Action(form.get("action", 16))
    except ValueError as error:
        raise InputError("Choose pass, block or escalate.") from error
    label = form.get("label", 128) or None
    named = form.all("known")[:MAX_LABELS]
    if not all(re.fullmatch(LABEL, name) for name in (*named, *([label] if label else []))):
        raise InputError("There is no such label.")
    told = {name: form.get(f"right:{name}", 8) for name in named}
    return Choice(
        action,
        label if action is Action.BLOCK else None,
        form.get("note", NOTE_LENGTH) or None,
        {name: value == "yes" for name, value in told.items() if value in ("yes", "no")},
    )


def labels_for(verdict: Verdict | None) -> list[str]:
    """What a block may be for: what was flagged comes first."""
    first = list(dict.fromkeys(one.label for one in (verdict.reasons if verdict else ())))
    rest = sorted({one.name for one in LABELS} | set(verdict.scores if verdict else ()))
    return first + [name for name in rest if name not in first]
