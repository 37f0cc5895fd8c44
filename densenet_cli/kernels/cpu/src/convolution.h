// Batch norm, ReLU and convolution, 1x1 or 3x3, with its backward pass. It reads columns of one buffer of
// maps and writes columns of another one.
//
// The normalised input and its gradient are computed a strip at a time and stay in a core's cache.
#pragma once

#include <omp.h>

#include <cmath>

#include "calls.h"
#include "dropout.h"
#include "products.h"
#include "scratch.h"
#include "statistics.h"
#include "strips.h"

template <class Stored>
class NormalisedConvolution {
    using Real = RealOf<Stored>;
    using Engine = typename EngineOf<Stored>::type;
    using Operand = typename Engine::Operand;
    using Self = NormalisedConvolution;
    static constexpr int L = lanes_of<Real>;
    static constexpr int REGISTERS = GROUP / L;
    static constexpr int64_t AHEAD = 16;  // pixels between prefetching and use

    const int threads;

    struct Scratch {  // of one thread
        Buffer<Operand> left, transposed, input;
        Buffer<Real> out;
    };
    static Scratch& scratch() {
        static thread_local Scratch mine;
        return mine;
    }
    struct Sums {  // over one portion of the pixels
        Buffer<Real> weight;
        Buffer<double> gamma_beta;
    };

    // The place of the weights of all inputs for one output and one pixel of the kernel.
    int64_t weight(int64_t out, int64_t row, int64_t column) const {
        return ((out * size + row) * size + column) * inputs;
    }
    Dropout dropout() const { return {c.dropout, c.seed}; }

    Real rstd(int64_t channel) const { return 1 / std::sqrt(as<Real>(c.variance)[channel] + Real(c.epsilon)); }

    // Fills the left matrix of a product with the pixels of a strip and those around it, which
    // `put(pixel, to)` writes. Pixels outside the image are zero. Zeros follow, up to `least` positions
    // and as many numbers more as a tile can read beyond them.
    template <class Put>
    void fill(Operand* left, const Strips& strips, const Strip& strip, int64_t channels, int64_t least,
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
        const int64_t filled = halo + (strip.rows + 2 * halo) * pitch;
        zeros(left, std::max<int64_t>(0, least - filled) + 32 / step + 1);
    }

public:
    const Convolution& c;
    const int64_t inputs, outputs;
    const int size;

    explicit NormalisedConvolution(const Convolution& convolution)
        : threads(int(convolution.threads)), c(convolution), inputs(c.in_channels), outputs(c.out_channels),
          size(int(c.size)) {}

    Runs runs(int64_t channels, int64_t pitch) const {
        if (size == 1) return {1, channels, {0}};
        return {3, 3 * channels, {0, pitch * channels, 2 * pitch * channels}};
    }
    int64_t stride(int64_t channels) const { return size == 1 ? odd_lines<Operand>(channels) : channels; }

    // The batch norm as y = scale·x + shift; both are zero after the last channel, up to a multiple of GROUP.
    void make_scales(Real* scale, Real* shift) const {
        const int64_t wide = round_up(inputs, GROUP);
        for (int64_t i = 0; i < wide; ++i) {
            scale[i] = i < inputs ? as<Real>(c.gamma)[i] * rstd(i) : 0;
            shift[i] = i < inputs ? as<Real>(c.beta)[i] - as<Real>(c.mean)[i] * scale[i] : 0;
        }
    }

    // Writes ReLU(batch norm) of one pixel, then zeros up to stride(inputs); whole registers are written.
    void normalise(int64_t pixel, const Real* scale, const Real* shift, Operand* to) const {
        const Stored* from = as<Stored>(c.input) + pixel * c.input_pitch;
        fetch_soon(from + AHEAD * c.input_pitch, inputs);
        const int64_t step = stride(inputs);
        int64_t i = 0;
        for (; i + L <= inputs; i += L) store(to + i, relu<Real>(load(from + i) * load(scale + i) + load(shift + i)));
        if (i < inputs) {
            const int rest = int(inputs - i);
            store(to + i, relu<Real>(load(from + i, rest) * load(scale + i) + load(shift + i)));
            i += L;
        }
        for (; i < step; i += L) store(to + i, Vector<Real>{});
    }

