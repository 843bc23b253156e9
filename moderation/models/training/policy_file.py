"""New thresholds in a policy's YAML: numbers change, every other character stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from moderation.errors import PolicyError
from moderation.models.training.thresholds import Limits
from moderation.policy import parse_policy


def with_limits(text: str, limits: Sequence[Limits]) -> str:
    """The policy with the thresholds of `limits` where its rules have one, and `version` one
    higher when any of them changed. What a rule has not is not added.

    Raises PolicyError: not a policy, or thresholds that do not make one.
    """
    policy = parse_policy(text)
    wanted = {rule.label: rule for rule in limits}
    edits: list[tuple[int, int, str]] = []
    root = _mapping(yaml.compose(text, yaml.SafeLoader))
    rules = root["rules"]
    for node in rules.value:
        fields = _mapping(node)
        rule = wanted.get(str(fields["label"].value))
        if rule is None:
            continue
        for name, value in (("review_at", rule.review_at), ("block_at", rule.block_at)):
            old = fields.get(name)
            if value is not None and old is not None and float(old.value) != value:
                edits.append((old.start_mark.index, old.end_mark.index, number(value)))
    if edits:
        version = root["version"]
        edits.append((version.start_mark.index, version.end_mark.index, str(policy.version + 1)))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    parse_policy(text)
    return text


def number(value: float) -> str:
    """At least two digits, no more than needed, never an exponent."""
    short = f"{value:.12f}".rstrip("0")
    whole, _, part = short.partition(".")
    return f"{whole}.{part.ljust(2, '0')}"


def _mapping(node: yaml.Node | None) -> Mapping[str, yaml.ScalarNode]:
    if not isinstance(node, yaml.MappingNode):
        raise PolicyError("a policy and its rules are mappings")
    return {str(key.value): value for key, value in node.value}
