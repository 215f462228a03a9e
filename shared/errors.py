"""Every error that a client or an operator can be told, as one tree.

    SwapyardError
    ├── InvalidRequest       400  invalid_json, invalid_request, model_required, bad_progress,
    │                             model_not_loaded
    ├── Unauthorized         401  unauthorized
    ├── Forbidden            403  forbidden
    ├── ModelNotFound        404  model_not_found
    ├── NotFound             404  not_found, and 405
    ├── DoesNotFit           409  does_not_fit
    ├── NotAllowed           405  invalid_request
    ├── RequestTimeout       408  request_timeout
    ├── TooLarge             413  too_large
    ├── UrlTooLong           414  url_too_long
    ├── HeadTooLarge         431  head_too_large
    ├── TenantLimit          429  tenant_limit
    ├── LoadFailed           503  load_failed
    ├── Unavailable          503  queue_full, box_unreachable, shutting_down
    ├── QueueTimeout         504  queue_timeout
    ├── NotSupported         501  not_supported
    ├── InternalError        500  internal_error
    └── EngineFailed         502  engine_died, engine_error, event_too_large; 504 engine_stalled

The shape is OpenAI's. `retry` becomes `x-should-retry`, which OpenAI's own clients obey.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar


class SwapyardError(Exception):
    status: int = 500
    type: str = "server_error"
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: float | None = None,
        **more: Any,
    ) -> None:
        """`retry_after` in seconds; `more` are further fields of the error object."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.more = more

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "code": self.code, "param": self.param}
        return json.dumps({"error": error | self.more}).encode()

    def for_log(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message}

    def event(self) -> bytes:
        """For a stream whose headers went out: clients raise on it; no `[DONE]` follows."""
        return b"data: " + self.body() + b"\n\n"

    def headers(self) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "x-should-retry": "true" if self.retry else "false",
        }
        if self.retry_after is not None and self.retry_after < math.inf:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        return headers

    def without_logs(self) -> SwapyardError:
        """As it is told to those who may not read the log of an engine."""
        return self


class InvalidRequest(SwapyardError):
    """The request is not one that any engine could answer."""

    status = 400
    type = "invalid_request_error"


class Unauthorized(SwapyardError):
    """The request shows no key, or none that is known. The message never repeats it."""

    status = 401
    type = "invalid_request_error"
    key: str | None = None  # whose it is, nobody can know

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unauthorized")

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "www-authenticate": "Bearer"}


class Forbidden(SwapyardError):
    """The key is known, and is not for this; any one of `needs` would do."""

    status = 403
    type = "invalid_request_error"

    def __init__(self, key: str | None, needs: Sequence[str]) -> None:
        scopes = " or ".join(needs) or "which no key has"
        super().__init__(
            f"The key {key!r} may not do this: use one with the scope {scopes}.", code="forbidden"
        )
        self.key = key  # its name

    def headers(self) -> dict[str, str]:
        challenge = 'Bearer error="insufficient_scope"'  # RFC 6750, section 3.1
        return {**super().headers(), "www-authenticate": challenge}


class ModelNotFound(SwapyardError):
    """No box knows this model; the message names what there is."""

    status = 404
    type = "invalid_request_error"

    def __init__(self, name: str, known: list[str]) -> None:
        there_is = ", ".join(known) if known else "none: no box has been heard yet"
        super().__init__(
            f"There is no model {name!r}. Models: {there_is}.",
            code="model_not_found",
            param="model",
        )


class NotFound(SwapyardError):
    """No such path here, or not with this method."""

    status = 404
    type = "invalid_request_error"

    def __init__(self, path: str, status: int = 404) -> None:
        said = f"There is nothing at {path}."
        if status == 405:
            said = f"{path} does not take this method."
        super().__init__(said, code="not_found" if status == 404 else "invalid_request")
        self.status = status


class NotAllowed(SwapyardError):
    """A method that nothing here takes."""

    status = 405
    type = "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="invalid_request")


class RequestTimeout(SwapyardError):
    """The request did not come to its end in time; `part` of it is what was waited for."""

    status = 408
    type = "invalid_request_error"
    retry = True

    def __init__(self, part: str) -> None:
        super().__init__(f"The {part} of the request took too long.", code="request_timeout")


class UrlTooLong(SwapyardError):
    status = 414
    type = "invalid_request_error"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The URL is longer than {limit} bytes.", code="url_too_long")


class HeadTooLarge(SwapyardError):
    status = 431
    type = "invalid_request_error"

    def __init__(self, headers: int, limit: int) -> None:
        said = f"The request has more than {headers} headers, or a head of more than {limit} bytes."
        super().__init__(said, code="head_too_large")


class DoesNotFit(SwapyardError):
    """The box can never hold this model; the message gives the sum."""

    status = 409
    type = "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="does_not_fit")


class TooLarge(SwapyardError):
    """The body is larger than this server takes."""

    status = 413
    type = "invalid_request_error"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes.", code="too_large")


class TenantLimit(SwapyardError):
    """As many requests of one tenant wait as may; others may still come."""

    status = 429
    type = "rate_limit_error"
    retry = True


class LoadFailed(SwapyardError):
    """The engine did not become ready; `cause` says why, `log_tail` shows its last words."""

    status = 503

    def __init__(
        self, message: str, cause: str, log_tail: list[str], retry_after: float | None
    ) -> None:
        super().__init__(
            message, code="load_failed", cause=cause, log_tail=log_tail, retry_after=retry_after
        )

    def without_logs(self) -> LoadFailed:
        bare = LoadFailed(self.message, self.more["cause"], [], self.retry_after)
        del bare.more["log_tail"]
        return bare


class Unavailable(SwapyardError):
    """Nobody can serve this now; a later try may do."""

    status = 503
    retry = True


class QueueTimeout(SwapyardError):
    """The request has waited longer than `queue.max_wait`."""

    status = 504
    retry = True

    def __init__(self, model: str, waited: float) -> None:
        said = f"{model} could not be had within {waited:.0f} s, the router's queue.max_wait."
        super().__init__(said, code="queue_timeout")


class NotSupported(SwapyardError):
    """This engine cannot do that."""

    status = 501

    def __init__(self, message: str) -> None:
        super().__init__(message, code="not_supported")


class InternalError(SwapyardError):
    """A fault of ours; the log says which."""

    def __init__(self) -> None:
        super().__init__("Something went wrong in the router.", code="internal_error")


class EngineFailed(SwapyardError):
    """The engine took the request and did not answer it as it should."""

    status = 502

    def for_log(self) -> dict[str, Any]:
        """Without its message: an engine's own words may quote the prompt."""
        return {"code": self.code, "engine_status": self.more.get("engine_status")}


class EngineStalled(EngineFailed):
    """The engine has been silent for too long."""

    status = 504

    def __init__(self, silence: float) -> None:
        said = (
            f"The engine was silent for {silence:.0f} s, its `silence_timeout`. Without"
            " `stream: true` it is silent until the whole answer is made."
        )
        super().__init__(said, code="engine_stalled")
