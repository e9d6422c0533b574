// Runs CUDA C++ on the CPU, one block at a time, so that numbers, bounds and barriers can be checked without a GPU.
// Every CUDA thread is a fiber; a fiber gives way only where the program says so: at barriers, warp operations, its end.
// Checked on the way: races on __shared__ arrays, diverging barriers, lanes that never come, impossible launches.
// Not covered: races in global memory and between blocks, inline PTX, asynchronous copies, tensor cores, clusters, timing.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "vector_functions.h"
#include "vector_types.h"

namespace emu {

constexpr int kWarp = 32;
constexpr const char* kMasks = "lanes of a warp meet with different masks: %08x waits for a lane that went elsewhere";
constexpr size_t kStack = 96 * 1024, kMaxShared = 227 * 1024, kPlainShared = 48 * 1024;

enum class State { ready, barrier, warp, done };

struct Meeting {  // of the lanes that one mask names, in one warp operation
    uint32_t mask, arrived = 0, elsewhere = 0;  // elsewhere: named, but met others while this waited
    unsigned char values[kWarp][16];            // NaN where no lane was
};

struct Thread {
    ucontext_t context;
    uint3 index;
    State state = State::done;
    int warp = 0, lane = 0, site = 0;
    uint64_t passed = 0;               // block barriers
    std::shared_ptr<Meeting> meeting;  // the last one: its values are read until the next
    uint64_t clock[kWarp];             // how many meetings of each lane of the warp lie before what this one does now
};

struct Warp {
    uint32_t live = 0;
    std::vector<std::shared_ptr<Meeting>> waiting;  // masks that share no lane can wait at once
};

struct Remembered {  // a __shared__ object: filled with NaN when a block begins
    virtual void poison() = 0;
    virtual size_t bytes() const = 0;
    virtual ~Remembered() = default;
};

struct Machine {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<Remembered*> shared;
    std::vector<unsigned char> dynamic;
    std::unique_ptr<char[]> stacks;
    size_t stack_count = 0;
    ucontext_t scheduler;
    Thread* current = nullptr;
    dim3 grid, block;
    uint3 block_index;
    uint64_t block_number = 0;
    size_t allowed_dynamic = kPlainShared;
    int barrier_votes = 0, barrier_result = 0;
    bool failed = false;
    char failure[512] = "";
    std::function<void()> body;
    std::mt19937 draw{20};
};

inline Machine& machine() {
    static Machine* it = new Machine();  // outlives every static of a kernel
    return *it;
}

inline void back_to_scheduler() {
    Machine& m = machine();
    swapcontext(&m.current->context, &m.scheduler);
}

inline bool note(const char* format, ...) {  // the first failure is kept
    Machine& m = machine();
    if (m.failed) return false;
    m.failed = true;
    va_list rest;
    va_start(rest, format);
    vsnprintf(m.failure, sizeof m.failure, format, rest);
    va_end(rest);
    return true;
}

template <class... Rest>
[[noreturn]] inline void fail(const char* format, Rest... rest) {  // from inside a fiber: never comes back
    note(format, rest...);
    machine().current->state = State::done;
    back_to_scheduler();
    abort();
}

// ---- barriers and warp operations

inline int barrier(int site, int vote = 0) {
    Machine& m = machine();
    m.current->state = State::barrier;
    m.current->site = site;
    m.barrier_votes += vote;
    back_to_scheduler();
    return m.barrier_result;
}

// Leaves a value for the other lanes of `mask` and waits until all are there.
inline const Meeting& meet(uint32_t mask, const void* value, size_t size) {
    Machine& m = machine();
    Thread& self = *m.current;
    Warp& warp = m.warps[self.warp];
    const uint32_t own = 1u << self.lane;
    if (!(mask & own)) fail("a lane takes part in a warp operation whose mask leaves it out (lane %d)", self.lane);
    self.meeting = nullptr;
    for (const auto& one : warp.waiting) {
        if (one->mask == mask) self.meeting = one;
        else one->elsewhere |= one->mask & own;
    }
    if (!self.meeting) {
        self.meeting = warp.waiting.emplace_back(std::make_shared<Meeting>());
        self.meeting->mask = mask;
        for (const auto& one : warp.waiting)
            if (one != self.meeting) self.meeting->elsewhere |= one->arrived & mask;
        memset(self.meeting->values, 0xff, sizeof self.meeting->values);
    }
    if (size) memcpy(self.meeting->values[self.lane], value, size);
    self.meeting->arrived |= own;
    ++self.clock[self.lane];
    self.state = State::warp;
    back_to_scheduler();
    return *self.meeting;
}

template <class T>
inline T exchange(uint32_t mask, T value, int from, int low, int high) {
    static_assert(sizeof(T) <= 16, "too wide for a shuffle");
    const Meeting& meeting = meet(mask, &value, sizeof value);
    if (from < low || from > high) return value;
    T got;
    memcpy(&got, meeting.values[from], sizeof got);
    return got;
}

inline int lane() { return machine().current->lane; }

// ---- shared memory

template <class T>
struct Cell {  // who touched an element of a shared array last, and between which barriers
    T value;
    int writer = -1, reader = -1;
    uint64_t wrote_block = 0, wrote_clock = 0, read_block = 0, read_clock = 0;
    bool many_readers = false;
};

// Whether nothing lies between this moment and what another thread did after so many barriers and meetings of its own.
inline bool unordered(int other, uint64_t barriers, uint64_t meetings) {
    Machine& m = machine();
    const Thread& self = *m.current;
    if (other < 0 || other == &self - m.threads.data() || barriers != self.passed) return false;
    const Thread& before = m.threads[other];
    return before.warp != self.warp || self.clock[before.lane] <= meetings;
}

template <class T>
struct Touch {
    Cell<T>* cell;
    const char* name;
    size_t at;

