"""The machine that figures are of, and where these go."""

import json
import platform
from pathlib import Path


def cpu_name() -> str:
    """As /proc/cpuinfo has it, where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())


def tell(figures: dict, output: Path) -> None:
    """Writes figures as JSON, and prints them."""
    text = json.dumps(figures, indent=2)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n", encoding="utf-8")
    print(text)
