// BN-ReLU-convolution, 1x1 or 3x3, that reads some columns of one buffer of maps and writes columns of
// another, forwards and backwards.
//
// A buffer holds maps channels last: a row a pixel, pitch numbers a row. Forwards the normalised input
// and backwards its gradient live in a core's cache only, a strip at a time.
#pragma once

#include <omp.h>

#include "dropout.h"
#include "products.h"
#include "statistics.h"
#include "strips.h"

// As densenet_cli/kernels/cpu_engine.py fills it. `real` is float, or double for maps in double.
struct Convolution {
    int64_t images, height, width;
    int64_t in_channels, out_channels;
    int64_t size;  // 1 or 3
    int64_t threads;
    const void* input;  // maps, input_pitch numbers a pixel
    int64_t input_pitch;
    const void *mean, *rstd, *gamma, *beta;  // real (in_channels)
    const void* weight;                      // real
    int64_t weight_strides[4];               // of output, input, row, column; in numbers
    void* output;                            // maps
    int64_t output_pitch;
    double dropout;
    uint64_t seed;
    void *output_mean, *output_variance;  // real (out_channels), or null: not wanted
    // Backwards only. The gradient of the output is
    // output_gradient + slope·(output - output_mean) + offset, the last two parts unless slope is null.
    const void* output_gradient;  // maps, gradient_pitch numbers a pixel
    int64_t output_gradient_pitch;
    const void *slope, *offset;  // real (out_channels)
    void* input_gradient;        // maps, like input: Σ of scale·gradient over all who read them
    int64_t input_gradient_pitch;
    int64_t accumulate;     // whether others have read the input, and added to its gradient, before
    void* weight_gradient;  // real, strides as those of weight
    void *gamma_gradient, *beta_gradient;  // real (in_channels)
};

template <class Stored>
class NormalisedConvolution {
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    static constexpr int L = lanes_of<Real>;
    static constexpr int REGISTERS = GROUP / L;
    static constexpr int64_t AHEAD = 16;  // pixels, for fetching

    const Convolution& c;
    const int64_t inputs, outputs;
    const int threads, size, taps;

    struct Scratch {  // of one thread
        Buffer<Operand> left, transposed, input;
        Buffer<Real> out, sums;
        Buffer<double> gamma_beta;
        Moments<Real> moments;
    };
    static Scratch& scratch() {
        static thread_local Scratch mine;
        return mine;
    }

    template <class T>
    static const T* as(const void* pointer) {
        return static_cast<const T*>(pointer);
    }
    Real weight(int64_t out, int64_t in, int64_t row, int64_t column) const {
        const int64_t* s = c.weight_strides;
        return as<Real>(c.weight)[out * s[0] + in * s[1] + row * s[2] + column * s[3]];
    }
    Runs runs(int64_t channels, int64_t pitch) const {
        if (size == 1) return {1, channels, {0}};
        return {3, 3 * channels, {0, pitch * channels, 2 * pitch * channels}};
    }
    int64_t stride(int64_t channels) const { return size == 1 ? odd_lines<Operand>(channels) : channels; }
    Dropout dropout() const { return {c.dropout, c.seed}; }

    // y = scale·x + shift is the batch norm.
    void make_scales(Real* scale, Real* shift) const {
        const int64_t wide = round_up(inputs, GROUP);
        const Real *mean = as<Real>(c.mean), *rstd = as<Real>(c.rstd);
        for (int64_t i = 0; i < wide; ++i) {
            scale[i] = i < inputs ? as<Real>(c.gamma)[i] * rstd[i] : 0;
            shift[i] = i < inputs ? as<Real>(c.beta)[i] - mean[i] * scale[i] : 0;
        }
    }

