// Vectors of 64 bytes for kernels that are compiled once per instruction set. With AVX-512 one is a
// register, with AVX2 two. Included inside the namespace of the instruction set, so that no
// function compiled for one processor is linked into code for another; for the same reason nothing
// from the standard library is used here.

template <class Number>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(64)));
  typedef std::int32_t integers __attribute__((vector_size(64)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(64)));
  typedef std::int64_t integers __attribute__((vector_size(64)));
};
template <class Number>
using Vector = typename VectorOf<Number>::type;

template <class Number>
inline Vector<Number> load(const Number* from) {
  Vector<Number> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class Number>
inline void store(Number* to, Vector<Number> v) {
  __builtin_memcpy(to, &v, sizeof v);
}
// (Vector{} + x would add 0 to x each time, for the sake of -0.)
template <class Number>
inline Vector<Number> broadcast(Number x) {
  if constexpr (sizeof(Number) == 4)
    return Vector<Number>{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
  else
    return Vector<Number>{x, x, x, x, x, x, x, x};
}

// The sum of a vector's numbers, halves onto halves.
inline float sum(Vector<float> v) {
#ifdef __AVX512F__
  return _mm512_reduce_add_ps((__m512)v);
#else
  typedef float Four __attribute__((vector_size(16)));
  Four part[4];
  __builtin_memcpy(part, &v, sizeof v);
  const Four four = (part[0] + part[2]) + (part[1] + part[3]);
  return (four[0] + four[2]) + (four[1] + four[3]);
#endif
}
inline double sum(Vector<double> v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

inline Vector<float> square_root(Vector<float> v) {
#ifdef __AVX512F__
  return (Vector<float>)_mm512_sqrt_ps((__m512)v);
#else
  for (int i = 0; i < 16; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}
inline Vector<double> square_root(Vector<double> v) {
  for (int i = 0; i < 8; ++i) v[i] = __builtin_sqrt(v[i]);
  return v;
}

// tanh of numbers from 0 up, within 2e-7 of it, relatively. Below 1 by Lambert's continued
// fraction, cut after x^7; from there (1 - e)/(1 + e) with e = exp(-2x), which then is small enough
// to lose nothing. exp(y) = 2^i 2^f, |f| <= 1/2, 2^f by its Taylor polynomial.
inline Vector<float> tanh_of_positive(Vector<float> x) {
  const Vector<float> z = x * x;
  const Vector<float> fraction = x * (135135.0f + z * (17325.0f + z * (378.0f + z))) /
                                 (135135.0f + z * (62370.0f + z * (3150.0f + 28.0f * z)));
  Vector<float> y = x * (-2 * 1.44269504088896f);
  y = y < -126.0f ? broadcast(-126.0f) : y;
  const Vector<float> shifted = y + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Vector<float> whole = shifted - 12582912.0f;
  const Vector<float> f = (y - whole) * 0.693147180559945f;
  const Vector<float> power =
      1.0f + f * (1.0f + f * (0.5f + f * (1.0f / 6 +
                                          f * (1.0f / 24 + f * (1.0f / 120 + f * (1.0f / 720))))));
  typedef VectorOf<float>::integers Integers;
  const Integers exponent = (__builtin_convertvector(whole, Integers) + 127) << 23;
  const Vector<float> e = power * (Vector<float>)exponent;
  return x < 1.0f ? fraction : (1.0f - e) / (1.0f + e);
}
inline Vector<double> tanh_of_positive(Vector<double> x) {
  for (int i = 0; i < 8; ++i) x[i] = __builtin_tanh(x[i]);
  return x;
}
