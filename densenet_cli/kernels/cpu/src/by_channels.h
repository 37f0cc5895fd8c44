// A dense block in evaluation with so few pixels that threads share the output channels of its convolutions.
//
// To share rows would cost too much: each thread needs the rows of the bottleneck above and below its own,
// and reads all weights.
#pragma once

#include "dense_block.h"

template <class Stored>
class BlockByChannels : DenseBlock<Stored> {
    using Base = DenseBlock<Stored>;
    using typename Base::Step, typename Base::Real, typename Base::Engine, typename Base::Operand;
    using typename Base::Scratch, typename Base::Images;
    using Base::steps, Base::count, Base::images, Base::height, Base::width, Base::threads, Base::L;
    using Base::is_transition, Base::after, Base::runs, Base::zero, Base::average, Base::put;

    static constexpr int64_t FEW = 128;  // pixels a thread

    // What a thread computes: some of the output channels for some of the rows or pixels.
    struct Part {
        Share channels, rows;
    };

public:
    BlockByChannels(const Step* steps, size_t count) : Base(steps, count) {}

    bool suits() const { return threads > 1 && images * height * width < FEW * threads; }

    // Numbers in memory that the threads share.
    int64_t shared_size() const {
        int64_t size = 0;
        for (size_t i = 0; i < count; ++i)
            if (steps[i].size == 3) size = std::max(size, positions() * steps[i].inputs + GROUP);
        return size;
    }

    // Computes all images; called by all threads of a team.
    void run(Operand* shared) const {
        Scratch& mine = Base::scratch();
        int64_t channels = 0;  // of a pixel in shared memory
        for (size_t i = 0; i < count; i = after(i)) {
            if (is_transition(i)) {
                transition(steps[i], mine);
            } else {
                const Step& conv = steps[after(i) - 1];
                if (channels != conv.inputs) {
                    channels = conv.inputs;
                    const Share own = own_share(positions() * channels + GROUP);
                    zero(shared + own.begin, own.end - own.begin);
#pragma omp barrier
                }
                if (steps[i].is_bottleneck) bottleneck(steps[i], conv, shared, mine);
                else normalise(conv, shared);
#pragma omp barrier
                convolve(conv, shared, mine);
            }
#pragma omp barrier
        }
    }

private:
    Images all() const { return {0, images, height, width}; }
    // Of pixels in shared memory, and as many more as a tile reads beyond them.
    int64_t positions() const { return all().rows() * (width + 1) + 66; }
    int64_t position(int64_t row, int64_t x) const { return row * (width + 1) + x + 1; }

    // The part of this thread. As many threads as possible share the channels, in units of which products are
    // fast and two threads write to no common cache line; teams of them share the rows.
    static Part own_part(int64_t channels, int64_t rows) {
        constexpr int64_t unit = 32;
        const int64_t team = omp_get_num_threads(), index = omp_get_thread_num();
        const int64_t units = (channels + unit - 1) / unit;
        int64_t parts = std::min(team, units);
        while (team % parts) --parts;
        const int64_t part = index % parts, teams = team / parts, own = index / parts;
        return {{units * part / parts * unit, std::min(channels, units * (part + 1) / parts * unit)},
                {rows * own / teams, rows * (own + 1) / teams}};
    }

    // Sums of products for some channels of `count` positions of the left matrix.
    void multiply(const Step& step, const Operand* left, int64_t stride, int64_t count, Share channels, Real* sums) const {
        const Runs runs = this->runs(step);
        const int64_t own = channels.end - channels.begin;
        Engine::multiply(left, stride, count, runs, Engine::columns_from(step.packed, runs, channels.begin), step.outputs,
                         sums, Engine::columns(own), own);
    }

    // ReLU of a bottleneck's 1x1 convolution and the batch norm that follows.
    void bottleneck(const Step& step, const Step& conv, Operand* shared, Scratch& mine) const {
        const Images all = this->all();
        const Part own = own_part(step.outputs, all.rows() - 2);
        const int64_t first = own.rows.begin + 1, last = own.rows.end + 1;
        const int64_t begin = all.pixel(first), pixels = all.pixel(last) - begin;
        const int64_t stride = step.stride(step.inputs), wide = Engine::columns(own.channels.end - own.channels.begin);
        Operand* input = mine.input.at_least((pixels + 66) * stride + GROUP);
        for (int64_t p = 0; p < pixels; ++p) step.normalise(begin + p, step.scale, step.shift, input + p * stride);
        const Real* sums = mine.sums.at_least((pixels + 64) * wide);
        multiply(step, input, stride, pixels, own.channels, (Real*)sums);
        for (int64_t r = first; r < last; ++r)
            for (int64_t x = 0; x < width && !all.is_zero(r); ++x, sums += wide) {
                Operand* to = shared + position(r, x) * conv.inputs;
                for (int64_t n = own.channels.begin; n < own.channels.end; n += L)
                    store(to + n, relu<Real>(load(sums + n - own.channels.begin) + load(conv.shift + n)),
                          int(std::min<int64_t>(L, own.channels.end - n)));
            }
    }

    // ReLU(batch norm) of the input of a 3x3 convolution.
    void normalise(const Step& conv, Operand* shared) const {
        const Share own = own_share(images * height);
        for (int64_t y = own.begin; y < own.end; ++y)
            for (int64_t x = 0; x < width; ++x)
                conv.normalise(y * width + x, conv.scale, conv.shift,
                               shared + position(y + y / height + 1, x) * conv.inputs);
    }

    void convolve(const Step& conv, const Operand* shared, Scratch& mine) const {
        const Images all = this->all();
        const Part own = own_part(conv.outputs, all.rows() - 2);
        const int64_t wide = Engine::columns(own.channels.end - own.channels.begin), pitch = width + 1;
        const int64_t rows = own.rows.end - own.rows.begin;
        Real* sums = mine.sums.at_least((rows * pitch + 64) * wide);
        multiply(conv, shared + own.rows.begin * pitch * conv.inputs, conv.inputs, rows * pitch, own.channels, sums);
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t row = own.rows.begin + 1 + r;
            if (!all.is_zero(row)) put(conv, sums + r * pitch * wide, wide, all.pixel(row), width, own.channels);
        }
    }

    void transition(const Step& conv, Scratch& mine) const {
        const Part own = own_part(conv.outputs, images * (height / 2) * (width / 2));
        const int64_t pixels = own.rows.end - own.rows.begin, stride = conv.stride(conv.inputs);
        const int64_t wide = Engine::columns(own.channels.end - own.channels.begin);
        Operand* input = mine.input.at_least((pixels + 66) * stride + GROUP);
        for (int64_t p = 0; p < pixels; ++p) average(conv, own.rows.begin + p, input + p * stride);
        Real* sums = mine.sums.at_least((pixels + 64) * wide);
        multiply(conv, input, stride, pixels, own.channels, sums);
        put(conv, sums, wide, own.rows.begin, pixels, own.channels);
    }
};
