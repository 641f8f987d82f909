"""Training data: labelled images, images with masks, pets, and generated scenes."""
