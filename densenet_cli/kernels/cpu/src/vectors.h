// Registers of numbers, which are stored as bfloat16, float or double and computed with as float or double.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int REGISTER_BYTES = 64;
#elif defined(__AVX__)
constexpr int REGISTER_BYTES = 32;
#else
constexpr int REGISTER_BYTES = 16;
#endif

struct bfloat16 {
    uint16_t bits;
};

template <class Stored>
using RealOf = std::conditional_t<std::is_same_v<Stored, bfloat16>, float, Stored>;

template <class Real>
struct Register;
template <>
struct Register<float> {
    typedef float type __attribute__((vector_size(REGISTER_BYTES)));
};
template <>
struct Register<double> {
    typedef double type __attribute__((vector_size(REGISTER_BYTES)));
};

// A register of reals; arithmetic works on all its lanes.
template <class Real>
using Vector = typename Register<Real>::type;
template <class Real>
constexpr int lanes_of = REGISTER_BYTES / int(sizeof(Real));
constexpr int FLOATS = lanes_of<float>;

template <class Real>
inline Vector<Real> broadcast(Real value) {
    return value - Vector<Real>{};
}

// Reads a register of numbers.
inline Vector<float> load(const float* from) {
    Vector<float> lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
}
inline Vector<double> load(const double* from) {
    Vector<double> lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

// A register's numbers as bfloat16, and back.
#ifdef __AVX512BF16__
using Halves = __m256i;
inline Halves rounded(Vector<float> lanes) { return (Halves)_mm512_cvtneps_pbh((__m512)lanes); }
inline Vector<float> widened(Halves bits) {
    return (Vector<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}
#else
typedef uint16_t Halves __attribute__((vector_size(REGISTER_BYTES / 2)));
typedef uint32_t Wholes __attribute__((vector_size(REGISTER_BYTES)));
inline Halves rounded(Vector<float> lanes) {  // to the nearest, ties to even; a NaN stays NaN
    const Wholes bits = (Wholes)lanes;
    const Wholes nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector((lanes != lanes) ? (bits >> 16) | 0x40 : nearest, Halves);
}
inline Vector<float> widened(Halves bits) {
    return (Vector<float>)(__builtin_convertvector(bits, Wholes) << 16);
}
#endif

inline Vector<float> load(const bfloat16* from) {
    Halves bits;
    std::memcpy(&bits, from, sizeof bits);
    return widened(bits);
}

// Writes a register of numbers.
inline void store(float* to, Vector<float> lanes) { std::memcpy(to, &lanes, sizeof lanes); }
inline void store(double* to, Vector<double> lanes) { std::memcpy(to, &lanes, sizeof lanes); }
inline void store(bfloat16* to, Vector<float> lanes) {
    const Halves bits = rounded(lanes);
    std::memcpy(to, &bits, sizeof bits);
}

// The same for the first `count` lanes; the others are read as zero.
template <class Stored>
inline Vector<RealOf<Stored>> load(const Stored* from, int count) {
    if (count >= lanes_of<RealOf<Stored>>) return load(from);
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<Stored, bfloat16>)
        return widened(_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), from));
    if constexpr (std::is_same_v<Stored, float>)
        return (Vector<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#endif
    Stored padded[lanes_of<RealOf<Stored>>] = {};
    std::memcpy(padded, from, count * sizeof(Stored));
    return load(padded);
}
template <class Stored>
inline void store(Stored* to, Vector<RealOf<Stored>> lanes, int count) {
    if (count >= lanes_of<RealOf<Stored>>) return store(to, lanes);
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<Stored, bfloat16>) {
        _mm256_mask_storeu_epi16(to, (__mmask16)((1u << count) - 1), rounded(lanes));
        return;
    }
    if constexpr (std::is_same_v<Stored, float>) {
        _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)lanes);
        return;
    }
#endif
    Stored padded[lanes_of<RealOf<Stored>>];
    store(padded, lanes);
    std::memcpy(to, padded, count * sizeof(Stored));
}

// The lanes as they are after being stored and loaded.
template <class Stored>
inline Vector<RealOf<Stored>> as_stored(Vector<RealOf<Stored>> lanes) {
    if constexpr (std::is_same_v<Stored, bfloat16>) return widened(rounded(lanes));
    else return lanes;
}

template <class Real>
inline Vector<Real> relu(Vector<Real> x) {
    const Vector<Real> zero{};
    return zero > x ? zero : x;  // a NaN stays NaN
}

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

constexpr int64_t LINE = 64;  // bytes of a cache line

// Prefetches memory. The processor does not do so by itself where only a part of each row is read.
template <class Stored>
inline void fetch_soon(const Stored* from, int64_t count) {
    for (int64_t i = 0; i < count; i += LINE / int64_t(sizeof(Stored))) __builtin_prefetch(from + i, 0, 2);
}

// At least `value`, and an odd number of cache lines: rows at this distance do not compete for the same
// sets of the cache.
template <class Stored>
inline int64_t odd_lines(int64_t value) {
    const int64_t line = LINE / int64_t(sizeof(Stored));
    return ((value + line - 1) / line | 1) * line;
}
