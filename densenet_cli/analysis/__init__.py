"""What a trained network does inside: networks and batches of images to numbers and figures."""
