// The engine that multiplies matrices of a number format. They have some hundred rows and lie in the cache.
#pragma once

#include "reals.h"

#if defined(__AMX_BF16__)
#include "tiles.h"
#elif defined(__AVX512BF16__)
#include "dots.h"
#endif

template <class Stored>
struct EngineOf {
    using type = Reals<RealOf<Stored>>;
};
#if defined(__AMX_BF16__)
template <>
struct EngineOf<bfloat16> {
    using type = Tiles;
};
#elif defined(__AVX512BF16__)
template <>
struct EngineOf<bfloat16> {
    using type = Dots;
};
#endif
