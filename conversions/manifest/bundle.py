"""What a person needs to put the guest by hand into a cluster that v2vweb cannot reach: YAML, a script, a note; in a tar.

The disks are not in it: they are large, and can be downloaded on their own.  virtctl makes the claims itself while it
uploads (a claim made by kubectl alone has no upload behind it), DataVolumes are made first and then filled.
"""

import io
import shlex
import tarfile
from dataclasses import dataclass
from typing import Any

from .claims import DiskFile
from .reading import Node, read
from .writing import text_of, write

_SCRIPT = """\
#!/bin/sh
# Puts the disks and the machine {name} into a cluster.  Made by v2vweb.
#
#   sh upload.sh [FOLDER]     FOLDER: where the downloaded disks are (default: the folder of this script)
#
# Needs kubectl and virtctl, both set up for the cluster, and CDI in the cluster.  Environment:
#   UPLOADPROXY_URL=https://...   CDI's upload proxy, when virtctl does not find it by itself
#   INSECURE=1                    do not check the certificate of the upload proxy
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${{1:-$here}}
KUBECTL=${{KUBECTL:-kubectl}}
VIRTCTL=${{VIRTCTL:-virtctl}}

say() {{ printf '%s\\n' "$*" >&2; }}
stop() {{ say "upload.sh: $*"; exit 1; }}

command -v "$KUBECTL" >/dev/null || stop "$KUBECTL is not installed"
command -v "$VIRTCTL" >/dev/null || stop "$VIRTCTL is not installed"

check() {{ # FILE BYTES: a download that broke off is found before anything is changed
    [ -f "$folder/$1" ] || stop "the disk $1 is not in $folder: download it first"
    [ -z "$2" ] || [ "$(wc -c <"$folder/$1")" -eq "$2" ] || stop "the disk $1 is not whole: download it again"
}}

upload() {{ # KIND NAME FILE [OPTION...]
    kind=$1 claim=$2 file=$3
    shift 3
    if [ -n "${{UPLOADPROXY_URL:-}}" ]; then set -- "$@" "--uploadproxy-url=$UPLOADPROXY_URL"; fi
    if [ -n "${{INSECURE:-}}" ]; then set -- "$@" --insecure; fi
    say "Uploading $file to $kind $claim"
    "$VIRTCTL" image-upload "$kind" "$claim" "--image-path=$folder/$file"{namespace} --force-bind "$@"
}}

{checks}

{uploads}

"$KUBECTL" apply{namespace} -f "$here/machine.yaml"
say {done}
"""

_NOTE = """\
{name}: a machine converted by v2vweb

1. Download the disks into this folder: {files}
2. Log in to the cluster (kubectl and virtctl must work).
3. Run: sh upload.sh

manifest.yaml  the machine and its claims, to read or to apply in another way
machine.yaml   the machine alone; upload.sh applies it once the disks are there
upload.sh      uploads the disks with virtctl, then makes the machine
"""


@dataclass(frozen=True)
class _Claim:
    """What upload.sh must know of a claim."""

    name: str
    kind: str  #: pvc or dv
    file: DiskFile
    bytes: int | None  #: of the file; None when they are not known
    document: Node


def bundle(manifest: str, disks: tuple[DiskFile, ...], claims: tuple[str, ...]) -> bytes:
    """The tar (uncompressed).  `manifest` is ours or an edited one that was checked; `claims` are the disks' claims in order.

    A disk whose claim an edit took out is not uploaded.
    """
    documents = read(manifest, documents=300)
    by_name = {
        _text(document, "metadata", "name"): document for document in documents if _kind(document) != "VirtualMachine"
    }
    machine = next(document for document in documents if _kind(document) == "VirtualMachine")
    found = [
        _Claim(
            claim,
            "dv" if _kind(by_name[claim]) == "DataVolume" else "pvc",
            disk,
            disk.size if disk.format == "raw" else None,
            by_name[claim],
        )
        for disk, claim in zip(disks, claims, strict=True)
        if claim in by_name
    ]
    name = _text(machine, "metadata", "name")
    files = {
        "manifest.yaml": manifest,
        "machine.yaml": text_of(write([machine.plain()])),
        "upload.sh": _script(machine, found),
        "README.txt": _NOTE.format(name=name, files=", ".join(claim.file.name for claim in found)),
    }
    data_volumes = [claim.document.plain() for claim in found if claim.kind == "dv"]
    if data_volumes:
        files["disks.yaml"] = text_of(write(data_volumes))
    return _tar(name, files)


def _script(machine: Node, claims: list[_Claim]) -> str:
    namespace = machine.get("metadata", "namespace")
    to = f" {shlex.quote(f'--namespace={namespace.value}')}" if namespace is not None else ""
    uploads = []
    if any(claim.kind == "dv" for claim in claims):
        uploads.append(f'"$KUBECTL" apply{to} -f "$here/disks.yaml"')
    for claim in claims:
        words = [claim.kind, claim.name, claim.file.name, *_options(claim)]
        uploads.append(f"upload {' '.join(map(shlex.quote, words))}")
    checks = [f"check {shlex.quote(claim.file.name)} {shlex.quote(str(claim.bytes or ''))}" for claim in claims]
    name = _text(machine, "metadata", "name")
    done = f"The machine {name} is in the cluster. Start it with: virtctl start {name}{to}"
    return _SCRIPT.format(
        name=name, namespace=to, checks="\n".join(checks), uploads="\n".join(uploads), done=shlex.quote(done)
    )


def _options(claim: _Claim) -> list[str]:
    """A DataVolume says all that itself."""
    if claim.kind == "dv":
        return ["--no-create"]
    spec: dict[str, Any] = claim.document.plain()["spec"]
    options = [
        f"--size={spec['resources']['requests']['storage']}",
        f"--volume-mode={spec.get('volumeMode', 'Filesystem').lower()}",
    ]
    options += [f"--access-mode={mode}" for mode in spec.get("accessModes", [])[:1]]
    if spec.get("storageClassName"):
        options.append(f"--storage-class={spec['storageClassName']}")
    return options


def _text(document: Node, *path: str) -> str:
    node = document.get(*path)
    return str(node.value) if node is not None else ""


def _kind(document: Node) -> str:
    return _text(document, "kind")


def _tar(name: str, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, text in sorted(files.items()):
            data = text.encode()
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size = len(data)
            info.mode = 0o755 if path.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
