"""The devices beside the host on which searches run, and the way of arrays there and back."""

from .choice import placement_of as placement_of
from .choice import placement_on as placement_on
from .emulated_placement import EmulatedArray as EmulatedArray
from .emulated_placement import EmulatedPlacement as EmulatedPlacement
from .placement import Placement as Placement
from .torch_placement import TorchPlacement as TorchPlacement
from .torch_placement import torch_queue as torch_queue
