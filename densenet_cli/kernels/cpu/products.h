// Which engine multiplies numbers that are stored in a format: matrices of a few hundred rows, out of cache.
#pragma once

#include "reals.h"

#ifdef __AMX_BF16__
#include "tiles.h"
#endif

template <class Stored>
struct EngineOf {
    using type = Reals<RealOf<Stored>>;
};
#ifdef __AMX_BF16__
template <>
struct EngineOf<bfloat16> {
    using type = Tiles;
};
#endif
