"""train.py under FSDP on the CPU: Accelerate takes DDP there whatever its configuration says, though torch has FSDP.

accelerate launch --config_file <recipes/accelerate_fsdp.yaml with use_cpu> -m tests.sharded_on_cpu [flags of train.py]
"""

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

import train

initialise = AcceleratorState.__init__


def initialise_sharded(self, *arguments, fsdp_plugin=None, **options):
    initialise(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None:
        # What __init__ does for GPUs; each state starts from the shared one.
        PartialState._shared_state["distributed_type"] = self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = initialise_sharded
    train.main()
