"""A real S3 server on this host, and a proxy before it that fails and dawdles as asked."""

import http.client
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from moto.server import ThreadedMotoServer

from resources.storage.bucket import Bucket
from resources.storage.objects import Address

NAME = "shop"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}

Trouble = Callable[[int, str, str], int | float | None]
"""What becomes of a request, by its number, method and path: a status to answer with, seconds to wait first, or nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """Start a server with one bucket; return its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        requests.put(f"http://{host}:{port}/{NAME}", timeout=10).raise_for_status()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Proxy:
    """Hands requests on to a server, but for those in trouble; counts all."""

    def __init__(self, url: str) -> None:
        self.trouble: Trouble = lambda number, method, path: None  # noqa: ARG005
        self.seen: list[tuple[str, str]] = []
        proxy, behind = self, url.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((self.command, self.path))
                trouble = proxy.trouble(len(proxy.seen), self.command, self.path)
                if isinstance(trouble, int):
                    self.send_response(trouble)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                time.sleep(trouble or 0)
                connection = http.client.HTTPConnection(behind, timeout=30)
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {"content-length", "connection", "transfer-encoding", "server", "date"}:
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(content)
                connection.close()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def settle(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let this process, and those it starts, speak to that server."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": url, "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


def bucket(prefix: str) -> Bucket:
    """Return what is below a prefix."""
    return Bucket(Address(NAME, prefix))


def upload(local: Path, prefix: str, but: str | None = None) -> None:
    """Put a folder's files, as those who deliver events do; ``but``: how the names of those begin that are left out."""
    there = bucket(prefix)
    for path in sorted(local.rglob("*")):
        if path.is_file() and not (but and path.name.startswith(but)):
            there.put(path.relative_to(local).as_posix(), path)


def objects(prefix: str, under: str = "", end: str = "") -> dict[str, bytes]:
    """Return the content of objects by their names from there on."""
    there = bucket(prefix)
    contents = {stored.key: there.read(stored.key) for stored in there.all(under) if stored.key.endswith(end)}
    return {key.removeprefix(f"{under}/"): content[0] for key, content in contents.items() if content}