    // The weights are packed as the right matrix in pieces, in any order; `column(n)` points to the numbers of
    // output n, which are those of the weight or others in their order.
    int64_t pieces(const Runs& runs) const { return Engine::columns(outputs) / 16 * runs.count; }
    template <class Column>
    void pack(Operand* packed, const Runs& runs, int64_t piece, Column column) const {
        const int64_t tiles = Engine::columns(outputs) / 16, run = piece / tiles;
        Engine::pack_columns(packed, runs, int(run), outputs, piece % tiles * 16, outputs,
                             [&](int64_t n) { return column(n) + run * runs.depth; });
    }
    const Real* weights(int64_t output) const { return as<Real>(c.weight) + weight(output, 0, 0); }

    void forward() const {
        static thread_local Buffer<Operand> packed_memory;
        static thread_local Buffer<Real> scale_memory;
        static thread_local std::vector<Moments<Real>> moments_memory;
        const Strips strips(c.images, c.height, c.width, size, inputs * sizeof(Operand), threads);
        Portions portions(strips, threads);
        const Runs runs = this->runs(inputs, strips.pitch());
        Operand* packed = packed_memory.at_least(Engine::packed_size(runs, outputs));
        Real* scale = scale_memory.at_least(2 * round_up(inputs, GROUP));
        Real* shift = scale + round_up(inputs, GROUP);
        make_scales(scale, shift);
        std::vector<Moments<Real>>& moments = at_least(moments_memory, portions.count());
#pragma omp parallel num_threads(threads)
        {
            typename Engine::Session session;
            const Share own = own_share(pieces(runs));
            for (int64_t i = own.begin; i < own.end; ++i)
                pack(packed, runs, i, [&](int64_t n) { return weights(n); });
#pragma omp barrier
            portions.each(omp_get_thread_num(), [&](int64_t portion, int64_t begin, int64_t end) {
                moments[portion].start(outputs);
                for (int64_t s = begin; s < end; ++s)
                    forward(strips, strips[s], runs, packed, scale, shift, scratch(), moments[portion]);
            });
        }
        if (c.output_mean)
            finish_moments(moments.data(), portions.count(), outputs, c.images * c.height * c.width,
                           (Real*)c.output_mean, (Real*)c.output_variance);
    }

    void backward() const {
        static thread_local Buffer<Operand> packed_memory;
        static thread_local Buffer<Real> scale_memory;
        static thread_local std::vector<Sums> sums_memory;
        const int64_t bytes = 2 * outputs * sizeof(Operand) + GROUP * (sizeof(Real) + sizeof(Operand));
        const Strips strips(c.images, c.height, c.width, size, bytes, threads);
        Portions portions(strips, threads);
        const Runs runs = this->runs(outputs, strips.pitch());
        const int64_t groups = (inputs + GROUP - 1) / GROUP, packed_size = Engine::packed_size(runs, GROUP);
        const int64_t sums_size = runs.count * Engine::rows(runs.depth) * GROUP;
        Operand* packed = packed_memory.at_least(groups * packed_size);
        Real* scale = scale_memory.at_least(2 * groups * GROUP);
        Real* shift = scale + groups * GROUP;
        make_scales(scale, shift);
        std::vector<Sums>& sums = at_least(sums_memory, portions.count());
#pragma omp parallel num_threads(threads)
        {
            typename Engine::Session session;
            const Share own = own_share(groups);
            for (int64_t g = own.begin; g < own.end; ++g) pack_group(packed + g * packed_size, runs, g * GROUP);
#pragma omp barrier
            portions.each(omp_get_thread_num(), [&](int64_t portion, int64_t begin, int64_t end) {
                sums[portion].weight.zeroed(groups * sums_size);
                sums[portion].gamma_beta.zeroed(2 * groups * GROUP);
                for (int64_t s = begin; s < end; ++s)
                    backward(strips, strips[s], runs, packed, scale, shift, scratch(), sums[portion]);
            });
#pragma omp barrier
            for (int64_t g = own.begin; g < own.end; ++g)
                reduce_group(sums.data(), portions.count(), runs, g * GROUP);
        }
    }

private:
    void forward(const Strips& strips, const Strip& strip, const Runs& runs, const Operand* packed,
                 const Real* scale, const Real* shift, Scratch& mine, Moments<Real>& moments) const {
        const int64_t step = stride(inputs), pitch = strips.pitch(), wide = Engine::columns(outputs);
        const int64_t positions = size == 1 ? strips.length(strip, 0) : strip.rows * pitch;
        const int64_t in_halo = strips.positions() + strips.halo() * (2 * pitch + 1);
        Operand* left = mine.left.at_least((in_halo + 66) * step + GROUP);
        fill(left, strips, strip, inputs, 0,
             [&](int64_t pixel, Operand* to) { normalise(pixel, scale, shift, to); });
        Real* out = mine.out.at_least((strips.positions() + 64) * wide);
        Engine::multiply(left, step, positions, runs, packed, outputs, out, wide, outputs);
        for (int64_t r = 0; r < strip.rows; ++r)
            put_output(strip.first + r * strips.width(), strips.length(strip, r), out + r * pitch * wide, wide, moments);
    }

