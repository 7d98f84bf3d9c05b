"""S3 as a file system for run directories: Arrow's client behind fsspec's interface."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs as pafs
from fsspec.implementations.arrow import ArrowFSWrapper

_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status \d+\))? during (\w+) operation: ?(.*)", re.DOTALL)
_MEANING = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "ACCESS_DENIED": "access denied: there are no credentials, or they don't allow it",
    "INVALID_ACCESS_KEY_ID": "the access key (AWS_ACCESS_KEY_ID) is not known there",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key (AWS_SECRET_ACCESS_KEY) is wrong",
}


class S3(ArrowFSWrapper):  # type: ignore[misc]
    """What a run directory needs of S3. An object is whole or absent, and nothing is cached.

    Reads AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION; credentials come from where AWS's
    tools look for them: the environment, ~/.aws, the machine's role.

    Args:
        max_attempts: tries a request; 3 give up on an endpoint that is down within seconds, 7 within a minute or two.
    """

    cachable = False  # an instance hangs on the environment, which fsspec's cache of instances does not see

    def __init__(self, max_attempts: int = 7) -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        scheme, _, host = endpoint.rpartition("://")
        client = pafs.S3FileSystem(
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_override=host.rstrip("/") or None,
            scheme=scheme or None,
            connect_timeout=5,
            allow_delayed_open=True,  # one PUT for what is small, in place of a multipart upload
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=max_attempts),
        )
        super().__init__(client)

    def find(self, path: str) -> list[str]:
        """Objects under a folder, sorted; none where there is no such folder. One request a thousand."""
        found = self.fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        return sorted(f.path for f in found if f.is_file)

    def write(self, path: str, data: bytes) -> None:
        """Writes an object; see `pipe_file` for a thread that may be interrupted."""
        with self.fs.open_output_stream(path, compression=None) as out:
            out.write(data)

    def pipe_file(self, path: str, value: bytes) -> None:
        """Writes an object, in a thread of its own.

        Arrow completes the object whenever its stream is closed, so an interrupt between opening and writing (Ctrl-C,
        a cancelled task) would leave an empty one; interrupts reach the main thread alone.
        """
        with ThreadPoolExecutor(max_workers=1) as apart:
            apart.submit(self.write, path, value).result()


def reason(error: OSError) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    match = _ERROR.search(text)
    if match is None:
        return error.strerror or text
    code, operation, detail = match.groups()
    if code == "NETWORK_CONNECTION":
        return f"the endpoint can't be reached: {detail.rpartition('Details: ')[2]}"
    return _MEANING.get(code, f"{operation} failed: {detail or code}")
