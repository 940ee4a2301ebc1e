"""Programs that stand in PATH before the real ones while virt-v2v runs, so that no secret is ever an argument.

virt-v2v 2.2 lets nbdkit run a script that calls `curl -u USER:PASSWORD` (its source, input/nbdkit_curl.ml): every user of
the machine could read that.  And neither it nor libvirt can be told which SSH key and which host keys are meant.

    nbdkit    this file as a program: gives the cookie script a safe curl, the ssh plugin its key and known hosts
    ssh, scp  the attempt's own key and known hosts, nothing of the account that v2vweb runs under
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

#: Shell functions have no argv that others see; curl reads the user from its standard input instead.
_SAFE_CURL = r"""
curl() {
    v2v_user= v2v_n=$#
    while [ "$v2v_n" -gt 0 ]; do
        v2v_n=$((v2v_n - 1))
        if [ "$1" = -u ] && [ "$v2v_n" -gt 0 ]; then
            v2v_user=$(printf '%s\n' "$2" | sed 's/[\\"]/\\&/g')
            shift 2; v2v_n=$((v2v_n - 1))
        else
            set -- "$@" "$1"; shift
        fi
    done
    if [ -n "$v2v_user" ]; then printf 'user = "%s"\n' "$v2v_user" | command curl -K - "$@"; else command curl "$@"; fi
}
"""


#: virt-v2v 2.2 asks the host `test -f PATH` without quotes for the shell there (its source, input/ssh.ml): a guest with a
#: space in its name was said to have snapshots.
_QUOTED_TEST = r"""
v2v_n=$# v2v_1= v2v_2=
while [ "$v2v_n" -gt 0 ]; do
    if [ "$v2v_n" = 1 ] && [ "$v2v_2 $v2v_1" = "test -f" ]; then
        set -- "$@" "'$(printf '%s' "$1" | sed "s/'/'\\\\''/g")'"
    else
        set -- "$@" "$1"
    fi
    v2v_2=$v2v_1 v2v_1=$1 v2v_n=$((v2v_n - 1))
    shift
done
"""


def write(folder: Path, secrets: Path, path: str) -> dict[str, str]:
    """Writes the programs into `folder`; returns the environment that they and libvirt need."""
    folder.mkdir(exist_ok=True)
    empty = folder / "no-auth"  # an account's own libvirt auth file would win over -ip (tried with 2.2)
    empty.touch(mode=0o600)
    env = {"LIBVIRT_AUTH_FILE": str(empty), "LIBVIRT_LOG_FILTERS": "4:esx"}
    if real := shutil.which("nbdkit", path=path):
        _program(folder / "nbdkit", f'exec {shlex.quote(sys.executable)} -I {shlex.quote(__file__)} "$@"')
        env |= {"V2VWEB_NBDKIT": real, "V2VWEB_SSH_FILES": str(secrets)}
    options = (
        f"-o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o ConnectTimeout=20 "
        f"-o UserKnownHostsFile={shlex.quote(str(secrets / 'known_hosts'))} -o GlobalKnownHostsFile=/dev/null "
        f"-i {shlex.quote(str(secrets / 'key'))}"
    )
    ssh, scp = shutil.which("ssh", path=path), shutil.which("scp", path=path)
    if ssh and (secrets / "key").exists():
        _program(folder / "ssh", f'{_QUOTED_TEST}exec {shlex.quote(ssh)} {options} "$@"')
        if scp:
            _program(folder / "scp", f'exec {shlex.quote(scp)} -S {shlex.quote(ssh)} {options} "$@"')
    return env


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)


def safe_script(script: str) -> str:
    """A cookie script of virt-v2v with the curl above in place of the real one."""
    first, _, rest = script.partition("\n")
    return f"{first}\n{_SAFE_CURL}{rest}" if first.startswith("#!") else f"#!/bin/sh\n{_SAFE_CURL}{script}"


def safe_arguments(arguments: list[str], ssh_files: Path) -> list[str]:
    """nbdkit's arguments, with a safe cookie script and, for the ssh plugin, the attempt's key and known hosts."""
    changed = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "cookie-script" and Path(value).is_file():
            safe = Path(f"{value}.safe")
            safe.write_text(safe_script(Path(value).read_text()))
            safe.chmod(0o700)
            argument = f"{key}={safe}"
        changed.append(argument)
    if "ssh" in changed and "--dump-plugin" not in changed and (ssh_files / "key").exists():
        changed += [f"identity={ssh_files / 'key'}", f"known-hosts={ssh_files / 'known_hosts'}"]
    return changed


def main() -> None:
    real = os.environ["V2VWEB_NBDKIT"]
    arguments = safe_arguments(sys.argv[1:], Path(os.environ["V2VWEB_SSH_FILES"]))
    os.execv(real, [real, *arguments])


if __name__ == "__main__":
    main()
