"""Whether a trained model's weights of photos and of views tell what its profiles rest on, on the split evaluated."""

from accelerate import Accelerator
from datasets import Dataset

from scoring.deletion import USERS, deletion_test
from training.agreement import Agreement
from training.arguments import JointTrainingArguments
from training.data import checked_loader
from training.photo_cache import PhotoCache


def measure_faithfulness(
    model,
    processor,
    split: Dataset,
    arguments: JointTrainingArguments,
    accelerator: Accelerator,
    cache: PhotoCache | None,
    agreement: Agreement | None = None,
) -> dict:
    """What `all_results.json` tells of it, over all processes: `test_faithfulness`, see `deletion_test`, of the
    split's first users; nothing where no weights are told, or no user has two photos or two views.

    Args:
        as of `training.results.evaluate_saved`.
    """
    users = split.select(range(min(USERS, len(split))))
    loader = checked_loader(users, processor, arguments, accelerator, agreement, cache=cache)
    name = f"{arguments.test_split}, deletions"
    found = deletion_test(model.to(accelerator.device), loader, processor, accelerator, name)
    return {"test_faithfulness": found} if found else {}
