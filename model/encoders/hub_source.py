"""Find the files of a model of `hf:`, in a folder, in the cache of the hub's client or on the hub, and its licence.

A model that lies in the cache is taken from there, at the commit it was fetched at, and the hub is asked nothing: what is
published under the same name tomorrow changes no project. No torch is loaded here, and none of a model's files is run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from everylabel.model.encoders.hub_errors import HubError, explain
from everylabel.model.encoders.image_processor_files import CONFIG_FILE, PROCESSOR_FILES, read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CARD = "README.md"
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)
"""Of a model that reads texts, too; each has some of them."""
_NAME = re.compile(r"(?P<repository>\w[\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"[\w.-]+\.safetensors")
_LONGEST = 200
"""Characters of a licence that are shown; the card is a stranger's."""
_LONGEST_HEAD = 1 << 16
"""Bytes of a card that are read."""
_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\n---[ \t]*(?:\r?\n|$)", re.S)
_EMPTY = ("", "~", "null")
_NOT_CACHED = "its model card is not in the cache"
_WHAT_IS_NEEDED = (
    "Give the name of an image model on the hub, such as facebook/dinov2-small, or a folder with config.json, "
    "preprocessor_config.json and model.safetensors."
)


@dataclass(frozen=True)
class HubSource:
    """The files of a model."""

    folder: Path
    """Has `config.json`, the image processor's file and the weights."""
    identity: str
    """Stands for these very files in a signature: the repository and its commit, or a digest of a folder's content."""
    licence: str
    """In words, as the model card says it."""
    repository: str | None = None
    """The name on the hub; None for a folder."""
    commit: str | None = None
    """The commit of the repository, 40 hex digits; None for a folder."""


def find(source: str) -> HubSource:
    """Return the files of a model, downloaded if they are not in the cache.

    Args:
        source: A folder, or a repository's name, with `@` and a revision (commit, branch or tag) or without.

    Raises:
        ValueError: It is neither, or cannot be had; the message says the way out.
    """
    if not source:
        raise ValueError("hf: needs a model's name or folder, such as hf:facebook/dinov2-small.")
    try:
        return _folder(source) or _from_hub(source)
    except HubError as error:
        raise ValueError(f"Cannot load hf:{source}: {error}") from error
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise ValueError(f"Cannot load hf:{source}:{where} cannot be read ({error.strerror}).") from error


def licence(source: str) -> str:
    """Return the licence that a model's card names, in words; of the model itself nothing is downloaded for it."""
    try:
        folder = _as_folder(source)
        if source and folder is not None:
            return _licence(folder / CARD)
        repository, revision = _parse(source)
        config = _cached(repository, CONFIG_FILE, revision)
        if config is None:
            return _licence(_fetch(repository, CARD, revision))
        commit = config.parent.name  # it will be taken from the cache, so this is the card that counts
        with suppress(HubError):
            _fetch(repository, CARD, commit)
        return _cached_licence(repository, commit)
    except (HubError, OSError):
        return _unknown("its model card cannot be read")


def _as_folder(source: str) -> Path | None:
    """Return the folder of this name; None where there is none, or can be none."""
    try:
        folder = Path(source).expanduser()
        return folder if folder.is_dir() else None
    except RuntimeError:  # of ~nobody
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise


def _folder(source: str) -> HubSource | None:
    folder = _as_folder(source)
    if folder is None:
        return None
    if not (folder / CONFIG_FILE).is_file():
        raise HubError(f"the folder has no {CONFIG_FILE}. {_WHAT_IS_NEEDED}")
    weights = [folder / WEIGHTS]
    if not weights[0].is_file():
        index = folder / INDEX
        weights = [index, *(folder / name for name in _shards(index))] if index.is_file() else []
    if not weights:
        raise HubError(
            f"the folder has no {WEIGHTS}; pickled weights are not read. transformers writes it by save_pretrained. {_WHAT_IS_NEEDED}"
        )
    small = [folder / name for name in (CONFIG_FILE, *PROCESSOR_FILES)]
    digest = _digest([path for path in (*small, *weights) if path.is_file()])
    return HubSource(folder, f"folder-{digest}", _licence(folder / CARD))


