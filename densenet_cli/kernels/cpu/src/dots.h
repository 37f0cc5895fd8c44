// Matrix products of bfloat16 with the dot products of AVX-512.
#pragma once

#include "pairs.h"
#include "runs.h"

// Each lane of a register adds the products of a pair of numbers with another pair.
struct Dots : Pairs {
    static constexpr int L = 16;  // columns of a panel: pairs in a register

    static int64_t padded(int64_t depth) { return round_up(depth, 2); }
    static int64_t packed_size(const Runs& runs, int64_t width) {
        return runs.count * padded(runs.depth) * columns(width);
    }

    struct Session {
        Session() {}
        ~Session() {}
    };

    // The right matrix lies in panels, [columns / L][run][depth / 2][L][2]. Otherwise as Tiles::pack_columns.
    template <class Column>
    static void pack_columns(Operand* packed, const Runs& runs, int run, int64_t, int64_t n, int64_t known,
                             Column column) {
        const int64_t deep = padded(runs.depth);
        packed = place(packed, runs, run, n);
        for (int64_t k = 0; k < deep; k += 32) {
            __m512i pairs[16];
            turn_columns(pairs, n, known, k, runs.depth, column);
            for (int64_t i = 0; i < std::min<int64_t>(16, (deep - k) / 2); ++i)
                _mm512_storeu_si512(packed + (k + 2 * i) * L, pairs[i]);
        }
    }
    template <class Row>
    static void pack_rows(Operand* packed, const Runs& runs, int run, int64_t, int64_t n, int64_t known, Row row) {
        const int count = int(std::clamp<int64_t>(known - n, 0, L));
        packed = place(packed, runs, run, n);
        for (int64_t k = 0; k < runs.depth; k += 2)
            put_pair(packed + k * L, load(row(k) + n, count),
                     k + 1 < runs.depth ? load(row(k + 1) + n, count) : Vector<float>{});
    }

    static const Operand* columns_from(const Operand* packed, const Runs& runs, int64_t n) {
        return packed + n / L * packed_size(runs, L);
    }

    template <int M, int N>  // positions, panels
    static void block(const Operand* left, int64_t stride, const Runs& runs, const Operand* packed, float* out,
                      int64_t out_stride) {
        const int64_t deep = padded(runs.depth), panel = runs.count * deep * L;
        __m512 sums[M][N] = {};
        for (int run = 0; run < runs.count; ++run) {
            const Operand* a = left + runs.offset[run];
            for (int64_t k = 0; k < deep; k += 2, packed += 2 * L) {
                __m512i b[N];
                for (int n = 0; n < N; ++n) b[n] = _mm512_loadu_si512(packed + n * panel);
                for (int m = 0; m < M; ++m) add_products<N>(sums[m], a + m * stride + k, b);
            }
        }
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) _mm512_storeu_ps(out + m * out_stride + n * L, sums[m][n]);
    }

    // Positions are rounded up to a multiple of M.
    template <int M, int N>
    static void multiply_panels(const Operand* left, int64_t stride, int64_t positions, const Runs& runs,
                                const Operand* packed, float* out, int64_t out_stride) {
        for (int64_t p = 0; p < positions; p += M)
            block<M, N>(left + p * stride, stride, runs, packed, out + p * out_stride, out_stride);
    }

    // out (positions rounded up to 64, columns) = left · packed, at least its first `wanted` columns.
    static void multiply(const Operand* left, int64_t stride, int64_t positions, const Runs& runs,
                         const Operand* packed, int64_t, float* out, int64_t out_stride, int64_t wanted) {
        const int64_t panels = columns(wanted) / L, panel = packed_size(runs, L);
        for (int64_t n = 0; n < panels;) {
            const Operand* right = packed + n * panel;
            float* to = out + n * L;
            const int64_t rest = panels - n;
            if (rest >= 3 && rest != 4) multiply_panels<8, 3>(left, stride, positions, runs, right, to, out_stride), n += 3;
            else if (rest >= 2) multiply_panels<12, 2>(left, stride, positions, runs, right, to, out_stride), n += 2;
            else multiply_panels<12, 1>(left, stride, positions, runs, right, to, out_stride), n += 1;
        }
    }

    static constexpr int64_t MARGIN = 0;

    // As Tiles::add_weight_gradient.
    static void add_weight_gradient(const Operand* gradient, int64_t stride, const Operand* input,
                                    int64_t positions, const Runs& runs, int64_t shift, float* sums,
                                    int64_t channels) {
        constexpr int64_t AT_ONCE = 128;  // positions: their numbers fit in the first-level cache
        const auto add = channels > L ? &add_rows<2> : &add_rows<1>;
        for (int64_t p = 0; p < positions; p += AT_ONCE)
            for (int64_t run = 0; run < runs.count; ++run)
                add(gradient + p + run * shift, stride, input + p * GROUP, std::min(AT_ONCE, positions - p),
                    runs.depth, sums + run * rows(runs.depth) * GROUP);
    }

private:
    static Operand* place(Operand* packed, const Runs& runs, int run, int64_t n) {
        return packed + (n / L * runs.count + run) * padded(runs.depth) * L;
    }

    // sums[n] += pair · b[n], with the same pair in each lane.
    template <int N>
    static void add_products(__m512 (&sums)[N], const Operand* pair, const __m512i (&b)[N]) {
        int32_t bits;
        std::memcpy(&bits, pair, sizeof bits);
        const __m512i a = _mm512_set1_epi32(bits);
        for (int n = 0; n < N; ++n) sums[n] = _mm512_dpbf16_ps(sums[n], (__m512bh)b[n], (__m512bh)a);
    }

    // Adds the products of a run's `depth` rows of the gradient with N registers of channels. Sums after the
    // last row, up to a multiple of four, get meaningless values.
    template <int N>
    static void add_rows(const Operand* gradient, int64_t stride, const Operand* input, int64_t positions,
                         int64_t depth, float* sums) {
        int64_t m = 0;
        const auto some = [&](auto add, int rows) {
            for (; m + rows <= round_up(depth, 4); m += rows)
                add(gradient + m * stride, stride, input, positions, sums + m * GROUP);
        };
        some(&add_outer_products<12, N>, 12);
        some(&add_outer_products<8, N>, 8);
        some(&add_outer_products<4, N>, 4);
    }

    // sums[m][channel] += Σ over positions of gradient[m][position] · input[position][channel], m < M.
    template <int M, int N>
    static void add_outer_products(const Operand* gradient, int64_t stride, const Operand* input,
                                   int64_t positions, float* sums) {
        __m512 total[M][N];
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) total[m][n] = _mm512_loadu_ps(sums + m * GROUP + n * L);
        for (int64_t p = 0; p < positions; p += 2) {
            __m512i x[N];
            for (int n = 0; n < N; ++n) x[n] = _mm512_loadu_si512(input + p * GROUP + 2 * n * L);
            for (int m = 0; m < M; ++m) add_products<N>(total[m], gradient + m * stride + p, x);
        }
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) _mm512_storeu_ps(sums + m * GROUP + n * L, total[m][n]);
    }
};
