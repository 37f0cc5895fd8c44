// A digest of numbers in memory, which shows whether they are still the same.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "calls.h"
#include "vectors.h"

// It reads as fast as memory delivers. Each step maps the state one to one for given input, and the input one
// to one for a given state: a single changed word always changes the digest; of other changes, one in 2^64
// does not.
class Digest {
    typedef uint64_t Words __attribute__((vector_size(REGISTER_BYTES)));
    static constexpr uint64_t ODD = 0x9E3779B97F4A7C15;  // 2^64 divided by the golden ratio
    static constexpr int STATES = 4;                     // independent, so that none waits for a product
    static constexpr int64_t AHEAD = 4 << 10;            // bytes between prefetching and use

    template <class T>
    static T mixed(T state, T input) {
        state = (state ^ input) * ODD;
        return state ^ state >> 29;
    }

public:
    static constexpr int64_t PIECE = 64 << 10;  // bytes that a thread takes at a time

    static uint64_t of(const void* begin, int64_t bytes) {
        const char* from = static_cast<const char*>(begin);
        Words states[STATES] = {};
        for (int i = 0; i < STATES; ++i) states[i] += uint64_t(i + 1) * ODD;
        int64_t rest = bytes;
        for (; rest >= int64_t(sizeof states); rest -= sizeof states)
            for (Words& state : states) {
                Words words;
                std::memcpy(&words, from, sizeof words);
                __builtin_prefetch(from + AHEAD);
                state = mixed(state, words), from += sizeof words;
            }
        Words last[STATES] = {};
        std::memcpy(last, from, rest);
        uint64_t whole = uint64_t(bytes);
        for (int i = 0; i < STATES; ++i) {
            states[i] = mixed(states[i], last[i]);
            for (int lane = 0; lane < REGISTER_BYTES / 8; ++lane) whole = mixed(whole, uint64_t(states[i][lane]));
        }
        return whole;
    }
    static uint64_t of(const std::vector<uint64_t>& digests) {
        uint64_t whole = digests.size();
        for (const uint64_t digest : digests) whole = mixed(whole, digest);
        return whole;
    }
};

// Several regions of memory, in their order.
class Numbers {
    std::vector<Region> pieces;
    mutable std::vector<uint64_t> digests;

public:
    Numbers(const Region* regions, int64_t count) {
        for (const Region* region = regions; region < regions + count; ++region)
            for (int64_t first = 0; first < region->bytes; first += Digest::PIECE)
                pieces.push_back({(const char*)region->begin + first, std::min(Digest::PIECE, region->bytes - first)});
        digests.resize(pieces.size());
    }

    // Called by all threads of a team.
    uint64_t digest() const {
#pragma omp for schedule(dynamic, 8)
        for (size_t i = 0; i < pieces.size(); ++i) digests[i] = Digest::of(pieces[i].begin, pieces[i].bytes);
        return Digest::of(digests);
    }
};
