"""Where the files of a public data set are: a folder of the user, a system package, or a checked download."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from deeprelax.errors import DataError

ROOT_VARIABLE = "DEEPRELAX_DATA"
TIMEOUT_S = 60.0

# Made absolute where the config is made: the working folder of a worker is another one.
LocalPath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().resolve()))]


@dataclass(frozen=True, kw_only=True)
class Download:
    """One public file.

    Args:
        url: where it is.
        sha256: of the file as it is sent, in hexadecimal digits.
    """

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """The file's name, the last part of the URL."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class PublicData:
    """The files of a data set and the places where they may be.

    Args:
        name: of its folder below ``$DEEPRELAX_DATA`` and below the cache.
        layouts: alternatives, each the complete list of files, relative to a folder.
        downloads: fetched into the cache if no folder holds the files; they form one of the layouts.
        system: folder of a system package.
        install: the command that installs this package.
    """

    name: str
    layouts: tuple[tuple[str, ...], ...]
    downloads: tuple[Download, ...]
    system: Path | None = None
    install: str | None = None

    def locate(self, folder: str | None = None) -> list[Path]:
        """Return the paths of one complete layout.

        Args:
            folder: the only place to look in; None = ``$DEEPRELAX_DATA/<name>``, the system package, the cache, then a
                download.

        Raises:
            DataError: nowhere found; the message says how to get the files.
        """
        folders = [Path(folder)] if folder is not None else list(self._folders())
        for place in folders:
            for layout in self.layouts:
                if all((place / file).is_file() for file in layout):
                    return [place / file for file in layout]
        if folder is not None:
            raise DataError(f"No {self.name} data in {folder}. {self._fixes()}")
        return self._fetch(folders)

    def _folders(self) -> Iterator[Path]:
        if root := os.environ.get(ROOT_VARIABLE):
            yield Path(root).expanduser() / self.name
        if self.system is not None:
            yield self.system
        yield cache_folder() / self.name

    def _fetch(self, searched: list[Path]) -> list[Path]:
        try:
            return [download(item, cache_folder() / self.name) for item in self.downloads]
        except DataError as error:
            places = ", ".join(map(str, searched))
            raise DataError(f"No {self.name} data in {places}, and no download. {error} {self._fixes()}") from error

    def _fixes(self) -> str:
        install = f"run `{self.install}`, or " if self.install else ""
        return (
            f"To fix it, on every machine that trains: {install}set data=FOLDER (or {ROOT_VARIABLE}=PARENT for "
            f"PARENT/{self.name}) to a folder with {', '.join(self.layouts[0])}, packed or unpacked, or let it "
            f"reach {self.downloads[0].url} once, which fills {cache_folder() / self.name}."
        )


def cache_folder() -> Path:
    """Return the folder of downloaded files: ``$XDG_CACHE_HOME/deeprelax``, by default ``~/.cache/deeprelax``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "deeprelax"


def download(item: Download, folder: Path) -> Path:
    """Fetch one file into ``folder`` and return its path; the file appears there only if its checksum is right.

    Raises:
        DataError: the file cannot be fetched or stored, or is not the expected one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own for each process: replicas on one machine may fetch at the same time.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            part = Path(scratch) / item.file
            with urllib.request.urlopen(item.url, timeout=TIMEOUT_S) as response, part.open("wb") as out:
                shutil.copyfileobj(response, out)
            _check(part, item)
            return part.rename(folder / item.file)
    except (OSError, HTTPException) as error:
        raise DataError(f"Cannot download {item.url} to {folder}: {error}.") from error


def _check(file: Path, item: Download) -> None:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != item.sha256:
        raise DataError(
            f"Wrong checksum of {item.url}: sha256 {digest}. Must be {item.sha256}; the file was discarded."
        )
