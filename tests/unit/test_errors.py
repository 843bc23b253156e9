from __future__ import annotations

import pickle

from moderation import errors


def test_errors_keep_their_code_across_processes() -> None:
    error = errors.MediaError("cut short", code="truncated")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), copy.code, str(copy)) == (errors.MediaError, "truncated", "cut short")


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.ModerationError):
            assert name in drawn, name
