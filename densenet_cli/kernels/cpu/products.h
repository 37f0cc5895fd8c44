// Matrix products of a few hundred rows, out of cache: with AMX tiles for bfloat16 where the processor
// has them, else with vectors of reals.
//
// Both engines have the same functions, for
//     positions  rows of the left matrix: pixels;
//     runs       parts of the inner dimension: each is `depth` numbers that follow one another in the
//                left matrix, from offset[run] on. A 3x3 convolution has three, one for each row of
//                its kernel: neighbours in a row of pixels follow one another.
#pragma once

#include <algorithm>

#include "scratch.h"

constexpr int GROUP = 32;  // channels that are worked on at a time

struct Runs {
    int count;
    int64_t depth;
    int64_t offset[3];
};

#ifdef __AMX_BF16__
// Products of bfloat16 by AMX: a tile is 16 rows of 64 bytes.
struct Tiles {
    using Operand = bfloat16;
    static constexpr bool transposes = true;

    static int64_t padded(int64_t depth) { return round_up(depth, 32); }
    static int64_t columns(int64_t width) { return round_up(width, 16); }
    static int64_t packed_size(const Runs& runs, int64_t width) {
        return runs.count * padded(runs.depth) * columns(width);
    }

    struct Session {  // of one thread
        Session() {
            struct alignas(64) {
                uint8_t palette = 1, start = 0, reserved[14] = {};
                uint16_t row_bytes[16] = {};
                uint8_t rows[16] = {};
            } shapes;
            for (int tile = 0; tile < 8; ++tile) shapes.row_bytes[tile] = 64, shapes.rows[tile] = 16;
            asm volatile("ldtilecfg %0" ::"m"(shapes));
        }
        ~Session() { asm volatile("tilerelease" ::: "memory"); }
    };

    // The right matrix lies in tiles, [run][depth / 32][columns / 16][16 pairs of rows][16 columns][2].
    // What is packed of it here: 16 columns of a run, from n on; those from `known` on are zero.
    // `column(n)` is where a column begins in memory, `depth` numbers.
    template <class Column>
    static void pack_columns(Operand* packed, const Runs& runs, int run, int64_t width, int64_t n, int64_t known,
                             Column column) {
        const int64_t wide = columns(width), deep = padded(runs.depth);
        packed += run * deep * wide + n * 32;
        for (int64_t k = 0; k < deep; k += 32) {
            __m512i pairs[16];
            for (int64_t j = 0; j < 16; ++j)
                pairs[j] = n + j < known ? pairs_of(column(n + j) + k, runs.depth - k) : _mm512_setzero_si512();
            transpose_square(pairs);
            for (int i = 0; i < 16; ++i) _mm512_store_si512(packed + k * wide + 32 * i, pairs[i]);
        }
    }
    // The same if it is rows that lie in memory: `row(k)` is where row k's numbers of the columns begin.
    template <class Row>
    static void pack_rows(Operand* packed, const Runs& runs, int run, int64_t width, int64_t n, int64_t known,
                          Row row) {
        const int64_t wide = columns(width), deep = padded(runs.depth);
        const int count = int(std::clamp<int64_t>(known - n, 0, 16));
        packed += run * deep * wide + n * 32;
        for (int64_t k = 0; k < deep; k += 2) {
            const Vector<float> even = k < runs.depth ? load(row(k) + n, count) : Vector<float>{};
            const Vector<float> odd = k + 1 < runs.depth ? load(row(k + 1) + n, count) : Vector<float>{};
            put_pair(packed + k / 32 * 32 * wide + k % 32 * 16, even, odd);
        }
    }