    // Fills the left matrix of a product with a strip's pixels and those around it, which `put(pixel,
    // to)` writes; zeros stand for pixels outside the image, and behind the last one.
    template <class Put>
    void fill(Operand* left, const Strips& strips, const Strip& strip, int64_t channels, int64_t behind,
              Put put) const {
        const int64_t step = stride(channels), pitch = strips.pitch(), halo = strips.halo();
        auto zeros = [&](Operand* to, int64_t pixels) { std::memset((void*)to, 0, pixels * step * sizeof(Operand)); };
        if (halo) zeros(left, 1), left += step;
        for (int64_t r = -halo; r < strip.rows + halo; ++r, left += pitch * step) {
            const bool outside = (r < 0 && !strip.above) || (r == strip.rows && !strip.below);
            const int64_t length = outside ? 0 : strips.length(strip, r);
            const int64_t first = strip.first + r * strips.width();
            for (int64_t i = 0; i < length; ++i) put(first + i, left + i * step);
            zeros(left + length * step, pitch - length);
        }
        zeros(left, behind);
    }

public:
    explicit NormalisedConvolution(const Convolution& convolution)
        : c(convolution), inputs(c.in_channels), outputs(c.out_channels), threads(int(c.threads)),
          size(int(c.size)), taps(size * size) {}

    void forward() const {
        static thread_local Buffer<Operand> packed_memory;
        static thread_local Buffer<Real> scale_memory;
        const Strips strips(c.images, c.height, c.width, size, inputs * sizeof(Operand), threads);
        const Runs runs = this->runs(inputs, strips.pitch());
        Operand* packed = packed_memory.at_least(Engine::packed_size(runs, outputs));
        Engine::pack(packed, runs, outputs, [&](int64_t run, int64_t k, int64_t n) {
            return weight(n, k % inputs, run, k / inputs);
        });
        Real* scale = scale_memory.at_least(2 * round_up(inputs, GROUP));
        Real* shift = scale + round_up(inputs, GROUP);
        make_scales(scale, shift);
        std::vector<Moments<Real>*> parts(threads);
#pragma omp parallel num_threads(threads)
        {
            typename Engine::Session session;
            Scratch& mine = scratch();
            parts[omp_get_thread_num()] = &mine.moments;
            mine.moments.start(outputs);
            const Share share(strips.count(), omp_get_thread_num(), threads);
            for (int64_t s = share.begin; s < share.end; ++s)
                forward(strips, strips[s], runs, packed, scale, shift, mine);
        }
        if (c.output_mean)
            finish_moments(parts, outputs, c.images * c.height * c.width, (Real*)c.output_mean,
                           (Real*)c.output_variance);
    }

