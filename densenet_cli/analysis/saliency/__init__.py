"""The parts of an image that determine a network's prediction (`densenet-model saliency`)."""
