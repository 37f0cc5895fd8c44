"""Files on disk -> batches of images and labels; no network and no training is known here."""
