"""Every error that a request can get: its code, status and title.

The request middleware turns a ServiceError into an RFC 9457 problem+json response.

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
    ├── ClientGone                                     499 (counted, never sent)
    ├── Internal                                       500
    ├── Overloaded, NotReady, Draining                 503
    └── DeadlineExceeded                               504
"""

from collections.abc import Mapping
from typing import Any, ClassVar

# `retry_after_s` of 503 responses whose wait is not computed from the queue, in seconds
RETRY_AFTER_S = 1.0  # the service starts, drains, or has too many uploads or connections
RETRY_AFTER_FAILURE_S = 5.0  # the device is lost or out of memory: a restart or other work helps


class ServiceError(Exception):
    """A request that was refused or has failed, with the reason for the client.

    Args:
        detail: one sentence for the client; never a stack trace or a file path.
        retry_after_s: seconds after which a retry may succeed.
        limits: the exceeded limits, by name.
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
    """The request has no body, or its image has no bytes."""

    code, status, title = "empty_body", 400, "Empty body"


class MalformedRequest(ServiceError):
    """The HTTP message, multipart body, JSON or base64 is broken, or has no image."""

    code, status, title = "malformed_request", 400, "Malformed request"


class Unauthorized(ServiceError):
    """API keys are configured, and the request has none of them."""

    code, status, title = "unauthorized", 401, "Unauthorized"


class NotFound(ServiceError):
    """There is no such route or no such model."""

    code, status, title = "not_found", 404, "Not found"


class ModelNotLoaded(ServiceError):
    """This service has no model for the task."""

    code, status, title = "model_not_loaded", 404, "Model not loaded"


class MethodNotAllowed(ServiceError):
    """The route exists, but not with this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class NotAcceptable(ServiceError):
    """`Accept` allows no media type that the route can send."""

    code, status, title = "not_acceptable", 406, "Not acceptable"


class UploadTooSlow(ServiceError):
    """The headers or the body arrive too slowly."""

    code, status, title, retryable = "upload_too_slow", 408, "Upload too slow", True


class PayloadTooLarge(ServiceError):
    """The body has more bytes than allowed."""

    code, status, title = "payload_too_large", 413, "Payload too large"


class ImageTooLarge(ServiceError):
    """The image has more pixels than allowed, according to its own header."""

    code, status, title = "image_too_large", 413, "Image too large"


class UnsupportedImageFormat(ServiceError):
    """The image has a format or coding that is not accepted, or the body is encoded."""

    code, status, title = "unsupported_image_format", 415, "Unsupported image format"


class InvalidImage(ServiceError):
    """The image cannot be decoded: it is truncated or corrupt."""

    code, status, title = "invalid_image", 422, "Invalid image"


class InvalidParameter(ServiceError):
    """A parameter is unknown or repeated, or a parameter or header has an invalid value."""

    code, status, title = "invalid_parameter", 422, "Invalid parameter"


class HeadersTooLarge(ServiceError):
    """The headers have more bytes or lines than allowed."""

    code, status, title = "headers_too_large", 431, "Headers too large"


class ClientGone(ServiceError):
    """The client disconnected before the response, so this error is only counted."""

    code, status, title = "client_gone", 499, "Client gone"


class Internal(ServiceError):
    """A bug; the log has the details under the request id."""


class Overloaded(ServiceError):
    """The queue is full, or the predicted wait exceeds the deadline.

    Attributes:
        reason: of a refusal by the queue: its label in the metrics.
        delay_s: wait before the response, in seconds.
    """

    code, status, title, retryable = "overloaded", 503, "Overloaded", True
    reason: str | None = None
    delay_s = 0.0


class NotReady(ServiceError):
    """The service is starting or has failed."""

    code, status, title, retryable = "not_ready", 503, "Not ready", True


class Draining(ServiceError):
    """The service is shutting down and accepts no new requests."""

    code, status, title, retryable = "draining", 503, "Draining", True


class DeadlineExceeded(ServiceError):
    """The deadline of the request has passed."""

    code, status, title, retryable = "deadline_exceeded", 504, "Deadline exceeded", True
