// How images are divided into pieces that fit in a core's cache.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "vectors.h"

// A piece of work for one thread: consecutive rows of pixels.
//
// In scratch memory the pixel in row r and column c lies at position r * pitch + c. For a 3x3 convolution
// the pitch is even and leaves one or two zero pixels between rows, so that the left neighbour of a row's
// first pixel and the right neighbour of its last pixel are zero.
struct Strip {
    int64_t first;  // its first pixel, counted over all images
    int64_t rows;
    int64_t above, below;  // 1 if the same image has pixels there, else 0
};

class Strips {
public:
    static constexpr int64_t CACHE = 256 << 10;  // bytes; less than the second-level cache of common processors

    // bytes: scratch memory for each pixel.
    Strips(int64_t images, int64_t height, int64_t width, int size, int64_t bytes, int threads)
        : size_(size) {
        if (size == 1) {  // any number of pixels
            const int64_t pixels = images * height * width;
            const int64_t fit = std::clamp<int64_t>(CACHE / bytes / 64 * 64, 64, 256);
            width_ = pitch_ = std::clamp<int64_t>(round_up((pixels + threads - 1) / threads, 2), 2, fit);
            pixels_ = pixels, images_ = 1, height_ = (pixels + width_ - 1) / width_, rows_ = 1;
        } else {
            width_ = width, pitch_ = round_up(width + 1, 2);
            pixels_ = images * height * width, images_ = images, height_ = height;
            const int64_t fit = std::clamp<int64_t>(CACHE / (bytes * pitch_) - 2, 1, height);
            const int64_t share = std::max<int64_t>(1, images * height / (2 * threads));
            const int64_t strips = (height + std::min(fit, share) - 1) / std::min(fit, share);
            rows_ = (height + strips - 1) / strips;
        }
        per_image_ = (height_ + rows_ - 1) / rows_;
    }

    int64_t count() const { return images_ * per_image_; }
    int64_t width() const { return width_; }
    int64_t pitch() const { return pitch_; }
    int64_t positions() const { return rows_ * pitch_; }  // of a whole strip
    int64_t halo() const { return size_ == 1 ? 0 : 1; }

    Strip operator[](int64_t index) const {
        const int64_t row = index % per_image_ * rows_;
        const int64_t rows = std::min(rows_, height_ - row);
        const int64_t first = (index / per_image_ * height_ + row) * width_;
        return {first, rows, row > 0, row + rows < height_};
    }
    // Pixels in a row of a strip; only the very last row can be shorter.
    int64_t length(const Strip& strip, int64_t row) const {
        return std::min(width_, pixels_ - (strip.first + row * width_));
    }

private:
    int size_;
    int64_t width_, pitch_, height_, rows_, per_image_, images_, pixels_;
};

// Divides strips into portions for threads. Sums are kept for each portion, so that they do not depend on
// which thread computes it. A thread computes its own portions, then helps others, because cores are not
// equally fast.
class Portions {
public:
    Portions(const Strips& strips, int threads)
        : strips_(strips.count()), threads_(threads), next_(new Next[threads]) {
        const int64_t worthwhile = std::min(strips_, strips_ * strips.positions() / LEAST);
        each_ = std::clamp<int64_t>(worthwhile / threads, 1, 16);
        for (int t = 0; t < threads; ++t) next_[t].portion = t * each_;
    }
    int64_t count() const { return threads_ * each_; }

    // Calls work(portion, first strip, end of strips) until no portion is left.
    template <class Work>
    void each(int thread, Work work) {
        for (int i = 0; i < threads_; ++i) {
            const int owner = (thread + i) % threads_;
            for (int64_t p; (p = next_[owner].portion++) < (owner + 1) * each_;)
                work(p, strips_ * p / count(), strips_ * (p + 1) / count());
        }
    }

private:
    static constexpr int64_t LEAST = 1024;  // pixels of a portion: fewer are not worth separate sums
    struct alignas(LINE) Next {
        std::atomic<int64_t> portion;
    };
    int64_t strips_, each_;
    int threads_;
    std::unique_ptr<Next[]> next_;
};

// The pieces of work of one thread.
struct Share {
    int64_t begin, end;
};
// This thread's share of `count` pieces. OpenMP may start fewer threads than requested.
inline Share own_share(int64_t count) {
    const int64_t index = omp_get_thread_num(), team = omp_get_num_threads();
    return {count * index / team, count * (index + 1) / team};
}
