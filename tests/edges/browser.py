"""A real browser for tests: Debian's Chromium, told what to do by the DevTools protocol, and asked what it fetched and shows."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from websockets.sync.client import ClientConnection, connect

PATIENCE_SECONDS = 120
LEFT = ("Inspected target navigated or closed", "Execution context was destroyed.", "Cannot find default execution context")
"""What Chromium answers where a page was left meanwhile."""


def needed(program: str) -> str:
    """Return where a program is; without it the test is skipped, but in CI it fails."""
    found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")  # where Debian puts nginx
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, and CI may not go without: apt-get install {program}")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


class LeftError(Exception):
    """The page was left for another while it was asked something."""


class Browser:
    """One page: every request it makes is kept, in order, as method and address."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.numbers = itertools.count(1)
        self.requests: list[tuple[str, str, str]] = []
        """Method, address and body of each request."""
        self.sockets: list[str] = []
        self.complaints: list[str] = []
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True, width=1400, height=1800)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result; what happens meanwhile is noted."""
        number = next(self.numbers)
        told = {"id": number, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        self.connection.send(json.dumps(told))
        while (message := self._next(PATIENCE_SECONDS)).get("id") != number:
            pass
        if message.get("error", {}).get("message") in LEFT:
            raise LeftError(message)
        assert "error" not in message, message
        return message["result"]

    def _next(self, seconds: float) -> Any:
        message = json.loads(self.connection.recv(timeout=seconds))
        match message:
            case {"method": "Network.requestWillBeSent", "params": {"request": request}}:
                self.requests.append((request["method"], request["url"], request.get("postData", "")))
            case {"method": "Network.webSocketCreated", "params": {"url": url}}:
                self.sockets.append(url)
            case {"method": "Log.entryAdded", "params": {"entry": entry}}:
                self.complaints.append(entry["text"])
        return message

    def rest(self, seconds: float) -> None:
        """Let the page be for a while, and note what it fetches."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self._next(left)
            except TimeoutError:
                return

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def ask(self, script: str) -> Any:
        """Evaluate a piece of JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """Return what the page says."""
        return self.ask("document.body ? document.body.innerText : ''")

    def until(self, is_so: Callable[[Self], object], what: str) -> None:
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._is_by_now(is_so):
            assert time.monotonic() < end, f"never {what}; the page says: {self.text()[:2000]}"
            self.rest(0.2)

    def _is_by_now(self, is_so: Callable[[Self], object]) -> bool:
        try:
            return bool(is_so(self))
        except LeftError:  # the next page will say
            return False

    def picture(self, file: Path) -> None:
        """Write down what the page looks like."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]))


@contextmanager
def browser(folder: Path, *more: str) -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and stop it."""
    program = needed("chromium")
    profile = folder / "profile"
    options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run", "--disable-gpu"]
    options += ["--disable-background-networking", "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *options, *more, "about:blank"], stdout=log, stderr=log, env=os.environ | {"HOME": str(folder)}
        )
    try:
        port = profile / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE_SECONDS
        while not (port.exists() and port.read_text().count("\n")):
            assert process.poll() is None, (folder / "chromium.log").read_text()[-2000:]
            assert time.monotonic() < end, (folder / "chromium.log").read_text()[-2000:]
            time.sleep(0.1)
        number, path = port.read_text().split("\n")[:2]
        with connect(f"ws://127.0.0.1:{number}{path}", max_size=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
