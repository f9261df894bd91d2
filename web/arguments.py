"""The command line of app.py, without gradio: --help is there at once."""

import argparse
import os


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Of the flags; `description` is for --help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("MODEL_ID"), help="folder or Hub name")
    parser.add_argument(
        "--revision",
        default=os.environ.get("MODEL_REVISION"),
        help="branch, tag or commit of a Hub model and its code; default: main",
    )
    parser.add_argument(
        "--trust_remote_code",
        action="store_true",
        default=os.environ.get("TRUST_REMOTE_CODE") == "true",
        help="run the code that came with the model, instead of this checkout's",
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    return parser
