"""No secret becomes an argument: the programs that stand before the real ones."""

import os
import shlex
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from conversions.agent import shims

PASSWORD = "p\"a\\ss$`word' x"


@pytest.fixture
def asked() -> "list[str | None]":
    return []


@pytest.fixture
def server(asked: "list[str | None]") -> "str":
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Set-Cookie", "vmware_soap_session=abc; Path=/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/folder"
    httpd.shutdown()


def cookie_script(folder: Path, url: str) -> str:
    """As virt-v2v 2.2 writes it (input/nbdkit_curl.ml)."""
    (folder / "pw").write_text(PASSWORD)
    return (
        "#!/bin/sh -\n"
        f"curl --head -s --insecure -u 'anna'\"$(printf ':')$(cat {folder}/pw)\" '{url}' |\n"
        "sed -ne '{ s/^Set-Cookie: \\([^;]*\\);.*/\\1/ip }'\n"
    )


def test_the_cookie_script_works_and_its_curl_never_sees_the_password_as_an_argument(
    tmp_path: Path, server: str, asked: "list[str | None]"
) -> None:
    import base64

    spy = tmp_path / "bin" / "curl"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/argv\nexec /usr/bin/curl "$@"\n')
    spy.chmod(0o700)
    script = tmp_path / "cookie"
    script.write_text(shims.safe_script(cookie_script(tmp_path, server)))
    script.chmod(0o700)
    env = os.environ | {"PATH": f"{spy.parent}:{os.environ['PATH']}"}
    done = subprocess.run([script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "vmware_soap_session=abc\n"
    assert asked == ["Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()]
    assert PASSWORD not in (tmp_path / "argv").read_text() and "anna" not in (tmp_path / "argv").read_text()


def test_nbdkit_gets_the_safe_script_in_place_of_the_other(tmp_path: Path) -> None:
    script = tmp_path / "cookie.sh"
    script.write_text("#!/bin/sh\ncurl -u a:b http://x\n")
    arguments = shims.safe_arguments(["-r", "curl", "url=https://x", f"cookie-script={script}"], tmp_path)
    assert arguments[-1] == f"cookie-script={script}.safe"
    assert "command curl -K -" in Path(f"{script}.safe").read_text()


def test_the_ssh_plugin_gets_the_attempts_key_and_host_keys(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    arguments = shims.safe_arguments(["-r", "ssh", "host=xen1", "path=/d.img"], tmp_path)
    assert arguments[-2:] == [f"identity={tmp_path}/key", f"known-hosts={tmp_path}/known_hosts"]
    assert shims.safe_arguments(["ssh", "--dump-plugin"], tmp_path) == ["ssh", "--dump-plugin"]


def test_what_nbdkit_is_asked_otherwise_passes_unchanged(tmp_path: Path) -> None:
    shims.write(tmp_path / "bin", tmp_path, os.environ["PATH"])
    env = os.environ | shims.write(tmp_path / "bin", tmp_path, os.environ["PATH"])
    ours = subprocess.run(
        [tmp_path / "bin" / "nbdkit", "--version"], env=env, capture_output=True, text=True, check=True
    )
    real = subprocess.run(["nbdkit", "--version"], capture_output=True, text=True, check=True)
    assert ours.stdout == real.stdout


@pytest.mark.parametrize("path", ["/vmfs/volumes/ds/web 04/web 04-flat.vmdk", "/a'b/$(id)#%.vmdk", "/plain.vmdk"])
def test_a_path_that_virt_v2v_asks_about_arrives_as_one_word(tmp_path: Path, path: str) -> None:
    (tmp_path / "key").write_text("k")
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "ssh"  # stands in for ssh: the shell at the other end gets the last words as one text
    real.write_text('#!/bin/bash\nwhile [ "$1" != root@esx1 ]; do shift; done; shift; printf "%s" "$*"\n')
    real.chmod(0o700)
    shims.write(tmp_path / "bin", tmp_path, f"{real.parent}:/usr/bin:/bin")

    def asked(*words: str) -> str:
        ours = [tmp_path / "bin" / "ssh", "-p", "22", "root@esx1", *words]
        return subprocess.run(ours, capture_output=True, text=True, check=True).stdout

    assert shlex.split(asked("test", "-f", path)) == ["test", "-f", path]
    assert asked("sh", "-c", "nc -U /x") == "sh -c nc -U /x"  # what libvirt asks stays as it is


def test_an_ssh_key_of_the_account_is_never_tried(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    shims.write(tmp_path / "bin", tmp_path, os.environ["PATH"])
    text = (tmp_path / "bin" / "ssh").read_text()
    assert "IdentitiesOnly=yes" in text and "StrictHostKeyChecking=yes" in text and f"-i {tmp_path}/key" in text
