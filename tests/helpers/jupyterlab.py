"""A JupyterLab server and a headless Chromium, for the tests that look at notebooks as a reader does."""

import contextlib
import dataclasses
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# The Python of an environment with other versions of JupyterLab and ipywidgets.
PYTHON = os.environ.get("LSTM_TOOLKIT_JUPYTER", sys.executable)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium: install it (Debian: apt install chromium) or set CHROMIUM to the path of its program",
)
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Otherwise cells out of sight are not in the page.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
WAIT = 60_000
RED = "[data-mime-type='application/vnd.jupyter.stderr']"
TRACEBACK = "Traceback (most recent call last)"
ERROR_MESSAGE = re.compile(r'"msg_type": ?"error"')


@dataclasses.dataclass(frozen=True)
class Server:
    """A JupyterLab server that runs.

    Attributes:
        address: with its port, without a path.
        token: what it asks for.
    """

    address: str
    token: str

    def address_of(self, notebook):
        """Address of a notebook in JupyterLab, without what an earlier page left."""
        return f"{self.address}/lab/tree/{notebook}?token={self.token}&reset"

    def ask(self, path, method="GET"):
        """The bytes that the server's REST interface answers."""
        request = urllib.request.Request(f"{self.address}/api/{path}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def shut_down(self, notebook):
        """Ends the kernel of a notebook."""
        for session in json.loads(self.ask("sessions")):
            if session["path"] == notebook:
                self.ask(f"sessions/{session['id']}", "DELETE")


@contextlib.contextmanager
def serve(notebooks, state, *, theme="JupyterLab Light"):
    """A JupyterLab on a folder of notebooks that knows nothing of this machine's settings.

    Args:
        notebooks: the folder.
        state: a folder for the server's own files.
        theme: the name of JupyterLab's.
    """
    state.mkdir(parents=True, exist_ok=True)
    for name, settings in (SETTINGS | {"apputils-extension/themes": {"theme": theme}}).items():
        file = state / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    # A reader's server sets no log level; conftest.py does.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "TF_CPP"))}
    environment = kept | {
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "IPYTHONDIR": str(state / "ipython"),
    }
    port, token = _free_port(), secrets.token_hex(16)
    command = [
        *(PYTHON, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}"),
        "--LabApp.expose_app_in_browser=True",
    ]
    server, log = Server(f"http://127.0.0.1:{port}", token), state / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, cwd=state, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(server, process, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(server, process, log):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            server.ask("")
            return
        except OSError:
            assert process.poll() is None, Path(log).read_text()
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {Path(log).read_text()}")


@contextlib.contextmanager
def browse(width, height, **options):
    """A context of a new headless Chromium, for pages of this size; options are those of Playwright's `new_context`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=BROWSER_OPTIONS)
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(WAIT)
        yield context
        browser.close()


@dataclasses.dataclass(frozen=True)
class Watched:
    """What went wrong on a page so far.

    Attributes:
        console: errors in the browser's console, and exceptions that no script caught.
        requests: addresses on other machines that the page asked for.
        kernel: errors that the kernel reported, those of widgets' callbacks included: no cell shows those.
    """

    console: list = dataclasses.field(default_factory=list)
    requests: list = dataclasses.field(default_factory=list)
    kernel: list = dataclasses.field(default_factory=list)


def watch(page):
    """A `Watched` of a page that has not opened anything yet."""
    watched = Watched()

    def request(request):
        place = urllib.parse.urlsplit(request.url)
        if place.scheme in ("http", "https", "ws", "wss") and place.hostname != "127.0.0.1":
            watched.requests.append(request.url)

    def frame(payload):
        text = payload if isinstance(payload, str) else payload.decode(errors="replace")
        if ERROR_MESSAGE.search(text):
            watched.kernel.append(text[text.find('"ename"') :][:600])

    page.on("console", lambda message: watched.console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: watched.console.append(str(error)))
    page.on("request", request)
    page.on("websocket", lambda channel: channel.on("framereceived", frame))
    return watched


def open_notebook(context, address):
    """Opens a notebook and waits for its kernel.

    Args:
        context: of `browse`.
        address: of `Server.address_of`.

    Returns:
        The page, and the `Watched` of it.
    """
    page = context.new_page()
    watched = watch(page)
    page.goto(address)
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    idle(page)
    return page, watched


def idle(page, timeout=WAIT):
    """Waits until the kernel has nothing to do."""
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=timeout)


def run_all_cells(page):
    """Starts all cells; JupyterLab forgets what it is told before it is connected with the kernel."""
    from playwright.sync_api import expect

    prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first
    for _ in range(10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
        try:
            expect(prompt).not_to_have_text("[ ]:", timeout=5_000)
            return
        except AssertionError:
            continue
    pytest.fail("the first cell does not start")


def errors(page):
    """Where cells show errors; JupyterLab marks them as it marks what goes to standard error."""
    return page.locator(RED, has_text=TRACEBACK)


def logs(page):
    """Where cells show what went to standard error."""
    return page.locator(RED, has_not_text=TRACEBACK)


def shown(panel):
    """The markup of all that a panel of widgets says and draws."""
    said = panel.locator(".widget-html-content, .widget-output")
    return "".join(said.evaluate_all("each => each.map(one => one.innerHTML)"))
