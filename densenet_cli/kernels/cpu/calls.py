"""The structs of src/calls.h, which are handed to the library and are described there."""

from __future__ import annotations

import ctypes
from typing import Any

ADDRESS, NUMBER = ctypes.c_void_p, ctypes.c_int64


class Convolution(ctypes.Structure):
    """BN-ReLU-convolution-dropout, forward and backward."""

    _fields_ = (
        ("images", NUMBER), ("height", NUMBER), ("width", NUMBER),
        ("in_channels", NUMBER), ("out_channels", NUMBER), ("size", NUMBER), ("threads", NUMBER),
        ("input", ADDRESS), ("input_pitch", NUMBER),
        ("mean", ADDRESS), ("variance", ADDRESS), ("gamma", ADDRESS), ("beta", ADDRESS),
        ("epsilon", ctypes.c_double), ("weight", ADDRESS),
        ("output", ADDRESS), ("output_pitch", NUMBER),
        ("dropout", ctypes.c_double), ("seed", ctypes.c_uint64),
        ("output_mean", ADDRESS), ("output_variance", ADDRESS),
        ("output_gradient", ADDRESS), ("output_gradient_pitch", NUMBER),
        ("slope", ADDRESS), ("offset", ADDRESS),
        ("input_gradient", ADDRESS), ("input_gradient_pitch", NUMBER), ("accumulate", NUMBER),
        ("weight_gradient", ADDRESS), ("gamma_gradient", ADDRESS), ("beta_gradient", ADDRESS),
        ("input_slope", ADDRESS), ("input_offset", ADDRESS),
    )  # fmt: skip


class MapWork(ctypes.Structure):
    """Everything else: copies, pooling, means, statistics."""

    _fields_ = (
        ("images", NUMBER), ("height", NUMBER), ("width", NUMBER), ("channels", NUMBER),
        ("threads", NUMBER),
        ("source", ADDRESS), ("source_pitch", NUMBER),
        ("destination", ADDRESS), ("destination_pitch", NUMBER),
        ("mean", ADDRESS), ("variance", ADDRESS), ("slope", ADDRESS), ("offset", ADDRESS),
        ("maps", ADDRESS), ("maps_pitch", NUMBER), ("input", ADDRESS), ("input_pitch", NUMBER),
        ("input_mean", ADDRESS), ("rstd", ADDRESS), ("gamma", ADDRESS), ("beta", ADDRESS),
        ("gamma_gradient", ADDRESS), ("beta_gradient", ADDRESS), ("choice", ADDRESS),
    )  # fmt: skip


class Region(ctypes.Structure):
    """Numbers somewhere in memory."""

    _fields_ = (("begin", ADDRESS), ("bytes", NUMBER))


class Block(ctypes.Structure):
    """A dense block of a network in evaluation."""

    _fields_ = (
        ("steps", NUMBER), ("height", NUMBER), ("width", NUMBER), ("maps", ADDRESS), ("pitch", NUMBER),
    )  # fmt: skip


class Network(ctypes.Structure):
    """A network in evaluation, up to the mean of each map."""

    _fields_ = (
        ("steps", ctypes.POINTER(Convolution)), ("blocks", ctypes.POINTER(Block)),
        ("block_count", NUMBER),
        ("stem", Convolution), ("last", Convolution),
        ("numbers", ctypes.POINTER(Region)), ("number_count", NUMBER), ("digest", ctypes.c_uint64),
        ("packed", ADDRESS),
        ("images", NUMBER), ("threads", NUMBER),
        ("pixels", ADDRESS), ("height", NUMBER), ("width", NUMBER), ("means", ADDRESS),
    )  # fmt: skip


class Field(ctypes.Structure):
    """Where a field lies in its struct."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", NUMBER))


def check_all_fields(library: ctypes.CDLL) -> None:
    """Raise RuntimeError unless the library has the same structs."""
    check_fields(library.densenet_convolution_fields, Convolution)
    check_fields(library.densenet_map_work_fields, MapWork)
    check_fields(library.densenet_block_fields, Block)
    check_fields(library.densenet_network_fields, Network)
    check_fields(library.densenet_region_fields, Region)


def check_fields(list_fields: Any, structure: type[ctypes.Structure]) -> None:
    """Raise RuntimeError unless a struct of the library has the same fields in the same places.

    Args:
        list_fields: the library's function that lists the fields of its struct.
        structure: the same struct as described here.
    """
    list_fields.restype = ctypes.POINTER(Field)
    theirs: dict[str, int] = {}
    fields = list_fields()
    while (field := fields[len(theirs)]).name is not None:
        theirs[field.name.decode()] = field.offset
    ours = {name: getattr(structure, name).offset for name, *_ in structure._fields_}
    if (theirs, field.offset) != (ours, ctypes.sizeof(structure)):
        raise RuntimeError(f"src/calls.h and cpu/calls.py differ: {theirs} and {ours}")
