// Runs CUDA C++ on the CPU, for tests: every CUDA thread of a thread block is a fiber, and whatever waits for other
// threads (barriers, shuffles, ballots) hands over to them. Fibers run in an order drawn from a seed, and may be
// interrupted at every atomic. Thread blocks run one after another, in an order drawn from the seed as well.
//
// What this cannot show: real races between threads of a warp in lockstep, the memory order of a GPU, and speed.
// A warp operation must name all 32 lanes; a barrier that some thread never reaches is reported as a deadlock.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
// Switching by hand is some fifteen times as fast as swapcontext, which serves other processors.
#if defined(__x86_64__) && !defined(CUDA_HOST_PORTABLE)
#define CUDA_HOST_BY_HAND
#else
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace cuda_host {

constexpr std::size_t STACK = 256 * 1024;
constexpr unsigned WARP_SIZE = 32;

struct Fiber;

#if defined(CUDA_HOST_BY_HAND)
using Context = void*;
extern "C" void cuda_host_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.globl cuda_host_switch
.hidden cuda_host_switch
.type cuda_host_switch,@function
cuda_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_host_switch,.-cuda_host_switch
)");
#else
using Context = ucontext_t;
#endif

// A meeting of the threads of a warp or a thread block: the last one to come opens it for all.
struct Meeting {
    unsigned arrived = 0;
    std::uint64_t opened = 0;
    int operation = 0;
    std::uint64_t values[2][WARP_SIZE] = {};
};

struct Fiber {
    Context context;
    std::vector<char> stack = std::vector<char>(STACK);
    Dim3 thread;
    const Meeting* waits_for = nullptr;
    std::uint64_t waits_until = 0;
    bool done = false;
    void* fake_stack = nullptr;
};

struct Machine {
    std::vector<Fiber*> fibers;
    std::vector<unsigned> order;
    std::vector<Meeting> warps;
    Meeting block;
    Context scheduler;
    Fiber* running = nullptr;
    void (*kernel)(void**) = nullptr;
    void** arguments = nullptr;
    std::uint64_t random = 1;
    unsigned interrupt = 0;  // one atomic in so many hands over; 0: none
    std::uint64_t switches = 0;
    const char* failure = nullptr;
    const void* bottom = nullptr;  // of the scheduler's stack
    std::size_t size = 0;
};

inline Machine machine;
inline Dim3 block_index, block_size, grid_size;

inline std::uint64_t draw(std::uint64_t below) {
    machine.random ^= machine.random << 13;
    machine.random ^= machine.random >> 7;
    machine.random ^= machine.random << 17;
    return (machine.random * 0x2545F4914F6CDD1Dull >> 32) % below;
}

inline void to_scheduler([[maybe_unused]] bool last) {
    Fiber* self = machine.running;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &self->fake_stack, machine.bottom, machine.size);
#endif
#if defined(CUDA_HOST_BY_HAND)
    cuda_host_switch(&self->context, machine.scheduler);
#else
    swapcontext(&self->context, &machine.scheduler);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#endif
}

inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &machine.bottom, &machine.size);
#endif
    machine.kernel(machine.arguments);
    machine.running->done = true;
    to_scheduler(true);
    std::abort();
}

inline void to_fiber(Fiber* fiber) {
    machine.running = fiber;
    ++machine.switches;
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack.data(), STACK);
#endif
#if defined(CUDA_HOST_BY_HAND)
    cuda_host_switch(&machine.scheduler, fiber->context);
#else
    swapcontext(&machine.scheduler, &fiber->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

inline void prepare(Fiber* fiber) {
#if defined(CUDA_HOST_BY_HAND)
    // Six saved registers, then where the switch returns to; at a function's entry rsp is 8 below a multiple of 16.
    auto top = reinterpret_cast<std::uintptr_t>(fiber->stack.data() + STACK) & ~std::uintptr_t(15);
    auto* frame = reinterpret_cast<void**>(top - 64);
    std::memset(frame, 0, 64);
    frame[6] = reinterpret_cast<void*>(&enter);
    fiber->context = frame;
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.data();
    fiber->context.uc_stack.ss_size = STACK;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, &enter, 0);
#endif
    fiber->done = false;
    fiber->waits_for = nullptr;
}

inline void fail(const char* why) {
    if (machine.failure == nullptr) machine.failure = why;
    for (;;) to_scheduler(false);  // the scheduler does not come back after a failure
}

