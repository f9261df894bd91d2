"""`files.public_names`, by the name that it had when a training alone published."""

from files.public_names import is_on_hub, link, portable_name, public_name  # noqa: F401 - for who imports them from here
