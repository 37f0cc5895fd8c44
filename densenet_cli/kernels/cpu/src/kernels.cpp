// The functions that Python calls; see densenet_cli/kernels/cpu/engine.py.
#include "evaluation.h"
#include "maps.h"

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

template <class Stored>
static void convolve(const Convolution* steps, int64_t count) {
    for (int64_t i = 0; i < count; ++i) NormalisedConvolution<Stored>(steps[i]).forward();
}
template <class Stored>
static void convolve_backward(const Convolution* steps, int64_t count) {
    for (int64_t i = count; i-- > 0;) NormalisedConvolution<Stored>(steps[i]).backward();
}

#pragma GCC visibility push(default)
extern "C" {

// Whether this processor can run the library. With AMX, Linux must first permit the use of tiles.
int densenet_start() {
#ifdef __AMX_BF16__
    constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // arch_prctl(2)
    if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) != 0) return 0;
#endif
    return 1;
}

const Field* densenet_convolution_fields() { return CONVOLUTION_FIELDS; }
const Field* densenet_map_work_fields() { return MAP_WORK_FIELDS; }
const Field* densenet_block_fields() { return BLOCK_FIELDS; }
const Field* densenet_network_fields() { return NETWORK_FIELDS; }
const Field* densenet_region_fields() { return REGION_FIELDS; }

#define FOR_STORED(name, Stored)                                                                        \
    void convolve_##name(const Convolution* steps, int64_t count) { convolve<Stored>(steps, count); } \
    void convolve_backward_##name(const Convolution* steps, int64_t count) { convolve_backward<Stored>(steps, count); } \
    int64_t packed_bytes_##name(const Network* n) { return PackedNetwork<Stored>(*n).bytes(); }          \
    uint64_t pack_##name(const Network* n) { return PackedNetwork<Stored>(*n).pack(); }                 \
    int64_t evaluate_##name(const Network* n) { return NetworkEvaluation<Stored>(*n).run(); }           \
    void copy_##name(const MapWork* w) { Maps<Stored>(*w).copy(); }                                     \
    void correct_##name(const MapWork* w) { Maps<Stored>(*w).correct(); }                               \
    void average_pool_##name(const MapWork* w) { Maps<Stored>(*w).average_pool(); }                     \
    void average_pool_backward_##name(const MapWork* w) { Maps<Stored>(*w).average_pool_backward(); }   \
    void measure_##name(const MapWork* w) { Maps<Stored>(*w).measure(); }                               \
    void max_pool_##name(const MapWork* w) { Maps<Stored>(*w).max_pool(); }                             \
    void max_pool_backward_##name(const MapWork* w) { Maps<Stored>(*w).max_pool_backward(); }           \
    void mean_activation_##name(const MapWork* w) { Maps<Stored>(*w).mean_activation(); }               \
    void mean_activation_backward_##name(const MapWork* w) { Maps<Stored>(*w).mean_activation_backward(); }

FOR_STORED(bfloat16, bfloat16)
FOR_STORED(float32, float)
FOR_STORED(float64, double)
}
#pragma GCC visibility pop
