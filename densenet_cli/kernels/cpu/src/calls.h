// What Python hands over with a call: the structs of densenet_cli/kernels/cpu/engine.py, field by field.
//
// `maps` are feature maps, channels last: one row for each pixel, `pitch` numbers from row to row, of the
// number format of the function called. `real` is float, or double if the maps are double.
#pragma once

#include <cstddef>
#include <cstdint>

template <class T>
const T* as(const void* numbers) {
    return static_cast<const T*>(numbers);
}

// BN-ReLU-convolution-dropout, forward and backward.
struct Convolution {
    int64_t images, height, width;
    int64_t in_channels, out_channels;
    int64_t size;  // of the kernel, 1, 3, or 7: the stem
    int64_t threads;
    const void* input;  // maps
    int64_t input_pitch;
    const void *mean, *variance, *gamma, *beta;  // real (in_channels)
    double epsilon;                              // added to the variance
    const void* weight;                          // real (out_channels, size, size, in_channels)
    void* output;                                // maps
    int64_t output_pitch;
    double dropout;  // probability
    uint64_t seed;
    void *output_mean, *output_variance;  // real (out_channels), or null: not wanted
    // For the backward pass only. The gradient of the output is
    // output_gradient + slope·(output - output_mean) + offset, or output_gradient alone if slope is null.
    const void* output_gradient;  // maps
    int64_t output_gradient_pitch;
    const void *slope, *offset;  // real (out_channels)
    void* input_gradient;        // maps: Σ over all readers of the input of scale·gradient
    int64_t input_gradient_pitch;
    int64_t accumulate;     // whether to add to input_gradient (1) or to overwrite it (0)
    void* weight_gradient;  // real, like weight
    void *gamma_gradient, *beta_gradient;  // real (in_channels)
    void *input_slope, *input_offset;      // real (in_channels), or null: this reader's part is added
};

// Numbers somewhere in memory.
struct Region {
    const void* begin;
    int64_t bytes;
};

// A dense block of a network in evaluation.
struct Block {
    int64_t steps;  // its convolutions and that of the transition, which is the last one unless the block is
    int64_t height, width;
    void* maps;  // read and written
    int64_t pitch;
};

// A network in evaluation, up to the mean of each map. Steps, stem and last describe weights and batch norms
// only: sizes and maps are those of the images and of the blocks.
struct Network {
    const Convolution* steps;  // of all blocks
    const Block* blocks;
    int64_t block_count;
    Convolution stem;  // its batch norm follows it; if its size is 0, the first maps have been written
    Convolution last;  // the batch norm of the last maps
    const Region* numbers;  // all that steps, stem and last read
    int64_t number_count;  // 0: evaluation need not look at them
    uint64_t digest;  // of the numbers that were packed
    void* packed;     // what `pack` made of them
    int64_t images, threads;
    const void* pixels;  // real (images, height, width, channels), for the stem
    int64_t height, width;
    void* means;  // (images, channels), of the number format of maps
};

// Everything else: copies, pooling, means, statistics.
struct MapWork {
    int64_t images, height, width, channels, threads;
    void* source;  // maps
    int64_t source_pitch;
    void* destination;  // maps
    int64_t destination_pitch;
    void *mean, *variance;       // real (channels): statistics of the destination, or null: not wanted
    const void *slope, *offset;  // real (channels): the source is a gradient to which
    const void* maps;            // slope·(maps - mean) + offset must be added; or null
    int64_t maps_pitch;
    const void* input;  // maps that a batch norm reads
    int64_t input_pitch;
    const void *input_mean, *rstd, *gamma, *beta;  // real (channels): that batch norm
    void *gamma_gradient, *beta_gradient;          // real (channels)
    void* choice;  // uint8 (pooled pixels, channels): which of 3x3 pixels was the largest, row by row
};

// Where a field lies in its struct, in bytes. A list of fields ends with the size of the struct.
struct Field {
    const char* name;
    int64_t offset;
};
#define FIELD(name) {#name, offsetof(WORK, name)}

// Python compares these lists with its own when it loads the library.
#define WORK Convolution
constexpr Field CONVOLUTION_FIELDS[] = {
    FIELD(images), FIELD(height), FIELD(width), FIELD(in_channels), FIELD(out_channels), FIELD(size),
    FIELD(threads), FIELD(input), FIELD(input_pitch), FIELD(mean), FIELD(variance), FIELD(gamma), FIELD(beta),
    FIELD(epsilon), FIELD(weight), FIELD(output), FIELD(output_pitch), FIELD(dropout), FIELD(seed),
    FIELD(output_mean), FIELD(output_variance), FIELD(output_gradient), FIELD(output_gradient_pitch),
    FIELD(slope), FIELD(offset), FIELD(input_gradient), FIELD(input_gradient_pitch), FIELD(accumulate),
    FIELD(weight_gradient), FIELD(gamma_gradient), FIELD(beta_gradient), FIELD(input_slope),
    FIELD(input_offset), {nullptr, sizeof(WORK)}};
#undef WORK
#define WORK MapWork
constexpr Field MAP_WORK_FIELDS[] = {
    FIELD(images), FIELD(height), FIELD(width), FIELD(channels), FIELD(threads), FIELD(source),
    FIELD(source_pitch), FIELD(destination), FIELD(destination_pitch), FIELD(mean), FIELD(variance),
    FIELD(slope), FIELD(offset), FIELD(maps), FIELD(maps_pitch), FIELD(input), FIELD(input_pitch),
    FIELD(input_mean), FIELD(rstd), FIELD(gamma), FIELD(beta), FIELD(gamma_gradient), FIELD(beta_gradient),
    FIELD(choice), {nullptr, sizeof(WORK)}};
#undef WORK
#define WORK Block
constexpr Field BLOCK_FIELDS[] = {FIELD(steps), FIELD(height), FIELD(width), FIELD(maps), FIELD(pitch), {nullptr, sizeof(WORK)}};
#undef WORK
#define WORK Network
constexpr Field NETWORK_FIELDS[] = {
    FIELD(steps), FIELD(blocks), FIELD(block_count), FIELD(stem), FIELD(last), FIELD(numbers),
    FIELD(number_count), FIELD(digest), FIELD(packed), FIELD(images), FIELD(threads), FIELD(pixels),
    FIELD(height), FIELD(width), FIELD(means), {nullptr, sizeof(WORK)}};
#undef WORK
#define WORK Region
constexpr Field REGION_FIELDS[] = {FIELD(begin), FIELD(bytes), {nullptr, sizeof(WORK)}};
#undef WORK
#undef FIELD
