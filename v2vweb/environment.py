"""Every setting that v2vweb takes from the environment, read once and refused when it is nonsense.

The table in README.md is compared with this class by tests/test_docs.py.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="V2VWEB_", extra="ignore", frozen=True)

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
        "", validation_alias="REDIS_URL", repr=False, description="Redis as the bell between processes."
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
    debug: bool = Field(False, description="Django's debug pages. Never on a machine that others reach.")

    @field_validator("source_roots", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        return tuple(Path(part) for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("source_roots")
    @classmethod
    def _absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for folder in value:
            if not folder.is_absolute():
                raise ValueError(f"{folder} is not an absolute path")
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _resolved(cls, value: Path) -> Path:
        return value.expanduser().absolute()


def variable(name: str) -> str:
    """The environment variable of a field: "data_dir" -> "V2VWEB_DATA_DIR"."""
    alias = Environment.model_fields[name].validation_alias
    return str(alias) if alias else f"V2VWEB_{name.upper()}"