    // Stores a row of pixels, which have `wide` numbers each, and measures them.
    void put_output(int64_t pixel, int64_t length, Real* out, int64_t wide, Moments<Real>& moments) const {
        if (c.dropout > 0)
            for (int64_t i = 0; i < length; ++i)
                for (int64_t n = 0; n < outputs; ++n)
                    out[i * wide + n] *= Real(dropout().factor((pixel + i) * outputs + n));
        for (int64_t n = 0; n < outputs; n += L) {
            Stored* to = (Stored*)c.output + pixel * c.output_pitch + n;
            const int known = int(std::min<int64_t>(L, outputs - n));
            moments.measure(n, length, [&](int64_t i) {
                fetch_soon(to + (i + AHEAD) * c.output_pitch, known);
                const Vector<Real> maps = as_stored<Stored>(load(out + i * wide + n));
                store(to + i * c.output_pitch, maps, known);
                return maps;
            });
        }
    }

    // Packs the transposed weights of GROUP input channels, rotated by 180 degrees.
    void pack_group(Operand* packed, const Runs& runs, int64_t first) const {
        for (int run = 0; run < runs.count; ++run)
            for (int64_t n = 0; n < GROUP; n += 16)
                Engine::pack_rows(packed, runs, run, GROUP, n, inputs - first, [&](int64_t k) {
                    return as<Real>(c.weight) + weight(k % outputs, size - 1 - run, size - 1 - k / outputs) + first;
                });
    }

