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


def check_folder(folder: Path, manifest: str, *, force: bool) -> None:
    """Raise `ParameterError` unless ``folder`` can be written and holds no files but ours, or ``force``; nothing is made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        foreign = sorted(set(os.listdir(folder)) - owned(folder, manifest)) if folder.is_dir() else []
    except OSError as error:
        raise _unwritable(folder, error) from None
    if foreign and not force:
        names = ", ".join([*foreign[:3], *(["..."] if len(foreign) > 3 else [])])
        raise ParameterError(f"{folder}: holds files that are not ours, not an empty folder ({names}); "
                             "legal: an empty or generated folder; try: --force")


def _unwritable(folder: Path, error: OSError) -> ParameterError:
    return ParameterError(f"{folder}: cannot be written ({error.strerror}); legal: a writable folder")


def write_folder(folder: Path, files: dict[str, bytes], manifest: str = "manifest.json", *,
                 force: bool = False) -> None:
    """Replace the contents of ``folder`` by ``files``.

    manifest : the file among ``files`` whose JSON key ``files`` names all others; it is moved into place last
    force : write into a folder that holds files which no manifest of ours names; those stay as they are
    Raises `ParameterError` when the folder holds such files, a folder in the place of one of ours, or cannot be
    written; nothing has changed then.
    """
    check_folder(folder, manifest, force=force)
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    replaced = set(files) | owned(folder, manifest) & there
    for name in sorted(replaced & there):
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            raise ParameterError(f"{folder}: {name} must be a file or absent, not a folder; legal: an empty or generated "
                                 "folder; try: another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        for name in sorted(files, key=lambda name: name == manifest):
            os.replace(temporary / name, folder / name)
        for name in replaced - set(files):
            (folder / name).unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
