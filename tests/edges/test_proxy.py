"""Dagster's web server behind deploy/nginx.conf: what the page itself asks is answered, and what others ask is not.

The first tests say what Dagster does without a proxy: should it ever refuse these itself, they fail, and docs/deploy.md may be shorter.
"""

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.edges.browser import browser, needed
from tests.edges.web import ROOT, free_port, quiet_home, webserver
from tests.graph.small_world import make_world

pytestmark = pytest.mark.slow

CONFIG = ROOT / "deploy" / "nginx.conf"
USER = ("somebody", "correct horse")
MUTATION = "mutation{setNuxSeen}"
QUERY = {"query": "{version}"}
ELSEWHERE = "https://attack.example"


@dataclass(frozen=True)
class Site:
    """Where Dagster is, directly and through the proxy; the proxy's name is ``localhost``, its port its own."""

    direct: str
    proxied: str
    certificate: Path

    def ask(self, method: str = "POST", path: str = "/graphql", user: tuple[str, str] | None = USER, **more: Any) -> requests.Response:
        """Ask through the proxy."""
        return requests.request(
            method, self.proxied + path, auth=user, verify=str(self.certificate), timeout=30, allow_redirects=False, **more
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Debian's nginx with the very file of the documentation, in front of Dagster's own web server."""
    nginx, openssl = needed("nginx"), needed("openssl")
    folder = tmp_path_factory.mktemp("proxy")
    quiet_home(folder)
    port, key, certificate, users = free_port(), folder / "dagster.key", folder / "dagster.crt", folder / "dagster.htpasswd"
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *made, *named], check=True, capture_output=True)
    hashed = subprocess.run([openssl, "passwd", "-apr1", USER[1]], check=True, capture_output=True, text=True).stdout
    users.write_text(f"{USER[0]}:{hashed}")
    with webserver(folder, make_world(folder / "world")) as direct:
        text = CONFIG.read_text()
        for ours, test in {
            "https://dagster.example.com": f"https://localhost:{port}",
            "dagster.example.com": "localhost",
            "listen 443": f"listen 127.0.0.1:{port}",
            "127.0.0.1:3000": direct.removeprefix("http://"),
            "/etc/ssl": str(folder),
            "/etc/nginx": str(folder),
        }.items():
            assert ours in text
            text = text.replace(ours, test)
        paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        main = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}} http {{ access_log off; {paths} {text} }}"
        (folder / "nginx.conf").write_text(main)
        (folder / "dagster.htpasswd").chmod(0o644)
        for parent in (folder, *(parent for parent in folder.parents if "pytest-of-" in str(parent))):
            parent.chmod(0o755)  # where nginx runs as root, its workers do not
        with (folder / "nginx.log").open("wb") as log:
            process = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stdout=log, stderr=log)
        try:
            found = Site(direct, f"https://localhost:{port}", certificate)
            end = time.monotonic() + 30
            while not _is_up(found):
                assert process.poll() is None, (folder / "nginx.log").read_text()
                assert time.monotonic() < end, (folder / "nginx.log").read_text()
                time.sleep(0.1)
            yield found
        finally:
            process.terminate()
            process.wait(30)


def _is_up(site: Site) -> bool:
    try:
        return site.ask("GET", "/server_info").ok
    except requests.RequestException:
        return False


def heard(url: str, **more: Any) -> Any:
    """Ask for Dagster's version over a websocket."""
    with connect(url.replace("http", "ws", 1) + "/graphql", subprotocols=["graphql-ws"], open_timeout=20, **more) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(socket.recv(timeout=20))["type"] == "connection_ack"
        socket.send(json.dumps({"id": "1", "type": "start", "payload": {"query": "subscription{unknown}"}}))
        return json.loads(socket.recv(timeout=20))


# --- What Dagster's web server does by itself ------------------------------------------------------------------------


def test_dagster_executes_mutations_that_an_image_asks_for(site: Site) -> None:
    """By GET, whoever asks: the reason for all of this."""
    answer = requests.get(site.direct + "/graphql", params={"query": MUTATION}, headers={"Origin": ELSEWHERE}, timeout=30)
    assert answer.json() == {"data": {"setNuxSeen": True}}


def test_dagster_takes_websockets_from_foreign_pages(site: Site) -> None:
    """A page anywhere can listen to a Dagster that its reader's browser can reach."""
    assert heard(site.direct, origin=ELSEWHERE)


# --- Through the proxy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", ["/graphql", "/graphql/", "//graphql", "/%67raphql", "/x/../graphql", "/GraphQL"])
def test_nothing_but_post_asks_graphql(site: Site, method: str, path: str) -> None:
    """However the address is written; the page itself does not send these."""
    answer = requests.Session().send(
        _as_written(requests.Request(method, site.proxied, auth=USER, params={"query": MUTATION}), site.proxied + path),
        verify=str(site.certificate),
        timeout=30,
        allow_redirects=False,
    )
    assert answer.status_code == 405


def _as_written(request: requests.Request, url: str) -> requests.PreparedRequest:
    """Keep an address as it is: the client would tidy it up."""
    prepared = request.prepare()
    prepared.url = f"{url}?query={MUTATION}"
    return prepared


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Origin": "https://localhost.attack.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
    ids=str,
)
def test_a_foreign_page_may_not_post(site: Site, headers: dict[str, str]) -> None:
    """Whether it says so by its origin or by how it stands to ours; also a form that leads here."""
    assert site.ask(json=QUERY, headers=headers).status_code == 403
    assert site.ask(path="/report_asset_materialization/raw_events", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["attack.example", "127.0.0.1", "localhost.attack.example"])