    void backward() const {
        static thread_local Buffer<Operand> packed_memory;
        static thread_local Buffer<Real> scale_memory;
        const int64_t bytes = 2 * outputs * sizeof(Operand) + GROUP * (sizeof(Real) + sizeof(Operand));
        const Strips strips(c.images, c.height, c.width, size, bytes, threads);
        const Runs runs = this->runs(outputs, strips.pitch());
        const int64_t groups = (inputs + GROUP - 1) / GROUP, packed_size = Engine::packed_size(runs, GROUP);
        Operand* packed = packed_memory.at_least(groups * packed_size);
        Real* scale = scale_memory.at_least(2 * groups * GROUP);
        Real* shift = scale + groups * GROUP;
        make_scales(scale, shift);
        std::vector<Scratch*> parts(threads);
#pragma omp parallel num_threads(threads)
        {
            typename Engine::Session session;
            Scratch& mine = scratch();
            parts[omp_get_thread_num()] = &mine;
            mine.sums.zeroed(groups * Engine::sums_size(outputs, taps));
            mine.gamma_beta.zeroed(2 * groups * GROUP);
            const Share own(groups, omp_get_thread_num(), threads);
            for (int64_t g = own.begin; g < own.end; ++g) pack_group(packed + g * packed_size, runs, g * GROUP);
#pragma omp barrier
            const Share share(strips.count(), omp_get_thread_num(), threads);
            for (int64_t s = share.begin; s < share.end; ++s)
                backward(strips, strips[s], runs, packed, scale, shift, mine);
#pragma omp barrier
            for (int64_t g = own.begin; g < own.end; ++g) reduce_group(parts, g * GROUP);
        }
    }

private:
    void forward(const Strips& strips, const Strip& strip, const Runs& runs, const Operand* packed,
                 const Real* scale, const Real* shift, Scratch& mine) const {
        const int64_t step = stride(inputs), pitch = strips.pitch(), wide = Engine::columns(outputs);
        const int64_t positions = size == 1 ? strips.length(strip, 0) : strip.rows * pitch;
        const int64_t in_halo = strips.positions() + strips.halo() * (2 * pitch + 1);
        Operand* left = mine.left.at_least((in_halo + 66) * step + GROUP);
        fill(left, strips, strip, inputs, 32 / step + 1, [&](int64_t pixel, Operand* to) {
            const Stored* from = as<Stored>(c.input) + pixel * c.input_pitch;
            fetch_soon(from + AHEAD * c.input_pitch, inputs);
            int64_t i = 0;
            for (; i + L <= inputs; i += L) store(to + i, relu<Real>(load(from + i) * load(scale + i) + load(shift + i)));
            if (i < step) {  // zeros follow the last channel
                const int rest = int(inputs - i);
                store(to + i, relu<Real>(load(from + i, rest) * load(scale + i) + load(shift + i)));
                for (i += L; i < step; i += L) store(to + i, Vector<Real>{});
            }
        });
        Real* out = mine.out.at_least((strips.positions() + 64) * wide);
        Engine::multiply(left, step, positions, runs, packed, outputs, out, wide);
        for (int64_t r = 0; r < strip.rows; ++r)
            put_output(strip.first + r * strips.width(), strips.length(strip, r), out + r * pitch * wide, wide, mine);
    }

    // Stores a row of pixels, `wide` numbers each, and measures them.
    void put_output(int64_t pixel, int64_t length, Real* out, int64_t wide, Scratch& mine) const {
        if (c.dropout > 0)
            for (int64_t i = 0; i < length; ++i)
                for (int64_t n = 0; n < outputs; ++n)
                    out[i * wide + n] *= Real(dropout().factor((pixel + i) * outputs + n));
        for (int64_t n = 0; n < outputs; n += L) {
            Stored* to = (Stored*)c.output + pixel * c.output_pitch + n;
            const int known = int(std::min<int64_t>(L, outputs - n));
            mine.moments.measure(n, length, [&](int64_t i) {
                const Vector<Real> maps = as_stored<Stored>(load(out + i * wide + n));
                store(to + i * c.output_pitch, maps, known);
                return maps;
            });
        }
    }

    // The transposed weights of GROUP input channels, turned by half a turn.
    void pack_group(Operand* packed, const Runs& runs, int64_t first) const {
        Engine::pack(packed, runs, GROUP, [&](int64_t run, int64_t k, int64_t j) -> Real {
            if (first + j >= inputs) return 0;
            return weight(k % outputs, first + j, size - 1 - run, size - 1 - k / outputs);
        });
    }

