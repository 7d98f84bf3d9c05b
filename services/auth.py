"""API keys of the REST service, of which only hashes are stored, and the permissions of their roles."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from fusechat.pipeline.errors import InputError, UserError
from fusechat.pipeline.recipe import Section
from fusechat.pipeline.recipe.load import read_yaml

Role = Literal["sample", "score", "admin"]
Permission = Literal["sample", "score", "models", "admin"]
ROLE_PERMISSIONS: dict[Role, tuple[Permission, ...]] = {
    "sample": ("sample", "models"),
    "score": ("score", "models"),
    "admin": ("sample", "score", "models", "admin"),
}
CHECK_INTERVAL_S = 1.0
"""Seconds between checks whether the key file has changed."""

log = logging.getLogger("ray.serve.fusechat")  # under Serve's logger, so that it writes to the replica's log file


def _parse_expiry(value: object) -> object:
    """Returns a date and time with zone. A date alone means its start in UTC."""
    try:
        if isinstance(value, str):
            value = date.fromisoformat(value) if len(value) <= len("2027-01-31") else datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    except ValueError:
        value = None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date, or date and time with zone: 2027-01-31 or 2027-01-31T18:00:00+01:00")
    return value


Limit = Annotated[int, Field(ge=1, strict=True)]
Expiry = Annotated[datetime, BeforeValidator(_parse_expiry)]


class Key(Section):
    """An entry of the key file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the key. The key has 256 random bits, so it can't be guessed and needs no slow password hash."""
    expires: Expiry | None = None
    """The time from which the key is refused."""
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    """Prompt and generated tokens together."""
    max_in_flight: Limit | None = None


class KeyFile(Section):
    """The key file: YAML with a list of keys."""

    keys: tuple[Key, ...]

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        names = [key.name for key in self.keys]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {duplicates[0]} is used twice")
        if len({key.sha256 for key in self.keys}) < len(names):
            raise ValueError("two names have the same sha256")
        return self


class AuthError(Exception):
    """A request without a valid key.

    The message may be sent to the caller. Only the holder of an expired key learns that the key has expired.
    """

    def __init__(self, reason: Literal["missing", "unknown", "expired"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_allowed(role: Role, permission: Permission) -> bool:
    """Whether a role has a permission."""
    return permission in ROLE_PERMISSIONS[role]


# --- the file


def read(path: Path) -> KeyFile:
    """Reads the key file. It may be readable by all (mounted secrets are), because it contains only hashes.

    Raises:
        InputError: the file can't be read, is not a valid key file, or is writable by others than its owner.
    """
    _checked_stat(path)
    try:
        return KeyFile.model_validate(read_yaml(path, "a key file is a mapping with a list `keys`"))
    except ValidationError as error:
        raise InputError(str(path), 0, _first_problem(error)) from None  # hides the given value, which may be a secret


def add(path: Path, name: str, role: str, **settings: str | int | None) -> str:
    """Creates a key, stores its hash and returns the key, which is not stored anywhere.

    Args:
        settings: the other fields of `Key`.

    Raises:
        UserError: the name is in use, or a setting is not allowed.
        InputError: the file can't be read or written.
    """
    secret = f"fc-{secrets.token_urlsafe(32)}"
    try:
        key = Key.model_validate({"name": name, "role": role, "sha256": _hash(secret), **settings})
    except ValidationError as error:
        raise UserError(_first_problem(error)) from None
    with _locked(path) as file:
        keys = read(file).keys if file.exists() else ()
        if any(other.name == name for other in keys):
            raise UserError(f"{path}: there is a key named {name}; remove it first, or choose another name")
        _write(file, (*keys, key))
    return secret


def remove(path: Path, name: str) -> None:
    """Removes a key from the file.

    Raises:
        UserError: there is no key of that name.
        InputError: the file can't be read or written.
    """
    with _locked(path) as file:
        keys = read(file).keys
        kept = tuple(key for key in keys if key.name != name)
        if len(kept) == len(keys):
            raise UserError(f"{path}: there is no key named {name!r}")
        _write(file, kept)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _checked_stat(path: Path) -> os.stat_result:
    """Returns the file's stat. Follows links, because Kubernetes updates a mounted secret by replacing a link.

    Raises:
        InputError: it is not a readable file, or it is writable by others than its owner.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(str(path), 0, "is not a file")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(str(path), 0, "is writable by others than its owner: chmod go-w")
    return status


def _first_problem(error: ValidationError) -> str:
    """Returns the first problem, with the key that it is about."""
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; allowed here: {', '.join((Key if len(first['loc']) > 1 else KeyFile).model_fields)}"
    return " ".join(f"{where or 'keys'}: {message}".split())


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Yields the file with links resolved, under a lock on its folder that excludes other commands' changes."""
    try:
        file = path.resolve()
        folder = os.open(file.parent, os.O_RDONLY)
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        raise InputError(str(path), 0, f"can't be written: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(folder)


def _write(file: Path, keys: tuple[Key, ...]) -> None:
    """Replaces the file atomically and keeps its owner and mode."""
    text = yaml.safe_dump({"keys": [k.model_dump(mode="json", exclude_none=True) for k in keys]}, sort_keys=False)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            if file.exists():
                old = file.stat()
                os.fchown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, file)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(str(file), 0, f"can't be written: {error.strerror}") from error


# --- the service


class KeyRing:
    """The keys of a file that may change at any time. If the new file is not valid, the old keys stay in use.

    Args:
        clock: returns monotonic seconds.

    Raises:
        InputError: the file is not valid at the start.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = Path(path), clock
        self._checked_at, self._problem = clock(), ""
        self._version = self._read_version()
        self._keys = read(self._path).keys

    def find(self, presented: str, now: datetime | None = None) -> Key:
        """Returns the entry of the key that a caller presented.

        Args:
            now: with a zone. Default: the current time.

        Raises:
            AuthError: no key was presented, it is not in the file, or it has expired.
        """
        self._refresh()
        if not presented:
            raise AuthError("missing", "an API key is needed: Authorization: Bearer KEY")
        digest, found = _hash(presented), None
        for key in self._keys:  # always compares all of them, so that the time taken reveals nothing
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise AuthError("unknown", "the API key is not valid")
        if found.expires is not None and found.expires <= (now or datetime.now(UTC)):
            raise AuthError("expired", "the API key has expired")
        return found

    def _read_version(self) -> tuple[int, ...]:
        status = _checked_stat(self._path)
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def _refresh(self) -> None:
        """Reads the file again if its content or its mode has changed."""
        now = self._clock()
        if now - self._checked_at < CHECK_INTERVAL_S:
            return
        self._checked_at = now
        try:
            version = self._read_version()
            if version != self._version:
                self._version = version  # set before reading, so that a change meanwhile is noticed by the next check
                self._keys = read(self._path).keys
            self._problem = ""
        except InputError as error:
            problem = " ".join(str(error).split())
            if problem != self._problem:
                log.error("%s; the keys stay as they were", problem)
            self._problem = problem
