"""The systems that `--system` takes; one line more is one system more."""

from baselines.aom import AOM
from baselines.bart import BART
from baselines.chatglm import CHATGLM
from baselines.coopnet import COOPNET
from baselines.flan_t5 import FLAN_T5
from baselines.llama import LLAMA
from baselines.llava import LLAVA
from baselines.od_tup import OD_TUP
from baselines.select_att import SELECT_ATT
from baselines.vlp_mabsa import VLP_MABSA
from systems.own import MMPROFILE
from systems.system import System

DEFAULT_SYSTEM = MMPROFILE.name
SYSTEMS: dict[str, System] = {
    "mmprofile": MMPROFILE,
    "flan_t5": FLAN_T5,
    "bart": BART,
    "od_tup": OD_TUP,
    "llama": LLAMA,
    "chatglm": CHATGLM,
    "llava": LLAVA,
    "coopnet": COOPNET,
    "select_att": SELECT_ATT,
    "vlp_mabsa": VLP_MABSA,
    "aom": AOM,
}


def find_system(name: str) -> System:
    """Raises a `ValueError` that names all, where there is none of the name."""
    if name not in SYSTEMS:
        raise ValueError(f"system must be one of {list(SYSTEMS)}, got {name!r}")
    return SYSTEMS[name]
