// A dense block and the transition that follows, if any, in evaluation: what all ways to compute it need.
#pragma once

#include "packed_network.h"

template <class Stored>
class DenseBlock {
protected:
    using Step = PackedStep<Stored>;
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    static constexpr int L = lanes_of<Real>;

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

    const Step* steps;
    const size_t count;
    const int64_t images, height, width;
    const int threads;

    // steps: their convolutions have their sizes and maps. The last one is a transition's if it is 1x1.
    DenseBlock(const Step* steps, size_t count)
        : steps(steps), count(count), images(steps->c.images), height(steps->c.height), width(steps->c.width),
          threads(int(steps->c.threads)) {}

    static Scratch& scratch() {
        static thread_local Scratch mine;
        return mine;
    }
    static void zero(Operand* to, int64_t count) { std::memset((void*)to, 0, count * sizeof(Operand)); }

    bool is_transition(size_t i) const { return steps[i].size == 1 && !steps[i].is_bottleneck; }
    // The first step of the next layer.
    size_t after(size_t i) const { return i + (steps[i].is_bottleneck ? 2 : 1); }
    // In scratch memory there is a pixel of zeros between rows.
    Runs runs(const Step& step) const { return step.runs(step.inputs, width + 1); }

    // The mean of ReLU(batch norm) of 2x2 pixels, then zeros up to the stride.
    void average(const Step& conv, int64_t pooled, Operand* to) const {
        const int64_t y = pooled / (width / 2), row = y / (height / 2) * height + y % (height / 2) * 2;
        const int64_t pixel = row * width + pooled % (width / 2) * 2, pitch = conv.c.input_pitch;
        const Stored* above = as<Stored>(conv.c.input) + pixel * pitch;
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

    // Writes `channels` of the output for pixels of which `sums` has `wide` numbers each, from the first of
    // these channels on.
    void put(const Step& conv, const Real* sums, int64_t wide, int64_t pixel, int64_t pixels, Share channels) const {
        for (int64_t p = 0; p < pixels; ++p, sums += wide) {
            Stored* to = (Stored*)conv.c.output + (pixel + p) * conv.c.output_pitch;
            for (int64_t n = channels.begin; n < channels.end; n += L)
                store(to + n, load(sums + n - channels.begin), int(std::min<int64_t>(L, channels.end - n)));
        }
    }
};