    void backward(const Strips& strips, const Strip& strip, const Runs& runs, const Operand* packed,
                  const Real* scale, const Real* shift, Scratch& mine, Sums& sums) const {
        const int64_t step = stride(outputs), pitch = strips.pitch();
        const int64_t positions = size == 1 ? round_up(strips.length(strip, 0), 2) : strip.rows * pitch;
        // The positions that the products for the weight read.
        const auto reach = [&](int64_t length) { return round_up(length + 2 * strips.halo() * pitch + 32, 32); };
        const int64_t reached = reach(positions), most = reach(strips.positions());
        const int64_t apart = odd_lines<Operand>(most);
        Operand* left = mine.left.at_least((most + 66) * step + GROUP);
        fill(left, strips, strip, outputs, reached + 2 * strips.halo(),
             [&](int64_t pixel, Operand* to) { put_gradient(pixel, to, step); });
        const Operand* gradient = left;
        int64_t gradient_stride = step;
        if constexpr (Engine::transposes) {
            Operand* turned = mine.transposed.at_least(apart * Engine::rows(runs.depth));
            Engine::transpose(left, step, reached, runs.depth, turned, apart);
            gradient = turned, gradient_stride = apart;
        }
        Real* out = mine.out.at_least((strips.positions() + 64) * GROUP);
        Operand* input = mine.input.at_least((strips.positions() + 2 * Engine::MARGIN) * GROUP) + Engine::MARGIN * GROUP;
        std::memset((void*)(input + positions * GROUP), 0, Engine::MARGIN * GROUP * sizeof(Operand));
        for (int64_t first = 0, g = 0; first < inputs; first += GROUP, ++g) {
            const int64_t channels = std::min<int64_t>(GROUP, inputs - first);
            Engine::multiply(left, step, positions, runs, packed + g * Engine::packed_size(runs, GROUP), GROUP,
                             out, GROUP, channels);
            const bool whole = channels == GROUP;
            const auto through = whole ? (c.accumulate ? &Self::through_norm<true, true> : &Self::through_norm<true, false>)
                                       : (c.accumulate ? &Self::through_norm<false, true> : &Self::through_norm<false, false>);
            for (int64_t r = 0; r < strip.rows; ++r) {
                const int64_t at = r * pitch * GROUP, pixel = strip.first + r * strips.width();
                (this->*through)(pixel, strips.length(strip, r), pitch, first, scale, shift, out + at, input + at,
                                 strip.rows * strips.width(), sums.gamma_beta.at_least(0));
            }
            Engine::add_weight_gradient(gradient, gradient_stride, input, positions, runs, pitch,
                                        sums.weight.at_least(0) + g * runs.count * Engine::rows(runs.depth) * GROUP,
                                        channels);
        }
    }

