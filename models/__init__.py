"""Networks for image classification and segmentation, and their checkpoints."""
