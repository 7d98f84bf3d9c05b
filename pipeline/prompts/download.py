"""Prompt files that are given by a web address."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, one_line

SCHEMES = ("https://", "http://")


def is_address(path: str) -> bool:
    """Whether a path of the recipe is a web address."""
    return path.startswith(SCHEMES)


def fetched(address: str) -> Path:
    """The file at an address, in the cache of the datasets library. It is fetched once: later runs need no network.

    Raises:
        InputError: it can't be fetched.
    """
    from datasets import DownloadConfig, DownloadManager

    try:
        config = DownloadConfig(disable_tqdm=True, use_etag=False)
        return Path(DownloadManager(download_config=config).download(address))
    except Exception as error:
        raise InputError(address, 0, f"can't be fetched: {one_line(error)} ({type(error).__name__})") from error
