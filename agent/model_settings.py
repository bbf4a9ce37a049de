"""Settings of the planner that uses a language model: endpoints, roles, coder.

A key is never a setting: `key_env` names the environment variable that holds it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from memory.errors import ConfigError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One server that speaks OpenAI's chat completions.

    `json` is how it is held to a form: schema, object or text; auto finds out. `context` is what
    it can read and write at once, in tokens; 0: as the server says, else 32,768. Prices are US
    dollars a million tokens; -1: as the server says or as published, where that is known.
    """

    url: str = ""
    key_env: str = ""
    model: str = ""
    json: str = "auto"
    context: int = 0
    usd_in: float = -1.0
    usd_out: float = -1.0
    timeout_s: float = 300.0
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class RoleConfig:
    """Who does one part of the work: endpoints take turns; none named: the first one.

    An empty `model` is the endpoint's own.
    """

    endpoints: tuple[str, ...] = ()
    model: str = ""
    temperature: float = 0.7
    max_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class RolesConfig:
    """The parts that a language model plays."""

    generator: RoleConfig = RoleConfig(temperature=0.9)
    assessor: RoleConfig = RoleConfig(temperature=0.2)
    coder: RoleConfig = RoleConfig(temperature=0.2, max_tokens=12288)
    diagnostician: RoleConfig = RoleConfig(temperature=0.4)
    writer: RoleConfig = RoleConfig(temperature=0.3)


@dataclass(frozen=True, slots=True)
class CoderConfig:
    """How networks are written.

    `rivals` coders write each new idea, 1 or 2. A `command` is a coding agent of the user's own,
    run in the sandbox; it may read the folders `mounts`, and reach the coder's endpoint, and
    nothing else, where `network` says so.
    """

    rivals: int = 1
    command: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    network: bool = False
    minutes: float = 20.0


@dataclass(frozen=True, slots=True)
class LlmConfig:
    """What happens around the endpoints.

    `manuscript`: once the campaign has ended, the writer writes the manuscript's sections.
    `generators` of different bents write a proposal each, 1 to 3. While no endpoint answers, decisions wait `patience_s` seconds, then `fallback` proposes: grammar is
    the built-in planner, end ends the search. `literature` lets queries about methods and anatomy
    go to arXiv, OpenAlex, PubMed and Semantic Scholar.
    """

    generators: int = 3
    fallback: str = "grammar"
    patience_s: float = 900.0
    literature: bool = False
    mailto: str = ""
    manuscript: bool = True


ROLES = tuple(f.name for f in fields(RolesConfig))

_OF_ENDPOINT: Mapping[str, tuple[float, float]] = {
    "context": (0, 1e8),
    "usd_in": (-1, 1e5),
    "usd_out": (-1, 1e5),
    "timeout_s": (0.05, 86400),
    "attempts": (1, 20),
}
_OF_ROLE: Mapping[str, tuple[float, float]] = {"temperature": (0, 2), "max_tokens": (64, 1e6)}
RANGES: Mapping[str, tuple[float, float]] = {
    **{f"endpoints.*.{name}": limits for name, limits in _OF_ENDPOINT.items()},
    **{f"roles.{role}.{name}": limits for role in ROLES for name, limits in _OF_ROLE.items()},
    "coder.rivals": (1, 2),
    "coder.minutes": (0.05, 1440),
    "llm.generators": (1, 3),
    "llm.patience_s": (0, 1e6),
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "planner": ("grammar", "llm"),
    "endpoints.*.json": ("auto", "schema", "object", "text"),
    "llm.fallback": ("grammar", "end"),
}
WORDS = frozenset(["coder.command", "coder.mounts", *(f"roles.{role}.endpoints" for role in ROLES)])
"""Settings that are lists of words."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """All of these settings together."""

    planner: str = "grammar"
    endpoints: Mapping[str, EndpointConfig] = field(default_factory=dict)
    roles: RolesConfig = field(default_factory=RolesConfig)
    coder: CoderConfig = field(default_factory=CoderConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)


def check_settings(config: Any, where: str) -> None:
    """Refuse settings that cannot work together; no value that might be a key is repeated.

    Args:
        config: has the fields of `ModelSettings`.
        where: the file, for the message.

    Raises:
        ConfigError: an endpoint's URL or key_env is wrong, a role names an endpoint that is not
            there, or the planner needs one and none is set.
    """
    for name, endpoint in config.endpoints.items():
        _check_endpoint(name, endpoint, where)
    known = ", ".join(config.endpoints) or "none"
    for role in ROLES:
        for name in getattr(config.roles, role).endpoints:
            if name not in config.endpoints:
                raise ConfigError(
                    f"'roles.{role}.endpoints' in {where} names {name!r}; set are: {known}"
                )
    if config.planner == "llm" and not config.endpoints:
        raise ConfigError(
            f"'planner' in {where} is 'llm', and no endpoint is set; add an [endpoints.NAME] "
            "table with url and model, or set planner to grammar"
        )


def _check_endpoint(name: str, endpoint: EndpointConfig, where: str) -> None:
    place = f"'endpoints.{name}"
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"endpoint {name!r:.40} in {where}: a name has small letters, digits, - and _, 32 "
            "at most, a letter first"
        )
    _check_url(place, endpoint.url, where)
    if endpoint.key_env and not VARIABLE.fullmatch(endpoint.key_env):
        raise ConfigError(
            f"{place}.key_env' in {where} is no name of an environment variable (capitals, digits "
            "and _); put the key into the environment and its variable's name here"
        )
    if not endpoint.model:
        raise ConfigError(f"{place}.model' in {where} is empty; name the model as the server does")


def _check_url(place: str, url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        host, has_user = parts.hostname, "@" in parts.netloc
        is_valid = parts.port != 0
    except ValueError:
        host, has_user, is_valid, parts = None, False, False, urlsplit("")
    if has_user or parts.query or parts.fragment:
        raise ConfigError(
            f"{place}.url' in {where} holds a user, a password, a query or a fragment; keys belong "
            "into the environment, see key_env"
        )
    if not is_valid or not host or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"{place}.url' in {where} is {url!r:.100}; allowed: an http or https address such as "
            "https://api.openai.com/v1"
        )
