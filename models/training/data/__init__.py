"""Training data: labeled images, images with masks, pets, and generated scenes."""
