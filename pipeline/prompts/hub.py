"""Hub data sets, and local folders of the same structure, read with the datasets library."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, one_line
from ..recipe import PromptTable

if TYPE_CHECKING:
    from datasets import Dataset


@contextmanager
def loaded(entry: PromptTable, folder: Path | None) -> Iterator[Dataset]:
    """A data set, fetched into the hub's cache if needed.

    A folder is read anew each time: the library's cache recognizes a folder by its name, not by its content.

    Args:
        folder: the data set, if it is a local folder.

    Raises:
        InputError: it can't be reached or read, or the revision, configuration or split does not exist.
    """
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError  # a connection that breaks off is not wrapped by the hub's client
    from yaml import YAMLError

    disable_progress_bars()
    with ExitStack() as stack:
        # A folder has no revisions.
        cache = None if folder is None else stack.enter_context(tempfile.TemporaryDirectory(prefix="fusechat-"))
        name, revision = (entry.hub, entry.revision) if folder is None else (str(folder), None)
        files = None if entry.data_files is None else {entry.split: entry.data_files}
        try:
            data = load_dataset(
                name, entry.config, split=entry.split, data_files=files, revision=revision, cache_dir=cache
            )
        except YAMLError as error:
            problem = f"its card (README.md) is not valid YAML: {one_line(error)}"
            raise InputError(f"{entry.hub}@{entry.revision}", 0, problem) from error
        except (
            DatasetsError,
            HTTPError,
            OSError,
            ValueError,
            RuntimeError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:
            # The last three come from a card whose parts have another form.
            raise InputError(f"{entry.hub}@{entry.revision}", 0, _problem(error)) from error
        yield data


def file(entry: PromptTable, folder: Path | None) -> Path:
    """A single file of a data set, fetched into the hub's cache if needed.

    Args:
        folder: the data set, if it is a local folder.

    Raises:
        InputError: it can't be reached, or there is no such file.
    """
    from httpx2 import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    hub, name = entry.hub or "", entry.file or ""
    if folder is not None:
        return folder / name
    try:
        return Path(hf_hub_download(hub, name, repo_type="dataset", revision=entry.revision))
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise InputError(f"{hub}/{name}@{entry.revision}", 0, _problem(error)) from error


def _problem(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    # The library drops the cause where it looks into its cache afterwards, and keeps these words.
    if any(isinstance(each, GatedRepoError) for each in causes) or "is a gated dataset" in str(error):
        return "the data set is gated: accept its terms on its page, and set HF_TOKEN to a token of that account"
    if any(isinstance(each, RepositoryNotFoundError) for each in causes):
        return (
            "there is no such data set on the hub, or it is private and HF_TOKEN is not set to a token that may read it"
        )
    first = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return f"the data set can't be loaded: {one_line(first)} ({type(first).__name__})"
