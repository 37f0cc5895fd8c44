// A network where nothing is measured and nothing kept: evaluation.
//
// - A bottleneck's maps never leave the cache. The batch norm that follows it is folded into its weights.
// - A transition averages 2x2 pixels before its convolution: the same, with a quarter of the products.
// - Threads share the images; of few images, the rows; of few pixels, the output channels of convolutions.
#pragma once

#include "by_channels.h"
#include "by_rows.h"

template <class Stored>
class NetworkEvaluation {
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    static constexpr int L = lanes_of<Real>;

    const Network& network;
    const PackedNetwork<Stored> packed;
    // Each block has one of each kind, and `suits` says which one is used.
    std::vector<BlockByRows<Stored>> by_rows;
    std::vector<BlockByChannels<Stored>> by_channels;
    Operand* shared;  // memory for threads that share channels

public:
    explicit NetworkEvaluation(const Network& n) : network(n), packed(n) {
        const PackedStep<Stored>* steps = packed.steps.data();
        static thread_local Buffer<Operand> shared_memory;
        int64_t shared_size = 0;
        for (int64_t b = 0; b < n.block_count; steps += n.blocks[b++].steps) {
            by_rows.emplace_back(steps, n.blocks[b].steps), by_channels.emplace_back(steps, n.blocks[b].steps);
            if (by_channels[b].suits()) shared_size = std::max(shared_size, by_channels[b].shared_size());
        }
        shared = shared_memory.at_least(shared_size);
    }

    // Returns whether the packed weights are still those of the network; if not, nothing is computed.
    bool run() const {
        const Numbers numbers(network.numbers, network.number_count);
        bool is_current = false;
#pragma omp parallel num_threads(int(network.threads))
        if (!network.number_count || numbers.digest() == network.digest) {
            compute();
#pragma omp single
            is_current = true;
        }
        return is_current;
    }

private:
    // Called by all threads of a team.
    void compute() const {
        typename Engine::Session session;
        if (packed.stem.size) StemEvaluation<Stored>(packed.stem).run(packed.stem_packed, packed.stem_shift);
        for (int64_t b = 0; b < network.block_count; ++b) {
            if (by_channels[b].suits()) by_channels[b].run(shared);
            else by_rows[b].run();
        }
        average();
    }

    // The mean over each image's pixels of ReLU(batch norm) of the last maps.
    void average() const {
        const Block& block = network.blocks[network.block_count - 1];
        const int64_t channels = network.last.in_channels, registers = (channels + L - 1) / L;
        const int64_t pixels = block.height * block.width;
#pragma omp for
        for (int64_t r = 0; r < network.images * registers; ++r) {
            const int64_t image = r / registers, i = r % registers * L;
            const int known = int(std::min<int64_t>(L, channels - i));
            const Vector<Real> scale = load(packed.last_scale + i), shift = load(packed.last_shift + i);
            const Stored* from = as<Stored>(block.maps) + image * pixels * block.pitch + i;
            Vector<Real> sum{};
            for (int64_t p = 0; p < pixels; ++p) sum += relu<Real>(load(from + p * block.pitch, known) * scale + shift);
            store((Stored*)network.means + image * channels + i, sum / Real(pixels), known);
        }
    }
};
