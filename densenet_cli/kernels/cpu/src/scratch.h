// Memory that a thread keeps from call to call.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "vectors.h"

// Aligned memory that only grows. New memory is zero; old memory keeps its content.
template <class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }

    T* at_least(int64_t count) {
        if (count > count_) {
            std::free(data_);
            count_ = count;
            data_ = static_cast<T*>(std::aligned_alloc(64, round_up(count * sizeof(T), 64)));
            if (!data_) throw std::bad_alloc();
            std::memset((void*)data_, 0, count * sizeof(T));
        }
        return data_;
    }
    T* zeroed(int64_t count) {
        std::memset((void*)at_least(count), 0, count * sizeof(T));
        return data_;
    }

private:
    T* data_ = nullptr;
    int64_t count_ = 0;
};

// At least `count` things that hold buffers.
template <class T>
std::vector<T>& at_least(std::vector<T>& things, int64_t count) {
    if (int64_t(things.size()) < count) things = std::vector<T>(count);
    return things;
}