inline void meet(Meeting& meeting, unsigned expected, int operation) {
    if (meeting.arrived == 0) meeting.operation = operation;
    if (meeting.operation != operation) fail("threads wait for one another in different operations");
    if (++meeting.arrived == expected) {
        meeting.arrived = 0;
        ++meeting.opened;
        return;
    }
    machine.running->waits_for = &meeting;
    machine.running->waits_until = meeting.opened + 1;
    to_scheduler(false);
}

inline void run_block(unsigned threads) {
    machine.block = Meeting{};
    machine.warps.assign(threads / WARP_SIZE, Meeting{});
    while (machine.fibers.size() < threads) machine.fibers.push_back(new Fiber);
    machine.order.resize(threads);
    for (unsigned t = 0; t < threads; ++t) {
        machine.order[t] = t;
        machine.fibers[t]->thread.x = t;
        prepare(machine.fibers[t]);
    }
    for (unsigned left = threads; left > 0;) {
        for (unsigned t = threads - 1; t > 0; --t) std::swap(machine.order[t], machine.order[draw(t + 1)]);
        bool progress = false;
        for (unsigned t : machine.order) {
            Fiber* fiber = machine.fibers[t];
            if (fiber->done) continue;
            if (fiber->waits_for != nullptr && fiber->waits_for->opened < fiber->waits_until) continue;
            fiber->waits_for = nullptr;
            to_fiber(fiber);
            if (machine.failure != nullptr) return;
            progress = true;
            if (fiber->done) --left;
        }
        if (!progress) {
            machine.failure = "deadlock: a thread waits for others that never come";
            return;
        }
    }
}

inline const char* launch(
    void (*kernel)(void**), void** arguments, unsigned blocks, unsigned threads, std::uint64_t seed, unsigned interrupt
) {
    if (threads == 0 || threads % WARP_SIZE != 0 || threads > 1024 || blocks == 0) return "not a legal grid";
    machine.kernel = kernel;
    machine.arguments = arguments;
    machine.random = seed * 0x9E3779B97F4A7C15ull | 1;
    machine.interrupt = interrupt;
    machine.failure = nullptr;
    grid_size.x = blocks;
    block_size.x = threads;
    std::vector<unsigned> order(blocks);
    for (unsigned b = 0; b < blocks; ++b) order[b] = b;
    for (unsigned b = blocks - 1; b > 0; --b) std::swap(order[b], order[draw(b + 1)]);
    for (unsigned b : order) {
        block_index.x = b;
        run_block(threads);
        if (machine.failure != nullptr) return machine.failure;
    }
    return nullptr;
}

inline void atomic_point() {
    if (machine.interrupt != 0 && draw(machine.interrupt) == 0) to_scheduler(false);
}

enum Operation { SYNC_BLOCK = 1, SYNC_BLOCK_OR, SYNC_WARP, SHUFFLE, SHUFFLE_XOR, BALLOT, MATCH };

// Every lane gives a value and sees those of all lanes. Two sets of places: a lane may be a meeting ahead of another.
inline const std::uint64_t* exchange(unsigned mask, std::uint64_t value, int operation) {
    if (mask != 0xffffffffu) fail("a warp operation must name all lanes");
    Meeting& warp = machine.warps[machine.running->thread.x / WARP_SIZE];
    auto* places = warp.values[warp.opened % 2];
    places[machine.running->thread.x % WARP_SIZE] = value;
    meet(warp, WARP_SIZE, operation);
    return places;
}

template <class T>
std::uint64_t to_word(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    std::uint64_t word = 0;
    std::memcpy(&word, &value, sizeof(T));
    return word;
}

template <class T>
T from_word(std::uint64_t word) {
    T value;
    std::memcpy(&value, &word, sizeof(T));
    return value;
}

// The name of a class, which the compiler puts into that of the function.
template <class T>
std::string class_name() {
    const std::string function = __PRETTY_FUNCTION__;
    const auto begin = function.find("T = ") + 4;
    return function.substr(begin, function.find_first_of(";]", begin) - begin);
}

// The argument types of a kernel in one word each, and a call with cuLaunchKernel's array of pointers.
template <class T>
std::string letter() {
    if constexpr (std::is_pointer_v<T>) {
        return letter<std::remove_const_t<std::remove_pointer_t<T>>>() + "*";
    } else {
        return std::is_same_v<T, double> ? "double" : std::is_same_v<T, unsigned long long> ? "word"
             : std::is_same_v<T, long long> ? "long" : std::is_same_v<T, int> ? "int"
             : std::is_same_v<T, unsigned char> ? "byte" : std::is_same_v<T, float> ? "float" : std::is_class_v<T> ? class_name<T>() : "unknown";
    }
}

struct Entry {
    std::string name, types;
    void (*call)(void**);
};

