// A dense block and the transition that follows, where nothing is measured and nothing kept: evaluation.
//
// - A bottleneck's maps never leave the cache: a few rows of its 1x1 convolution are computed, then the rows
//   of the 3x3 convolution that need no others. The batch norm between them is folded into the weights.
// - A transition averages 2x2 pixels before its convolution: the same, with a quarter of the products.
// - The weights of all convolutions are packed once, and each thread takes whole images through all layers.
#pragma once

#include "convolution.h"

template <class Stored>
class BlockEvaluation {
    using Step = NormalisedConvolution<Stored>;
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    static constexpr int L = lanes_of<Real>;
    // Bytes of maps that a thread takes through all layers at a time, about what its second-level cache holds.
    static constexpr int64_t IMAGES = 4 * Strips::CACHE;

    struct Prepared : Step {
        const Runs terms;
        Operand* packed = nullptr;
        Real *scale = nullptr, *shift = nullptr;  // its batch norm

        Prepared(const Convolution& c) : Step(c), terms(Step::runs(c.in_channels, c.width + 1)) {}
    };
    struct Scratch {  // of one thread
        Buffer<Operand> input, rows;
        Buffer<Real> sums;
    };

    // Consecutive images, whose rows are counted with a row of zeros before, between and after the images.
    struct Images {
        int64_t first, count, height, width;

        int64_t rows() const { return count * (height + 1) + 1; }
        bool is_zero(int64_t row) const { return row % (height + 1) == 0; }
        // The first pixel of a row; of a row of zeros, that of the next one.
        int64_t pixel(int64_t row) const {
            return (first * height + row - (row + height) / (height + 1)) * width;
        }
    };

    std::vector<Prepared> steps;
    const int64_t images, height, width;
    const int threads;

public:
    // steps: those of the layers, a bottleneck's 1x1 convolution before the 3x3 convolution that alone reads its
    // output, which is not written; a 1x1 convolution at the end is that of a transition, whose output is pooled.
    BlockEvaluation(const Convolution* steps, int64_t count)
        : steps(steps, steps + count), images(steps->images), height(steps->height), width(steps->width),
          threads(int(steps->threads)) {}

    void run() {
        place();
        const int64_t groups = this->groups();
#pragma omp parallel num_threads(threads)
        {
            static thread_local Scratch mine;
            typename Engine::Session session;
            pack();
#pragma omp barrier
            if (groups) {
#pragma omp for schedule(dynamic)
                for (int64_t g = 0; g < groups; ++g) {
                    const int64_t first = images * g / groups;
                    const Images own{first, images * (g + 1) / groups - first, height, width};
                    for (size_t i = 0; i < steps.size(); i = after(i)) layer(i, own, {0, 1}, mine);
                }
            } else {  // fewer images than threads: these share the rows
                for (size_t i = 0; i < steps.size(); i = after(i)) {
                    layer(i, {0, images, height, width}, {omp_get_thread_num(), omp_get_num_threads()}, mine);
#pragma omp barrier
                }
            }
        }
    }

private:
    bool is_transition(size_t i) const { return steps[i].size == 1 && i + 1 == steps.size(); }
    size_t after(size_t i) const { return i + (steps[i].size == 1 && !is_transition(i) ? 2 : 1); }

    // How many groups the images are divided into, each of them computed by one thread; 0 if threads would
    // have nothing to do.
    int64_t groups() const {
        int64_t pitch = 0;
        for (const Step& step : steps) pitch = std::max(pitch, step.c.input_pitch);
        const int64_t fit = std::max<int64_t>(1, IMAGES / (pitch * height * width * int64_t(sizeof(Stored))));
        const int64_t groups = std::min(images, round_up((images + fit - 1) / fit, threads));
        return groups % threads == 0 || groups >= 4 * threads ? groups : 0;
    }

    // Finds memory for the packed weights and the batch norms.
    void place() {
        static thread_local Buffer<Operand> packed_memory;
        static thread_local Buffer<Real> scale_memory;
        int64_t packed = 0, scales = 0;
        for (const Prepared& step : steps) {
            packed += Engine::packed_size(step.terms, step.outputs);
            scales += 2 * round_up(step.inputs, GROUP);
        }
        Operand* weights = packed_memory.at_least(packed);
        Real* scale = scale_memory.at_least(scales);
        for (Prepared& step : steps) {
            const int64_t wide = round_up(step.inputs, GROUP);
            step.packed = weights, weights += Engine::packed_size(step.terms, step.outputs);
            step.scale = scale, step.shift = scale + wide, scale += 2 * wide;
            step.make_scales(step.scale, step.shift);
        }
    }

