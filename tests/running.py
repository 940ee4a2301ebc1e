"""v2vweb as people run it, for tests and benchmarks: processes on a free port, with a data folder of their own."""

import contextlib
import http.cookiejar
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
LAB = PROJECT / "tests" / "lab"
CACHE = Path(os.environ.get("V2VWEB_LAB_CACHE") or Path.home() / ".cache" / "v2vweb-lab")

#: name -> role; "stranger" has an account and no role
PEOPLE = {"alice": "operator", "bob": "viewer", "charlie": "requester", "stranger": None}
PASSWORD = "correct-horse-battery"


class Site:
    """v2vweb as people run it: web and conductor as processes, on a free port, with a data folder of its own."""

    admin_password = "an-administrators-password"

    def __init__(self, **environment: str) -> None:
        # Not under pytest's tmp_path: that is too long for the unix sockets of virt-v2v's helpers.
        self.folder = Path(tempfile.mkdtemp(prefix="v2v-site-"))
        self.data_dir = self.folder / "data"
        self.source_root = self.folder / "images"
        self.source_root.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = os.environ | {
            "V2VWEB_DATA_DIR": str(self.data_dir),
            "V2VWEB_PORT": str(self.port),
            "V2VWEB_ADMIN_PASSWORD": self.admin_password,
            "V2VWEB_SOURCE_ROOTS": str(self.source_root),
            "V2VWEB_ACCELERATION": "tcg",
            **environment,
        }
        self.log = self.folder / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts everything and returns when pages are served."""
        subprocess.run([sys.executable, "setup/assets.py"], cwd=PROJECT, env=self.environment, check=True, timeout=120)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "v2vweb.serve"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/login/", timeout=10):
                return
            time.sleep(0.1)
        raise AssertionError(f"v2vweb did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stops web and conductor as SIGTERM does; conversions that run go on."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def pids(self, *words: str) -> list[int]:
        """Our processes whose command line has all these words: pids("conduct") is the conductor's."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"V2VWEB_DATA_DIR={self.data_dir}\0".encode() in (folder / "environ").read_bytes():
                    command = (folder / "cmdline").read_bytes().decode(errors="replace")
                    if all(word in command for word in words):
                        found.append(int(folder.name))
        return found

    def manage(self, *args: str, timeout: float = 60) -> str:
        """What `manage.py ARGS` prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=PROJECT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"manage.py {args[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def add_people(self) -> None:
        """Adds alice, bob, charlie and the stranger (PEOPLE), all with PASSWORD."""
        self.manage(
            "shell",
            "--no-imports",
            "-c",
            "from django.contrib.auth.models import Group, User\n"
            f"for name, role in {PEOPLE!r}.items():\n"
            f"    user = User.objects.create_user(name, password={PASSWORD!r})\n"
            "    if role:\n"
            "        user.groups.add(Group.objects.get(name=role))\n",
        )

    def cookies(self, user: str = "admin", password: str = "") -> list[dict[str, Any]]:
        """Logs in over HTTP and returns the cookies in the form that Playwright's add_cookies() takes."""
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        page = browser.open(f"{self.url}/login/", timeout=20).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, page
        if not password:
            password = self.admin_password if user == "admin" else PASSWORD
        form = {"csrfmiddlewaretoken": token[1], "username": user, "password": password}
        with contextlib.suppress(urllib.error.HTTPError):  # where it leads to is not this function's matter
            browser.open(f"{self.url}/login/", urllib.parse.urlencode(form).encode(), timeout=20).read()
        cookies = [{"name": c.name, "value": c.value or "", "url": self.url} for c in jar]
        assert any(c["name"] == "sessionid" for c in cookies), f"{user} could not log in"
        return cookies

    def close(self) -> None:
        """Ends everything, the conversions' agents too, and removes the folder."""
        self.stop()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(50):
                left = self.pids()
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
                if not left:
                    break
                time.sleep(0.2)
        if os.environ.get("V2VWEB_KEEP"):
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