    T read() const {
        Machine& m = machine();
        const int self = m.current - m.threads.data();
        if (unordered(cell->writer, cell->wrote_block, cell->wrote_clock))
            fail("race on shared %s[%zu]: thread %d reads what thread %d wrote with no barrier between", name, at, self, cell->writer);
        cell->many_readers = cell->reader >= 0 && cell->reader != self && cell->read_block == m.current->passed &&
                             (cell->many_readers || unordered(cell->reader, cell->read_block, cell->read_clock));
        cell->reader = self, cell->read_block = m.current->passed, cell->read_clock = m.current->clock[m.current->lane];
        return cell->value;
    }
    void write(T value) const {
        Machine& m = machine();
        const int self = m.current - m.threads.data();
        if (unordered(cell->writer, cell->wrote_block, cell->wrote_clock))
            fail("race on shared %s[%zu]: threads %d and %d write with no barrier between", name, at, cell->writer, self);
        if (cell->reader == self && cell->many_readers && cell->read_block == m.current->passed)
            fail("race on shared %s[%zu]: thread %d writes what others read with no barrier between", name, at, self);
        if (unordered(cell->reader, cell->read_block, cell->read_clock))
            fail("race on shared %s[%zu]: thread %d writes what thread %d read with no barrier between", name, at, self, cell->reader);
        cell->writer = self, cell->wrote_block = m.current->passed, cell->wrote_clock = m.current->clock[m.current->lane];
        cell->value = value;
    }
    operator T() const { return read(); }
    const Touch& operator=(T value) const { return write(value), *this; }
    const Touch& operator=(const Touch& other) const { return write(other.read()), *this; }
    const Touch& operator+=(T value) const { return write(static_cast<T>(read() + value)), *this; }
    const Touch& operator*=(T value) const { return write(static_cast<T>(read() * value)), *this; }
    T* operator&() const { return &cell->value; }
};

template <class T, size_t... Rest>
struct Shared;

template <class T, size_t N>
struct Shared<T, N> final : Remembered {
    Cell<T> cells[N];
    const char* name;
    explicit Shared(const char* called) : name(called) {
        poison();
        machine().shared.push_back(this);
    }
    void poison() override {
        for (Cell<T>& cell : cells) {
            cell = Cell<T>();
            memset(static_cast<void*>(&cell.value), 0xff, sizeof(T));
        }
    }
    size_t bytes() const override { return N * sizeof(T); }
    Touch<T> operator[](size_t at) {
        if (at >= N) fail("shared %s[%zu] is outside its %zu elements", name, at, N);
        return Touch<T>{&cells[at], name, at};
    }
};

template <class T, size_t N, size_t M>
struct Shared<T, N, M> final : Remembered {
    Shared<T, N * M> flat;
    struct Row {
        Shared<T, N * M>* flat;
        size_t row;
        Touch<T> operator[](size_t at) const {
            if (at >= M) fail("shared %s[%zu][%zu] is outside its %zu columns", flat->name, row, at, M);
            return (*flat)[row * M + at];
        }
    };
    explicit Shared(const char* called) : flat(called) {}
    void poison() override { flat.poison(); }
    size_t bytes() const override { return flat.bytes(); }
    Row operator[](size_t row) { return Row{&flat, row}; }
};

inline void* dynamic_shared() { return machine().dynamic.data(); }

// ---- launch

inline void fiber() {
    Machine& m = machine();
    m.body();
    m.current->state = State::done;
    m.warps[m.current->warp].live &= ~(1u << m.current->lane);
    back_to_scheduler();
}

// Lets those go on who are all there; a lane that has ended is not waited for.
inline bool release_meeting(std::vector<Thread>& threads, size_t first, const Warp& warp, const Meeting& meeting) {
    if (meeting.mask & warp.live & ~meeting.arrived) return false;
    if (meeting.elsewhere & ~meeting.arrived) return note(kMasks, meeting.mask), false;
    uint64_t clock[kWarp] = {};
    for (int lane = 0; lane < kWarp; ++lane)
        if (meeting.arrived >> lane & 1)
            for (int l = 0; l < kWarp; ++l) clock[l] = std::max(clock[l], threads[first + lane].clock[l]);
    for (int lane = 0; lane < kWarp; ++lane) {
        if (!(meeting.arrived >> lane & 1)) continue;
        memcpy(threads[first + lane].clock, clock, sizeof clock);
        threads[first + lane].state = State::ready;
    }
    return true;
}

inline bool release_warps() {
    Machine& m = machine();
    bool any = false;
    for (size_t w = 0; w < m.warps.size(); ++w)
        any |= std::erase_if(m.warps[w].waiting, [&](const std::shared_ptr<Meeting>& one) {
            return release_meeting(m.threads, w * kWarp, m.warps[w], *one);
        }) > 0;
    return any;
}

inline bool release_barrier() {
    Machine& m = machine();
    int site = 0, waiting = 0;
    for (const Thread& thread : m.threads) {
        if (thread.state == State::done) continue;
        if (thread.state == State::warp) {
            const Meeting& meeting = *thread.meeting;
            if (meeting.elsewhere & ~meeting.arrived) return note(kMasks, meeting.mask), false;
            return note("a warp operation waits for lanes that wait at a barrier"), false;
        }
        if (site && thread.site != site) return note("threads of one block wait at different barriers (lines %d and %d)", site, thread.site), false;
        site = thread.site;
        ++waiting;
    }
    if (!waiting) return false;
    for (Thread& thread : m.threads)
        if (thread.state == State::barrier) thread.state = State::ready, ++thread.passed;
    m.barrier_result = m.barrier_votes;
    m.barrier_votes = 0;
    return true;
}

inline void run_block() {
    Machine& m = machine();
    const size_t count = m.threads.size();
    for (Remembered* shared : m.shared) shared->poison();
    std::fill(m.dynamic.begin(), m.dynamic.end(), 0xff);
    std::vector<size_t> order(count);
    for (size_t t = 0; t < count; ++t) {
        Thread& thread = m.threads[t];
        thread.index = {unsigned(t % m.block.x), unsigned(t / m.block.x % m.block.y), unsigned(t / m.block.x / m.block.y)};
        thread.state = State::ready;
        thread.warp = t / kWarp, thread.lane = t % kWarp, thread.passed = 0;
        memset(thread.clock, 0, sizeof thread.clock);
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = m.stacks.get() + t * kStack;
        thread.context.uc_stack.ss_size = kStack;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, fiber, 0);
        order[t] = t;
    }
    for (size_t w = 0; w < m.warps.size(); ++w) {
        const size_t lanes = std::min<size_t>(kWarp, count - w * kWarp);
        m.warps[w] = Warp();
        m.warps[w].live = lanes == kWarp ? 0xffffffffu : (1u << lanes) - 1;
    }
    // forwards, backwards, then at random: what depends on the order of threads shows itself
    if (m.block_number % 3 == 1) std::reverse(order.begin(), order.end());
    if (m.block_number % 3 == 2) std::shuffle(order.begin(), order.end(), m.draw);
    ++m.block_number;
    while (!m.failed) {
        bool ran = false;
        for (size_t t : order) {
            if (m.threads[t].state != State::ready) continue;
            m.current = &m.threads[t];
            swapcontext(&m.scheduler, &m.current->context);
            ran = true;
            if (m.failed) return;
        }
        if (!ran && !release_warps() && !release_barrier()) return;
    }
}