def test_a_foreign_name_is_not_let_in(site: Site, host: str) -> None:
    """A name that somebody points at the proxy, which a browser takes for the page's own."""
    for method in ("GET", "POST"):
        assert site.ask(method, json=QUERY, headers={"Host": host}).status_code == 421


def test_a_foreign_page_may_not_listen(site: Site) -> None:
    """Nor one that says nothing of where it comes from but that it is no page of ours."""
    context = ssl.create_default_context(cafile=str(site.certificate))
    known = {"Authorization": requests.auth._basic_auth_str(*USER)}
    with pytest.raises(InvalidStatus) as refused:
        heard(site.proxied, ssl=context, origin=ELSEWHERE, additional_headers=known)
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        heard(site.proxied, ssl=context, additional_headers=known | {"Sec-Fetch-Site": "cross-site"})
    assert refused.value.response.status_code == 403


def test_nobody_unknown_is_let_in(site: Site) -> None:
    """Neither to read nor to ask."""
    assert site.ask("GET", "/", user=None).status_code == 401
    assert site.ask(json=QUERY, user=None).status_code == 401
    assert site.ask(json=QUERY, user=(USER[0], "wrong")).status_code == 401


def test_links_lead_here_from_anywhere(site: Site) -> None:
    """A link in a chat opens a page; the same from an image or a frame does not."""
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert site.ask("GET", "/assets/raw_events", headers=link).status_code == 200
    assert site.ask("GET", "/assets/raw_events", headers=link | {"Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert site.ask("GET", "/assets/raw_events", headers=link | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}).status_code == 403


def test_what_the_page_asks_is_answered(site: Site) -> None:
    """The page, with the policy added to Dagster's own; its questions, with and without a browser's marks; and its websocket."""
    page = site.ask("GET", "/")
    assert page.ok
    assert "img-src 'self' data:" in page.headers["Content-Security-Policy"]
    ours = {"Origin": site.proxied, "Sec-Fetch-Site": "same-origin"}
    assert "version" in site.ask(json=QUERY, headers=ours).json()["data"]
    assert "version" in site.ask(json=QUERY).json()["data"]
    context = ssl.create_default_context(cafile=str(site.certificate))
    known = {"Authorization": requests.auth._basic_auth_str(*USER)}
    assert heard(site.proxied, ssl=context, origin=site.proxied, additional_headers=known)


def test_the_page_works_in_a_browser(site: Site, tmp_path: Path) -> None:
    """It loads, asks and listens, and the policies refuse it nothing."""
    with browser(tmp_path, "--ignore-certificate-errors") as page:
        page.open(site.proxied.replace("//", f"//{USER[0]}:{USER[1].replace(' ', '%20')}@") + "/server_info")
        page.until(lambda one: "dagster_version" in one.text(), "was let in")
        page.open(site.proxied + "/assets/raw_events")  # the browser remembers who it is; the page may not have it in its address
        page.until(lambda one: "One row per accepted event" in one.text(), "told what the table holds")
        page.rest(3)
        assert [one for one in page.complaints if "Content Security Policy" in one or "WebSocket" in one] == []
        assert any(url.startswith("wss://") for url in page.sockets)
        assert page.ask("fetch('/graphql?query=%7Bversion%7D').then(answer => answer.status)") == 405
