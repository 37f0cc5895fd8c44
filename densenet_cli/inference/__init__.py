"""Networks in use: predictions, evaluation on other images, export, and summaries of layers."""