inline void launch(dim3 grid, dim3 block, size_t dynamic, std::function<void()> body) {
    Machine& m = machine();
    if (m.failed) return;
    const size_t count = size_t(block.x) * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || !count) return void(note("invalid launch: grid %u %u %u of blocks %u %u %u has nothing to run", grid.x, grid.y, grid.z, block.x, block.y, block.z));
    if (count > 1024 || block.z > 64) return void(note("invalid launch: %zu threads in a block, 1024 are allowed", count));
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return void(note("invalid launch: grid %u %u %u is too large", grid.x, grid.y, grid.z));
    if (dynamic > m.allowed_dynamic) return void(note("invalid launch: %zu bytes of shared memory, %zu are allowed", dynamic, m.allowed_dynamic));
    if (count > m.stack_count) m.stacks.reset(new char[count * kStack]), m.stack_count = count;
    m.threads.resize(count);
    m.warps.resize((count + kWarp - 1) / kWarp);
    m.dynamic.resize(dynamic);
    m.grid = grid, m.block = block, m.body = std::move(body);
    for (unsigned z = 0; z < grid.z && !m.failed; ++z)
        for (unsigned y = 0; y < grid.y && !m.failed; ++y)
            for (unsigned x = 0; x < grid.x && !m.failed; ++x) m.block_index = {x, y, z}, run_block();
    size_t used = dynamic;
    for (const Remembered* shared : m.shared) used += shared->bytes();
    if (used > kMaxShared) note("a block uses %zu bytes of shared memory, %zu exist", used, kMaxShared);
}

}  // namespace emu
