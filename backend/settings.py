"""Every setting, read from the environment; settings that users of Label Studio know keep their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_REDIS = ("redis://", "rediss://", "unix://")
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Settings(BaseSettings):
    """The settings of one everylabel backend.

    Settings that Label Studio's own ML backends have (`LABEL_STUDIO_URL`, `MODEL_DIR`, `BASIC_AUTH_USER`, …) keep their
    names; every other setting is `EVERYLABEL_<NAME>`.

    Raises:
        pydantic.ValidationError: A variable has an invalid value; the message names the variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="EVERYLABEL_", populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )

    label_studio_url: str = Field(
        "http://localhost:8080",
        validation_alias=AliasChoices("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"),
        description="Where Label Studio answers, as seen from this machine.",
    )
    label_studio_public_url: str = Field(
        "", description="Where Label Studio answers, as seen from a browser; empty: as LABEL_STUDIO_URL."
    )
    label_studio_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"),
        description="A personal access token or a legacy token: Label Studio, Account & Settings.",
    )
    model_dir: Path = Field(
        Path(".everylabel/backend"),
        validation_alias="MODEL_DIR",
        description="Where everything the backend remembers is kept: labels, embeddings, rounds, models.",
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Where labels and rounds are kept instead of in MODEL_DIR, for backends on several machines: "
        "`postgresql://user:password@host/database`. Needs the extra `postgresql`.",
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="Where the trainers of several machines agree on who runs which round: "
        "`redis://:password@host/0`. Needs the extra `redis`.",
    )
    basic_auth_user: str = Field(
        "",
        validation_alias="BASIC_AUTH_USER",
        description="User name for people; every route but /health asks for it.",
    )
    basic_auth_pass: SecretStr = Field(
        SecretStr(""), validation_alias="BASIC_AUTH_PASS", description="Password that goes with it."
    )
    bearer_secret: SecretStr = Field(
        SecretStr(""),
        description="Instead of user and password: a secret of 16 or more characters, sent as `Authorization: "
        "Bearer …`, or as the password of the user `everylabel`.",
    )
    delivery_secret: SecretStr = Field(
        SecretStr(""),
        description="The secret that Label Studio delivers with, of 16 or more characters. It opens /webhook, /predict, /setup and "
        "/versions, and every account of Label Studio can read it; empty: derived, one way, from the password.",
    )
    allowed_hosts: str = Field(
        "",
        description="Further names this backend may be called by, separated by commas; those of EVERYLABEL_PUBLIC_URL and "
        "EVERYLABEL_PAGE_URL, `localhost` and addresses in digits need not be named.",
    )
    log_level: LogLevel = Field("INFO", validation_alias="LOG_LEVEL", description="How much is logged.")
    log_format: Literal["text", "json"] = Field(
        "text", description="`text`, or `json`: one object a line, with `project` and `round`."
    )

    public_url: str = Field(
        "http://localhost:9090", description="Where this backend answers, as seen from Label Studio."
    )
    page_url: str = Field(
        "", description="Where the page answers, as seen from a browser; empty: as EVERYLABEL_PUBLIC_URL."
    )
    encoder: str = Field(
        "efficientnet-lite0",
        description="Which encoder turns crops into embeddings, in projects that were not switched to another.",
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:1`.")
    strategy: str = Field("", description="Query strategy by name; empty takes the default.")
    batch_size: Annotated[int, Field(ge=1, le=500)] = Field(
        5, description="How many crops a round asks a person to label."
    )
    check_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1,
        description="Share of labels sampled at random, unseen by the model, that accuracy is measured on.",
    )
    pre_annotations_per_round: Annotated[int, Field(ge=0, le=1000)] = Field(
        20, description="How many confident crops a round pre-fills after its batch."
    )
    pre_annotated_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1,
        description="Share of labels, blind check crops left out, for which a confident crop is served pre-filled.",
    )
    suspects_per_round: Annotated[int, Field(ge=0, le=1000)] = Field(
        20,
        validation_alias=AliasChoices("EVERYLABEL_SUSPECTS_PER_ROUND", "EVERYLABEL_FLAGS_PER_ROUND"),
        description="How many suspect labels a round shows at most.",
    )
    coalesce_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        0.1, description="How long a round waits for more annotations of the same burst."
    )
    reconcile_seconds: Annotated[float, Field(ge=10)] = Field(
        300.0,
        description="The longest time between two comparisons of the backend's labels with Label Studio's; quick ones come more often.",
    )
    predict_seconds: Annotated[float, Field(gt=0, le=95)] = Field(
        60.0, description="How long /predict waits for crops that are not embedded yet."
    )
    max_image_megabytes: Annotated[float, Field(gt=0)] = Field(50.0, description="Largest image file read.")
    max_image_megapixels: Annotated[float, Field(gt=0)] = Field(100.0, description="Largest image decoded.")
    max_request_megabytes: Annotated[float, Field(gt=0)] = Field(
        64.0, description="Largest request body accepted from Label Studio."
    )
    allow_private_addresses: bool = Field(
        False, description="Whether task data may point at images on private or loopback addresses."
    )
    download_threads: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Images fetched at a time.")
    seed: int = Field(0, description="Seed of every random choice.")

    @field_validator("label_studio_url", "public_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("label_studio_public_url", "page_url")
    @classmethod
    def _web_address_or_none(cls, value: str) -> str:
        return cls._web_address(value) if value else value

    @field_validator("database_url")
    @classmethod
    def _database_address(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            return value
        scheme, _, rest = value.get_secret_value().partition("://")
        if scheme not in ("postgresql", "postgres", "postgresql+psycopg") or not rest:
            raise ValueError(
                "must be postgresql://user:password@host/database, or empty for SQLite in MODEL_DIR"
            )
        return SecretStr(f"postgresql+psycopg://{rest}")

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(_REDIS):
            raise ValueError(
                "must be redis://:password@host/0, rediss:// or unix://, or empty for one machine"
            )
        return value

    @field_validator("bearer_secret", "delivery_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        if secret and (len(secret) < 16 or not (secret.isascii() and secret.isprintable()) or " " in secret):
            raise ValueError("must be 16 or more ASCII letters, digits and signs. Try: openssl rand -hex 32")
        return value

    @model_validator(mode="after")
    def _whole_of_several_machines(self) -> Settings:
        if self.redis_url.get_secret_value() and not self.database_url.get_secret_value():
            raise ValueError(
                "EVERYLABEL_REDIS_URL shares rounds among machines: set EVERYLABEL_DATABASE_URL too, for one store"
            )
        return self

    @model_validator(mode="after")
    def _whole_credentials(self) -> Settings:
        # One alone would leave the backend open to everybody, while its owner believes that it is not.
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass.get_secret_value()):
            raise ValueError("set both BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither")
        # Label Studio sends them in Latin-1, a browser in UTF-8: only what is the same in both can be compared.
        if not (self.basic_auth_user + self.basic_auth_pass.get_secret_value()).isascii():
            raise ValueError(
                "BASIC_AUTH_USER and BASIC_AUTH_PASS can hold ASCII letters, digits and signs only"
            )
        if ":" in self.basic_auth_user:
            raise ValueError("BASIC_AUTH_USER cannot hold a colon: it ends the user name in a request")
        return self

    @model_validator(mode="after")
    def _two_keys(self) -> Settings:
        delivery = self.delivery_secret.get_secret_value()
        if delivery and not self.has_auth:
            raise ValueError(
                "EVERYLABEL_DELIVERY_SECRET lets Label Studio in: set BASIC_AUTH_USER and BASIC_AUTH_PASS too, for people"
            )
        if delivery and delivery in {
            self.basic_auth_pass.get_secret_value(),
            self.bearer_secret.get_secret_value(),
        }:
            raise ValueError(
                "EVERYLABEL_DELIVERY_SECRET can be read by every account of Label Studio: it must not be the people's too"
            )
        return self

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: str) -> str:
        for name in value.split(","):
            if not all(letter.isalnum() or letter in ".-_" for letter in name.strip()):
                raise ValueError(
                    f"{name.strip()!r} is not a host name: give names alone, without scheme or port"
                )
        return value

    @property
    def allowed_host_names(self) -> frozenset[str]:
        """Return the names this backend may be called by besides those of its addresses, in lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())

    @property
    def label_studio_browser_url(self) -> str:
        """Return the address at which a person's browser finds Label Studio."""
        return self.label_studio_public_url or self.label_studio_url

    @property
    def page_browser_url(self) -> str:
        """Return the address at which a person's browser finds the page."""
        return self.page_url or self.public_url

    @property
    def store_url(self) -> str:
        """Return the SQLAlchemy address of the store."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.model_dir / 'everylabel.db'}"

    @property
    def has_auth(self) -> bool:
        """Return whether requests must carry a user name and password, or the bearer secret."""
        return bool(self.basic_auth_pass.get_secret_value() or self.bearer_secret.get_secret_value())
