"""The OpenVINO runtime for CPUs, with the interface of the inference form in torch.

OpenVINO is an optional dependency; it is imported at its first use.
"""

from models.runtimes.openvino.form import OpenVINOForm
from models.runtimes.openvino.package import available

__all__ = ["OpenVINOForm", "available"]
