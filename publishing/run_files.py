"""What a run of train.py writes to its folder beside its checkpoints, as patterns of names."""

from pathlib import Path

ALL_RESULTS, METRICS, CURVES, RECIPE = "all_results.json", "metrics.jsonl", "curves.png", "recipe.yaml"
RESULTS = ("README.md", ALL_RESULTS, "calibration.png", "confusion.png")  # of the whole run
PREDICTIONS = "test_predictions.parquet"  # with users' ids: for who has the folder, not for the Hub
# Rows of `test_f1` in the first of these files. The recipe's is beside that of a system that reads whole histories: as
# the paper has it, `num_reviews` reviews in one view, and a beam search.
RECIPE_ROW, REVIEWS_ROW, MAJORITY_ROW = "the paper's recipe", "reviews alone", "majority class"
PROGRESS = (METRICS, CURVES, RECIPE)  # of its evaluations, and its flags
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
LOADED = (  # with the weights
    *("config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "spiece.model"),
    *("chat_template.jinja", "handler.py", "requirements.txt", "LICENSE"),
    *(path.name for path in sorted(Path(__file__).parent.parent.glob("*_mmprofile.py"))),
)
ADAPTER = "adapter"  # of LoRA; not at the root, where transformers would look for one to add to the weights
LOG_FOLDER = "logs"  # what trackers write there, and which of their runs this one is
IDENTITY_FILE, PROJECT = "tracker_run.json", "mmprofile"  # in it
