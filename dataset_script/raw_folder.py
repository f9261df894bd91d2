"""Where in a raw folder a file may be: at its top or one folder deeper, as archives unpack, and nowhere else.

No path outside the folder is opened, not even through a symbolic link, unless whoever builds allows links. An archive
that was not unpacked is told with the command that does it.
"""

import os
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

# What macOS puts into archives beside the files.
NO_FOLDERS = ("__MACOSX",)
TARS, ZIPS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), (".zip",)
ALLOW_LINKS = "--allow_links follows it"


def find_file(root: Path, patterns: Sequence[str], allow_links: bool, besides: str) -> Path:
    """The one file of a name that fits one of `patterns`, plain or .gz; a pattern may begin with a folder of `root`.

    Args:
        besides: the folder of photos, which holds too many to be searched.

    Raises:
        ValueError: if there is none, or are several, or it is outside of `root`.
    """
    accepted = [pattern + ending for pattern in patterns for ending in ("", ".gz")]
    found = set()
    for pattern in accepted:
        folder, _, name = pattern.rpartition("/")
        folders = [root, *_folders(root, allow_links, besides)]
        if folder:
            folders = [inside(root, root / folder, allow_links)] if (root / folder).is_dir() else []
        for path in (path for place in folders for path in _entries(place)):
            if fnmatchcase(path.name, name) and path.is_file():
                found.add(path)
    if len(found) != 1:
        given = ", ".join(path.relative_to(root).as_posix() for path in sorted(found)) or "none"
        needed = f"{root} must hold exactly one file named {' or '.join(accepted)}, found {given}"
        raise ValueError(needed + (_how_to_unpack(root) + _links(root) if not found else ""))
    return inside(root, found.pop(), allow_links)


def find_folder(root: Path, name: str, allow_links: bool, holds: str) -> Path:
    """The one folder of this name; `holds` says what of. Raises as `find_file` does."""
    found = [place / name for place in (root, *_folders(root, allow_links, name)) if (place / name).is_dir()]
    if not found:
        raise ValueError(f"{root} holds no folder {name!r} with {holds}{_how_to_unpack(root)}{_links(root)}")
    if len(found) > 1:
        given = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise ValueError(f"{root} must hold exactly one folder {name!r}, found {given}")
    return inside(root, found[0], allow_links)


def inside(root: Path, path: Path, allow_links: bool) -> Path:
    """The path without links, all of it in `root`; or, where links are allowed, the path as it is, with its name."""
    if allow_links:
        return path
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise ValueError(f"{path} leads to {resolved}, outside the raw folder {root}; {ALLOW_LINKS}")
    return resolved


def unpack_command(archive: Path, folder: Path) -> str | None:
    """The command that unpacks an archive into a folder; None for a file that is none."""
    name, into = shlex.quote(str(archive)), shlex.quote(str(folder))
    if archive.name.lower().endswith(TARS):
        return f"tar -xf {name} -C {into}"
    return f"unzip {name} -d {into}" if archive.name.lower().endswith(ZIPS) else None


def _how_to_unpack(root: Path) -> str:
    archives = [path for place in (root, *_folders(root)) for path in _entries(place) if path.is_file()]
    told = {path: command for path in archives if (command := unpack_command(path, root))}
    if not told:
        return ""
    names = ", ".join(path.relative_to(root).as_posix() for path in told)
    are = "is an archive, which this unpacks" if len(told) == 1 else "are archives, which these unpack"
    return f". {names} {are}:\n" + "".join(f"\n    {command}" for command in told.values()) + "\n"


def _links(root: Path) -> str:
    """Names the folders that are not searched, because they are links to elsewhere."""
    names = [path.name for path in _entries(root) if path.is_dir() and not path.resolve().is_relative_to(root)]
    return f"; {', '.join(names)} leads outside the raw folder: {ALLOW_LINKS}" if names else ""


def _folders(root: Path, allow_links: bool = False, besides: str = "") -> list[Path]:
    """The folders of `root` that are searched as well."""
    return [
        path
        for path in _entries(root)
        if path.name not in (*NO_FOLDERS, besides)
        and path.is_dir()
        and (allow_links or path.resolve().is_relative_to(root))
        and os.access(path, os.R_OK | os.X_OK)
    ]


def _entries(folder: Path) -> list[Path]:
    """What a folder holds and does not hide, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
