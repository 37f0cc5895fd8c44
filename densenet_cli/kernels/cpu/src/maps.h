// What is done to maps besides convolutions: copying into a buffer, pooling, the last mean.
#pragma once

#include <omp.h>

#include <vector>

#include "calls.h"
#include "statistics.h"
#include "strips.h"

template <class Stored>
class Maps {
    using Real = RealOf<Stored>;
    static constexpr int L = lanes_of<Real>;
    static constexpr int64_t BLOCK = 64;  // pixels at a time
    const MapWork& w;

    int64_t pixels() const { return w.images * w.height * w.width; }

    template <class Work>
    void share(int64_t count, Work work) const {
        const int threads = int(w.threads);
#pragma omp parallel num_threads(threads)
        {
            const Share share = own_share(count);
            for (int64_t i = share.begin; i < share.end; ++i) work(i);
        }
    }

    // Writes pixels of the destination, which `make(pixel, channel, known)` returns, and measures them.
    template <class Make>
    void write(int64_t pixels, Make make) const {
        static thread_local std::vector<Moments<Real>> moments_memory;
        const int threads = int(w.threads);
        std::vector<Moments<Real>>& parts = at_least(moments_memory, threads);
        int team = 1;
#pragma omp parallel num_threads(threads)
        {
            Moments<Real>& moments = parts[omp_get_thread_num()];
            moments.start(w.channels);
            const Share share = own_share(pixels);
            if (omp_get_thread_num() == 0) team = omp_get_num_threads();
            for (int64_t first = share.begin; first < share.end; first += BLOCK)
                for (int64_t i = 0; i < w.channels; i += L) {
                    const int known = int(std::min<int64_t>(L, w.channels - i));
                    moments.measure(i, std::min(BLOCK, share.end - first), [&](int64_t p) {
                        const Vector<Real> value = as_stored<Stored>(make(first + p, i, known));
                        store((Stored*)w.destination + (first + p) * w.destination_pitch + i, value, known);
                        return value;
                    });
                }
        }
        if (w.mean) finish_moments(parts.data(), team, w.channels, pixels, (Real*)w.mean, (Real*)w.variance);
    }

    // source + slope·(maps - mean) + offset: a completed gradient.
    Vector<Real> corrected(int64_t pixel, int64_t i, int known) const {
        const Vector<Real> g = load(as<Stored>(w.source) + pixel * w.source_pitch + i, known);
        if (!w.slope) return g;
        const Vector<Real> x = load(as<Stored>(w.maps) + pixel * w.maps_pitch + i, known);
        return g + load(as<Real>(w.slope) + i, known) * (x - load(as<Real>(w.mean) + i, known)) +
               load(as<Real>(w.offset) + i, known);
    }

public:
    explicit Maps(const MapWork& work) : w(work) {}

    // destination = source.
    void copy() const {
        write(pixels(), [&](int64_t p, int64_t i, int known) {
            return load(as<Stored>(w.source) + p * w.source_pitch + i, known);
        });
    }

    // destination (H/2 · W/2 pixels per image) = the mean of 2x2 pixels of the source.
    void average_pool() const {
        const int64_t height = w.height / 2, width = w.width / 2;
        write(w.images * height * width, [&](int64_t p, int64_t i, int known) {
            const int64_t y = p / width, row = y / height * w.height + y % height * 2;
            const Stored* from = as<Stored>(w.source) + (row * w.width + p % width * 2) * w.source_pitch + i;
            const Stored* below = from + w.width * w.source_pitch;
            return Real(0.25) * (load(from, known) + load(from + w.source_pitch, known) + load(below, known) +
                                 load(below + w.source_pitch, known));
        });
    }

    // Measures the source.
    void measure() const {
        MapWork alone = w;
        alone.destination = w.source, alone.destination_pitch = w.source_pitch;
        Maps(alone).copy();
    }

