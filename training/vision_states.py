"""What a frozen vision tower makes of photos, computed once: a file of its states, mapped into memory."""

import hashlib
import json

import numpy as np
import torch

from files.output_files import replacing
from training.photo_cache import PhotoCache


class VisionStates:
    """The vision tower's states of the photos of a cache, 32-bit (hidden,), or (patches, hidden) if it looks at these.

    The file belongs to the cache's photos, the processor's settings and the tower's weights: its name is a digest of
    them all, so that another tower has a file of its own.

    Args:
        cache: of the photos; the file lies beside its own.
        model: needs `photo_states`, `vision_model` and `config.vision_feature`.
        device: to compute them on, if they are not there.
        batch_size: photos at a time.
    """

    def __init__(self, cache: PhotoCache, model, device: torch.device | str = "cpu", batch_size: int = 32):
        self._cache = cache
        self._path = cache.path.with_name(f"{_digest(cache, model)}.npy")
        self._states: np.ndarray | None = None
        if len(cache) and not self._path.exists():
            self._write(model, torch.device(device), batch_size)

    def __getitem__(self, photo: bytes | str) -> np.ndarray:
        states = self._states
        if states is None:  # opened by each worker for itself
            states = self._states = np.load(self._path, mmap_mode="r")
        return states[self._cache.row(photo)]

    def __getstate__(self) -> dict:
        return vars(self) | {"_states": None}

    @torch.no_grad()
    def _write(self, model, device: torch.device, batch_size: int) -> None:
        tower, home, rows = model.vision_model, model.vision_model.device, range(len(self._cache))
        was_training, _ = tower.training, tower.eval().to(device)
        with replacing(self._path) as temporary:
            file = None
            for start in rows[::batch_size]:
                photos = self._cache.encode(rows[start : start + batch_size])
                states = model.photo_states(photos.to(device)).float().cpu().numpy()
                if file is None:
                    file = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(rows), *states.shape[1:]))
                file[start : start + batch_size] = states
            assert file is not None  # there are photos
            file.flush()
        tower.train(was_training).to(home)


def _digest(cache: PhotoCache, model) -> str:
    settings = [cache.path.stem, model.config.vision_feature, model.vision_model.config.to_dict()]
    settings += [key.hex() for key in sorted(cache.unreadable)]  # a file may be there, or mended, later
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in model.vision_model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
