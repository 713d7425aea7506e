"""A headless Chromium, spoken to by the WebDriver protocol: no package is needed, and nothing outside is reached."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def absent():
    """Why there is no browser to test with; None where there is one."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} on this machine" if missing else None


class Browser:
    """One open page.

    Args:
        session: Address of the session.
    """

    def __init__(self, session):
        self.session = session

    def open(self, path, *, width, height=900, dark=False):
        """Show a file in a window of some size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.cdp("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.cdp("Emulation.setEmulatedMedia", {"features": features})
        call(f"{self.session}/url", {"url": Path(path).resolve().as_uri()})

    def ask(self, script):
        """The value of a JavaScript expression in the page."""
        return call(f"{self.session}/execute/sync", {"script": f"return {script}", "args": []})

    def press(self, key):
        """Press a key."""
        code = {"Tab": "\ue004", "Enter": "\ue007"}[key]
        strokes = [{"type": kind, "value": code} for kind in ("keyDown", "keyUp")]
        call(f"{self.session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def complaints(self):
        """What the console was told since it was last asked."""
        return [
            f"{entry['level']}: {entry['message']}" for entry in call(f"{self.session}/se/log", {"type": "browser"})
        ]

    def shoot(self, path, *, top=0, height=None):
        """A picture of the page from `top` on, all of it by default."""
        size = self.cdp("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        shot = self.cdp("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def cdp(self, name, values):
        """A command of Chromium's own protocol."""
        return call(f"{self.session}/goog/cdp/execute", {"cmd": name, "params": values})


def call(address, values=None, method="POST"):
    """The value of a WebDriver command."""
    body = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()[:2000]) from error


@contextmanager
def browser():
    """A browser with a profile of its own, which ends with the context."""
    with socket.socket() as free, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            session = _session(f"http://127.0.0.1:{port}", home)
            try:
                yield Browser(session)
            finally:
                call(session, method="DELETE")
        finally:
            driver.terminate()
            driver.wait(30)


def _session(driver, home):
    options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={home}"]}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    for _ in range(100):
        try:
            found = call(f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
            return f"{driver}/session/{found['sessionId']}"
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError("chromedriver does not answer")
