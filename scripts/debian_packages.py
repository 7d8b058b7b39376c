# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packages from Debian's archive, downloaded and unpacked without root; for fetch_speech.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path


class FetchError(RuntimeError):
    """Something could not be fetched or converted; the message is one line for the user."""


def log(line: str) -> None:
    """Print a line about the work on stderr."""
    print(line, file=sys.stderr, flush=True)


class Apt:
    """Downloads with the system's package lists, or with lists of our own.

    The system's lists may be absent or stale, and only root can update them. If so, lists are
    fetched once into `state`, from the sources that the system is configured with.
    """

    def __init__(self, state: Path) -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise FetchError("apt-get and dpkg-deb: not found; this needs Debian or a derivative")
        self.state = state
        self._own_lists = False
        # Without this, apt warns root about folders that its own user cannot read.
        self._options = ["-q", "-o", "APT::Sandbox::User=root"]

    def download(self, package: str, folder: Path) -> Path:
        """Download a package into `folder` and return the path of the .deb.

        Raises FetchError with apt's own words if no source has it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        message = self._try_download(package, folder)
        if message and not self._own_lists:
            log(f"  not with the system's package lists: {message}")
            self._update_own_lists()
            message = self._try_download(package, folder)
        debs = sorted(folder.glob("*.deb"))
        if message or not debs:
            raise FetchError(f"{package}: {message or 'apt-get gave no file'}")
        return debs[-1]

    def _try_download(self, package: str, folder: Path) -> str:
        """Return "" or the reason of failure."""
        command = ["apt-get", *self._options, "download", package]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else _last_error(done.stderr)

    def _update_own_lists(self) -> None:
        log(f"  fetching package lists into {self.state}")
        options = own_list_options(self.state)
        command = ["apt-get", *self._options, *options, "update"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            # Some of several sources may have answered; the downloads will show.
            log(f"  apt-get update: {_last_error(done.stderr)}")
        self._options += options
        self._own_lists = True


def own_list_options(state: Path) -> list[str]:
    """Create a folder tree for apt to work in without root; return the options that name it."""
    state = state.resolve()
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    settings = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Cache::archives": state / "cache" / "archives",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _last_error(stderr: str) -> str:
    errors = [line[3:] for line in stderr.splitlines() if line.startswith("E: ")]
    return (errors or stderr.strip().splitlines() or ["failed without a message"])[-1]


def unpack(deb: Path, folder: Path, archives: Sequence[str] = ()) -> None:
    """Unpack a .deb into `folder`, and the zip files in it that are named in `archives`."""
    _run(["dpkg-deb", "-x", str(deb), str(folder)])
    for name in archives:
        with zipfile.ZipFile(folder / name) as archive:
            archive.extractall(folder / f"{name}.d")


def deb_field(deb: Path, field: str) -> str:
    """Read a field such as Version from a .deb."""
    return _run(["dpkg-deb", "-f", str(deb), field]).strip()


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FetchError(f"{' '.join(command[:2])}: {_last_error(done.stderr)}")
    return done.stdout
