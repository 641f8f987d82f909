"""A second runtime for CPUs: the folded network in OpenVINO, behind the same call as in torch.

Knows nothing of checkpoints, nor of who runs it. OpenVINO is an extra and is imported on use.
"""

from models.runtimes.openvino.form import OpenVINOForm
from models.runtimes.openvino.package import available

__all__ = ["OpenVINOForm", "available"]
