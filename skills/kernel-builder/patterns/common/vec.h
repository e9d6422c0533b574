// One vector type for AVX-512, AVX2, NEON and plain C++, by GCC's vector extension: `ISA` names the namespace and
// VECTOR_BYTES its width, both set by the file that includes this one. Every function here is compiled once for each.
// HAS_AVX2 and HAS_AVX512 come from there, too: g++ does not set its own __AVX2__ where a pragma names the target.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "view.h"

namespace ISA {

constexpr int N = VECTOR_BYTES / 4;  // floats in a vector
typedef float Vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t Int __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t Short __attribute__((vector_size(VECTOR_BYTES / 2)));

struct Bf16 { uint16_t bits; };
struct F16 { uint16_t bits; };

inline float bits_to_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
inline uint32_t float_to_bits(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }

inline float get(float value) { return value; }
inline float get(Bf16 value) { return bits_to_float(uint32_t(value.bits) << 16); }
inline float get(F16 value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000) << 16, rest = value.bits & 0x7fff;
  if (rest >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  const float scaled = bits_to_float(rest << 13) * 0x1p112f;  // also right for subnormals
  return bits_to_float(sign | float_to_bits(scaled));
}

template <class T>
inline T put(float value);
template <>
inline float put<float>(float value) { return value; }
template <>
inline Bf16 put<Bf16>(float value) {  // to nearest, ties to even
  const uint32_t bits = float_to_bits(value);
  if (value != value) return {uint16_t(bits >> 16 | 0x40)};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
inline F16 put<F16>(float value) {
  const uint32_t bits = float_to_bits(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return {uint16_t(sign | 0x7e00)};
  if (rest >= 0x477ff000) return {uint16_t(sign | 0x7c00)};  // rounds to infinity
  if (rest < 0x38800000) {  // subnormal: the addition rounds
    const uint32_t shifted = float_to_bits(bits_to_float(rest) + 0.5f) - float_to_bits(0.5f);
    return {uint16_t(sign | shifted)};
  }
  return {uint16_t(sign | (rest + 0xfff + (rest >> 13 & 1) - 0x38000000) >> 13)};
}

inline Vec splat(float value) { return Vec{} + value; }

inline Vec load(const float* from) { Vec v; std::memcpy(&v, from, sizeof v); return v; }
inline void store(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }

inline Vec load(const Bf16* from) {
#if defined(HAS_AVX512)
  return (Vec)((Bits)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))) << 16);
#else
  Short half;
  std::memcpy(&half, from, sizeof half);
  return (Vec)(__builtin_convertvector(half, Bits) << 16);
#endif
}
// The upper halves are bfloat16: to nearest, ties to even, and NaN stays NaN.
inline Bits to_bf16(Vec v) {
  const Bits bits = (Bits)v;
  return v == v ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000;
}
inline void store(Bf16* to, Vec v) {
#if defined(HAS_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16((__m512i)(to_bf16(v) >> 16)));
#else
  const Short half = __builtin_convertvector(to_bf16(v) >> 16, Short);
  std::memcpy(to, &half, sizeof half);
#endif
}

inline Vec load(const F16* from) {
#if defined(HAS_AVX512)
  return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(HAS_AVX2)
  return (Vec)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  Vec v;
  for (int i = 0; i < N; ++i) v[i] = get(from[i]);
  return v;
#endif
}
inline void store(F16* to, Vec v) {
#if defined(HAS_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(HAS_AVX2)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < N; ++i) to[i] = put<F16>(v[i]);
#endif
}

// 2 * N elements in the order in which the type is quickest, for what does not ask which is which.
struct Pair { Vec a, b; };

template <class T>
inline Pair load_pair(const T* from) { return {load(from), load(from + N)}; }
inline Pair load_pair(const Bf16* from) {
  Bits two;
  std::memcpy(&two, from, sizeof two);
  return {(Vec)(two << 16), (Vec)(two & 0xffff0000)};
}
template <class T>
inline void store_pair(T* to, Pair pair) { store(to, pair.a), store(to + N, pair.b); }
inline void store_pair(Bf16* to, Pair pair) {
  const Bits two = (to_bf16(pair.a) >> 16) | (to_bf16(pair.b) & 0xffff0000);
  std::memcpy(to, &two, sizeof two);
}

// What a value becomes when it is written as T and read again.
inline Vec rounded(Vec v, const float*) { return v; }
inline Vec rounded(Vec v, const Bf16*) { return (Vec)(to_bf16(v) & 0xffff0000); }
inline Vec rounded(Vec v, const F16*) { F16 kept[N]; store(kept, v); return load(kept); }
template <class T>
inline float rounded(float value, const T*) { return get(put<T>(value)); }

inline Vec largest(Vec a, Vec b) { return a > b ? a : b; }

inline float sum(Vec v) {
#if defined(HAS_AVX512)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float part[N];
  std::memcpy(part, &v, sizeof part);
  for (int half = N / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
#endif
}
inline float largest(Vec v) {
  float most = v[0];
  for (int i = 1; i < N; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

// e to the x, within 2 ulp; 0 below -87.3, infinity above 88.7, NaN stays NaN.
inline Vec exp(Vec x) {
  const Vec inside = x < splat(-87.3f) ? splat(-87.3f) : x > splat(88.7f) ? splat(88.7f) : x;
  const Vec scaled = inside * 1.44269504088896341f;
  const Vec shifted = scaled + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
  const Vec whole = shifted - 12582912.0f;
  const Vec r = inside - whole * 0.693359375f + whole * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Int half = ((Int)shifted - 0x4b400000) / 2, rest = ((Int)shifted - 0x4b400000) - half;
  const Vec y = p * (Vec)((half + 127) << 23) * (Vec)((rest + 127) << 23);
  const Vec low = x < splat(-87.3f) ? splat(0.0f) : y;
  const Vec high = x > splat(88.7f) ? splat(std::numeric_limits<float>::infinity()) : low;
  return x != x ? x : high;
}

// Calls f with a pointer of the element's type: switch_type(v.dtype, [&](auto* t) { using T = ...; }).
template <class F>
inline void switch_type(int dtype, F&& f) {
  if (dtype == ::F32) f(static_cast<float*>(nullptr));
  if (dtype == ::F16) f(static_cast<F16*>(nullptr));
  if (dtype == ::BF16) f(static_cast<Bf16*>(nullptr));
}

}  // namespace ISA
