// The border: an array of any library, as a pointer with a shape. DLPack in, no torch headers, so
// one wheel serves every torch. The only place in C++ that touches array objects of Python.
#pragma once
#include <pybind11/pybind11.h>

#include <string>

#include "contract/search.h"
#include "dlpack.h"

namespace tilefold {

class View {
 public:
  View() = default;  // no array: an optional argument that was not given
  // Takes the array's DLPack capsule; keeps its memory alive until destroyed (with the GIL held).
  View(pybind11::handle array, std::string op, std::string name);
  View(View&& other) noexcept;
  View& operator=(View&&) = delete;
  ~View();

  bool given() const { return tensor_ != nullptr; }
  int64_t rows() const;  // of an array that must be given
  int64_t size() const;  // elements in all

  // [rows, dim], dimensions contiguous, of a float or int8 dtype; fp64 where an op takes it.
  enum class Doubles { refused, taken };
  Matrix matrix(Doubles doubles = Doubles::refused) const;
  // A contiguous array of T with `size` elements in all; null if not given.
  template <class T>
  const T* read(int64_t size) const {
    return given() ? static_cast<const T*>(flat(dtype_of<T>(), size)) : nullptr;
  }
  template <class T>
  T* write(int64_t size) const {
    check_given();
    check_writable();
    return static_cast<T*>(flat(dtype_of<T>(), size));
  }
  template <class T>
  T* write_if_given(int64_t size) const {
    return given() ? write<T>(size) : nullptr;
  }

 private:
  template <class T>
  static dlpack::DataType dtype_of();
  void* data() const;
  void* flat(dlpack::DataType dtype, int64_t size) const;
  void check_given() const;
  void check_writable() const;

  std::string op_, name_;
  dlpack::Managed* old_ = nullptr;
  dlpack::ManagedVersioned* versioned_ = nullptr;
  const dlpack::Tensor* tensor_ = nullptr;
};

template <>
inline dlpack::DataType View::dtype_of<float>() {
  return {dlpack::code_float, 32, 1};
}
template <>
inline dlpack::DataType View::dtype_of<double>() {
  return {dlpack::code_float, 64, 1};
}
template <>
inline dlpack::DataType View::dtype_of<int64_t>() {
  return {dlpack::code_int, 64, 1};
}
template <>
inline dlpack::DataType View::dtype_of<int32_t>() {
  return {dlpack::code_int, 32, 1};
}
template <>
inline dlpack::DataType View::dtype_of<uint32_t>() {
  return {dlpack::code_uint, 32, 1};
}
template <>
inline dlpack::DataType View::dtype_of<uint8_t>() {
  return {dlpack::code_uint, 8, 1};
}
template <>
inline dlpack::DataType View::dtype_of<int8_t>() {
  return {dlpack::code_int, 8, 1};
}

}  // namespace tilefold
