"""Every setting that v2vweb takes from the environment, read once and refused when it is nonsense.

The table in README.md is compared with this class by tests/test_docs.py.
"""

import difflib
import ipaddress
import os
import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
HOST_NAME = re.compile(r"\.?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)


def _bytes(value: object) -> object:
    """ "16M" -> 16 << 20."""
    match = (
        re.fullmatch(r"(\d{1,12})\s*([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
        if isinstance(value, str)
        else None
    )
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()] if match else value


Size = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]


class WrongSettingError(Exception):
    """A variable of the environment is nonsense; the text says which, what it is and what is allowed."""


class Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="V2VWEB_", env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: Path = Field(PROJECT / "data", description="Folder that holds all state.")
    bind: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    admin_password: str = Field(
        "",
        repr=False,
        description="Password of the first administrator, `admin`; made up and shown once when empty.",
    )
    source_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Colon-separated folders whose disk images and OVAs people may pick."
    )
    database_url: str = Field(
        "", validation_alias="DATABASE_URL", repr=False, description="PostgreSQL instead of SQLite."
    )
    redis_url: str = Field(
        "", validation_alias="REDIS_URL", repr=False, description="Redis as Channels' layer between processes."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated host names under which people reach v2vweb, beside localhost and the bind address.",
    )
    https: bool = Field(
        False, description="Set when a proxy serves v2vweb over HTTPS: cookies are then sent over HTTPS only."
    )
    time_zone: str = Field("UTC", description="Time zone of the pages.")
    max_running: int = Field(
        0,
        ge=0,
        le=1000,
        description="How many conversions run at once; 0: by cores and memory (1 core and 2 GiB each).",
    )
    virt_v2v: str = Field("virt-v2v", description="The virt-v2v program.")
    acceleration: Literal["auto", "kvm", "tcg"] = Field(
        "auto",
        description="How libguestfs runs its appliance; auto: measured once, because a KVM device may exist and hang.",
    )
    upload_dir: Path | None = Field(
        None, description="Folder that keeps uploaded files; `uploads` in the data folder when empty."
    )
    upload_chunk: Size = Field(
        16 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Size of the pieces in which browsers upload (16M); as much can be lost when a connection breaks.",
    )
    upload_quota: Size = Field(500 << 30, description="How much one person may keep uploaded (500G); 0: no limit.")
    upload_quota_all: Size = Field(0, description="How much all uploads together may take; 0: what the disk holds.")
    upload_reserve: Size = Field(
        5 << 30, description="Free space at which uploads pause, so that conversions do not run into a full disk (5G)."
    )
    upload_unfinished_days: int = Field(
        7, ge=1, le=365, description="Days after which an upload that nobody went on with is removed."
    )
    upload_keep_days: int = Field(
        14, ge=1, le=3650, description="Days after which a complete upload that no conversion uses any more is removed."
    )
    upload_body_dir: Path | None = Field(
        None,
        description="Folder in which nginx leaves the bodies of uploads; only with the configuration in docs/nginx.md.",
    )
    s3_bucket: str = Field(
        "", description="S3 bucket that keeps uploaded files instead of the folder; docs/s3.md says how."
    )
    s3_endpoint: str = Field("", description="Address of the S3 server; Amazon's when empty.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_key_file: Path | None = Field(
        None,
        description="File with the access key, as the aws tool writes it; without it, what the machine's role allows.",
    )
    kubevirt_schemas: Path | None = Field(
        None,
        description="Folder with KubeVirt's and CDI's OpenAPI documents; edited manifests are held against them too.",
    )
    debug: bool = Field(False, description="Django's debug pages. Never on a machine that others reach.")

    @field_validator("source_roots", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        return tuple(Path(part) for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _data_dir(cls, value: Path) -> Path:
        folder = Path(os.path.normpath(value.expanduser().absolute()))
        if folder == Path("/"):
            raise ValueError
        return folder

    @field_validator("upload_dir", "upload_body_dir")
    @classmethod
    def _upload_dirs(cls, value: Path | None) -> Path | None:
        if value is not None and (not value.is_absolute() or os.path.normpath(value) == "/"):
            raise ValueError
        return value

    @field_validator("s3_bucket")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
            raise ValueError
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        parts = urlsplit(value)
        # A key in it would be shown wherever the address is.
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query):
            raise ValueError
        return value

    @field_validator("s3_region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", value):
            raise ValueError
        return value

    @field_validator("s3_key_file")
    @classmethod
    def _key_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError
        return value

    @field_validator("source_roots")
    @classmethod
    def _absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        # "/" would hand out the whole machine, v2vweb's own keys first.
        if any(not folder.is_absolute() or os.path.normpath(folder) == "/" for folder in value):
            raise ValueError
        return value

    @field_validator("bind")
    @classmethod
    def _address(cls, value: str) -> str:
        if value != "localhost":
            ipaddress.ip_address(value)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not HOST_NAME.fullmatch(host):
                ipaddress.ip_address(host.strip("[]"))
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError
        return value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        parts = urlsplit(value)
        # .port raises ValueError when it is no number
        if value and (parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2 or parts.port == 0):
            raise ValueError
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("redis", "rediss", "unix") or "://" not in value):
            raise ValueError
        return value