    template <int tile>
    static void read(const void* from, int64_t row_bytes) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(tile) : "memory");
    }
    template <int tile>
    static void write(void* to, int64_t row_bytes) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(tile) : "memory");
    }
    template <int tile>
    static void zero() {
        asm volatile("tilezero %%tmm%c0" ::"i"(tile));
    }
    template <int sum, int left, int right>
    static void add_product() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(left), "i"(right));
    }

    // 16·M positions times 16·N columns, M·N <= 4.
    template <int M, int N>
    static void block(const Operand* left, int64_t stride, const Runs& runs, const Operand* packed,
                      int64_t wide, float* out, int64_t out_stride) {
        const int64_t row = stride * 2;
        zero<0>();
        if constexpr (M * N > 1) zero<1>();
        if constexpr (M * N > 2) zero<2>();
        if constexpr (M * N > 3) zero<3>();
        for (int run = 0; run < runs.count; ++run) {
            const Operand* a = left + runs.offset[run];
            for (int64_t k = 0; k < runs.depth; k += 32, a += 32, packed += 32 * wide) {
                if constexpr (M == 2 && N == 2) {
                    for (int i = 0; i < 32; ++i) __builtin_prefetch(packed + 32 * (wide + i));  // the next ones
                    read<6>(packed, 64), read<4>(a, row), add_product<0, 4, 6>();
                    read<5>(a + 16 * stride, row), add_product<2, 5, 6>();
                    read<7>(packed + 512, 64), add_product<1, 4, 7>(), add_product<3, 5, 7>();
                } else if constexpr (N == 1) {
                    read<7>(packed, 64), read<4>(a, row), add_product<0, 4, 7>();
                    if constexpr (M > 1) read<5>(a + 16 * stride, row), add_product<1, 5, 7>();
                    if constexpr (M > 2) read<6>(a + 32 * stride, row), add_product<2, 6, 7>();
                    if constexpr (M > 3) read<4>(a + 48 * stride, row), add_product<3, 4, 7>();
                } else {
                    static_assert(M == 1 && N == 3);
                    read<4>(a, row), read<5>(packed, 64), add_product<0, 4, 5>();
                    read<6>(packed + 512, 64), add_product<1, 4, 6>();
                    read<7>(packed + 1024, 64), add_product<2, 4, 7>();
                }
            }
        }
        const int64_t to = out_stride * 4;
        write<0>(out, to);
        if constexpr (M == 2 && N == 2) {
            write<1>(out + 16, to), write<2>(out + 16 * out_stride, to);
            write<3>(out + 16 * out_stride + 16, to);
        } else if constexpr (N == 1) {
            if constexpr (M > 1) write<1>(out + 16 * out_stride, to);
            if constexpr (M > 2) write<2>(out + 32 * out_stride, to);
            if constexpr (M > 3) write<3>(out + 48 * out_stride, to);
        } else {
            write<1>(out + 16, to), write<2>(out + 32, to);
        }
    }

    // out (positions rounded up to 64, columns) = left · the first `wanted` columns of packed, or all.
    static void multiply(const Operand* left, int64_t stride, int64_t positions, const Runs& runs,
                         const Operand* packed, int64_t width, float* out, int64_t out_stride, int64_t wanted) {
        const int64_t wide = columns(width), end = columns(wanted);
        int64_t n = 0;
        if (wide == 48) {
            for (int64_t p = 0; p < positions; p += 16)
                block<1, 3>(left + p * stride, stride, runs, packed, wide, out + p * out_stride, out_stride);
            return;
        }
        for (; n + 32 <= end; n += 32)
            for (int64_t p = 0; p < positions; p += 32)
                block<2, 2>(left + p * stride, stride, runs, packed + n * 32, wide,
                            out + p * out_stride + n, out_stride);
        if (n < end)
            for (int64_t p = 0; p < positions; p += 64)
                block<4, 1>(left + p * stride, stride, runs, packed + n * 32, wide,
                            out + p * out_stride + n, out_stride);
    }

    // Positions before and behind its input that `add_weight_gradient` reads; they are zero.
    static constexpr int64_t MARGIN = 32;
    // In the sums of a weight's gradient, [run][rows(depth)][GROUP].
    static int64_t rows(int64_t depth) { return columns(depth); }

    // sums[run][row][channel] += Σ over positions of gradient[row][position + run · shift] times
    // input[position][channel], for `depth` rows of each run and `channels` of a group.
    //
    // gradient: transposed, `stride` positions a row. input: pairs of positions,
    // [positions / 2][GROUP][2]; positions and shift are even.
    static void add_weight_gradient(const Operand* gradient, int64_t stride, const Operand* input,
                                    int64_t positions, const Runs& runs, int64_t shift, float* sums,
                                    int64_t channels) {
        const int64_t tiles = rows(runs.depth) / 16;
        for (int64_t run = 0; run < runs.count; ++run, sums += tiles * 16 * GROUP) {
            // Rows of a tile are lines of the cache if gradient's begin at a multiple of 32.
            const int64_t over = run * shift % 32, length = round_up(over + positions, 32);
            const Operand *left = gradient + run * shift - over, *right = input - over * GROUP;
            for (int64_t i = 0; i < tiles;) {
                const Operand* from = left + i * 16 * stride;
                float* to = sums + i * 16 * GROUP;
                const int64_t rest = tiles - i;
                if (channels > 16 && rest >= 2) add_products<2, 2>(from, stride, right, length, to), i += 2;
                else if (channels > 16) add_products<1, 2>(from, stride, right, length, to), i += 1;
                else if (rest >= 4) add_products<4, 1>(from, stride, right, length, to), i += 4;
                else if (rest == 3) add_products<3, 1>(from, stride, right, length, to), i += 3;
                else if (rest == 2) add_products<2, 1>(from, stride, right, length, to), i += 2;
                else add_products<1, 1>(from, stride, right, length, to), i += 1;
            }
        }
    }
    // sums += 16·M rows times 16·N channels, M·N <= 4.
    template <int M, int N>
    static void add_products(const Operand* left, int64_t stride, const Operand* right, int64_t length, float* sums) {
        const int64_t row = stride * 2, step = GROUP * 4, next = 16 * GROUP;
        const Operand *a = left, *b = left + 16 * stride, *c = left + 32 * stride, *d = left + 48 * stride;
        read<0>(sums, step);
        if constexpr (N == 2) read<1>(sums + 16, step);
        if constexpr (N == 2 && M == 2) read<2>(sums + next, step), read<3>(sums + next + 16, step);
        if constexpr (N == 1 && M > 1) read<1>(sums + next, step);
        if constexpr (N == 1 && M > 2) read<2>(sums + 2 * next, step);
        if constexpr (N == 1 && M > 3) read<3>(sums + 3 * next, step);
        for (int64_t p = 0; p < length; p += 32) {
            if constexpr (N == 2) {
                read<6>(right + p * GROUP, step), read<4>(a + p, row), add_product<0, 4, 6>();
                if constexpr (M == 2) read<5>(b + p, row), add_product<2, 5, 6>();
                read<7>(right + p * GROUP + 32, step), add_product<1, 4, 7>();
                if constexpr (M == 2) add_product<3, 5, 7>();
            } else {
                read<7>(right + p * GROUP, step), read<4>(a + p, row), add_product<0, 4, 7>();
                if constexpr (M > 1) read<5>(b + p, row), add_product<1, 5, 7>();
                if constexpr (M > 2) read<6>(c + p, row), add_product<2, 6, 7>();
                if constexpr (M > 3) read<4>(d + p, row), add_product<3, 4, 7>();
            }
        }
        write<0>(sums, step);
        if constexpr (N == 2) write<1>(sums + 16, step);
        if constexpr (N == 2 && M == 2) write<2>(sums + next, step), write<3>(sums + next + 16, step);
        if constexpr (N == 1 && M > 1) write<1>(sums + next, step);
        if constexpr (N == 1 && M > 2) write<2>(sums + 2 * next, step);
        if constexpr (N == 1 && M > 3) write<3>(sums + 3 * next, step);
    }

    // to[channel][position] = from[position][channel] for `positions`, a multiple of 32, and
    // `channels`, rounded up to 16; from has `stride` numbers a position, to has `to_stride` a channel.
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

    // Two positions' numbers of one register of channels, as `add_weight_gradient` reads them.
    static void put_pair(Operand* to, Vector<float> even, Vector<float> odd) {
        const __m512i low = _mm512_cvtepu16_epi32((__m256i)rounded(even));
        const __m512i high = _mm512_cvtepu16_epi32((__m256i)rounded(odd));
        _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }

