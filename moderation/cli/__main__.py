"""`python -m moderation.cli`: the same as `moderation`."""

from __future__ import annotations

import sys

from moderation.cli import main

sys.exit(main())
