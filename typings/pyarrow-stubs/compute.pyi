"""pyarrow makes these functions when it is imported, of what its C++ library has, so their types are not known."""

from typing import Any

def __getattr__(name: str) -> Any: ...
