"""Where in an image networks look (`densenet-model saliency`)."""
