// Mean and variance of maps, in one pass over what was just computed.
#pragma once

#include <algorithm>
#include <vector>

#include "scratch.h"

// Sums over some of the pixels, in double. Those of a row of pixels are taken about its
// first one and in Real, so that a large mean costs no digits.
template <class Real>
class Moments {
public:
    void start(int64_t channels) {
        total_ = totals_.zeroed(2 * round_up(channels, lanes_of<Real>));
    }
    // A register of maps, from `channel` on, of pixels that `read(index)` gives.
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

// Mean and biased variance of `pixels` from the totals of all their parts, in this order.
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
