"""Networks of history: those that neither torchvision nor timm has, and forms for 32x32 images."""
