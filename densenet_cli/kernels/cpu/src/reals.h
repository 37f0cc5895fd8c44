// Matrix products of float or double with vectors, on any processor.
#pragma once

#include <algorithm>

#include "runs.h"
#include "vectors.h"

// Each lane of a register adds products of two numbers.
template <class Real>
struct Reals {
    using Operand = Real;
    static constexpr bool transposes = false;
    static constexpr int L = lanes_of<Real>;
    static constexpr int SUMS = REGISTER_BYTES == 64 ? 24 : 12;  // registers for sums, of 32 or 16
    static constexpr int64_t AHEAD = 32;                         // rows between prefetching and use
    static constexpr int MOST = REGISTER_BYTES == 64 ? 3 : 2;    // panels at a time for which registers suffice

    static int64_t padded(int64_t depth) { return depth; }
    static int64_t columns(int64_t width) { return round_up(width, 16); }
    static int64_t packed_size(const Runs& runs, int64_t width) {
        return runs.count * runs.depth * columns(width);
    }

    struct Session {
        Session() {}
        ~Session() {}
    };

    // The right matrix lies in panels, [columns / L][run][depth][L]. Otherwise as Tiles::pack_columns.
    template <class Column>
    static void pack_columns(Operand* packed, const Runs& runs, int run, int64_t, int64_t n, int64_t known,
                             Column column) {
        constexpr int64_t AT_ONCE = 64;  // rows: they fit in the first-level cache
        for (int64_t first = 0; first < runs.depth; first += AT_ONCE)
            for (int64_t j = n; j < n + 16; ++j) {
                Operand* to = place(packed, runs, run, j);
                const Real* from = j < known ? column(j) : nullptr;
                for (int64_t k = first; k < std::min(first + AT_ONCE, runs.depth); ++k) to[k * L] = from ? from[k] : 0;
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

    static const Operand* columns_from(const Operand* packed, const Runs& runs, int64_t n) {
        return packed + n * runs.count * runs.depth;
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
                for (int n = 0; n < N; ++n) {
                    b[n] = load(packed + n * panel);
                    __builtin_prefetch(packed + n * panel + AHEAD * L);
                }
                for (int m = 0; m < M; ++m)
                    for (int n = 0; n < N; ++n) sums[m][n] += a[m * stride + k] * b[n];
            }
        }
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) store(out + m * out_stride + n * L, sums[m][n]);
    }

    // Positions are rounded up to a multiple of a third of M.
    template <int N>
    static void multiply_panels(const Real* left, int64_t stride, int64_t positions, const Runs& runs,
                                const Real* packed, Real* out, int64_t out_stride) {
        constexpr int M = std::min(SUMS / N, 12), THIRD = (M + 2) / 3;
        const auto some = [&](auto multiply_block, int64_t p) {
            multiply_block(left + p * stride, stride, runs, packed, out + p * out_stride, out_stride);
        };
        int64_t p = 0;
        for (; p + M <= positions; p += M) some(block<M, N>, p);
        const int64_t rest = positions - p;
        if (rest > 2 * THIRD) some(block<M, N>, p);
        else if (rest > THIRD) some(block<2 * THIRD, N>, p);
        else if (rest > 0) some(block<THIRD, N>, p);
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

    // As Tiles::add_weight_gradient, but the gradient is not transposed: `stride` numbers per position. input
    // is [position][GROUP].
    static void add_weight_gradient(const Real* gradient, int64_t stride, const Real* input,
                                    int64_t positions, const Runs& runs, int64_t shift, Real* sums,
                                    int64_t channels) {
        constexpr int M = SUMS / 2;
        constexpr int64_t AT_ONCE = 64;  // positions: their numbers fit in the first-level cache
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
