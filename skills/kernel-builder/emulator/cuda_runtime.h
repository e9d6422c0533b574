// What a kernel finds under this name when the emulator runs it: the language of CUDA, spelled for the host's compiler.
#pragma once
#include "driver_types.h"
#include "emulator.h"

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

#define threadIdx (emu::machine().current->index)
#define blockIdx (emu::machine().block_index)
#define blockDim (emu::machine().block)
#define gridDim (emu::machine().grid)
constexpr int warpSize = 32;

#define __syncthreads() ((void)emu::barrier(__LINE__))
#define __syncthreads_count(p) (emu::barrier(__LINE__, (p) ? 1 : 0))
#define __syncthreads_or(p) (emu::barrier(__LINE__, (p) ? 1 : 0) != 0)
#define __syncthreads_and(p) (emu::barrier(__LINE__, (p) ? 0 : 1) == 0)
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::meet(mask, nullptr, 0); }
inline unsigned __activemask() { return emu::machine().warps[emu::machine().current->warp].live; }

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    const int base = emu::lane() / width * width;
    return emu::exchange(mask, value, base + (from & (width - 1)), base, base + width - 1);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const int base = emu::lane() / width * width;
    return emu::exchange(mask, value, emu::lane() + int(by), base, base + width - 1);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const int base = emu::lane() / width * width;
    return emu::exchange(mask, value, emu::lane() - int(by), base, base + width - 1);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
    const int base = emu::lane() / width * width;
    return emu::exchange(mask, value, emu::lane() ^ by, base, base + width - 1);
}

namespace emu {
template <class T, class Join>
T gather(unsigned mask, T value, Join join) {
    const Meeting& meeting = meet(mask, &value, sizeof value);
    bool first = true;
    T all{};
    for (int lane = 0; lane < kWarp; ++lane) {
        if (!(meeting.arrived >> lane & 1)) continue;
        T one;
        memcpy(&one, meeting.values[lane], sizeof one);
        all = first ? one : join(all, one);
        first = false;
    }
    return all;
}
}  // namespace emu

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return emu::gather(mask, predicate ? 1u << emu::lane() : 0u, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T>
T __reduce_add_sync(unsigned mask, T value) { return emu::gather(mask, value, [](T a, T b) { return T(a + b); }); }
template <class T>
T __reduce_max_sync(unsigned mask, T value) { return emu::gather(mask, value, [](T a, T b) { return a > b ? a : b; }); }
template <class T>
T __reduce_min_sync(unsigned mask, T value) { return emu::gather(mask, value, [](T a, T b) { return a < b ? a : b; }); }

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) { T old = *at; *at = T(old + value); return old; }
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) { T old = *at; *at = old > value ? old : value; return old; }
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) { T old = *at; *at = old < value ? old : value; return old; }
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) { T old = *at; *at = value; return old; }
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> seen, std::type_identity_t<T> value) { T old = *at; if (old == seen) *at = value; return old; }

// a load of more than one value must be aligned to its size: the sanitizer looks at the pointer's own type
template <class T>
T __ldg(const T* at) { return *at; }
template <class T>
T __ldcs(const T* at) { return *at; }
template <class T>
T __ldcg(const T* at) { return *at; }
template <class T>
T __ldca(const T* at) { return *at; }
template <class T>
void __stcs(T* at, std::type_identity_t<T> value) { *at = value; }
template <class T>
void __stcg(T* at, std::type_identity_t<T> value) { *at = value; }

template <class To, class From>
To emu_bits(From from) { static_assert(sizeof(To) == sizeof(From)); To to; memcpy(&to, &from, sizeof to); return to; }
inline int __float_as_int(float v) { return emu_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return emu_bits<unsigned>(v); }
inline float __int_as_float(int v) { return emu_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return emu_bits<float>(v); }

inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline double rsqrt(double v) { return 1.0 / sqrt(v); }
inline float __frsqrt_rn(float v) { return 1.0f / sqrtf(v); }
inline float __fsqrt_rn(float v) { return sqrtf(v); }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanhf tanhf
inline void __sincosf(float v, float* s, float* c) { *s = sinf(v); *c = cosf(v); }
inline int __float2int_rn(float v) { return int(lrintf(v)); }
inline int __float2int_rd(float v) { return int(floorf(v)); }
inline int __float2int_ru(float v) { return int(ceilf(v)); }
inline int __float2int_rz(float v) { return int(v); }
inline float __int2float_rn(int v) { return float(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i) c += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
    return c;
}
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }

// the host's side, as far as a launcher asks for it
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { *value = 132; return cudaSuccess; }
template <class F>
cudaError_t cudaFuncSetAttribute(F, cudaFuncAttribute, int bytes) { emu::machine().allowed_dynamic = std::min<size_t>(bytes, emu::kMaxShared); return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) { memset(at, value, bytes); return cudaSuccess; }
