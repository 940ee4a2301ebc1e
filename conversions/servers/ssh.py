"""SSH to a saved source: its own key, the host keys that a person has compared, and nothing of this account.

Xen hosts are reached so, and ESXi hosts whose disks are read over SSH.
"""

import contextlib
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..agent import shims
from ..models import SavedSource
from ..problems import Problem, RefusedError
from ..sources.ssh_files import ssh_files, ssh_port
from . import programs
from .reach import open_port
from .trust import HostKey, fetch_host_keys

_REFUSED = re.compile(r"permission denied|too many authentication failures", re.I)
_HOST_KEY = re.compile(r"host key verification failed|host identification has changed", re.I)


def check_host_key(saved: SavedSource) -> None:
    """RefusedError "host-key-changed", or why there is nothing to compare."""
    found = {(key.type, key.key) for key in host_keys(saved)}
    pinned = {(key["type"], key["key"]) for key in saved.host_keys}
    if not pinned:
        raise RefusedError(
            Problem(
                "host-key-not-trusted-yet",
                "The SSH host key is not trusted yet",
                f"Nobody has confirmed yet that this is {saved.host}.",
                "Press “Look at what the server shows” on the source's page, compare the fingerprints with what the host's "
                "administrator says, then press “Trust it”.",
            )
        )
    if not found & pinned or {type for type, _ in pinned - found} & {type for type, _ in found}:
        raise _changed(saved)


def check_reach(saved: SavedSource) -> None:
    """Cheaper than comparing the keys here: ssh itself lets in only who shows a pinned one (`_changed` otherwise)."""
    if not saved.host_keys:
        check_host_key(saved)
    try:
        open_port(saved.host, ssh_port(saved)).close()
    except RefusedError as error:
        raise if_off(saved, error) from None


def host_keys(saved: SavedSource) -> list[HostKey]:
    """What it shows right now."""
    try:
        return fetch_host_keys(saved.host, ssh_port(saved))
    except RefusedError as error:
        raise if_off(saved, error) from None


def if_off(saved: SavedSource, error: RefusedError) -> RefusedError:
    """A closed port of an ESXi host has a cause that people can do something about."""
    if saved.kind != "esxi" or error.problem.code != "port-closed":
        return error
    return RefusedError(
        Problem(
            "ssh-off",
            "SSH is switched off at the ESXi host",
            f"Nothing answers on port {ssh_port(saved)} of {saved.host}, as long as SSH is not switched on there.",
            "In the host's web page: Host, Actions, Services, Enable Secure Shell (SSH). Or change the source to HTTPS.",
            "source owner",
        ),
        field=error.field,
        status=409,
    )


def _changed(saved: SavedSource) -> RefusedError:
    return RefusedError(
        Problem(
            "host-key-changed",
            "The host shows another SSH key",
            f"{saved.host} does not show the key that was trusted. Either it was installed anew, or somebody stands between.",
            "Ask the host's administrator; if the key was changed on purpose, trust the new one.",
            "administrator",
        ),
        status=409,
    )


@contextlib.contextmanager
def _surroundings(saved: SavedSource) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for a moment, and an environment in whose PATH ssh is the source's own."""
    with tempfile.TemporaryDirectory(prefix="v2vweb-ssh-") as name:
        folder = Path(name)
        for file, text in ssh_files(saved).items():
            path = folder / file
            path.touch(mode=0o600)
            path.write_text(text if text.endswith("\n") else f"{text}\n")
        path_before = os.environ.get("PATH", os.defpath)
        env = os.environ | shims.write(folder / "bin", folder, path_before)
        env["PATH"] = f"{folder / 'bin'}:{path_before}"
        yield folder, env


