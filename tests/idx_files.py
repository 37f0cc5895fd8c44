"""Files in the IDX format, that of MNIST."""

import gzip
import struct


def write_idx(path, values):
    """An array of bytes as a compressed IDX file, the format of MNIST."""
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()))
