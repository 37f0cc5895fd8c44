"""Files on disk -> batches of images and labels. Nothing here knows networks or training."""
