// The stem of DenseNets for ImageNet, where nothing is kept: 7x7 convolution of stride 2, batch norm, ReLU, and
// the largest of 3x3 pixels, 2 apart.
//
// A strip of an image goes through all of it in the cache. The batch norm is folded into the weights.
#pragma once

#include <algorithm>
#include <cmath>

#include "calls.h"
#include "products.h"
#include "scratch.h"
#include "strips.h"

template <class Stored>
class StemEvaluation {
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    static constexpr int L = lanes_of<Real>, SIZE = 7;
    static constexpr int64_t POOLED_ROWS = 8;  // of a strip

    const Convolution& c;  // its input are the images, in reals; its batch norm is that of the output
    const int64_t channels, outputs, wide;
    const int64_t rows, columns;    // of the convolution's output
    const int64_t pooled, breadth;  // rows and columns of the pooled output
    const int64_t line;             // numbers of an image's row with its margins
    Runs terms;

    struct Scratch {  // of one thread
        Buffer<Operand> input;
        Buffer<Real> sums;
    };

public:
    explicit StemEvaluation(const Convolution& c)
        : c(c), channels(c.in_channels), outputs(c.out_channels), wide(Engine::columns(outputs)),
          rows((c.height + 1) / 2), columns((c.width + 1) / 2), pooled((rows + 1) / 2), breadth((columns + 1) / 2),
          line((2 * columns + SIZE - 2) * channels), terms{SIZE, SIZE * channels, {}} {
        for (int run = 0; run < SIZE; ++run) terms.offset[run] = run * line;
    }

    int64_t packed_size() const { return Engine::packed_size(terms, outputs); }

    // Packs the weights, times the scale of the batch norm, and writes its shift.
    void pack(Operand* packed, Real* shift) const {
        static thread_local Buffer<Real> scaled_memory;
        const int64_t numbers = SIZE * SIZE * channels;
        Real* scaled = scaled_memory.at_least(outputs * numbers);
        std::fill(shift, shift + wide, Real(0));
        for (int64_t n = 0; n < outputs; ++n) {
            const Real scale = as<Real>(c.gamma)[n] / std::sqrt(as<Real>(c.variance)[n] + Real(c.epsilon));
            shift[n] = as<Real>(c.beta)[n] - as<Real>(c.mean)[n] * scale;
            for (int64_t k = 0; k < numbers; ++k) scaled[n * numbers + k] = as<Real>(c.weight)[n * numbers + k] * scale;
        }
        for (int run = 0; run < SIZE; ++run)
            for (int64_t n = 0; n < wide; n += 16)
                Engine::pack_columns(packed, terms, run, outputs, n, outputs,
                                     [&](int64_t n) { return scaled + n * numbers + run * terms.depth; });
    }

    // Computes all images; the threads of a team share the strips.
    void run(const Operand* packed, const Real* shift) const {
        static thread_local Scratch mine;
        const int64_t strips = (pooled + POOLED_ROWS - 1) / POOLED_ROWS;
#pragma omp for schedule(dynamic)
        for (int64_t s = 0; s < c.images * strips; ++s) {
            const int64_t first = s % strips * POOLED_ROWS;
            strip(s / strips, first, std::min(first + POOLED_ROWS, pooled), packed, shift, mine);
        }
    }

private:
    // Computes pooled rows begin to end of an image.
    void strip(int64_t image, int64_t begin, int64_t end, const Operand* packed, const Real* shift,
               Scratch& mine) const {
        const int64_t first = std::max<int64_t>(0, 2 * begin - 1), last = std::min(rows, 2 * end);  // rows to pool
        const int64_t input_rows = 2 * (last - first) + SIZE - 2, row = (columns + 64) * wide;
        Operand* input = mine.input.at_least(input_rows * line + 2 * 64 * channels + 64);
        Real* sums = mine.sums.at_least(3 * row);  // of three rows of the convolution, one after another
        for (int64_t r = 0; r < input_rows; ++r) put_input(image, 2 * first - SIZE / 2 + r, input + r * line);
        std::memset((void*)(input + input_rows * line), 0, 64 * sizeof(Operand));  // a tile reads beyond the end
        for (int64_t y = begin, next = first; y < end; ++y) {
            for (; next < std::min(rows, 2 * y + 2); ++next)
                Engine::multiply(input + 2 * (next - first) * line, 2 * channels, columns, terms, packed, outputs,
                                 sums + next % 3 * row, wide, outputs);
            put_output(image, y, sums, row, shift);
        }
    }

    // Writes a row of an image with margins of zeros; outside of the image all are zero.
    void put_input(int64_t image, int64_t y, Operand* to) const {
        const int64_t margin = SIZE / 2 * channels, numbers = c.width * channels;
        if (y < 0 || y >= c.height) {
            std::memset((void*)to, 0, line * sizeof(Operand));
            return;
        }
        const Real* from = as<Real>(c.input) + (image * c.height + y) * numbers;
        std::memset((void*)to, 0, margin * sizeof(Operand));
        for (int64_t i = 0; i < numbers; i += L) {
            const int known = int(std::min<int64_t>(L, numbers - i));
            store(to + margin + i, load(from + i, known), known);
        }
        std::memset((void*)(to + margin + numbers), 0, (line - margin - numbers) * sizeof(Operand));
    }

    // Pools a row: ReLU and the batch norm's shift follow the maximum, which gives the same.
    void put_output(int64_t image, int64_t y, const Real* sums, int64_t row, const Real* shift) const {
        for (int64_t x = 0; x < breadth; ++x) {
            Stored* to = (Stored*)c.output + ((image * pooled + y) * breadth + x) * c.output_pitch;
            const int64_t left = std::max<int64_t>(0, 2 * x - 1), right = std::min(columns, 2 * x + 2);
            for (int64_t n = 0; n < outputs; n += L) {
                Vector<Real> best = load(sums + 2 * y % 3 * row + 2 * x * wide + n);
                for (int64_t r = std::max<int64_t>(0, 2 * y - 1); r < std::min(rows, 2 * y + 2); ++r)
                    for (int64_t column = left; column < right; ++column) {
                        const Vector<Real> value = load(sums + r % 3 * row + column * wide + n);
                        const auto larger = (value > best) | (value != value);  // a NaN wins, as in torch
                        best = larger ? value : best;
                    }
                store(to + n, relu<Real>(best + load(shift + n)), int(std::min<int64_t>(L, outputs - n)));
            }
        }
    }
};