private:
    // Up to 32 numbers, rounded, two in 32 bits.
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
#endif

// Products of reals on any processor.
template <class Real>
struct Vectors {
    using Operand = Real;
    static constexpr bool transposes = false;
    static constexpr int L = lanes_of<Real>;
    static constexpr int SUMS = REGISTER_BYTES == 64 ? 24 : 12;  // registers for them; there are 32 or 16
    static constexpr int MOST = REGISTER_BYTES == 64 ? 3 : 2;    // panels at a time that leave registers enough

    static int64_t padded(int64_t depth) { return depth; }
    static int64_t columns(int64_t width) { return round_up(width, 16); }
    static int64_t packed_size(const Runs& runs, int64_t width) {
        return runs.count * runs.depth * columns(width);
    }

    struct Session {
        Session() {}
        ~Session() {}
    };

    // The right matrix lies in panels of a register of columns, [columns / L][run][depth][L]; as in Tiles.
    template <class Column>
    static void pack_columns(Operand* packed, const Runs& runs, int run, int64_t, int64_t n, int64_t known,
                             Column column) {
        for (int64_t j = n; j < n + 16; ++j) {
            Operand* to = place(packed, runs, run, j);
            const Real* from = j < known ? column(j) : nullptr;
            for (int64_t k = 0; k < runs.depth; ++k) to[k * L] = from ? from[k] : 0;
        }
    }
    template <class Row>
    static void pack_rows(Operand* packed, const Runs& runs, int run, int64_t, int64_t n, int64_t known, Row row) {
        for (int64_t j = n; j < n + 16; j += L) {
            Operand* to = place(packed, runs, run, j);
            const int count = int(std::clamp<int64_t>(known - j, 0, L));
            for (int64_t k = 0; k < runs.depth; ++k) store(to + k * L, load(row(k) + j, count));
        }
    }

