"""An HTTP server on this machine that serves byte ranges of a folder, counts what it is asked, and fails on demand."""

import http.server
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.command, self.path, asked, dict(self.headers)))
        fault = server.faults.pop(0) if server.faults else None
        path = Path(server.folder, unquote(urlsplit(self.path).path).lstrip("/"))
        if fault == "reset":
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if fault == "slow":
            time.sleep(1.6)
        if isinstance(fault, int) or isinstance(fault, str) and "://" in fault or not path.is_file():
            self.send_response(fault if isinstance(fault, int) else 302 if fault else 404)
            if isinstance(fault, str):
                self.send_header("Location", fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        first, last = 0, len(content) - 1
        if asked:
            first, last = (int(n) if n else len(content) - 1 for n in asked.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if with_body and fault == "cut":
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
        elif with_body:
            self.wfile.write(part)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that went away


@contextmanager
def serve(folder, port=0):
    """`port` 0 is one that is free.

    `server.faults`: for the next requests in turn a status, "reset", "cut", "slow", a URL to redirect to, or None.
    """
    with Server(("127.0.0.1", port), Handler) as server:
        server.folder, server.requests, server.faults = folder, [], []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
