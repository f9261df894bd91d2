"""What the encoders made of users' views, kept beside the predictions: a new review costs its own view alone.

That holds as long as the others have the reviews and photos that they had. Views are cut from the oldest review on: in
an input that drops the oldest as a new one comes, all move by one. Photos that are a user's and no review's are dealt
out to the views anew, and views that are drawn are others with each review. All of these are encoded again.

A user has a file, named after a digest of the id, with the views that the last search for the user was made over. A
view is found by a digest of its reviews, captions and photos, of the model's files and of the numbers' precision: one
of which anything changed is not found, and read anew. Numbers are kept as the model computed them, not rounded.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from files.output_files import replacing
from mmprofile import FusedEncoderOutput
from prediction.digests import file_facts_of, user_digest
from prediction.inputs import User
from prediction.store import ENCODINGS

PARTS = ("states", "weights", "gate")
NOTES = ("problems", "tokens_left_out")


class KeptEncodings:
    """The encodings in a folder of predictions.

    Args:
        folder: of the predictions.
        run: what their answers depend on; that of the model and its numbers is in a view's digest.
    """

    def __init__(self, folder: str | os.PathLike, run: Mapping):
        self.folder = Path(folder)
        its = {name: value for name, value in run.items() if name.startswith("model's ") or name == "dtype"}
        self.model = hashlib.sha256(json.dumps(its, sort_keys=True).encode()).hexdigest()

    def key(self, view: User) -> str:
        """Tells views apart, wherever in a user's history they stand."""
        facts = [file_facts_of(image) for image in view.images]
        seen = User("", view.reviews, facts, view.captions, photos_of=view.photos_of)
        return hashlib.sha256(f"{self.model}{user_digest(lambda: seen)}".encode()).hexdigest()[:32]

    def load(self, user_id: str, keys: Sequence[str]) -> dict[str, dict]:
        """Of these views those that are kept: `states` (tokens, d_model), and what the model told of them."""
        try:
            with safe_open(encodings_path(self.folder, user_id), "pt") as file:
                notes = json.loads(file.metadata()["notes"])
                there = set(file.keys())
                found = {}
                for key in keys:
                    if key in notes:
                        parts = {part: f"{key}.{part}" for part in PARTS if f"{key}.{part}" in there}
                        found[key] = notes[key] | {part: file.get_tensor(name) for part, name in parts.items()}
                return found
        except (FileNotFoundError, SafetensorError):  # none, or half of a file after the power failed
            return {}

    def write(self, user_id: str, views: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps these views of a user, and no others."""
        tensors = {f"{key}.{part}": view[part] for key, view in views.items() for part in PARTS if part in view}
        notes = {key: {name: view[name] for name in NOTES} for key, view in views.items()}
        path = encodings_path(self.folder, user_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(tensors, temporary, {"notes": json.dumps(notes)})

    def encode(self, model, users: Sequence[Any], inputs: Mapping[str, torch.Tensor]) -> dict:
        """What the decoder sees of a batch, as arguments of `generate_profiles`; what is new is encoded and kept.

        Args:
            users: `EncodedUser`s.
            inputs: the model's, of all their views that are not kept.
        """
        new = _encoded(model, inputs)
        views: list[Mapping[str, Any]] = []
        for user in users:
            of_user = [next(new) if kept is None else kept for kept in user.kept]
            views += of_user
            if any(kept is None for kept in user.kept):
                notes = zip(user.keys, of_user, user.notes, strict=True)
                self.write(user.user_id, {key: view | note for key, view, note in notes if key is not None})
        return _joined(views, model.device)


def _encoded(model, inputs: Mapping[str, torch.Tensor]) -> Iterator[dict]:
    """Of each row its tokens' states, their weights of photos and mean gates."""
    if not inputs:
        return
    with torch.no_grad():
        output = model.encode(**inputs, output_fusion=True)
    for row, mask in enumerate(output.attention_mask.bool()):
        view = {"states": output.last_hidden_state[row][mask].cpu()}
        if output.get("image_attentions") is not None:
            photos = inputs["image_mask"][row].bool()
            view["weights"] = output.image_attentions[row][mask][:, photos].float().cpu()
        if output.get("gate") is not None:
            view["gate"] = output.gate[row][mask].float().mean(dim=1, keepdim=True).cpu()
        yield view


def encodings_path(folder: Path, user_id: str) -> Path:
    """Where a user's encodings are kept."""
    name = hashlib.sha256(user_id.encode()).hexdigest()
    return folder / ENCODINGS / name[:2] / f"{name[:40]}.safetensors"


def keep_encodings_of(folder: Path, ids: Sequence[str]) -> None:
    """Removes the encodings of all others."""
    if (folder / ENCODINGS).exists():
        kept = {encodings_path(folder, user_id) for user_id in ids}
        for path in set((folder / ENCODINGS).glob("*/*")) - kept:
            path.unlink()


def _joined(views: Sequence[Mapping[str, Any]], device: torch.device) -> dict:
    """Views as the rows of a batch; who has no photo among those who have looked at none."""
    states = pad_sequence([view["states"] for view in views], batch_first=True).to(device)
    lengths = torch.tensor([len(view["states"]) for view in views])
    mask = (torch.arange(states.shape[1]) < lengths[:, None]).long().to(device)
    output = FusedEncoderOutput(last_hidden_state=states, attention_mask=mask)
    images = max(view["weights"].shape[1] if "weights" in view else 0 for view in views)
    image_mask = torch.zeros(len(views), images, dtype=torch.bool)
    if images:
        weights = torch.zeros(len(views), states.shape[1], images)
        gate = torch.zeros(len(views), states.shape[1], 1)
        for row, view in enumerate(views):
            its = view.get("weights", torch.zeros(0, 0))
            weights[row, : its.shape[0], : its.shape[1]] = its
            image_mask[row, : its.shape[1]] = True
            if "gate" in view:
                gate[row, : len(view["gate"])] = view["gate"]
        output.image_attentions = weights.to(device)
        output.gate = gate.to(device) if any("gate" in view for view in views) else None
    return {"encoder_outputs": output, "image_mask": image_mask.to(device), "attention_mask": mask}