    // Packs this thread's share of the weights; those of a bottleneck times the scale of the next batch norm.
    void pack() const {
        for (size_t i = 0; i < steps.size(); ++i) {
            const Prepared& step = steps[i];
            const bool is_bottleneck = after(i) == i + 2;
            const Share own = own_share(step.pieces(step.terms));
            for (int64_t piece = own.begin; piece < own.end; ++piece)
                if (is_bottleneck) pack_scaled(step, piece, steps[i + 1].scale);
                else step.pack(step.packed, step.terms, piece, [&](int64_t n) { return step.weights(n); });
        }
    }
    void pack_scaled(const Prepared& bottleneck, int64_t piece, const Real* scale) const {
        static thread_local Buffer<Real> memory;
        const int64_t inputs = bottleneck.inputs, first = 16 * piece;
        Real* scaled = memory.at_least(16 * inputs);
        for (int64_t n = first; n < std::min(first + 16, bottleneck.outputs); ++n) {
            const Real *weights = bottleneck.weights(n), by = scale[n];
            Real* to = scaled + (n - first) * inputs;
            for (int64_t k = 0; k < inputs; ++k) to[k] = weights[k] * by;
        }
        bottleneck.pack(bottleneck.packed, bottleneck.terms, piece,
                        [&](int64_t n) { return scaled + (n - first) * inputs; });
    }

    // Computes part `begin` of `end` parts of the layer or transition that begins at step i.
    void layer(size_t i, const Images& own, Share part, Scratch& mine) const {
        const auto piece = [&](int64_t count) {
            return Share{count * part.begin / part.end, count * (part.begin + 1) / part.end};
        };
        if (is_transition(i)) {
            const int64_t pooled = (height / 2) * (width / 2), first = own.first * pooled;
            const Share pixels = piece(own.count * pooled);
            transition(steps[i], first + pixels.begin, first + pixels.end, mine);
        } else {
            const Share rows = piece(own.rows() - 2);
            const bool is_bottleneck = after(i) == i + 2;
            convolve(is_bottleneck ? &steps[i] : nullptr, steps[after(i) - 1], own, rows.begin + 1, rows.end + 1,
                     mine);
        }
    }

    // Computes rows begin to end of a 3x3 convolution. Its input lies in scratch memory with a column of zeros
    // before and after each row; the last two rows are kept for the next ones.
    void convolve(const Prepared* bottleneck, const Prepared& conv, const Images& own, int64_t begin, int64_t end,
                  Scratch& mine) const {
        if (begin >= end) return;
        const int64_t pitch = width + 1, channels = conv.inputs, wide = Engine::columns(conv.outputs);
        const int64_t row = pitch * channels;
        int64_t bytes = pitch * (channels * sizeof(Operand) + wide * sizeof(Real));  // of a row
        if (bottleneck)
            bytes += width * (bottleneck->stride(bottleneck->inputs) * sizeof(Operand) +
                              Engine::columns(channels) * sizeof(Real));
        const int64_t at_once = std::clamp<int64_t>(Strips::CACHE / bytes, 1, end - begin + 2);
        Operand* rows = mine.rows.at_least((at_once + 2) * row + 66 * channels + GROUP);
        for (int64_t r = 0; r <= at_once + 2; ++r) zero(rows + r * row, channels);
        for (int64_t first = begin - 1; first < end + 1; first += at_once) {
            const int64_t last = std::min(first + at_once, end + 1), from = std::max(begin, first - 1);
            if (bottleneck) bottleneck_rows(*bottleneck, conv, own, first, last, rows + 2 * row, mine);
            else normalised_rows(conv, own, first, last, rows + 2 * row);
            zero(rows + (last - first + 2) * row, 32 + channels);  // a tile reads beyond the last number
            if (from < last - 1) {
                Real* sums = mine.sums.at_least(((last - from) * pitch + 64) * wide);
                Engine::multiply(rows + (from - first + 1) * row, channels, (last - 1 - from) * pitch, conv.terms,
                                 conv.packed, conv.outputs, sums, wide, conv.outputs);
                for (int64_t r = from; r < last - 1; ++r)
                    if (!own.is_zero(r)) put(conv, sums + (r - from) * pitch * wide, wide, own.pixel(r), width);
            }
            std::memmove((void*)rows, rows + (last - first) * row, 2 * row * sizeof(Operand));
        }
    }

