// What a product of matrices is made of.
//
// All engines (Tiles, Dots, Reals) have the same functions, for
//     positions  rows of the left matrix: pixels;
//     runs       parts of the inner dimension: each is `depth` numbers that follow one another in the
//                left matrix, from offset[run] on. A 3x3 convolution has three, one for each row of
//                its kernel: neighbours in a row of pixels follow one another.
#pragma once

#include <cstdint>

constexpr int GROUP = 32;  // channels that are worked on at a time

struct Runs {
    int count;
    int64_t depth;
    int64_t offset[3];
};
