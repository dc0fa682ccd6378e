"""Output folders: written under a temporary name, never over files that are not ours."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from golden.arch import ParameterError


def owned(folder: Path, manifest: str) -> set[str]:
    """Return the names that the folder's manifest lists under ``files``, the manifest's own included."""
    try:
        listed = json.loads((folder / manifest).read_text())["files"]
        return {manifest, *map(str, listed)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def write_folder(folder: Path, files: dict[str, bytes], manifest: str = "manifest.json", *,
                 force: bool = False) -> None:
    """Replace the contents of ``folder`` by ``files``.

    manifest : the file among ``files`` whose JSON key ``files`` names all others; it is moved into place last
    force : write into a folder that holds files which no manifest of ours names; those stay as they are
    Raises `ParameterError` when the folder holds such files or cannot be written; nothing has changed then.
    """
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    ours = owned(folder, manifest)
    if there - ours and not force:
        foreign = sorted(there - ours)
        names = ", ".join([*foreign[:3], *(["..."] if len(foreign) > 3 else [])])
        raise ParameterError(f"{folder}: holds files that are not ours, not an empty folder ({names}); "
                             "legal: an empty or generated folder; try: --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    except OSError as error:
        raise ParameterError(f"{folder}: cannot be written ({error.strerror}); legal: a writable folder") from None
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        for name in sorted(files, key=lambda name: name == manifest):
            os.replace(temporary / name, folder / name)
        for name in (ours & there) - set(files):
            (folder / name).unlink()
    except OSError as error:
        raise ParameterError(f"{folder}: cannot be written ({error.strerror}); legal: a writable folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