#: what a field may be, for the sentence that refuses it
ALLOWED = {
    "data_dir": "a folder of its own, not /",
    "bind": "an IP address of this machine, or localhost; 0.0.0.0 is every address",
    "port": "a whole number from 1 to 65535",
    "admin_password": "a text",
    "source_roots": "absolute folders with a colon between them, none of them /",
    "database_url": "of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    "redis_url": "of the form redis://HOST:PORT/NUMBER, rediss://... or unix://...",
    "allowed_hosts": "host names or IP addresses with commas between them; * is not allowed",
    "https": "true or false",
    "time_zone": "a name from the time zone database, such as Europe/Berlin",
    "max_running": "a whole number from 0 to 1000",
    "virt_v2v": "a program's name or path",
    "acceleration": "auto, kvm or tcg",
    "upload_dir": "an absolute folder, not /",
    "upload_chunk": "a size from 64K to 1G, such as 16M",
    "upload_quota": "a size such as 500G, or 0",
    "upload_quota_all": "a size such as 2T, or 0",
    "upload_reserve": "a size such as 5G, or 0",
    "upload_unfinished_days": "a whole number from 1 to 365",
    "upload_keep_days": "a whole number from 1 to 3650",
    "upload_body_dir": "an absolute folder, not /",
    "s3_bucket": "a bucket's name: 3 to 63 small letters, digits, dots and hyphens",
    "s3_endpoint": "of the form https://HOST:PORT, without a key in it",
    "s3_region": "a region's name, such as eu-central-1",
    "s3_key_file": "an absolute path of a file",
    "kubevirt_schemas": "an absolute folder, not /",
    "debug": "true or false",
}


def variable(name: str) -> str:
    """The environment variable of a field: "data_dir" -> "V2VWEB_DATA_DIR"."""
    alias = Environment.model_fields[name].validation_alias
    return str(alias) if alias else f"V2VWEB_{name.upper()}"


def read_environment() -> Environment:
    """Raises WrongSettingError."""
    try:
        return Environment()
    except ValidationError as error:
        names = {variable(name): name for name in Environment.model_fields}
        wrong = {names.get(str(e["loc"][0]), str(e["loc"][0])) for e in error.errors(include_input=False)}
        raise WrongSettingError(" ".join(_refusal(name) for name in names.values() if name in wrong)) from None


def _refusal(name: str) -> str:
    # A database's address has a password in it: the value of such a variable is never repeated.
    secret = not Environment.model_fields[name].repr
    value = "not usable" if secret else f'"{os.environ.get(variable(name), "")}"'
    return f"{variable(name)} is {value}: it must be {ALLOWED[name]}."


def misspelt() -> dict[str, str]:
    """V2VWEB_ variables that nobody reads -> the one that was probably meant, or ""."""
    known = [variable(name) for name in Environment.model_fields]
    others = ("V2VWEB_LAB_CACHE", "V2VWEB_KEEP", "V2VWEB_TEST_DATABASE_URL")  # of the tests
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), known, 1, 0.85)), "")
        for name in sorted(os.environ)
        if name.startswith("V2VWEB_") and name not in known and name not in others
    }