    void backward(const Strips& strips, const Strip& strip, const Runs& runs, const Operand* packed,
                  const Real* scale, const Real* shift, Scratch& mine) const {
        const int64_t step = stride(outputs), pitch = strips.pitch();
        const int64_t positions = size == 1 ? round_up(strips.length(strip, 0), 2) : strip.rows * pitch;
        const int64_t blocks = round_up(positions, 32), edge = strips.halo() * (2 * pitch + 2);
        const int64_t reached = round_up(blocks + edge, 32);  // by the shifted products
        const int64_t most = round_up(round_up(strips.positions(), 32) + edge, 32);
        const int64_t apart = odd_lines<Operand>(most);
        Operand* left = mine.left.at_least((most + 66) * step + GROUP);
        fill(left, strips, strip, outputs, reached - positions + 32 / step + 1,
             [&](int64_t pixel, Operand* to) { put_gradient(pixel, to, step); });
        const Operand* gradient = left;
        int64_t gradient_stride = step;
        if constexpr (Engine::transposes) {
            Operand* turned = mine.transposed.at_least(apart * Engine::columns(outputs));
            Engine::transpose(left, step, reached, outputs, turned, apart);
            gradient = turned, gradient_stride = apart;
        }
        int64_t shifts[9] = {0};
        for (int tap = 0; tap < taps && size == 3; ++tap) shifts[tap] = (2 - tap / 3) * pitch + 2 - tap % 3;
        Real* out = mine.out.at_least((strips.positions() + 64) * GROUP);
        Operand* input = mine.input.at_least(round_up(strips.positions(), 32) * GROUP);
        std::memset((void*)(input + positions * GROUP), 0, (blocks - positions) * GROUP * sizeof(Operand));
        for (int64_t first = 0, g = 0; first < inputs; first += GROUP, ++g) {
            Engine::multiply(left, step, positions, runs, packed + g * Engine::packed_size(runs, GROUP), GROUP,
                             out, GROUP);
            for (int64_t r = 0; r < strip.rows; ++r) {
                const int64_t at = r * pitch * GROUP, pixel = strip.first + r * strips.width();
                const int64_t length = strips.length(strip, r);
                if (first + GROUP <= inputs)
                    through_norm<true>(pixel, length, pitch, first, scale, shift, out + at, input + at, mine,
                                       strip.rows * strips.width());
                else
                    through_norm<false>(pixel, length, pitch, first, scale, shift, out + at, input + at, mine,
                                       strip.rows * strips.width());
            }
            Engine::add_weight_gradient(gradient, gradient_stride, input, blocks, outputs, shifts, taps,
                                        mine.sums.at_least(0) + g * Engine::sums_size(outputs, taps));
        }
    }

    // The gradient of the convolution's output, `step` numbers a pixel.
    void put_gradient(int64_t pixel, Operand* to, int64_t step) const {
        const Stored* sum = as<Stored>(c.output_gradient) + pixel * c.output_gradient_pitch;
        const Stored* maps = as<Stored>(c.output) + pixel * c.output_pitch;
        for (int64_t n = 0; n < step; n += L) {
            const int known = int(std::min<int64_t>(L, outputs - n));
            Vector<Real> g = known > 0 ? load(sum + n, known) : Vector<Real>{};
            if (c.slope && known > 0) {
                const Vector<Real> distance = load(maps + n, known) - load(as<Real>(c.output_mean) + n, known);
                g += load(as<Real>(c.slope) + n, known) * distance + load(as<Real>(c.offset) + n, known);
            }
            store(to + n, g);
        }
        if (c.dropout > 0) drop(pixel, to);
    }
    void drop(int64_t pixel, Operand* to) const {
        for (int64_t n = 0; n < outputs; ++n)
            store(to + n, broadcast(Real(dropout().factor(pixel * outputs + n))) * load(to + n, 1), 1);
    }

