// Matrix products of bfloat16 with the tiles of AMX.
#pragma once

#include "pairs.h"
#include "runs.h"

// A tile is 16 rows of 64 bytes.
struct Tiles : Pairs {
    static int64_t padded(int64_t depth) { return round_up(depth, 32); }
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
    // Packs 16 columns of one run, from n on; those from `known` on are zero. `column(n)` points to the
    // `depth` numbers of column n.
    template <class Column>
    static void pack_columns(Operand* packed, const Runs& runs, int run, int64_t width, int64_t n, int64_t known,
                             Column column) {
        const int64_t wide = columns(width), deep = padded(runs.depth);
        packed += run * deep * wide + n * 32;
        for (int64_t k = 0; k < deep; k += 32) {
            __m512i pairs[16];
            turn_columns(pairs, n, known, k, runs.depth, column);
            for (int i = 0; i < 16; ++i) _mm512_store_si512(packed + k * wide + 32 * i, pairs[i]);
        }
    }
    // The same if rows are contiguous in memory: `row(k)` points to the numbers of row k.
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

    // Where the columns of a packed matrix begin that `multiply` is to compute, from n on, a multiple of 16.
    static const Operand* columns_from(const Operand* packed, const Runs&, int64_t n) { return packed + n * 32; }

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

    // out (positions rounded up to 64, columns) = left · packed, at least its first `wanted` columns.
    static void multiply(const Operand* left, int64_t stride, int64_t positions, const Runs& runs,
                         const Operand* packed, int64_t width, float* out, int64_t out_stride, int64_t wanted) {
        const int64_t wide = columns(width), end = columns(wanted);
        int64_t n = 0;
        if (end == 48) {
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

    // Positions before and after its input that `add_weight_gradient` reads; they must be zero.
    static constexpr int64_t MARGIN = 32;

    // sums[run][row][channel] += Σ over positions of gradient[row][position + run · shift] times
    // input[position][channel], for `depth` rows of each run and `channels` of a group.
    //
    // gradient: transposed, `stride` positions per row. input: pairs of positions,
    // [positions / 2][GROUP][2]; positions and shift are even.
    static void add_weight_gradient(const Operand* gradient, int64_t stride, const Operand* input,
                                    int64_t positions, const Runs& runs, int64_t shift, float* sums,
                                    int64_t channels) {
        const int64_t tiles = rows(runs.depth) / 16;
        for (int64_t run = 0; run < runs.count; ++run, sums += tiles * 16 * GROUP) {
            // Each row of a tile is one cache line if it begins at a multiple of 32.
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
};
