// Several convolutions, one after another, on images of one size: those of a dense block.
#pragma once

#include "convolution.h"

template <class Stored>
class Chain {
    const Convolution* steps;
    const int64_t count;

public:
    Chain(const Convolution* steps, int64_t count) : steps(steps), count(count) {}

    void forward() const {
        const bool measured = std::any_of(steps, steps + count, [](const Convolution& c) { return c.output_mean; });
        const bool fits = bytes_of_image() <= 4 * Strips::CACHE, enough = steps->images >= 4 * steps->threads;
        if (fits && enough && !measured) return forward_by_images();
        for (int64_t i = 0; i < count; ++i) NormalisedConvolution<Stored>(steps[i]).forward();
    }

    void backward() const {
        for (int64_t i = count; i-- > 0;) NormalisedConvolution<Stored>(steps[i]).backward();
    }

private:
    int64_t bytes_of_image() const {
        int64_t pitch = 0;
        for (int64_t i = 0; i < count; ++i) pitch = std::max({pitch, steps[i].input_pitch, steps[i].output_pitch});
        return pitch * steps->height * steps->width * int64_t(sizeof(Stored));
    }

    // Without batch statistics each image can be computed alone. So a thread takes a few images through all
    // steps, and their maps stay in its cache.
    void forward_by_images() const {
        const int64_t images = steps->images, pixels = steps->height * steps->width;
        const int64_t fit = std::max<int64_t>(1, Strips::CACHE / bytes_of_image());
        const int64_t at_once = std::min(fit, images / steps->threads), parts = (images + at_once - 1) / at_once;
#pragma omp parallel for num_threads(int(steps->threads)) schedule(dynamic)
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t first = part * at_once;
            for (int64_t i = 0; i < count; ++i) {
                Convolution c = steps[i];
                c.images = std::min(at_once, images - first), c.threads = 1;
                c.input = (const Stored*)c.input + first * pixels * c.input_pitch;
                c.output = (Stored*)c.output + first * pixels * c.output_pitch;
                NormalisedConvolution<Stored>(c).forward();
            }
        }
    }
};
