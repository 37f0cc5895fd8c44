// Mean and variance of maps, in one pass over values that were just computed.
#pragma once

#include <algorithm>
#include <vector>

#include "scratch.h"

// Sums over some of the pixels, in double. Within a row of pixels the first one is subtracted and sums are
// in Real, which keeps precision if the mean is large.
template <class Real>
class Moments {
public:
    void start(int64_t channels) {
        total_ = totals_.zeroed(2 * round_up(channels, lanes_of<Real>));
    }
    // Adds pixels of a register of maps, from `channel` on; `read(index)` returns one pixel.
    template <class Read>
    void measure(int64_t channel, int64_t pixels, Read read) {
        if (pixels == 0) return;
        const Vector<Real> about = read(0);
        Vector<Real> sum{}, squares{};
        for (int64_t i = 1; i < pixels; ++i) {
            const Vector<Real> distance = read(i) - about;
            sum += distance, squares += distance * distance;
        }
        double *sums = total_ + 2 * channel, *of_squares = sums + lanes_of<Real>, n = double(pixels);
        for (int l = 0; l < lanes_of<Real>; ++l) {
            const double a = about[l], s = sum[l];
            sums[l] += s + n * a, of_squares[l] += squares[l] + 2 * a * s + n * a * a;
        }
    }
    double sum(int64_t channel) const { return total_[place(channel)]; }
    double squares(int64_t channel) const { return total_[place(channel) + lanes_of<Real>]; }

private:
    static int64_t place(int64_t channel) {
        return channel / lanes_of<Real> * 2 * lanes_of<Real> + channel % lanes_of<Real>;
    }
    double* total_ = nullptr;
    Buffer<double> totals_;
};

// Mean and biased variance from the sums of all parts, which are added in their order.
template <class Real>
void finish_moments(const Moments<Real>* parts, int64_t count, int64_t channels, int64_t pixels, Real* mean,
                    Real* variance) {
    for (int64_t c = 0; c < channels; ++c) {
        double sum = 0, squares = 0;
        for (int64_t part = 0; part < count; ++part) sum += parts[part].sum(c), squares += parts[part].squares(c);
        const double centre = sum / double(pixels);
        mean[c] = Real(centre);
        variance[c] = Real(std::max(0.0, squares / double(pixels) - centre * centre));
    }
}
