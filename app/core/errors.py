"""Owns the error taxonomy: every way a request can fail, with its code, status and title.

Knows nothing of the web framework; the edge turns a ServiceError into a problem+json answer.

    ServiceError
    ├── EmptyBody, MalformedRequest                    400
    ├── Unauthorized                                   401
    ├── NotFound, ModelNotLoaded                       404
    ├── MethodNotAllowed                               405
    ├── NotAcceptable                                  406
    ├── UploadTooSlow                                  408
    ├── PayloadTooLarge, ImageTooLarge                 413
    ├── UnsupportedImageFormat                         415
    ├── InvalidImage, InvalidParameter                 422
    ├── HeadersTooLarge                                431
    ├── ClientGone                                     499 (never sent, only counted)
    ├── Internal                                       500
    ├── Overloaded, NotReady, Draining                 503
    └── DeadlineExceeded                               504
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ServiceError(Exception):
    """A request that is refused or failed, with what its caller may know of the reason.

    Args:
        detail: one sentence for the caller; never a stack trace, never a path.
        retry_after_s: seconds after which a retry may succeed.
        limits: the bounds that were passed, by name.
        headers: response headers that belong to the status.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: float | None = None,
        limits: Mapping[str, int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.limits = limits
        self.headers = dict(headers or {})

    def problem(self, request_id: str) -> dict[str, Any]:
        """The RFC 9457 body of this error."""
        problem: dict[str, Any] = {
            "type": f"urn:patchserve:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:patchserve:request:{request_id}",
            "code": self.code,
            "request_id": request_id,
            "retryable": self.retryable,
        }
        if self.retry_after_s is not None:
            problem["retry_after_ms"] = round(self.retry_after_s * 1000)
        if self.limits is not None:
            problem["limits"] = dict(self.limits)
        return problem


class EmptyBody(ServiceError):
    """Nothing was sent."""

    code, status, title = "empty_body", 400, "Empty body"


class MalformedRequest(ServiceError):
    """Broken HTTP, multipart, JSON or base64."""

    code, status, title = "malformed_request", 400, "Malformed request"


class Unauthorized(ServiceError):
    """API keys are configured, and the request has none of them."""

    code, status, title = "unauthorized", 401, "Unauthorized"


class NotFound(ServiceError):
    """No such route, or no such model."""

    code, status, title = "not_found", 404, "Not found"


class ModelNotLoaded(ServiceError):
    """The task has no model in this service."""

    code, status, title = "model_not_loaded", 404, "Model not loaded"


class MethodNotAllowed(ServiceError):
    """The route exists, the method does not."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class NotAcceptable(ServiceError):
    """`Accept` names nothing that the route can answer with."""

    code, status, title = "not_acceptable", 406, "Not acceptable"


class UploadTooSlow(ServiceError):
    """Headers or a body that come in too slowly."""

    code, status, title, retryable = "upload_too_slow", 408, "Upload too slow", True


class PayloadTooLarge(ServiceError):
    """More body bytes than allowed."""

    code, status, title = "payload_too_large", 413, "Payload too large"


class ImageTooLarge(ServiceError):
    """More pixels than allowed, by the image's own header."""

    code, status, title = "image_too_large", 413, "Image too large"


class UnsupportedImageFormat(ServiceError):
    """The first bytes are not those of an enabled image format."""

    code, status, title = "unsupported_image_format", 415, "Unsupported image format"


class InvalidImage(ServiceError):
    """Bytes that do not decode: truncated or corrupt."""

    code, status, title = "invalid_image", 422, "Invalid image"


class InvalidParameter(ServiceError):
    """A query parameter or header out of its range."""

    code, status, title = "invalid_parameter", 422, "Invalid parameter"


class HeadersTooLarge(ServiceError):
    """More bytes or lines of headers than allowed."""

    code, status, title = "headers_too_large", 431, "Headers too large"


class ClientGone(ServiceError):
    """The caller left before the answer; nobody reads this one."""

    code, status, title = "client_gone", 499, "Client gone"


class Internal(ServiceError):
    """A bug; the log has the rest under the request id."""


class Overloaded(ServiceError):
    """The queue is full, or the predicted wait passes the deadline."""

    code, status, title, retryable = "overloaded", 503, "Overloaded", True


class NotReady(ServiceError):
    """Starting, or broken."""

    code, status, title, retryable = "not_ready", 503, "Not ready", True


class Draining(ServiceError):
    """Leaving: what was taken is still answered, nothing else is."""

    code, status, title, retryable = "draining", 503, "Draining", True


class DeadlineExceeded(ServiceError):
    """The request's own deadline, or the server's, has passed."""

    code, status, title, retryable = "deadline_exceeded", 504, "Deadline exceeded", True
