"""Every setting in one class: command line over environment (``GIOMUA_*``) over ``giomua.toml`` over the defaults here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from data_catalog.errors import ConfigurationError
from data_catalog.regions import Region, load_region

Profile = Literal["default", "tiny"]


class Settings(BaseSettings):
    """What an operator can choose.

    Each field is an environment variable ``GIOMUA_<NAME>`` and a key of ``giomua.toml`` in the working folder.
    """

    model_config = SettingsConfigDict(
        env_prefix="GIOMUA_", toml_file="giomua.toml", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    root: str = Field(default="./var", description="where everything is kept: a folder, or an object-store URL for the stores")
    state_root: str = Field(
        default="",
        description="folder for what has to be a local file (manifest.db, prefect/, mlflow.db); default: root or ./var",
    )
    manifest_url: str = Field(default="", description="SQLAlchemy URL of the manifest; default: SQLite in the state root")
    mlflow_url: str = Field(default="", description="MLflow server or database URL; default: SQLite and artifacts in the state root")
    region: str = Field(default="hanoi", description="a region's name, or the path of its TOML file")
    profile: Profile = Field(default="default", description="'tiny' runs a whole cycle in seconds, for fault tests")
    world: int = Field(default=1, ge=0, description="seed of the simulated atmosphere")
    sources: tuple[str, ...] = Field(default=(), description="datasets a cycle reads; empty: those of the simulated atmosphere")
    networks: tuple[str, ...] = Field(default=(), description="station networks that are read; empty: the simulated one")
    wis2_topics: tuple[str, ...] = Field(
        default=("cache/a/wis2/+/data/core/weather/surface-based-observations/synop",), description="topics at the WIS2 global broker"
    )
    source_urls: dict[str, str] = Field(
        default_factory=dict, description="base URL, folder, or for wis2 broker, by dataset or network, in place of the provider's"
    )
    decode_workers: int = Field(default=2, ge=1, le=64, description="decoding processes")
    decode_timeout: float = Field(default=120.0, gt=0, description="seconds one file may take to decode")
    training_days: int = Field(default=90, ge=10, description="days of pairs that a cycle learns from")
    train_first: bool = Field(default=True, description="train a small network before the first cycle of the simulated atmosphere")
    members: int = Field(default=50, ge=2, le=1000, description="coupled members published")
    storage_options: dict[str, str] = Field(default_factory=dict, description="object store options: endpoint, region, credentials")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line over environment over file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def is_remote(self) -> bool:
        """Whether the root is an object-store URL."""
        return "://" in self.root and not self.root.startswith("file://")

    @property
    def local_root(self) -> Path:
        """The local folder for files that cannot live in an object store."""
        if self.state_root:
            return Path(self.state_root)
        return Path("./var") if self.is_remote else Path(self.root.removeprefix("file://"))

    @property
    def manifest(self) -> str:
        """SQLAlchemy URL of the manifest."""
        return self.manifest_url or f"sqlite:///{self.local_root / 'manifest.db'}"

    def load_region(self) -> Region:
        """The region these settings name, cut down in the profile ``tiny``."""
        region = load_region(self.region)
        return region.cut() if self.profile == "tiny" else region


def load_settings(**chosen: Any) -> Settings:
    """Settings with what was chosen on the command line on top; None means not chosen.

    Raises:
        ConfigurationError: A value cannot be used; the message names the setting, the value and what it must be.
    """
    try:
        return Settings(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigurationError(
            f"The setting {name} is {first.get('input')!r}: {first['msg']}. "
            f"Change it on the command line, in GIOMUA_{name.upper()} or in giomua.toml."
        ) from error
