"""What a run of train.py writes to its folder beside its checkpoints."""

RESULTS = ("README.md", "all_results.json", "calibration.png", "confusion.png")  # of the whole run
PROGRESS = ("metrics.jsonl", "curves.png")  # of its evaluations
WEIGHTS = (
    *("*.safetensors", "*.safetensors.index.json", "*config.json", "tokenizer*", "special_tokens_map.json"),
    *("*.model", "*_mmprofile.py", "handler.py", "requirements.txt", "LICENSE", "recipe.yaml"),
)
ADAPTER = "adapter"  # of LoRA; not at the root, where transformers would look for one to add to the weights
