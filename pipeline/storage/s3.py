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
    "INVALID_ACCESS_KEY_ID": "the access key (AWS_ACCESS_KEY_ID) is unknown",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key (AWS_SECRET_ACCESS_KEY) is wrong",
}


class S3(ArrowFSWrapper):  # type: ignore[misc]
    """The part of S3 that a run directory needs. An object is complete or absent, and nothing is cached.

    Reads AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION and AWS_DEFAULT_REGION. Credentials come from the same
    places as for AWS's tools: the environment, ~/.aws, the machine's role.

    Args:
        max_attempts: attempts per request. If the endpoint is down, 3 attempts take seconds, 7 a minute or two.
    """

    cachable = False  # an instance depends on the environment, which fsspec's cache of instances ignores

    def __init__(self, max_attempts: int = 7) -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        scheme, _, host = endpoint.rpartition("://")
        client = pafs.S3FileSystem(
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_override=host.rstrip("/") or None,
            scheme=scheme or None,
            connect_timeout=5,
            allow_delayed_open=True,  # small files take one PUT instead of a multipart upload
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=max_attempts),
        )
        super().__init__(client)

    def find(self, path: str) -> list[str]:
        """Objects under a folder, sorted; empty if the folder does not exist. Takes one request per 1000 objects."""
        found = self.fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        return sorted(f.path for f in found if f.is_file)

    def write(self, path: str, data: bytes) -> None:
        """Writes an object. A thread that may be interrupted must use `pipe_file`."""
        with self.fs.open_output_stream(path, compression=None) as out:
            out.write(data)

    def pipe_file(self, path: str, value: bytes) -> None:
        """Writes an object in a separate thread.

        Arrow completes the object whenever its stream is closed. An interrupt between opening and writing (Ctrl-C, a
        cancelled task) would leave an empty object, but interrupts reach only the main thread.
        """
        with ThreadPoolExecutor(max_workers=1) as executor:
            executor.submit(self.write, path, value).result()


def reason(error: OSError) -> str:
    """The cause of a failure, in one line."""
    text = " ".join(str(error).split())
    match = _ERROR.search(text)
    if match is None:
        return error.strerror or text
    code, operation, detail = match.groups()
    if code == "NETWORK_CONNECTION":
        return f"the endpoint can't be reached: {detail.rpartition('Details: ')[2]}"
    return _MEANING.get(code, f"{operation} failed: {detail or code}")