def with_ssh(saved: SavedSource, argv: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Runs a program in whose PATH ssh is the source's own.

    Raises RefusedError when SSH itself says no, when it does not finish in time, or when there is no such program.
    """
    with _surroundings(saved) as (_, env):
        program = shutil.which(argv[0], path=env["PATH"]) or argv[0]
        done = programs.run([program, *argv[1:]], timeout=timeout, slow=_too_slow(saved), env=env)
    if done.returncode != 0:
        _check(saved, done.stderr)
    return done


def _check(saved: SavedSource, said: str) -> None:
    if _HOST_KEY.search(said):
        raise _changed(saved)
    if _REFUSED.search(said):
        raise refused(saved, said)


def ask(saved: SavedSource, script: bytes, *, limit: int, timeout: float) -> bytes:
    """What a shell script prints at the other end, whatever its own end is: bytes, and not more than `limit` of them.

    Raises RefusedError when it cannot be reached, does not finish, or talks too much.
    """
    with _surroundings(saved) as (folder, env):
        file = folder / "script"
        file.write_bytes(script)
        target = ["-p", str(ssh_port(saved)), "--", f"{saved.user}@{saved.host}", "sh"]
        with file.open("rb") as stdin:  # a file: a pipe could fill while both sides wait for each other
            try:
                process = subprocess.Popen(
                    ["ssh", *target], env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            except OSError as error:
                raise programs.cannot_run("ssh", error) from None
            try:
                out, said = _read(saved, process, limit, time.monotonic() + timeout)
            finally:
                process.kill()
                process.communicate()
    if process.returncode == 255:
        _check(saved, said)
        raise broke_off(saved, last_line(said))
    return out


def _read(saved: SavedSource, process: subprocess.Popen[bytes], limit: int, end: float) -> tuple[bytes, str]:
    """Both outputs to their end, after which the process has ended too."""
    assert process.stdout and process.stderr
    found = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in found:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                raise _too_slow(saved)
            for key, _ in ready:
                pipe = process.stdout if key.fileobj is process.stdout else process.stderr
                piece = os.read(pipe.fileno(), 1 << 16)
                found[pipe] += piece
                if not piece:
                    selector.unregister(pipe)
            if sum(map(len, found.values())) > limit:
                raise _too_much(saved)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(1.0, end - time.monotonic()))
    return bytes(found[process.stdout]), found[process.stderr].decode("utf-8", "replace")


def broke_off(saved: SavedSource, why: str) -> RefusedError:
    return RefusedError(
        Problem(
            "ssh-broke-off",
            "The answer broke off",
            f"{saved.host} did not do to its end what v2vweb asked over SSH: {why}",
            f"Try again. If it stays so, check that {saved.user} has a shell there, as root has.",
            "source owner",
        )
    )


def _too_slow(saved: SavedSource) -> RefusedError:
    text = f"{saved.host} did not finish in time what v2vweb asked over SSH."
    check = (
        "whether libvirtd runs there (systemctl status libvirtd)"
        if saved.kind == "xen"
        else "what the host is busy with"
    )
    action = f"Try again. If it stays so, ask the host's administrator {check}."
    return RefusedError(Problem("ssh-no-answer", "No answer", text, action, "source owner"))


def _too_much(saved: SavedSource) -> RefusedError:
    text = f"{saved.host} sent far more than belongs to an answer. Nothing of it was taken."
    action = "Check that this is the ESXi host itself, and ask its administrator what stands in the way."
    return RefusedError(Problem("ssh-too-much", "Too long an answer", text, action, "source owner"))


def run(saved: SavedSource, command: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """A command in the shell at the other end.  Raises RefusedError when it cannot be reached or does not finish."""
    target = f"{saved.user}@{saved.host}"
    done = with_ssh(saved, ["ssh", "-p", str(ssh_port(saved)), "--", target, command], timeout)
    if done.returncode == 255:
        raise refused(saved, done.stderr)
    return done


def refused(saved: SavedSource, said: str) -> RefusedError:
    where = f"/etc/ssh/keys-{saved.user}/authorized_keys" if saved.kind == "esxi" else "~/.ssh/authorized_keys"
    return RefusedError(
        Problem(
            "ssh-refused",
            "SSH refused the login",
            f"{saved.host} did not let {saved.user} in with this key: {last_line(said)}",
            f"Add the key's public half to {where} of {saved.user} on {saved.host}.",
            "source owner",
        ),
        field="key",
    )


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1][:300]
