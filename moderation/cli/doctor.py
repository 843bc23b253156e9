"""`moderation doctor`: what is installed, what runs where, what is missing, how to mend it."""

from __future__ import annotations

import sys
from dataclasses import asdict

from moderation.cli.out import EXIT_OK, EXIT_WRONG, Config, Json, answer, note, table


def doctor(settings_file: Config = None, json: Json = False) -> int:
    """Examine this installation. Exit code 1 when something is broken."""
    from moderation.cli.checks import examine
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    found = []
    for check in examine(settings):
        found.append(check)
        if not json and sys.stderr.isatty():
            note(f"{check.name} …")
    broken = [check for check in found if check.state == "broken"]
    if json:
        answer({"healthy": not broken, "checks": [asdict(check) for check in found]})
    else:
        table(("part", "state", "what was found"), [(c.name, c.state, c.detail) for c in found])
        for check in found:
            if check.mend:
                note(f"{check.name}: {check.mend}")
    return EXIT_WRONG if broken else EXIT_OK