    // ReLU(batch norm) of rows first to last.
    void normalised_rows(const Prepared& conv, const Images& own, int64_t first, int64_t last, Operand* to) const {
        const int64_t channels = conv.inputs;
        for (int64_t r = first; r < last; ++r, to += (width + 1) * channels) {
            for (int64_t x = 0; x < width; ++x) {
                if (own.is_zero(r)) zero(to + (x + 1) * channels, channels);
                else conv.normalise(own.pixel(r) + x, conv.scale, conv.shift, to + (x + 1) * channels);
            }
            zero(to + (width + 1) * channels, channels);  // the last pixel's register may reach beyond it
        }
    }

    // ReLU of a bottleneck's 1x1 convolution and the batch norm that follows.
    void bottleneck_rows(const Prepared& bottleneck, const Prepared& conv, const Images& own, int64_t first,
                         int64_t last, Operand* to, Scratch& mine) const {
        const int64_t step = bottleneck.stride(bottleneck.inputs);
        const int64_t channels = conv.inputs, wide = Engine::columns(channels);
        const int64_t begin = own.pixel(first), count = own.pixel(last) - begin;
        Operand* input = mine.input.at_least((count + 66) * step + GROUP);
        for (int64_t p = 0; p < count; ++p)
            bottleneck.normalise(begin + p, bottleneck.scale, bottleneck.shift, input + p * step);
        Real* sums = mine.sums.at_least((count + 64) * wide);
        Engine::multiply(input, step, count, bottleneck.terms, bottleneck.packed, channels, sums, wide, channels);
        for (int64_t r = first; r < last; ++r, to += (width + 1) * channels) {
            if (own.is_zero(r)) zero(to, (width + 1) * channels);
            else
                for (int64_t x = 0; x < width; ++x, sums += wide)
                    for (int64_t n = 0; n < channels; n += L)
                        store(to + (x + 1) * channels + n, relu<Real>(load(sums + n) + load(conv.shift + n)));
            zero(to + (width + 1) * channels, channels);
        }
    }

    // Computes pooled pixels begin to end, counted over all images.
    void transition(const Prepared& conv, int64_t begin, int64_t end, Scratch& mine) const {
        const int64_t step = conv.stride(conv.inputs), wide = Engine::columns(conv.outputs);
        const int64_t bytes = step * sizeof(Operand) + wide * sizeof(Real);  // of a pixel
        const int64_t at_once = std::clamp<int64_t>(Strips::CACHE / bytes, 1, 256);
        for (int64_t first = begin; first < end; first += at_once) {
            const int64_t count = std::min(at_once, end - first);
            Operand* input = mine.input.at_least((count + 66) * step + GROUP);
            for (int64_t p = 0; p < count; ++p) average(conv, first + p, input + p * step);
            Real* sums = mine.sums.at_least((count + 64) * wide);
            Engine::multiply(input, step, count, conv.terms, conv.packed, conv.outputs, sums, wide, conv.outputs);
            put(conv, sums, wide, first, count);
        }
    }

    // The mean of ReLU(batch norm) of 2x2 pixels, then zeros up to the stride.
    void average(const Prepared& conv, int64_t pooled, Operand* to) const {
        const int64_t y = pooled / (width / 2), row = y / (height / 2) * height + y % (height / 2) * 2;
        const int64_t pixel = row * width + pooled % (width / 2) * 2, pitch = conv.c.input_pitch;
        const Stored* above = (const Stored*)conv.c.input + pixel * pitch;
        const Stored* below = above + width * pitch;
        for (int64_t i = 0; i < conv.stride(conv.inputs); i += L) {
            Vector<Real> mean{};
            const int known = int(std::clamp<int64_t>(conv.inputs - i, 0, L));
            if (known)
                for (const Stored* from : {above, above + pitch, below, below + pitch})
                    mean += relu<Real>(load(from + i, known) * load(conv.scale + i) + load(conv.shift + i));
            store(to + i, Real(0.25) * mean);
        }
    }

    // Writes pixels of the output, which have `wide` numbers each.
    void put(const Prepared& conv, const Real* sums, int64_t wide, int64_t pixel, int64_t count) const {
        for (int64_t p = 0; p < count; ++p, sums += wide) {
            Stored* to = (Stored*)conv.c.output + (pixel + p) * conv.c.output_pitch;
            for (int64_t n = 0; n < conv.outputs; n += L)
                store(to + n, load(sums + n), int(std::min<int64_t>(L, conv.outputs - n)));
        }
    }

    static void zero(Operand* to, int64_t count) { std::memset((void*)to, 0, count * sizeof(Operand)); }
};
