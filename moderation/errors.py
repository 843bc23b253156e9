"""Every error that the project raises on purpose.

    ModerationError                  base: a stable `code`, an HTTP status, one sentence
    ├── ConfigError                  settings, policy or manifest that cannot be used
    │   ├── PolicyError
    │   ├── SpecError
    │   └── WeightsError             a weight file is missing, or is not the pinned one
    ├── InputError                   what the caller sent cannot be used
    │   ├── MediaError               bytes that are no usable picture or video
    │   │   └── UnsupportedMediaError
    │   ├── FetchError               a URL that may not, or could not, be read
    │   ├── NotFoundError
    │   ├── ConflictError
    │   ├── AccessError              no key, or a wrong one
    │   │   └── ScopeError           the key lacks a scope
    │   └── LimitError               too large, too many
    └── ServiceError                 our side failed; trying again may help
        ├── BrokerError
        ├── StoreError
        ├── BlobError
        ├── OverloadedError          a bounded queue is full
        ├── ExpiredError             the deadline passed before the work ran
        └── InferenceError           a backend failed on an item

`code` is part of the API: once published it keeps its meaning.
"""

from __future__ import annotations

from typing import ClassVar


class ModerationError(Exception):
    """Base of all errors raised on purpose.

    `code` is a stable lower-case identifier; `status` the HTTP status that the gateway
    answers with; `str(error)` one sentence fit for the caller.
    """

    code: str = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries (decoder children), with their code.
        return (_rebuild, (type(self), self.message, self.code))


def _rebuild(cls: type[ModerationError], message: str, code: str) -> ModerationError:
    return cls(message, code=code)


class ConfigError(ModerationError):
    code = "config"


class PolicyError(ConfigError):
    code = "policy_invalid"


class SpecError(ConfigError):
    code = "spec_invalid"


class WeightsError(ConfigError):
    code = "weights_invalid"


class InputError(ModerationError):
    code = "input_invalid"
    status = 422


class MediaError(InputError):
    """Codes: empty_file, unsupported_format, playlist, truncated, corrupt, too_many_pixels,
    too_many_frames, too_large, decode_timeout, decode_memory, decode_crashed."""

    code = "corrupt"


class UnsupportedMediaError(MediaError):
    code = "unsupported_format"
    status = 415


class FetchError(InputError):
    """Codes: fetch_disabled, fetch_forbidden, fetch_failed, fetch_timeout, fetch_too_large."""

    code = "fetch_failed"


class NotFoundError(InputError):
    code = "not_found"
    status = 404


class ConflictError(InputError):
    code = "conflict"
    status = 409


class AccessError(InputError):
    code = "unauthorized"
    status = 401


class ScopeError(AccessError):
    code = "forbidden"
    status = 403


class LimitError(InputError):
    code = "too_large"
    status = 413


class ServiceError(ModerationError):
    code = "unavailable"
    status = 503


class BrokerError(ServiceError):
    code = "broker_unavailable"


class StoreError(ServiceError):
    code = "store_unavailable"


class BlobError(ServiceError):
    code = "blob_unavailable"


class OverloadedError(ServiceError):
    code = "overloaded"


class ExpiredError(ServiceError):
    code = "deadline_passed"


class InferenceError(ServiceError):
    code = "inference_failed"
    status = 500
