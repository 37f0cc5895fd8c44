// Dropout with a mask that is a function of the element's place, so that it need not be stored.
#pragma once

#include <cstdint>

struct Dropout {
    double probability;  // in [0, 1), of dropping an element
    uint64_t seed;

    // 0, or 1 / (1 - probability), for an element of a map.
    double factor(int64_t element) const {
        uint64_t x = (uint64_t(element) + seed) * 0x9e3779b97f4a7c15u;  // splitmix64
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;
        return double(x >> 11) * 0x1p-53 < probability ? 0 : 1 / (1 - probability);
    }
};
