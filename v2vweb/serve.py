"""Runs v2vweb: the web server and the conductor side by side, until Ctrl-C or SIGTERM.  `make run` ends here.

This process is the one that listens: while the web server is restarted, browsers wait instead of being refused.  It
loads neither Django nor the conversions.  Agents are no children of it: a conversion that runs goes on without us, and
the next conductor finds it.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from .environment import PROJECT, Environment, WrongSettingError, read_environment

#: Seconds that a part has for its end; the conductor may be in the middle of a step.
GRACE = 15
#: A part that dies is started again at once, then after 1, 2, 4, ... seconds; a minute of life makes it new.
LONGEST_PAUSE = 30
LONG_LIFE = 60


@dataclass
class Part:
    """A process that is to live as long as we do."""

    name: str
    argv: list[str]
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0
    deaths: int = 0
    due: float = field(default=0)  #: when it is to be started

    def start(self) -> None:
        self.started = time.monotonic()
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the parts in order.
        self.process = subprocess.Popen(
            [*_with_parent(), *self.argv],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            pass_fds=self.fds,
            start_new_session=True,
        )

    def tend(self) -> None:
        """Starts the process if it is time, notices its death."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.due:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        self.process = None
        self.deaths = self.deaths + 1 if now - self.started < LONG_LIFE else 0
        pause = min(LONGEST_PAUSE, 2 ** (self.deaths - 2)) if self.deaths > 1 else 0
        self.due = now + pause
        say(f"The {self.name} ended with {code}; it is started again{f' in {pause} s' if pause else ''}.")


def _with_parent() -> list[str]:
    """Ends a part when this process is killed with -9: it would keep the port and the lease otherwise."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def say(text: str) -> None:
    print(text, flush=True)


def listen(env: Environment) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in env.bind else socket.AF_INET
    return socket.create_server((env.bind, env.port), family=family, backlog=1024)


def parts(env: Environment, listener: socket.socket) -> list[Part]:
    # A web socket for a log is open for as long as somebody looks: Daphne would cut it after a day.
    web = [sys.executable, "-m", "v2vweb.web", "--websocket_timeout", "-1", "--no-server-name", "--verbosity", "0"]
    if listener.family == socket.AF_INET:
        web += ["--fd", str(listener.fileno())]
    else:
        listener.close()  # Daphne can take over IPv4 sockets only
        web += ["--bind", env.bind, "--port", str(env.port)]
    if env.https:
        web.append("--proxy-headers")
    return [
        Part(
            "web server", [*web, "v2vweb.asgi:application"], fds=(listener.fileno(),) if listener.fileno() >= 0 else ()
        ),
        Part("conductor", [sys.executable, "manage.py", "conduct"]),
    ]


def answers(env: Environment) -> bool:
    """Whether pages are served.  The socket takes connections from the start: only an answer counts."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(env.bind, env.bind)
    connection = http.client.HTTPConnection(host, env.port, timeout=5)
    try:
        connection.request("GET", "/login/", headers={"Host": "localhost"})
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def address(env: Environment) -> str:
    host = (
        env.allowed_hosts[0]
        if env.allowed_hosts
        else {"0.0.0.0": "localhost", "::": "localhost"}.get(env.bind, env.bind)
    )
    return f"http://{f'[{host}]' if ':' in host else host}:{env.port}/"


def end(running: list[Part]) -> None:
    living = [part.process for part in running if part.process]
    for process in living:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in living:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Stopped(Exception):
    """SIGTERM, SIGINT or SIGHUP."""


def _stop(number: int, frame: object) -> None:
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


def main() -> int:
    try:
        env = read_environment()
    except WrongSettingError as error:
        return refuse(str(error))
    try:
        listener = listen(env)
    except OSError as error:
        return refuse(
            f"v2vweb cannot listen on {env.bind} port {env.port} ({os.strerror(error.errno or 0)}): "
            "end what uses it, or set V2VWEB_PORT or V2VWEB_BIND."
        )
    listener.set_inheritable(False)
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, _stop)
    running: list[Part] = []
    try:
        done = subprocess.run([*_with_parent(), sys.executable, "manage.py", "bootstrap"], cwd=PROJECT)
        if done.returncode:
            return done.returncode
        os.environ["PYTHONUNBUFFERED"] = "1"
        running = parts(env, listener)
        announced = False
        while True:
            for part in running:
                part.tend()
            if not announced and answers(env):
                announced = True
                say(f"v2vweb is ready at {address(env)}  (Ctrl-C ends it)")
            time.sleep(0.5 if announced else 0.1)
    except Stopped:
        say("v2vweb ends.")
        return 0
    finally:
        end(running)


def refuse(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
