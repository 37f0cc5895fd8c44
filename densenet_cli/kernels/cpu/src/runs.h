// The terms of a matrix product, which the engines Tiles, Dots and Reals compute.
//
//     positions  the rows of the left matrix: pixels;
//     runs       the parts of the inner dimension: each is `depth` numbers that are contiguous in the left
//                matrix, from offset[run] on. A 3x3 convolution has three, one for each row of its
//                kernel, because the three pixels of such a row are contiguous.
#pragma once

#include <cstdint>

constexpr int GROUP = 32;  // channels of the input that the backward pass computes at a time

struct Runs {
    int count;
    int64_t depth;
    int64_t offset[7];
};