template <auto kernel, class... Arguments, std::size_t... I>
void unpack(void (*)(Arguments...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<Arguments>*>(arguments[I])...);
}

template <auto kernel, class... Arguments>
Entry entry(const char* name, void (*function)(Arguments...)) {
    std::string types;
    ((types += letter<Arguments>() + " "), ...);
    auto call = [](void** arguments) {
        unpack<kernel>(static_cast<void (*)(Arguments...)>(kernel), arguments, std::index_sequence_for<Arguments...>{});
    };
    (void)function;
    return Entry{name, types, call};
}

}  // namespace cuda_host

#define threadIdx (cuda_host::machine.running->thread)
#define blockIdx cuda_host::block_index
#define blockDim cuda_host::block_size
#define gridDim cuda_host::grid_size

// The answers of two meetings in a row: that of the one before has been read by all who come to the next.
inline int cuda_host_any[2];

inline void __syncthreads() {
    auto& block = cuda_host::machine.block;
    if (block.arrived + 1 == blockDim.x) cuda_host_any[1 - block.opened % 2] = 0;
    cuda_host::meet(block, blockDim.x, cuda_host::SYNC_BLOCK);
}

inline int __syncthreads_or(int predicate) {
    auto& block = cuda_host::machine.block;
    const unsigned now = block.opened % 2;
    if (predicate) cuda_host_any[now] = 1;
    if (block.arrived + 1 == blockDim.x) cuda_host_any[1 - now] = 0;
    cuda_host::meet(block, blockDim.x, cuda_host::SYNC_BLOCK_OR);
    return cuda_host_any[now];
}

inline void __syncwarp() { cuda_host::exchange(0xffffffffu, 0, cuda_host::SYNC_WARP); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return cuda_host::from_word<T>(cuda_host::exchange(mask, cuda_host::to_word(value), cuda_host::SHUFFLE)[lane % 32]);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    const unsigned lane = (threadIdx.x % 32) ^ unsigned(lanes);
    return cuda_host::from_word<T>(
        cuda_host::exchange(mask, cuda_host::to_word(value), cuda_host::SHUFFLE_XOR)[lane % 32]
    );
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const auto* votes = cuda_host::exchange(mask, predicate != 0, cuda_host::BALLOT);
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; ++lane) result |= unsigned(votes[lane]) << lane;
    return result;
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
    const auto* values = cuda_host::exchange(mask, cuda_host::to_word(value), cuda_host::MATCH);
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; ++lane) result |= unsigned(values[lane] == cuda_host::to_word(value)) << lane;
    return result;
}

inline int __popc(unsigned word) { return __builtin_popcount(word); }

template <class T>
T atomicAdd(T* place, T value) {
    cuda_host::atomic_point();
    T before = *place;
    *place = before + value;
    return before;
}

template <class T>
T atomicMin(T* place, T value) {
    cuda_host::atomic_point();
    T before = *place;
    if (value < before) *place = value;
    return before;
}

template <class T>
T atomicMax(T* place, T value) {
    cuda_host::atomic_point();
    T before = *place;
    if (before < value) *place = value;
    return before;
}

template <class T>
T atomicAnd(T* place, T value) {
    cuda_host::atomic_point();
    T before = *place;
    *place = before & value;
    return before;
}

template <class T>
T atomicOr(T* place, T value) {
    cuda_host::atomic_point();
    T before = *place;
    *place = before | value;
    return before;
}

template <class T>
T atomicCAS(T* place, T expected, T value) {
    cuda_host::atomic_point();
    T before = *place;
    if (before == expected) *place = value;
    return before;
}

template <class T>
T atomicExch(T* place, T value) {
    cuda_host::atomic_point();
    return std::exchange(*place, value);
}

// Rounded after every step: the file is compiled without contraction.
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __longlong_as_double(long long bits) { return cuda_host::from_word<double>(cuda_host::to_word(bits)); }
inline long long __double_as_longlong(double number) { return cuda_host::from_word<long long>(cuda_host::to_word(number)); }
inline float __uint_as_float(unsigned bits) { return cuda_host::from_word<float>(cuda_host::to_word(bits)); }
inline unsigned __float_as_uint(float value) { return cuda_host::from_word<unsigned>(cuda_host::to_word(value)); }

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

// Half precision is an instruction of a GPU, and a type of the compiler here.
inline float float_of_half(unsigned short bits) {
    return static_cast<float>(cuda_host::from_word<_Float16>(cuda_host::to_word(bits)));
}
inline unsigned short half_of_float(float value) {
    return cuda_host::from_word<unsigned short>(cuda_host::to_word(static_cast<_Float16>(value)));
}