    template <int M, int N>  // positions, registers of columns
    static void block(const Real* left, int64_t stride, const Runs& runs, const Real* packed, Real* out,
                      int64_t out_stride) {
        const int64_t panel = runs.count * runs.depth * L;
        Vector<Real> sums[M][N] = {};
        for (int run = 0; run < runs.count; ++run) {
            const Real* a = left + runs.offset[run];
            for (int64_t k = 0; k < runs.depth; ++k, packed += L) {
                Vector<Real> b[N];
                for (int n = 0; n < N; ++n) b[n] = load(packed + n * panel);
                for (int m = 0; m < M; ++m)
                    for (int n = 0; n < N; ++n) sums[m][n] += a[m * stride + k] * b[n];
            }
        }
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) store(out + m * out_stride + n * L, sums[m][n]);
    }

    template <int N>
    static void multiply_panels(const Real* left, int64_t stride, int64_t positions, const Runs& runs,
                                const Real* packed, Real* out, int64_t out_stride) {
        constexpr int M = std::min(SUMS / N, 12);
        int64_t p = 0;
        for (; p + M <= positions; p += M)
            block<M, N>(left + p * stride, stride, runs, packed, out + p * out_stride, out_stride);
        for (; p < positions; ++p)
            block<1, N>(left + p * stride, stride, runs, packed, out + p * out_stride, out_stride);
    }

    static void multiply(const Real* left, int64_t stride, int64_t positions, const Runs& runs,
                         const Real* packed, int64_t, Real* out, int64_t out_stride, int64_t wanted) {
        const int64_t panels = columns(wanted) / L, panel = runs.count * runs.depth * L;
        int64_t n = 0;
        const auto next = [&](auto multiply_some, int64_t some) {
            multiply_some(left, stride, positions, runs, packed + n * panel, out + n * L, out_stride);
            n += some;
        };
        while (n < panels) {
            const int64_t rest = panels - n;
            if (MOST == 3 && rest >= 3 && rest != 4) next(multiply_panels<3>, 3);
            else if (rest >= 2) next(multiply_panels<2>, 2);
            else next(multiply_panels<1>, 1);
        }
    }

    static constexpr int64_t MARGIN = 0;
    static int64_t rows(int64_t depth) { return depth; }

    // sums[m][channel] += Σ over positions of gradient[position][m] · input[position][channel], m < M.
    template <int M>
    static void add_outer_products(const Real* gradient, int64_t stride, const Real* input,
                                   int64_t positions, Real* sums, int64_t channels) {
        constexpr int N = 2;  // registers of channels
        for (int c = 0; c < channels; c += N * L) {
            Vector<Real> total[M][N];
            for (int m = 0; m < M; ++m)
                for (int n = 0; n < N; ++n) total[m][n] = load(sums + m * GROUP + c + n * L);
            for (int64_t p = 0; p < positions; ++p) {
                Vector<Real> x[N];
                for (int n = 0; n < N; ++n) x[n] = load(input + p * GROUP + c + n * L);
                for (int m = 0; m < M; ++m) {
                    const Vector<Real> g = broadcast(gradient[p * stride + m]);
                    for (int n = 0; n < N; ++n) total[m][n] += g * x[n];
                }
            }
            for (int m = 0; m < M; ++m)
                for (int n = 0; n < N; ++n) store(sums + m * GROUP + c + n * L, total[m][n]);
        }
    }

    // As Tiles::add_weight_gradient, with the gradient as it is, `stride` numbers a position, and
    // input[position][GROUP].
    static void add_weight_gradient(const Real* gradient, int64_t stride, const Real* input,
                                    int64_t positions, const Runs& runs, int64_t shift, Real* sums,
                                    int64_t channels) {
        constexpr int M = SUMS / 2;
        constexpr int64_t AT_ONCE = 64;  // positions, whose numbers stay in the first-level cache
        for (int64_t p = 0; p < positions; p += AT_ONCE) {
            const int64_t count = std::min(AT_ONCE, positions - p);
            const Real* right = input + p * GROUP;
            Real* to = sums;
            for (int64_t run = 0; run < runs.count; ++run, to += runs.depth * GROUP) {
                const Real* left = gradient + (p + run * shift) * stride;
                int64_t m = 0;
                for (; m + M <= runs.depth; m += M)
                    add_outer_products<M>(left + m, stride, right, count, to + m * GROUP, channels);
                for (; m + 2 <= runs.depth; m += 2)
                    add_outer_products<2>(left + m, stride, right, count, to + m * GROUP, channels);
                if (m < runs.depth) add_outer_products<1>(left + m, stride, right, count, to + m * GROUP, channels);
            }
        }
    }

private:
    static Operand* place(Operand* packed, const Runs& runs, int run, int64_t n) {
        return packed + (n / L * runs.count + run) * runs.depth * L + n % L;
    }
};

template <class Stored>
struct EngineOf {
    using type = Vectors<RealOf<Stored>>;
};
#ifdef __AMX_BF16__
template <>
struct EngineOf<bfloat16> {
    using type = Tiles;
};
#endif
