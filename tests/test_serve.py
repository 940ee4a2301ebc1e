"""The process that runs web server and conductor, and the first administrator."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command

from conversions.roles import ROLES, role_of


def wait_for(what: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


def status(site: Any, path: str = "/login/") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.request("GET", path)
    return connection.getresponse().status


def test_web_and_conductor_are_started_again_when_they_die_and_end_together(make_site: Any) -> None:
    site = make_site()
    for words in (("v2vweb.web",), ("manage.py", "conduct")):
        (pid,) = wait_for(lambda words=words: site.pids(*words))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda words=words, pid=pid: site.pids(*words) not in ([], [pid]))
    assert status(site) == 200, "while the web server is started again, browsers wait"
    assert "The web server ended with -9; it is started again." in site.log.read_text()
    site.stop()
    assert site.process.returncode == 0
    assert site.pids() == []


def test_nothing_is_left_when_the_supervisor_itself_is_killed(make_site: Any) -> None:
    site = make_site()
    wait_for(lambda: site.pids("conduct"))
    site.process.kill()
    site.process.wait()
    wait_for(lambda: site.pids("v2vweb.web") + site.pids("manage.py") == [], 30)


def test_a_second_start_on_the_same_port_is_refused_in_one_line(make_site: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = os.environ | {"V2VWEB_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "v2vweb.serve"], env=environment, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == (
        f"v2vweb cannot listen on 127.0.0.1 port {port} (Address already in use): "
        "end what uses it, or set V2VWEB_PORT or V2VWEB_BIND.\n"
    )


def test_answers_do_not_name_the_server_and_carry_the_strict_policy(make_site: Any) -> None:
    site = make_site()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.request("GET", "/login/")
    answer = connection.getresponse()
    assert answer.getheader("Server") is None
    policy = answer.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy and "unsafe" not in policy
    wait_for(lambda: f"v2vweb is ready at {site.url}/" in site.log.read_text())
    assert site.admin_password not in site.log.read_text()


@pytest.mark.django_db
def test_the_first_administrator_gets_a_password_that_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("bootstrap")
    password = capsys.readouterr().out.split("password ")[1].split()[0]
    admin = User.objects.get()
    assert (admin.username, role_of(admin)) == ("admin", "admin")
    assert admin.check_password(password)
    assert {group.name for group in Group.objects.all()} == set(ROLES)
    call_command("bootstrap")
    assert capsys.readouterr().out == ""
    assert User.objects.get().password == admin.password


@pytest.mark.django_db
def test_the_password_from_the_environment_is_taken_and_not_shown(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"admin_password": "hunter2hunter2"})
    call_command("bootstrap")
    assert "hunter2" not in capsys.readouterr().out
    assert User.objects.get(username="admin").check_password("hunter2hunter2")


@pytest.mark.django_db
def test_an_administrator_who_was_put_out_of_service_stays_so() -> None:
    call_command("bootstrap")
    User.objects.update(is_active=False)
    before = User.objects.get().password
    call_command("bootstrap")
    assert not User.objects.get().is_active
    assert User.objects.get().password == before
