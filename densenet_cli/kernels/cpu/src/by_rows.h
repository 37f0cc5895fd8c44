// A dense block in evaluation whose threads share the images, or the rows of pixels if there are few images.
//
// A bottleneck's maps never leave the cache: a few rows of its 1x1 convolution are computed, then the rows of
// the 3x3 convolution that need no others.
#pragma once

#include "dense_block.h"

template <class Stored>
class BlockByRows : DenseBlock<Stored> {
    using Base = DenseBlock<Stored>;
    using typename Base::Step, typename Base::Real, typename Base::Engine, typename Base::Operand;
    using typename Base::Scratch, typename Base::Images;
    using Base::steps, Base::count, Base::images, Base::height, Base::width, Base::threads, Base::L;
    using Base::is_transition, Base::after, Base::runs, Base::zero, Base::average, Base::put;

    // Bytes of maps that a thread takes through all layers at a time, about what its second-level cache holds.
    static constexpr int64_t IMAGES = 4 * Strips::CACHE;

public:
    BlockByRows(const Step* steps, size_t count) : Base(steps, count) {}

    // Computes all images; called by all threads of a team.
    void run() const {
        Scratch& mine = Base::scratch();
        if (const int64_t groups = this->groups()) {
#pragma omp for schedule(dynamic)
            for (int64_t g = 0; g < groups; ++g) {
                const int64_t first = images * g / groups;
                const Images own{first, images * (g + 1) / groups - first, height, width};
                for (size_t i = 0; i < count; i = after(i)) layer(i, own, {0, 1}, mine);
            }
        } else {
            for (size_t i = 0; i < count; i = after(i)) {
                layer(i, {0, images, height, width}, {omp_get_thread_num(), omp_get_num_threads()}, mine);
#pragma omp barrier
            }
        }
    }

private:
    // How many groups the images are divided into, each of them computed by one thread; 0 if threads would
    // have nothing to do: they share the rows.
    int64_t groups() const {
        const int64_t bytes = steps->c.input_pitch * height * width * int64_t(sizeof(Stored));
        const int64_t fit = std::max<int64_t>(1, IMAGES / bytes);
        const int64_t groups = std::min(images, round_up((images + fit - 1) / fit, threads));
        return groups % threads == 0 || groups >= 4 * threads ? groups : 0;
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
            const Step* bottleneck = steps[i].is_bottleneck ? &steps[i] : nullptr;
            convolve(bottleneck, steps[after(i) - 1], own, rows.begin + 1, rows.end + 1, mine);
        }
    }

    // Computes rows begin to end of a 3x3 convolution. Its input lies in scratch memory with a column of zeros
    // before and after each row; the last two rows are kept for the next ones.
    void convolve(const Step* bottleneck, const Step& conv, const Images& own, int64_t begin, int64_t end,
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
                Engine::multiply(rows + (from - first + 1) * row, channels, (last - 1 - from) * pitch, runs(conv),
                                 conv.packed, conv.outputs, sums, wide, conv.outputs);
                for (int64_t r = from; r < last - 1; ++r)
                    if (!own.is_zero(r)) put(conv, sums + (r - from) * pitch * wide, wide, own.pixel(r), width, {0, conv.outputs});
            }
            std::memmove((void*)rows, rows + (last - first) * row, 2 * row * sizeof(Operand));
        }
    }

    // ReLU(batch norm) of rows first to last.
    void normalised_rows(const Step& conv, const Images& own, int64_t first, int64_t last, Operand* to) const {
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
    void bottleneck_rows(const Step& bottleneck, const Step& conv, const Images& own, int64_t first,
                         int64_t last, Operand* to, Scratch& mine) const {
        const int64_t step = bottleneck.stride(bottleneck.inputs);
        const int64_t channels = conv.inputs, wide = Engine::columns(channels);
        const int64_t begin = own.pixel(first), count = own.pixel(last) - begin;
        Operand* input = mine.input.at_least((count + 66) * step + GROUP);
        for (int64_t p = 0; p < count; ++p)
            bottleneck.normalise(begin + p, bottleneck.scale, bottleneck.shift, input + p * step);
        Real* sums = mine.sums.at_least((count + 64) * wide);
        Engine::multiply(input, step, count, runs(bottleneck), bottleneck.packed, channels, sums, wide, channels);
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
    void transition(const Step& conv, int64_t begin, int64_t end, Scratch& mine) const {
        const int64_t step = conv.stride(conv.inputs), wide = Engine::columns(conv.outputs);
        const int64_t bytes = step * sizeof(Operand) + wide * sizeof(Real);  // of a pixel
        const int64_t at_once = std::clamp<int64_t>(Strips::CACHE / bytes, 1, 256);
        for (int64_t first = begin; first < end; first += at_once) {
            const int64_t count = std::min(at_once, end - first);
            Operand* input = mine.input.at_least((count + 66) * step + GROUP);
            for (int64_t p = 0; p < count; ++p) average(conv, first + p, input + p * step);
            Real* sums = mine.sums.at_least((count + 64) * wide);
            Engine::multiply(input, step, count, runs(conv), conv.packed, conv.outputs, sums, wide, conv.outputs);
            put(conv, sums, wide, first, count, {0, conv.outputs});
        }
    }
};
