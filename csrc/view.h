// The border to Python: an array of any library, as a pointer with a shape and a device. Arrays
// come through DLPack, without torch headers, so that one wheel serves every torch. Nothing else in
// C++ touches Python's array objects.
#pragma once
#include <pybind11/pybind11.h>

#include <cstring>
#include <vector>

#include "contract/device.h"
#include "contract/matrix.h"
#include "dlpack.h"

namespace tilefold {

// The device that all arrays of a call share, the stream of the call and its memory. Each array is
// checked for its device before any is exported.
class SharedDevice {
 public:
  // `op` is the name in messages and must outlive all views of the call.
  explicit SharedDevice(const char* op) : op_(op) {}
  void set_op(const char* op) { op_ = op; }
  // Adds an array; throws if it is on another device than those before. None has no device.
  void add(pybind11::handle array, const char* name);
  // A cudaStream_t as a number, 0 for the default stream. After all arrays have been added.
  void set_stream(int64_t stream);
  // After all arrays have been added.
  void set_workspace(Workspace* workspace);
  const char* op() const { return op_; }
  const char* first() const { return first_; }  // name of the first array; null: none was added
  Device get() const { return device_; }

 private:
  const char* op_;
  const char* first_ = nullptr;  // name of the first array
  Device device_ = {DeviceType::cpu, 0};
};

class View {
 public:
  View() = default;  // no array: an optional argument that is absent
  // Takes the array's DLPack capsule; keeps its memory alive until destroyed (with the GIL held).
  // `name` must be a literal.
  View(pybind11::handle array, const char* name, const SharedDevice& device);
  View(View&& other) noexcept { swap(other); }
  View& operator=(View&& other) noexcept {
    swap(other);
    return *this;
  }
  ~View();

  bool given() const { return tensor_ != nullptr; }
  Device device() const;  // of an array that must be given
  const char* name() const { return name_; }
  int64_t rows() const;  // of an array that must be given
  int64_t size() const;  // number of elements

  // A matrix [rows, dim] with contiguous rows, of a float or int8 dtype; fp64 where an op accepts
  // it.
  enum class Float64 { refused, accepted };
  Matrix matrix(Float64 float64 = Float64::refused) const;
  // A contiguous array of T with `size` elements in all; null if absent.
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
  // A copy of such an array, which need not be aligned; empty if absent.
  template <class T>
  std::vector<T> copy(int64_t size) const {
    if (!given()) return {};
    const void* const from = flat(dtype_of<T>(), size, Alignment::any);
    std::vector<T> values(static_cast<std::size_t>(size));
    if (size > 0) std::memcpy(values.data(), from, values.size() * sizeof(T));
    return values;
  }
  template <class T>
  T* write_if_given(int64_t size) const {
    return given() ? write<T>(size) : nullptr;
  }

 private:
  template <class T>
  static dlpack::DataType dtype_of();
  void* data() const;
  // `own`: memory is aligned for its dtype.
  enum class Alignment { any, own };
  void* flat(dlpack::DataType dtype, int64_t size, Alignment alignment = Alignment::own) const;
  void check_given() const;
  void check_shape() const;
  void check_memory(int64_t item_bytes, Alignment alignment) const;
  void check_writable() const;

  void swap(View& other) noexcept;

  const char* op_ = "";
  const char* name_ = "";
  Device device_ = {DeviceType::cpu, 0};
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