    // Writes the completed gradient of the convolution's output at one pixel, `step` numbers.
    void put_gradient(int64_t pixel, Operand* to, int64_t step) const {
        const Stored* sum = as<Stored>(c.output_gradient) + pixel * c.output_gradient_pitch;
        const Stored* maps = as<Stored>(c.output) + pixel * c.output_pitch;
        fetch_soon(sum + AHEAD * c.output_gradient_pitch, outputs);
        if (c.slope) fetch_soon(maps + AHEAD * c.output_pitch, outputs);
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

    // The backward pass of ReLU and batch norm for GROUP channels of the input.
    template <bool whole, bool accumulate>
    struct Backward {
        Vector<Real> scale[REGISTERS], shift[REGISTERS], mean[REGISTERS];
        Vector<Real> beta[REGISTERS] = {}, gamma[REGISTERS] = {};  // sums of dy and dy·(x - mean)
        int known[REGISTERS];                                      // channels in each register, unless whole

        // Writes the gradient of the map x to sum, or adds it, from the gradient d of its activation. Returns
        // the activation.
        Vector<Real> operator()(int v, const Stored* x_from, const Real* d, Stored* sum) {
            const int count = whole ? L : known[v];
            const Vector<Real> x = load(x_from + v * L, count), y = x * scale[v] + shift[v], zero{};
            const Vector<Real> dy = y > zero ? load(d + v * L) : zero;
            beta[v] += dy;
            gamma[v] += dy * (x - mean[v]);
            if constexpr (accumulate) store(sum + v * L, load(sum + v * L, count) + dy * scale[v], count);
            else store(sum + v * L, dy * scale[v], count);
            return relu<Real>(y);
        }
    };

    // Computes the gradient of the maps from that of the activation (out), for a row of pixels and GROUP
    // channels from `first` on, and writes the activation to `input`, for the gradient of the weight.
    // Prefetches the pixels `later` ahead.
    template <bool whole, bool accumulate>
    void through_norm(int64_t pixel, int64_t length, int64_t pitch, int64_t first, const Real* scale,
                      const Real* shift, const Real* out, Operand* input, int64_t later,
                      double* gamma_beta) const {
        Backward<whole, accumulate> back;
        for (int v = 0; v < REGISTERS; ++v) {
            back.known[v] = int(std::clamp<int64_t>(inputs - first - v * L, 0, L));
            back.scale[v] = load(scale + first + v * L), back.shift[v] = load(shift + first + v * L);
            back.mean[v] = load(as<Real>(c.mean) + first + v * L, back.known[v]);
        }
        const int used = whole ? REGISTERS : int(std::min<int64_t>(GROUP, inputs - first) + L - 1) / L;
        const int64_t step = c.input_pitch, sum_step = c.input_gradient_pitch;
        const Stored* x = as<Stored>(c.input) + pixel * step + first;
        Stored* sum = (Stored*)c.input_gradient + pixel * sum_step + first;
        auto put = [&](int v, Vector<Real> even, Vector<Real> odd) {
            if constexpr (Engine::transposes) Engine::put_pair(input + 2 * v * L, even, odd);
            else store(input + v * L, even), store(input + GROUP + v * L, odd);
        };
        int64_t i = 0;
        for (; i + 2 <= length; i += 2) {
            for (int64_t p = later; p < later + 2; ++p)
                fetch_soon(x + p * step, GROUP), fetch_soon(sum + p * sum_step, GROUP);
            for (int v = 0; v < used; ++v) {
                const Vector<Real> even = back(v, x, out, sum);
                put(v, even, back(v, x + step, out + GROUP, sum + sum_step));
            }
            x += 2 * step, sum += 2 * sum_step, out += 2 * GROUP, input += 2 * GROUP;
        }
        for (; i < pitch; i += 2, input += 2 * GROUP)  // a last odd pixel, and the zeros between rows
            for (int v = 0; v < used; ++v)
                put(v, i < length ? back(v, x, out, sum) : Vector<Real>{}, Vector<Real>{});
        double* total = gamma_beta + 2 * first;
        for (int v = 0; v < REGISTERS; ++v)
            for (int l = 0; l < L; ++l)
                total[v * L + l] += back.gamma[v][l], total[GROUP + v * L + l] += back.beta[v][l];
    }

    // Stores the gradients of a channel's γ and β, and adds this reader's part to the slope and offset of the
    // input's gradient: with x̂ = (x - mean)·rstd, the gradient of a batch norm's input is
    // γ·rstd·(dy - mean(dy) - x̂·mean(dy·x̂)), and its first term has been added already.
    void note_reader(int64_t channel, Real gamma_gradient, Real beta_gradient) const {
        ((Real*)c.gamma_gradient)[channel] = gamma_gradient;
        ((Real*)c.beta_gradient)[channel] = beta_gradient;
        if (!c.input_slope) return;
        const Real mean_scale = as<Real>(c.gamma)[channel] * rstd(channel) / Real(c.images * c.height * c.width);
        ((Real*)c.input_offset)[channel] -= mean_scale * beta_gradient;
        ((Real*)c.input_slope)[channel] -= mean_scale * rstd(channel) * gamma_gradient;
    }

    // Adds up the sums of all portions for GROUP input channels.
    void reduce_group(Sums* parts, int64_t count, const Runs& runs, int64_t first) const {
        const int64_t rows = Engine::rows(runs.depth), from = first / GROUP * runs.count * rows * GROUP;
        const int known = int(std::min<int64_t>(GROUP, inputs - first));
        for (int j = 0; j < known; ++j) {
            double gamma = 0, beta = 0;
            for (int64_t part = 0; part < count; ++part) {
                const double* total = parts[part].gamma_beta.at_least(0) + 2 * first;
                gamma += total[j], beta += total[GROUP + j];
            }
            note_reader(first + j, Real(gamma * rstd(first + j)), Real(beta));
        }
        for (int run = 0; run < runs.count; ++run)
            for (int64_t row = 0; row < runs.depth; ++row)
                for (int j = 0; j < known; j += L) {
                    Vector<Real> sum{};
                    for (int64_t part = 0; part < count; ++part)
                        sum += load(parts[part].weight.at_least(0) + from + (run * rows + row) * GROUP + j);
                    const int64_t place = weight(row % outputs, size - 1 - run, size - 1 - row / outputs) + first + j;
                    store((Real*)c.weight_gradient + place, sum, known - j);
                }
    }
};