    // destination ((H + 1) / 2 · (W + 1) / 2 pixels per image) = the largest of 3x3 pixels of ReLU(BN(input)),
    // with stride 2.
    void max_pool() const {
        const int64_t height = (w.height + 1) / 2, width = (w.width + 1) / 2;
        write(w.images * height * width, [&](int64_t p, int64_t i, int known) {
            const auto [a, b, centre] = scales(i, known);
            const int64_t image = p / (height * width), y = p / width % height * 2, x = p % width * 2;
            Vector<Real> best{}, which{};
            for (int tap = 0; tap < 9; ++tap) {
                const int64_t row = y + tap / 3 - 1, column = x + tap % 3 - 1;
                if (row < 0 || row >= w.height || column < 0 || column >= w.width) continue;
                const int64_t pixel = (image * w.height + row) * w.width + column;
                const Vector<Real> value = as_stored<Stored>(
                    relu<Real>(load(as<Stored>(w.input) + pixel * w.input_pitch + i, known) * a + b));
                const auto larger = (value > best) | (value != value);  // a NaN wins, as in torch
                best = larger ? value : best, which = larger ? broadcast(Real(tap)) : which;
            }
            uint8_t* choice = (uint8_t*)w.choice + p * w.channels + i;
            for (int l = 0; l < known; ++l) choice[l] = uint8_t(which[l]);
            return best;
        });
    }

    // The backward pass of max_pool: destination = scale · the gradient of the batch norm's output, from the
    // gradient of the pooled pixels (source), which is completed first.
    void max_pool_backward() const {
        const int threads = int(w.threads);
        const int64_t wide = round_up(w.channels, L);
        static thread_local Buffer<double> sums;
        std::vector<double*> parts(threads);
        int team = 1;
#pragma omp parallel num_threads(threads)
        {
            double* mine = parts[omp_get_thread_num()] = sums.zeroed(2 * wide);
            const Share share = own_share(w.images * w.height);
            if (omp_get_thread_num() == 0) team = omp_get_num_threads();
            for (int64_t row = share.begin; row < share.end; ++row)
                for (int64_t i = 0; i < w.channels; i += L) unpool_row(row, i, mine + 2 * i);
        }
        parts.resize(team);
        for (int64_t i = 0; i < w.channels; ++i) {
            double gamma = 0, beta = 0;
            for (const double* part : parts) gamma += part[i / L * 2 * L + i % L], beta += part[(i / L * 2 + 1) * L + i % L];
            ((Real*)w.gamma_gradient)[i] = Real(gamma * as<Real>(w.rstd)[i]);
            ((Real*)w.beta_gradient)[i] = Real(beta);
        }
    }

    // destination = the completed gradient in source.
    void correct() const {
        share(pixels(), [&](int64_t p) {
            for (int64_t i = 0; i < w.channels; i += L)
                store((Stored*)w.destination + p * w.destination_pitch + i,
                      corrected(p, i, int(std::min<int64_t>(L, w.channels - i))), int(w.channels - i));
        });
    }

    // The backward pass of average_pool: the source is the gradient of the pooled pixels, completed first.
    void average_pool_backward() const {
        const int64_t height = w.height / 2, width = w.width / 2;
        share(w.images * w.height, [&](int64_t row) {
            const int64_t y = row % w.height / 2;
            for (int64_t x = 0; x < w.width; ++x) {
                Stored* to = (Stored*)w.destination + (row * w.width + x) * w.destination_pitch;
                const int64_t p = (row / w.height * height + y) * width + x / 2;
                for (int64_t i = 0; i < w.channels; i += L) {
                    const int known = int(std::min<int64_t>(L, w.channels - i));
                    const bool outside = y >= height || x / 2 >= width;
                    store(to + i, outside ? Vector<Real>{} : Real(0.25) * corrected(p, i, known), known);
                }
            }
        });
    }

    // destination (images, channels) = mean over an image's pixels of ReLU(BN(input)).
    void mean_activation() const {
        share(w.images, [&](int64_t image) {
            const int64_t area = w.height * w.width;
            for (int64_t i = 0; i < w.channels; i += L) {
                const int known = int(std::min<int64_t>(L, w.channels - i));
                const auto [a, b, centre] = scales(i, known);
                Vector<Real> sum{};
                const Stored* from = as<Stored>(w.input) + image * area * w.input_pitch + i;
                for (int64_t p = 0; p < area; ++p) sum += relu<Real>(load(from + p * w.input_pitch, known) * a + b);
                store((Stored*)w.destination + image * w.destination_pitch + i, sum / Real(area), known);
            }
        });
    }

