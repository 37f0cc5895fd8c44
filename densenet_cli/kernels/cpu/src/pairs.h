// Pairs of bfloat16 numbers: a lane of 32 bits holds two, whose products are added.
#pragma once

#include <algorithm>

#include "vectors.h"

// What the engines Tiles and Dots have in common.
struct Pairs {
    using Operand = bfloat16;
    static constexpr bool transposes = true;

    static int64_t columns(int64_t width) { return round_up(width, 16); }
    // The sums of a weight's gradient are [run][rows(depth)][GROUP].
    static int64_t rows(int64_t depth) { return columns(depth); }

    // Writes a register of channels at two positions as `add_weight_gradient` reads them.
    static void put_pair(Operand* to, Vector<float> even, Vector<float> odd) {
        const __m512i low = _mm512_cvtepu16_epi32((__m256i)rounded(even));
        const __m512i high = _mm512_cvtepu16_epi32((__m256i)rounded(odd));
        _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }

    // 32 numbers, from k on, of 16 columns, from n on, transposed: 16 pairs of rows of 16 columns. Columns
    // from `known` on and numbers from `depth` on are zero. `column(n)` points to column n.
    template <class Column>
    static void turn_columns(__m512i (&pairs)[16], int64_t n, int64_t known, int64_t k, int64_t depth, Column column) {
        for (int64_t j = 0; j < 16; ++j)
            pairs[j] = n + j < known ? pairs_of(column(n + j) + k, depth - k) : _mm512_setzero_si512();
        transpose_square(pairs);
    }

    // to[channel][position] = from[position][channel]. `positions` is a multiple of 32; `channels` is
    // rounded up to a multiple of 16. From has `stride` numbers per position, to `to_stride` per channel.
    static void transpose(const Operand* from, int64_t stride, int64_t positions, int64_t channels,
                          Operand* to, int64_t to_stride) {
        for (int64_t c = 0; c < channels; c += 16) {
            const __mmask16 known = channels - c < 16 ? (1u << (channels - c)) - 1 : 0xffff;
            for (int64_t p = 0; p < positions; p += 32) {
                __m512i pairs[16];
                for (int i = 0; i < 16; ++i) {
                    const Operand* row = from + (p + 2 * i) * stride + c;
                    const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(known, row));
                    const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(known, row + stride));
                    pairs[i] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
                }
                transpose_square(pairs);
                for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (c + i) * to_stride + p, pairs[i]);
            }
        }
    }

private:
    // Up to 32 numbers, rounded to bfloat16.
    static __m512i pairs_of(const float* from, int64_t count) {
        const int low = int(std::clamp<int64_t>(count, 0, 16)), high = int(std::clamp<int64_t>(count - 16, 0, 16));
        return (__m512i)_mm512_cvtne2ps_pbh((__m512)load(from + 16, high), (__m512)load(from, low));
    }
    static void transpose_square(__m512i (&r)[16]) {  // 16 x 16 numbers of 32 bits
        __m512i t[16];
        for (int i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        }
        for (int i = 0; i < 16; i += 4)
            for (int j = 0; j < 2; ++j) {
                r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
                r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
            }
        for (int i = 0; i < 16; i += 8)
            for (int j = 0; j < 4; ++j) {
                t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
                t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
            }
        for (int j = 0; j < 8; ++j) {
            r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
            r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
        }
    }
};
