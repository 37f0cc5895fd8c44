"""The dense blocks of a DenseNet computed faster, with the same numbers."""