    // The backward pass of mean_activation: destination = scale · the gradient of the batch norm's output,
    // from the gradient of the mean (source).
    void mean_activation_backward() const {
        const int64_t area = w.height * w.width, registers = (w.channels + L - 1) / L;
        share(registers, [&](int64_t r) {
            const int64_t i = r * L;
            const int known = int(std::min<int64_t>(L, w.channels - i));
            const auto [a, b, centre] = scales(i, known);
            double gamma[L] = {}, beta[L] = {};
            for (int64_t image = 0; image < w.images; ++image) {
                Vector<Real> of_image_gamma{}, of_image_beta{};
                const Vector<Real> d = load(as<Stored>(w.source) + image * w.source_pitch + i, known) / Real(area);
                for (int64_t p = image * area; p < (image + 1) * area; ++p) {
                    const Vector<Real> x = load(as<Stored>(w.input) + p * w.input_pitch + i, known), zero{};
                    const Vector<Real> dy = x * a + b > zero ? d : zero;
                    of_image_beta += dy, of_image_gamma += dy * (x - centre);
                    store((Stored*)w.destination + p * w.destination_pitch + i, dy * a, known);
                }
                for (int l = 0; l < L; ++l) gamma[l] += of_image_gamma[l], beta[l] += of_image_beta[l];
            }
            for (int l = 0; l < known; ++l) {
                ((Real*)w.gamma_gradient)[i + l] = Real(gamma[l] * as<Real>(w.rstd)[i + l]);
                ((Real*)w.beta_gradient)[i + l] = Real(beta[l]);
            }
        });
    }

private:
    // The backward pass of max pooling for one row of the input and a register of channels.
    void unpool_row(int64_t row, int64_t i, double* sums) const {
        static thread_local Buffer<Real> memory;
        const int64_t height = (w.height + 1) / 2, width = (w.width + 1) / 2, y = row % w.height;
        const int known = int(std::min<int64_t>(L, w.channels - i));
        Real* gradient = memory.at_least(2 * width * L);  // of the one or two pooled rows that read this row
        const int64_t first = row / w.height * height, begin = y / 2, end = std::min((y + 1) / 2 + 1, height);
        for (int64_t v = begin; v < end; ++v)
            for (int64_t u = 0; u < width; ++u)
                store(gradient + ((v - begin) * width + u) * L, corrected((first + v) * width + u, i, known));
        const Scales of = scales(i, known);
        Vector<Real> gamma{}, beta{};
        for (int64_t x = 0; x < w.width; ++x) {
            Vector<Real> g{};
            for (int64_t v = begin; v < end; ++v)
                for (int64_t u = x / 2; u < std::min((x + 1) / 2 + 1, width); ++u) {
                    const uint8_t tap = uint8_t((y - 2 * v + 1) * 3 + x - 2 * u + 1);
                    const Vector<Real> d = load(gradient + ((v - begin) * width + u) * L);
                    g += chosen((first + v) * width + u, i, known, tap, d);
                }
            const int64_t pixel = row * w.width + x;
            const Vector<Real> value = load(as<Stored>(w.input) + pixel * w.input_pitch + i, known), zero{};
            const Vector<Real> dy = value * of.scale + of.shift > zero ? g : zero;
            beta += dy, gamma += dy * (value - of.centre);
            store((Stored*)w.destination + pixel * w.destination_pitch + i, dy * of.scale, known);
        }
        for (int l = 0; l < L; ++l) sums[l] += gamma[l], sums[L + l] += beta[l];
    }

    // A pooled pixel's gradient in the channels where `tap` was the largest, else 0.
    Vector<Real> chosen(int64_t p, int64_t i, int known, uint8_t tap, Vector<Real> gradient) const {
        const uint8_t* choice = (const uint8_t*)w.choice + p * w.channels + i;
#ifdef __AVX512BW__
        if constexpr (std::is_same_v<Real, float>) {
            const __m128i bytes = _mm_maskz_loadu_epi8((__mmask16)((1u << known) - 1), choice);
            const __mmask16 same = _mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8((char)tap));
            return (Vector<float>)_mm512_maskz_mov_ps(same, (__m512)gradient);
        }
#endif
        for (int l = 0; l < known; ++l)
            if (choice[l] != tap) gradient[l] = 0;
        return gradient;
    }

    struct Scales {
        Vector<Real> scale, shift, centre;
    };
    Scales scales(int64_t i, int known) const {
        const Vector<Real> centre = load(as<Real>(w.input_mean) + i, known);
        const Vector<Real> scale = load(as<Real>(w.gamma) + i, known) * load(as<Real>(w.rstd) + i, known);
        return {scale, load(as<Real>(w.beta) + i, known) - centre * scale, centre};
    }
};
