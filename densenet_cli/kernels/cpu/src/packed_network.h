// The weights and batch norms of a network as evaluation reads them, packed once for many batches.
#pragma once

#include "convolution.h"
#include "digest.h"
#include "stem.h"

// A step of a block, and where its weights and its batch norm lie in packed memory.
template <class Stored>
struct PackedStep : NormalisedConvolution<Stored> {
    typename EngineOf<Stored>::type::Operand* packed = nullptr;
    RealOf<Stored> *scale = nullptr, *shift = nullptr;
    bool is_bottleneck;  // a 1x1 convolution whose output only the next step reads, a 3x3 convolution

    PackedStep(const Convolution& c, bool is_bottleneck)
        : NormalisedConvolution<Stored>(c), is_bottleneck(is_bottleneck) {}
};

template <class Stored>
class PackedNetwork {
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    using Step = PackedStep<Stored>;

    const Network& network;
    std::vector<Convolution> convolutions;  // of all steps, with the sizes and maps of their blocks
    int64_t used = 0;                       // bytes of packed memory

public:
    Convolution stem;
    Operand* stem_packed = nullptr;
    Real* stem_shift = nullptr;
    std::vector<Step> steps;  // of all blocks
    Real *last_scale, *last_shift;

    explicit PackedNetwork(const Network& n) : network(n), stem(n.stem) {
        if (stem.size) {
            stem.images = n.images, stem.height = n.height, stem.width = n.width, stem.threads = n.threads;
            stem.input = n.pixels, stem.output = n.blocks->maps, stem.output_pitch = n.blocks->pitch;
            stem_packed = take<Operand>(StemEvaluation<Stored>(stem).packed_size());
            stem_shift = take<Real>(Engine::columns(stem.out_channels));
        }
        int64_t count = 0;
        for (const Block* block = n.blocks; block < n.blocks + n.block_count; ++block) count += block->steps;
        convolutions.assign(n.steps, n.steps + count);
        Convolution* next = convolutions.data();
        for (const Block* block = n.blocks; block < n.blocks + n.block_count; ++block) add(*block, next);
        last_scale = take<Real>(round_up(n.last.in_channels, GROUP));
        last_shift = take<Real>(round_up(n.last.in_channels, GROUP));
    }
    PackedNetwork(const PackedNetwork&) = delete;

    int64_t bytes() const { return used; }

    // Fills the packed memory. Returns the digest of the numbers that it was made of.
    uint64_t pack() const {
        const Numbers numbers(network.numbers, network.number_count);
        uint64_t digest = 0;
        if (stem.size) StemEvaluation<Stored>(stem).pack(stem_packed, stem_shift);
        NormalisedConvolution<Stored>(network.last).make_scales(last_scale, last_shift);
        for (const Step& step : steps) step.make_scales(step.scale, step.shift);
#pragma omp parallel num_threads(int(network.threads))
        {
            const uint64_t found = numbers.digest();
            for (size_t i = 0; i < steps.size(); ++i) pack(i);
#pragma omp single
            digest = found;
        }
        return digest;
    }

private:
    template <class T>
    T* take(int64_t count) {
        const uintptr_t begin = uintptr_t(network.packed) + used;
        used += round_up(count * int64_t(sizeof(T)), LINE);
        return reinterpret_cast<T*>(begin);
    }
    // Adds the steps of a block, and lets `next` be the first one of the next block.
    void add(const Block& block, Convolution*& next) {
        const Convolution* end = next + block.steps;
        const Stored* maps = as<Stored>(block.maps);
        int64_t column = next->in_channels;  // where the next layer writes
        for (; next < end; ++next) {
            const bool is_transition = next->size == 1 && next + 1 == end, is_bottleneck = next->size == 1 && !is_transition;
            next->images = network.images, next->height = block.height, next->width = block.width;
            next->threads = network.threads, next->input = maps, next->input_pitch = block.pitch;
            if (is_transition) {
                next->output = (&block)[1].maps, next->output_pitch = (&block)[1].pitch;
            } else if (!is_bottleneck) {
                next->output = (void*)(maps + column), next->output_pitch = block.pitch;
                column += next->out_channels;
            }
            Step step(*next, is_bottleneck);
            step.packed = take<Operand>(Engine::packed_size(step.runs(step.inputs, 0), step.outputs));
            step.scale = take<Real>(round_up(step.inputs, GROUP));
            step.shift = take<Real>(round_up(step.inputs, GROUP));
            steps.push_back(step);
        }
    }

    // Packs this thread's share of a step.
    void pack(size_t i) const {
        const Step& step = steps[i];
        const Runs runs = step.runs(step.inputs, 0);
        const Share own = own_share(step.pieces(runs));
        for (int64_t piece = own.begin; piece < own.end; ++piece)
            if (step.is_bottleneck) pack_scaled(step, runs, piece, steps[i + 1].scale);
            else step.pack(step.packed, runs, piece, [&](int64_t n) { return step.weights(n); });
    }
    // Packs a piece of a bottleneck's weights, times the scale of the batch norm that follows.
    void pack_scaled(const Step& bottleneck, const Runs& runs, int64_t piece, const Real* scale) const {
        static thread_local Buffer<Real> memory;
        const int64_t inputs = bottleneck.inputs, first = 16 * piece;
        Real* scaled = memory.at_least(16 * inputs);
        for (int64_t n = first; n < std::min(first + 16, bottleneck.outputs); ++n) {
            const Real *weights = bottleneck.weights(n), by = scale[n];
            Real* to = scaled + (n - first) * inputs;
            for (int64_t k = 0; k < inputs; ++k) to[k] = weights[k] * by;
        }
        bottleneck.pack(bottleneck.packed, runs, piece, [&](int64_t n) { return scaled + (n - first) * inputs; });
    }
};
