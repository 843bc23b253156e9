"""The labels that the project has a name for, and how well their answers are known.

A name is a place to plug a model in, and no promise that one is loaded. A model of your own may
answer other labels too: whatever it answers is scored, and a rule of a policy may name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Accuracy = Literal["measured", "false_positives", "unmeasured"]
"""measured: recall and false positives, on sources left out of training, in the model's card.
false_positives: those alone, on ordinary pictures. unmeasured: the mechanism is tested, and no
model of this project answers; what a model of your own reaches is for you to measure."""


@dataclass(frozen=True, slots=True)
class Label:
    """`name` is `category.thing`, as in policies and verdicts."""

    name: str
    summary: str
    accuracy: Accuracy

    @property
    def category(self) -> str:
        return self.name.partition(".")[0]


LABELS = (
    Label(
        "porn.explicit",
        "Pornographic: sexual acts, nudity shown for its own sake, drawn too",
        "false_positives",
    ),
    Label(
        "porn.sexy",
        "Suggestive without being explicit; only nsfwjs-inception tells it apart",
        "false_positives",
    ),
    Label("smoking.smoking", "A person who smokes, or a lit cigarette", "measured"),
    Label("smoking.vape", "Vaping", "unmeasured"),
    Label("smoking.drug_use", "Taking drugs", "unmeasured"),
    Label("violence.weapon", "A pistol, a knife, a long gun", "measured"),
    Label("violence.fight", "People who fight", "measured"),
    Label("violence.fire", "Flames, or a plume of smoke", "measured"),
    Label("violence.gore", "Mutilation, heavy injuries", "false_positives"),
    Label("violence.blood", "Blood", "unmeasured"),
    Label("violence.riot", "A riot", "unmeasured"),
    Label("violence.explosion", "An explosion", "unmeasured"),
)