    // A row of pixels and GROUP channels of the input: from the gradient of the activation (out) to
    // that of the maps; and the activation itself, once more, for the weight's gradient.
    template <bool whole>
    void through_norm(int64_t pixel, int64_t length, int64_t pitch, int64_t first, const Real* scale,
                      const Real* shift, const Real* out, Operand* input, Scratch& mine,
                      int64_t strip_pixels) const {
        const int channels = int(inputs - first);
        const Stored* maps = as<Stored>(c.input) + pixel * c.input_pitch + first;
        Stored* gradient = (Stored*)c.input_gradient + pixel * c.input_gradient_pitch + first;
        const Real* mean = as<Real>(c.mean) + first;
        Vector<Real> a[REGISTERS], b[REGISTERS], centre[REGISTERS], beta[REGISTERS], gamma[REGISTERS];
        for (int v = 0; v < REGISTERS; ++v) {
            a[v] = load(scale + first + v * L), b[v] = load(shift + first + v * L);
            centre[v] = whole ? load(mean + v * L) : load(mean + v * L, std::max(0, channels - v * L));
            beta[v] = gamma[v] = Vector<Real>{};
        }
        const bool accumulate = c.accumulate;
        auto step = [&](int v, const Stored* x_from, const Real* d, Stored* sum) {
            const int known = whole ? L : std::max(0, channels - v * L);
            const Vector<Real> x = whole ? load(x_from + v * L) : load(x_from + v * L, known);
            const Vector<Real> y = x * a[v] + b[v], zero{};
            const Vector<Real> dy = y > zero ? load(d + v * L) : zero;
            beta[v] += dy;
            gamma[v] += dy * (x - centre[v]);
            Vector<Real> p = dy * a[v];
            if (accumulate) p += whole ? load(sum + v * L) : load(sum + v * L, known);
            if (whole) store(sum + v * L, p);
            else store(sum + v * L, p, known);
            return relu<Real>(y);
        };
        for (int64_t i = 0; i < pitch; i += 2) {
            const Stored* x = maps + i * c.input_pitch;
            Stored* sum = gradient + i * c.input_gradient_pitch;
            for (int64_t later = strip_pixels; later < strip_pixels + 2; ++later) {
                fetch_soon(x + later * c.input_pitch, GROUP);
                fetch_soon(sum + later * c.input_gradient_pitch, GROUP);
            }
            for (int v = 0; v < REGISTERS; ++v) {
                Vector<Real> even{}, odd{};
                if (i < length) even = step(v, x, out + i * GROUP, sum);
                if (i + 1 < length)
                    odd = step(v, x + c.input_pitch, out + (i + 1) * GROUP, sum + c.input_gradient_pitch);
                if constexpr (Engine::transposes) {
                    Engine::put_pair(input + i * GROUP + 2 * v * L, (__m512)even, (__m512)odd);
                } else {
                    store(input + i * GROUP + v * L, even);
                    store(input + (i + 1) * GROUP + v * L, odd);
                }
            }
        }
        double* total = mine.gamma_beta.at_least(0) + 2 * first;
        for (int v = 0; v < REGISTERS; ++v)
            for (int l = 0; l < L; ++l) total[v * L + l] += gamma[v][l], total[GROUP + v * L + l] += beta[v][l];
    }

    // Adds up what the threads found for GROUP input channels.
    void reduce_group(const std::vector<Scratch*>& parts, int64_t first) const {
        const int64_t rows = Engine::sums_size(outputs, taps) / (taps * GROUP);
        const int64_t from = first / GROUP * Engine::sums_size(outputs, taps);
        const int64_t* s = c.weight_strides;
        for (int64_t j = 0; j < std::min<int64_t>(GROUP, inputs - first); ++j) {
            double gamma = 0, beta = 0;
            for (Scratch* part : parts) {
                const double* total = part->gamma_beta.at_least(0) + 2 * first;
                gamma += total[j], beta += total[GROUP + j];
            }
            ((Real*)c.gamma_gradient)[first + j] = Real(gamma * as<Real>(c.rstd)[first + j]);
            ((Real*)c.beta_gradient)[first + j] = Real(beta);
        }
        for (int tap = 0; tap < taps; ++tap)
            for (int64_t n = 0; n < outputs; ++n)
                for (int64_t j = 0; j < std::min<int64_t>(GROUP, inputs - first); ++j) {
                    Real sum = 0;
                    for (Scratch* part : parts) sum += part->sums.at_least(0)[from + (tap * rows + n) * GROUP + j];
                    ((Real*)c.weight_gradient)[n * s[0] + (first + j) * s[1] + tap / 3 * s[2] + tap % 3 * s[3]] = sum;
                }
    }
};
