"""`sf2kafka login` as a person does it: a real browser, the login page, Allow or Deny, and the address bar pasted back.

In: PROGRAM, SIMULATOR_ORIGIN, CLIENT_ID, CLIENT_SECRET, USERNAME, PASSWORD, FOLDER (below the target directory), and the
name of one way as argument. Out: a line per check on stdout; exit code 1 with the reason and the path of a
screenshot at the first that does not hold. The processes that it starts are ended with it.
"""

import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import threading
import urllib.request

from webdriver import OPENER, Browser, WebDriverError, wait

PROGRAM = os.environ["PROGRAM"]
ORIGIN = os.environ["SIMULATOR_ORIGIN"]
USERNAME, PASSWORD = os.environ["USERNAME"], os.environ["PASSWORD"]
SECRETS = [os.environ["CLIENT_SECRET"], PASSWORD, "5Aep", "!AQ4AQ"]
NOWHERE = "127.0.0.1:9"


class NotHeld(Exception):
    pass


def held(what, condition, detail=""):
    if not condition:
        raise NotHeld(f"does not hold: {what} {detail}")
    print(f"  {what}", flush=True)


def control(path, order=None):
    body = None if order is None else json.dumps(order).encode()
    with OPENER.open(urllib.request.Request(f"{ORIGIN}/simulator/{path}", data=body), timeout=60) as response:
        return json.load(response)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Login:
    """The program as it waits in a terminal, with a configuration and a store of its own."""

    def __init__(self, folder, callback=None):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.store, self.config = folder / "login.json", folder / "sf2kafka.yaml"
        self.config.write_text(
            f"name: browser\n"
            f"salesforce:\n"
            f"  login_domain: {ORIGIN}\n"
            f"  auth: authorization-code\n"
            f"  client_id: {os.environ['CLIENT_ID']}\n"
            f"  client_secret: {os.environ['CLIENT_SECRET']}\n"
            + (f"  callback_url: {callback}\n" if callback else "")
            + f"  token_store: {self.store}\n"
            f"  pubsub: {{ endpoint: '{NOWHERE}', tls: false }}\n"
            f"kafka: {{ bootstrap_servers: '{NOWHERE}' }}\n"
            f"schema_registry: {{ url: 'http://{NOWHERE}' }}\n"
            f"objects: [Account]\n"
        )
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "127.0.0.1,localhost"}
        self.process = subprocess.Popen(
            [PROGRAM, "login", "-c", str(self.config), "--no-browser"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        self.said = {"stdout": [], "stderr": []}
        self.readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in self.said]
        for reader in self.readers:
            reader.start()

    def _read(self, name):
        for line in getattr(self.process, name):
            self.said[name].append(line.rstrip("\n"))

    def everything(self):
        return "\n".join(self.said["stdout"] + self.said["stderr"])

    def address(self):
        """The address that it prints, on a line of its own."""

        def printed():
            if self.process.poll() is not None:
                raise NotHeld(f"the program ended: {self.everything()}")
            return next((line for line in list(self.said["stderr"]) if line.startswith(f"{ORIGIN}/services/oauth2/authorize?")), None)

        return wait("the program prints the address to open", printed)

    def paste(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def ended(self):
        status = wait("the program ends", lambda: None if self.process.poll() is None else (self.process.poll(),))[0]
        for reader in self.readers:
            reader.join()
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def check(self):
        """What `sf2kafka check` says of this configuration, by what it looked at."""
        run = subprocess.run(
            [PROGRAM, "check", "-c", str(self.config), "--output", "json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment,
        )
        try:
            return {line["what"]: line for line in json.loads(run.stdout)}
        except ValueError:
            raise NotHeld(f"check made no report: {run.stdout}{run.stderr}") from None


def log_in(browser, login, mistyped=False):
    """Opens what the program prints and logs in; then the app's request is on the page."""
    browser.open(login.address())
    held("the login page is shown", browser.title() == "Login", browser.title())
    if mistyped:
        browser.type("#username", USERNAME)
        browser.type("#password", "not the password")
        browser.click("#Login")
        wait("the page says what is wrong", lambda: browser.shows("#error"))
        held("a wrong password is asked for again", "check your username and password" in browser.text())
    browser.type("#username", USERNAME)
    browser.type("#password", PASSWORD)
    browser.click("#Login")
    wait("the app's request is shown", lambda: browser.shows("#oaapprove"))
    held("the app asks for access to data at any time", all(word in browser.text() for word in ("(api)", "(refresh_token)")))


def arrived(browser, callback):
    return wait(f"the browser arrives at {callback}", lambda: (lambda at: at if at.startswith(callback) else None)(browser.address()))


def is_logged_in(login, code):
    held("the program ends with success", login.ended() == 0, login.everything())
    held("it says who is logged in", USERNAME in "\n".join(login.said["stdout"]), login.everything())
    held("it says where the login is kept", str(login.store) in "\n".join(login.said["stdout"]), login.everything())
    said = login.everything()
    held("it said no secret", not any(secret in said for secret in [*SECRETS, code]))
    mode = stat.S_IMODE(login.store.stat().st_mode)
    held("the store is for this user alone", mode == 0o600, oct(mode))
    report = login.check()
    held("check finds the login good", report.get("login", {}).get("passed") is True, report.get("login"))
    held("check reads data with it", report.get("object Account", {}).get("passed") is True, report)


def code_in(address):
    """The piece of the address bar behind `code=`, as it stands there."""
    return address.split("code=", 1)[1].split("&", 1)[0]


def whole_address(browser, folder):
    login = Login(folder)
    try:
        log_in(browser, login, mistyped=True)
        browser.click("#oaapprove")
        address = arrived(browser, f"{ORIGIN}/services/oauth2/success?")
        held("the code in the address bar is percent-encoded", code_in(address).endswith("%3D%3D"))
        login.paste(address)
        is_logged_in(login, code_in(address))
    finally:
        login.close()


def bare_code(browser, folder):
    login = Login(folder)
    try:
        log_in(browser, login)
        browser.click("#oaapprove")
        code = code_in(arrived(browser, f"{ORIGIN}/services/oauth2/success?"))
        login.paste(code)
        is_logged_in(login, code)
    finally:
        login.close()


def loopback(browser, folder):
    callback = f"http://localhost:{free_port()}/callback"
    control("logins/app", {"callbackUrls": [callback]})
    login = Login(folder, callback)
    try:
        log_in(browser, login)
        browser.click("#oaapprove")
        address = arrived(browser, f"{callback}?")
        wait("the program's own page is shown", lambda: "close this page" in browser.text())
        held("the browser ends on the program's page", "close this page" in browser.text(), browser.text())
        is_logged_in(login, code_in(address))
    finally:
        login.close()


def deny(browser, folder):
    login = Login(folder)
    try:
        log_in(browser, login)
        browser.click("#oadeny")
        login.paste(arrived(browser, f"{ORIGIN}/services/oauth2/success?error="))
        held("the program ends as failed", login.ended() == 1, login.everything())
        said = "\n".join(login.said["stderr"])
        held("it says that access was denied", "denied" in said, said)
        held("it says what to do", "hint: " in said, said)
        held("nothing is kept", not login.store.exists())
    finally:
        login.close()


WAYS = {"whole-address": whole_address, "bare-code": bare_code, "loopback": loopback, "deny": deny}


def main():
    name = sys.argv[1]
    folder = pathlib.Path(os.environ["FOLDER"]) / name
    # The org forgets earlier runs: the app asks anew, and its callbacks are those of the start.
    control("logins/app", {"approvedUsers": [], "callbackUrls": [f"{ORIGIN}/services/oauth2/success"]})
    browser = Browser(folder / "browser")
    try:
        WAYS[name](browser, folder / "program")
    except (NotHeld, WebDriverError) as error:
        screenshot = folder / "failed.png"
        try:
            browser.screenshot(screenshot)
            seen = f"\n  the browser then: {screenshot}"
        except (OSError, WebDriverError) as unseen:
            seen = f"\n  no screenshot: {unseen}"
        sys.exit(f"{error}{seen}")
    finally:
        browser.close()


main()
