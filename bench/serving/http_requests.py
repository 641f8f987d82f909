"""HTTP/1.1 requests as bytes."""


def raw_request(path: str, photo: bytes) -> bytes:
    """Return a request whose body is the file."""
    return post(path, "image/jpeg", photo)


def multipart_request(path: str, photo: bytes) -> bytes:
    """Return a request with the file as the part `file` of a form."""
    boundary = "patchserve-bench"
    disposition = 'Content-Disposition: form-data; name="file"; filename="photo.jpg"'
    head = f"--{boundary}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
    body = head + photo + f"\r\n--{boundary}--\r\n".encode()
    return post(path, f"multipart/form-data; boundary={boundary}", body)


def post(path: str, content_type: str, body: bytes) -> bytes:
    """Return a POST request with a body."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