def _digest(files: list[Path]) -> str:
    """Return a digest of files' names and content, 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def _from_hub(source: str) -> HubSource:
    repository, revision = _parse(source)
    config = _fetch(repository, CONFIG_FILE, revision)
    if config is None:
        raise HubError(
            f"{repository} has no {CONFIG_FILE}, so it is no model that transformers can load. {_WHAT_IS_NEEDED}"
        )
    commit = config.parent.name
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"the hub's client has put it at {config.parent}, which is no commit.")
    has_weights = _has_weights(repository, commit)
    tokenizer = TOKENIZER_FILES if "text_config" in read_json(config) else ()
    # Another program may have cached the weights alone. Of a file that is there, or is known not to exist, nothing is asked.
    with suppress(HubError) if has_weights else nullcontext():
        for name in (*PROCESSOR_FILES, CARD, *tokenizer):
            _fetch(repository, name, commit)
    if not has_weights:
        _fetch_weights(repository, commit)
    return HubSource(
        config.parent, f"{repository}@{commit}", _cached_licence(repository, commit), repository, commit
    )


def _cached_licence(repository: str, commit: str) -> str:
    if _lookup(repository, CARD, commit) is None:
        return _unknown(_NOT_CACHED)
    return _licence(_cached(repository, CARD, commit))


def _has_weights(repository: str, commit: str) -> bool:
    """Return whether all weights are in the cache."""
    if _cached(repository, WEIGHTS, commit) is not None:
        return True
    index = _cached(repository, INDEX, commit)
    return index is not None and all(_cached(repository, name, commit) for name in _shards(index))


def _fetch_weights(repository: str, commit: str) -> None:
    if _fetch(repository, WEIGHTS, commit) is not None:
        return
    index = _fetch(repository, INDEX, commit)
    if index is None:
        raise HubError(
            f"{repository} has no {WEIGHTS}; pickled weights are not read. A revision refs/pr/N of it may have it: "
            f"hf:{repository}@refs/pr/N"
        )
    for name in _shards(index):
        if _fetch(repository, name, commit) is None:
            raise HubError(f"{repository} lacks {name}, which its {INDEX} names.")


def _parse(source: str) -> tuple[str, str | None]:
    found = _NAME.fullmatch(source)
    if found is None:
        raise HubError(f"there is no such folder here, and it is no name of a model. {_WHAT_IS_NEEDED}")
    return found["repository"], found["revision"]


def _fetch(repository: str, name: str, revision: str | None) -> Path | None:
    """Return a file of a repository, from the cache if it is there; None where the repository has none of this name.

    Raises:
        HubError: It cannot be had; the message says the way out.
    """
    hub, errors = _client()
    # Errors are raised from None: a traceback in a log would show the addresses that were asked, some of which are signed.
    # What a connection that breaks raises: of httpx in newer versions, of requests (an OSError) in older ones.
    broken: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        cached = hub.try_to_load_from_cache(repository, name, revision=revision)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None
        return Path(hub.hf_hub_download(repository, name, revision=revision, library_name="everylabel"))
    except errors.LocalEntryNotFoundError as error:
        # An EntryNotFoundError too: nothing is cached, and there is no answer.
        raise HubError(explain(error, repository, revision)) from None
    except errors.EntryNotFoundError:
        return None
    except (OSError, ValueError, broken) as error:
        raise HubError(explain(error, repository, revision)) from None


def _cached(repository: str, name: str, revision: str | None) -> Path | None:
    """Return a file that is in the cache; None if it is not."""
    found = _lookup(repository, name, revision)
    return Path(found) if isinstance(found, str) else None


def _lookup(repository: str, name: str, revision: str | None) -> Any:
    """Return the path of a file in the cache, None if it is not there, or a mark where it is known not to exist."""
    hub, errors = _client()
    try:
        return hub.try_to_load_from_cache(repository, name, revision=revision)
    except (errors.HFValidationError, OSError) as error:
        raise HubError(explain(error, repository, revision)) from None


def _client() -> tuple[Any, Any]:
    try:
        return import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    except ImportError as error:
        raise HubError("it needs transformers. Install it with: pip install 'everylabel[hf]'") from error


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise HubError(f"{INDEX} is damaged.") from error
    if strange := [name for name in names if not isinstance(name, str) or not _SHARD.fullmatch(name)]:
        raise HubError(f"{INDEX} names {strange[0]!r}, which is no file of weights beside it.")
    return names


def _licence(card: Path | None) -> str:
    if card is None or not card.is_file():
        return _unknown("there is no model card")
    try:
        fields = _front_matter(card)
    except OSError:
        return _unknown("its model card cannot be read")
    given = _text(fields.get("license_name")) or _text(fields.get("license"))
    if not given:
        return _unknown("its model card names none")
    link = _text(fields.get("license_link"))
    words = f"{given} ({link})" if link and link != "LICENSE" else given
    return f"{_line(words)}, as its model card says"


def _front_matter(card: Path) -> dict[str, Any]:
    """Return the fields at the head of a model card; none where they cannot be read."""
    try:
        import yaml  # noqa: PLC0415  comes with transformers
    except ImportError:
        return {}
    with card.open("rb") as opened:
        head = opened.read(_LONGEST_HEAD).decode("utf-8", errors="replace")
    found = _FRONT_MATTER.match(head)
    try:  # without types: a date that cannot be is text, and so is a licence "no"
        fields = yaml.BaseLoader(found[1]).get_single_data() if found else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(field: Any) -> str:
    """Return a field that is text or a list of texts; "" for another, which aliases may make endless."""
    given = field[:_LONGEST] if isinstance(field, list) else [field]
    texts = [one[:_LONGEST] for one in given if isinstance(one, str)]
    return ", ".join(one for one in texts if one.lower() not in _EMPTY)


def _unknown(why: str) -> str:
    return f"unknown: {why}"


def _line(text: str) -> str:
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
