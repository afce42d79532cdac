"""Where an object store's address leads: a folder, or a bucket of S3, Google Cloud Storage or Azure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import ObjectStore


def open_backend(url: str, *, removes_empty_folders: bool = True, **remote: Any) -> ObjectStore:
    """The store at a folder path, file://, s3://, gs:// or az://; a folder is made if it is not there.

    `remote` are obstore's options of one that is no folder. Its credentials are those that its own tools use
    (AWS_ACCESS_KEY_ID and so on). Raises ImportError without the extra `store`, and obstore's errors for an address that is none.
    """
    from obstore.store import LocalStore, from_url

    if "://" not in url or url.startswith("file://"):
        folder = Path(url.removeprefix("file://")).expanduser().resolve()
        return LocalStore(folder, mkdir=True, automatic_cleanup=removes_empty_folders)
    return from_url(url, **remote)
