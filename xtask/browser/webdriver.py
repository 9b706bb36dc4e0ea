"""A headless Chromium, driven over the W3C WebDriver protocol with the standard library alone.

In: a folder for the profile and the logs. Out: pages opened, fields filled, buttons clicked, the address bar read. The
browser is new each time, reaches nothing but this machine, and is ended with the driver that started it.
"""

import base64
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

# Machines that build are slow; this is for what should never happen.
PATIENCE = 120
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class WebDriverError(Exception):
    pass


class Gone(WebDriverError):
    """The page changed while it was asked about."""


def wait(what, holds):
    """Asks until the answer is true, and gives it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = holds()
        except Gone:
            answer = None
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise WebDriverError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


class Browser:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        # A profile of its own: no cookie of an earlier login.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.session, self.browser_process = None, None
        self.log = self.folder / "driver.log"
        with open(self.log, "wb") as log:
            self.driver = subprocess.Popen(
                ["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.port = wait("the driver tells its port", self._port)
            try:
                self._begin()
            except WebDriverError as error:
                # A busy machine can be too slow for the browser's first second; nothing was tried with it yet.
                print(f"  the browser is started once more: {error}", flush=True)
                self._begin()
        except BaseException:
            self.close()
            raise

    def _port(self):
        said = self.log.read_text(errors="replace")
        if self.driver.poll() is not None:
            raise WebDriverError(f"chromedriver ended: {said}")
        found = re.search(r"started successfully on port (\d+)", said)
        return found and int(found.group(1))

    def _begin(self):
        arguments = [
            "--headless=new",
            f"--user-data-dir={self.folder / 'profile'}",
            "--window-size=1000,800",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            # Nothing but this machine has an address.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        options = {"args": arguments}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "pageLoadStrategy": "normal"}
        begun = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}}, session=False)
        self.session = begun["sessionId"]
        self.browser_process = begun["capabilities"].get("goog:processID")

    def _call(self, method, path, body=None, session=True):
        url = f"http://127.0.0.1:{self.port}/session" + (f"/{self.session}" if session else "") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        try:
            with OPENER.open(request, timeout=PATIENCE) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            told = json.load(error)["value"]
            gone = told["error"] in ("stale element reference", "no such element")
            raise (Gone if gone else WebDriverError)(f"{told['error']}: {told['message'].splitlines()[0]}") from None

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def address(self):
        """What stands in the address bar."""
        return self._call("GET", "/url")

    def title(self):
        return self._call("GET", "/title")

    def text(self):
        return wait("the page has a text", lambda: self._call("GET", f"/element/{self._find('body')}/text") or " ")

    def shows(self, selector):
        return bool(self._call("POST", "/elements", {"using": "css selector", "value": selector}))

    def _find(self, selector):
        found = {"using": "css selector", "value": selector}
        return wait(f"{selector} on the page {self.title()}", lambda: self._call("POST", "/element", found))[ELEMENT]

    def type(self, selector, text):
        element = self._find(selector)
        self._call("POST", f"/element/{element}/clear", {})
        self._call("POST", f"/element/{element}/value", {"text": text})

    def click(self, selector):
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def screenshot(self, file):
        pathlib.Path(file).write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self):
        if self.session is not None:
            try:
                self._call("DELETE", "")
            except (OSError, WebDriverError) as error:
                print(f"  the browser did not close by itself: {error}", flush=True)
                if self.browser_process is not None:
                    try:
                        os.kill(self.browser_process, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            self.session = None
        self.driver.terminate()
        try:
            self.driver.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
