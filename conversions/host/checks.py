"""System checks: what is wrong with this installation, each with an id and a hint.

E: conversions cannot work.  W: something will not be as people expect.  What virt-v2v and its helpers can do on this
machine is capabilities.py's matter, and the System page's.
"""

import ipaddress
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from v2vweb.environment import misspelt

TAG = "v2vweb"  #: bootstrap asks for these alone: the rest would load every page

#: Below the data folder virt-v2v's helpers talk over unix sockets, whose paths the kernel limits to 107 bytes.
LONGEST_DATA_DIR = 60


@register(TAG)
def data_dir(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    folder: Path = settings.DATA_DIR
    found: list[CheckMessage] = []
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        found.append(
            Error(
                f"v2vweb may not write into its data folder {folder}.",
                hint="Give the folder to the user that runs v2vweb, or set V2VWEB_DATA_DIR to another one.",
                id="conversions.E001",
            )
        )
    if len(os.fsencode(folder)) > LONGEST_DATA_DIR:
        found.append(
            Error(
                f"The path of the data folder {folder} is longer than {LONGEST_DATA_DIR} bytes.",
                hint="Set V2VWEB_DATA_DIR to a shorter path: unix sockets below it would get too long for the kernel.",
                id="conversions.E002",
            )
        )
    return found


@register(TAG)
def source_roots(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for root in settings.SOURCE_ROOTS:
        if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
            found.append(
                Warning(
                    f"V2VWEB_SOURCE_ROOTS names {root}, which is not a folder that v2vweb can read.",
                    hint="Make or mount the folder, or take it out of V2VWEB_SOURCE_ROOTS. Nobody can pick images in it.",
                    id="conversions.W001",
                )
            )
        elif settings.DATA_DIR.resolve().is_relative_to(root.resolve()):
            found.append(
                Warning(
                    f"V2VWEB_SOURCE_ROOTS names {root}, and the data folder {settings.DATA_DIR} lies in it.",
                    hint="Keep the two apart: people may pick files below a source folder, and v2vweb's keys are data.",
                    id="conversions.W002",
                )
            )
    return found


@register(TAG)
def reach(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Of an address that others reach: do they get an answer, is it safe?"""
    env = settings.ENV
    if env.bind == "localhost" or ipaddress.ip_address(env.bind).is_loopback:
        return []
    found: list[CheckMessage] = []
    if ipaddress.ip_address(env.bind).is_unspecified and not env.allowed_hosts:
        found.append(
            Warning(
                f"v2vweb listens on every address ({env.bind}), but answers to localhost only.",
                hint="Set V2VWEB_ALLOWED_HOSTS to the names and addresses that people type, with commas between them.",
                id="conversions.W003",
            )
        )
    if not env.https:
        found.append(
            Warning(
                f"v2vweb listens on {env.bind} without HTTPS: passwords travel in clear.",
                hint="Put a proxy with HTTPS before it, leave V2VWEB_BIND at 127.0.0.1 and set V2VWEB_HTTPS=true.",
                id="conversions.W004",
            )
        )
    if env.debug:
        found.append(
            Warning(
                "V2VWEB_DEBUG is set on an address that others reach: error pages show settings and source code.",
                hint="Unset V2VWEB_DEBUG.",
                id="conversions.W005",
            )
        )
    return found


@register(TAG)
def variables(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"{name} is set, but is no setting of v2vweb.",
            hint=f"Did you mean {meant}?" if meant else "README.md lists the settings.",
            id="conversions.W006",
        )
        for name, meant in misspelt().items()
    ]


@register(TAG)
def uploads(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    folder, bodies = settings.UPLOAD_DIR, settings.ENV.upload_body_dir
    if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        found.append(
            Error(
                f"v2vweb may not write into the folder of uploads {folder}.",
                hint="Give the folder to the user that runs v2vweb, or set V2VWEB_UPLOAD_DIR to another one.",
                id="conversions.E020",
            )
        )
    if bodies is not None:
        if not bodies.is_dir() or not os.access(bodies, os.R_OK | os.W_OK | os.X_OK):
            found.append(
                Warning(
                    f"V2VWEB_UPLOAD_BODY_DIR names {bodies}, which is not a folder that v2vweb can read and write.",
                    hint="Make the folder and give it to the user that nginx and v2vweb run as: see docs/nginx.md.",
                    id="conversions.W020",
                )
            )
        elif folder.exists() and bodies.stat().st_dev != folder.stat().st_dev:
            found.append(
                Warning(
                    f"{bodies} and {folder} are on different file systems: each piece of an upload is copied between them.",
                    hint="Put both on the same file system, and uploads through nginx get quicker.",
                    id="conversions.W021",
                )
            )
    return found
