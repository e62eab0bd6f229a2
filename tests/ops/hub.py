# SPDX-License-Identifier: Apache-2.0
"""A model hub on this machine: the few endpoints that a pull uses, with faults on request."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


class Hub:
    """Serves `files` (path in the repository to content) of the repository `org/repo`.

    Attributes:
        url: what HF_ENDPOINT is set to.
        cut_after: cut every download after so many bytes, once for each entry, then refuse with 503.
        ranges: the Range header of each download, "" where there was none.
        requests: method and path of all requests.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut_after: list[int] = []
        self.refusing = False
        self.lying_etag: str | None = None
        self.ranges: list[str] = []
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.requests.append(f"{request.command} {request.path}")
        found = re.fullmatch(r"/org/repo/resolve/([^/]+)/(.+)", request.path)
        content = self.files.get(found.group(2)) if found else None
        if content is None or (body and self.refusing):
            request.send_response(503 if content is not None else 404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = 0
        if body:
            asked = request.headers.get("Range", "")
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self._send(request, content, start, body=body)

    def _send(
        self, request: BaseHTTPRequestHandler, content: bytes, start: int, *, body: bool
    ) -> None:
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        etag = self.lying_etag or hashlib.sha256(content).hexdigest()
        request.send_header("ETag", f'"{etag}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.end_headers()
        if not body:
            return
        if self.cut_after:
            request.wfile.write(content[start : start + self.cut_after.pop(0)])
            self.refusing = True
            request.close_connection = True
            return
        request.wfile.write(content[start:])
