"""Uploads a data set to a hub."""

from __future__ import annotations

import os

from ..errors import FusechatError, UserError, one_line
from ..recipe import Recipe
from ..storage.run_dir import RunDir
from .export import files_of


def push(run: RunDir, recipe: Recipe, repo: str, *, private: bool = False) -> str:
    """Creates the repository if it does not exist, and uploads all files in one commit; returns the commit's URL.

    HF_ENDPOINT sets the hub. The token is HF_TOKEN, or the one that `hf auth login` stored; messages never contain it.

    Raises:
        UserError: `repo` is not owner/name, the hub can't be reached, or it rejects the token or the card.
        FusechatError: the hub fails.
    """
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if repo.count("/") != 1:
        raise UserError(f"push: {repo!r} must be owner/name")
    endpoint = os.environ.get("HF_ENDPOINT")
    files = files_of(run, recipe, "trl").files
    api = HfApi(endpoint=endpoint, library_name="fusechat")
    try:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        info = api.create_commit(
            repo, operations, repo_type="dataset", commit_message=f"{recipe.name}, made by fusechat"
        )
    except HFValidationError as error:
        raise UserError(f"push: {_without_token(error)}") from error
    except LocalTokenNotFoundError as error:
        raise UserError("push: the hub requires a token: set HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UserError(f"push: the hub refused ({status}): HF_TOKEN must have write access to {repo}") from error
        raise FusechatError(f"push: the hub failed ({status}): {_without_token(error)}") from error
    except (HTTPError, InvalidURL, OSError) as error:
        hub = endpoint or "the hub"
        raise UserError(f"push: {hub} can't be reached: {_without_token(error)}; HF_ENDPOINT sets the hub") from error
    except ValueError as error:  # from the hub's check of the card's YAML, and of an answer that is not JSON
        raise UserError(f"push: the hub refused the card, or is no hub: {_without_token(error)}") from error
    return str(info.commit_url)


def _without_token(error: Exception) -> str:
    token = os.environ.get("HF_TOKEN")
    text = one_line(error)
    return text.replace(token, "***") if token else text
