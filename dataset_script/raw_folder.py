"""Where in a raw folder a file may be: at its top or one folder deeper, as archives unpack, and nowhere else.

No path outside the folder is opened, not even through a symbolic link, unless whoever builds allows links. An archive
that was not unpacked is told with the command that does it.
"""

import os
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase

from .remote_path import AnyPath, RemotePath

# What macOS puts into archives beside the files.
NO_FOLDERS = ("__MACOSX",)
TARS, ZIPS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), (".zip",)
ALLOW_LINKS = "--allow_links follows it"
PARQUET = ".parquet"  # of a file, or of a folder of part files


def find_file(root: AnyPath, patterns: Sequence[str], allow_links: bool, besides: str) -> AnyPath:
    """The one file of a name that fits one of `patterns`, plain or .gz; a pattern may begin with a folder of `root`.

    One of `PARQUET` is never a .gz, and may be a folder.

    Args:
        besides: the folder of photos, which holds too many to be searched.

    Raises:
        ValueError: if there is none, or are several, or it is outside of `root`.
    """
    accepted = [pattern + ending for pattern in patterns for ending in ("", ".gz")[: 1 if _is_parquet(pattern) else 2]]
    found = set()
    for pattern in accepted:
        folder, _, name = pattern.rpartition("/")
        folders = [root, *_folders(root, allow_links, besides)]
        if folder:
            folders = [inside(root, root / folder, allow_links)] if (root / folder).is_dir() else []
        for path in (path for place in folders for path in _entries(place)):
            if fnmatchcase(path.name, name) and (path.is_file() or (_is_parquet(path.name) and path.is_dir())):
                found.add(path)
    if len(found) != 1:
        given = ", ".join(path.relative_to(str(root)).as_posix() for path in sorted(found)) or "none"
        needed = f"{root} must hold exactly one file named {' or '.join(accepted)}, found {given}"
        raise ValueError(needed + (_how_to_unpack(root) + _links(root) if not found else ""))
    path = inside(root, found.pop(), allow_links)
    for part in parts(path):
        inside(root, part, allow_links)
    return path


def parts(path: AnyPath) -> list[AnyPath]:
    """The file itself; of a folder its part files, by name. Spark hides others, and Hive's folders have more columns.

    Raises:
        ValueError: if the folder holds no part file, or other folders.
    """
    if not path.is_dir():
        return [path]
    entries = [entry for entry in _entries(path) if not entry.name.startswith("_")]
    if folders := [entry.name for entry in entries if entry.is_dir()]:
        raise ValueError(f"{path} must hold part files alone, without partitions, found the folder {folders[0]}")
    found = [entry for entry in entries if _is_parquet(entry.name)]
    if not found:
        raise ValueError(f"{path} must be a Parquet file, or a folder of part files *{PARQUET}, found none in it")
    return found


def _is_parquet(name: str) -> bool:
    return name.endswith(PARQUET)


def find_folder(root: AnyPath, name: str, allow_links: bool, holds: str) -> AnyPath:
    """The one folder of this name; `holds` says what of. Raises as `find_file` does."""
    found = [place / name for place in (root, *_folders(root, allow_links, name)) if (place / name).is_dir()]
    if not found:
        raise ValueError(f"{root} holds no folder {name!r} with {holds}{_how_to_unpack(root)}{_links(root)}")
    if len(found) > 1:
        given = ", ".join(path.relative_to(str(root)).as_posix() for path in found)
        raise ValueError(f"{root} must hold exactly one folder {name!r}, found {given}")
    return inside(root, found[0], allow_links)


def inside(root: AnyPath, path: AnyPath, allow_links: bool) -> AnyPath:
    """The path without links, all of it in `root`; or, where links are allowed, the path as it is, with its name."""
    if allow_links:
        return path
    resolved = path.resolve()
    if not resolved.is_relative_to(str(root)):
        raise ValueError(f"{path} leads to {resolved}, outside the raw folder {root}; {ALLOW_LINKS}")
    return resolved


def unpack_command(archive: AnyPath, folder: AnyPath) -> str | None:
    """The command that unpacks an archive into a folder; None for a file that is none."""
    name, into = shlex.quote(str(archive)), shlex.quote(str(folder))
    if archive.name.lower().endswith(TARS):
        return f"tar -xf {name} -C {into}"
    return f"unzip {name} -d {into}" if archive.name.lower().endswith(ZIPS) else None


def _how_to_unpack(root: AnyPath) -> str:
    archives = [path for place in (root, *_folders(root)) for path in _entries(place) if path.is_file()]
    told = {path: command for path in archives if (command := unpack_command(path, root))}
    if not told:
        return ""
    names = ", ".join(path.relative_to(str(root)).as_posix() for path in told)
    are = "is an archive, which this unpacks" if len(told) == 1 else "are archives, which these unpack"
    return f". {names} {are}:\n" + "".join(f"\n    {command}" for command in told.values()) + "\n"


def _links(root: AnyPath) -> str:
    """Names the folders that are not searched, because they are links to elsewhere."""
    names = [path.name for path in _entries(root) if path.is_dir() and not path.resolve().is_relative_to(str(root))]
    return f"; {', '.join(names)} leads outside the raw folder: {ALLOW_LINKS}" if names else ""


def _folders(root: AnyPath, allow_links: bool = False, besides: str = "") -> list[AnyPath]:
    """The folders of `root` that are searched as well."""
    return [
        path
        for path in _entries(root)
        if path.name not in (*NO_FOLDERS, besides)
        and path.is_dir()
        and (allow_links or path.resolve().is_relative_to(str(root)))
        and (isinstance(path, RemotePath) or os.access(path, os.R_OK | os.X_OK))
    ]


def _entries(folder: AnyPath) -> list[AnyPath]:
    """What a folder holds and does not hide, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
