#include "view.h"

#include <string>
#include <utility>

#include "check.h"
#include "device_names.h"

namespace py = pybind11;

namespace tilefold {
namespace {

std::string dtype_name(dlpack::DataType t) {
  const char* kind = t.code == dlpack::code_int      ? "int"
                     : t.code == dlpack::code_uint   ? "uint"
                     : t.code == dlpack::code_float  ? "float"
                     : t.code == dlpack::code_bfloat ? "bfloat"
                     : t.code == dlpack::code_bool   ? "bool"
                                                     : "unknown dtype of bits ";
  return t.code == dlpack::code_bool ? kind : kind + std::to_string(t.bits);
}

// False if the dtype is not one of ours.
bool read_dtype(dlpack::DataType t, Dtype& dtype) {
  struct Known {
    uint8_t code, bits;
    Dtype dtype;
  };
  constexpr Known known[] = {
      {dlpack::code_float, 32, Dtype::f32},
      {dlpack::code_float, 16, Dtype::f16},
      {dlpack::code_bfloat, 16, Dtype::bf16},
      {dlpack::code_uint, 16,
       Dtype::bf16},  // NumPy cannot export bfloat16; arrays.py passes its bits
      {dlpack::code_int, 8, Dtype::i8},
      {dlpack::code_float, 64, Dtype::f64},
  };
  for (const Known& k : known)
    if (t.lanes == 1 && t.code == k.code && t.bits == k.bits) {
      dtype = k.dtype;
      return true;
    }
  return false;
}

Device device_of(py::handle array, const char* op, const char* name) {
  check_type(py::hasattr(array, "__dlpack__"), op, ": ", name,
             " must be a NumPy array, a torch tensor or an array with __dlpack__, got ",
             std::string(py::str(py::type::of(array).attr("__name__"))));
  check_type(py::hasattr(array, "__dlpack_device__"), op, ": ", name,
             " has __dlpack__ but no __dlpack_device__");
  const py::object place = array.attr("__dlpack_device__")();
  py::detail::make_caster<std::pair<int, int>> numbers;
  check_type(numbers.load(place, true), op, ": ", name,
             " must have a __dlpack_device__ that returns two integers, got ",
             std::string(py::str(py::type::of(place).attr("__name__"))));
  const auto [type, id] = py::detail::cast_op<std::pair<int, int>>(numbers);
  const Device device = {static_cast<DeviceType>(type), id};
  // Pinned memory belongs to the host, which reads it like any other.
  return device.type == DeviceType::cuda_host ? Device{DeviceType::cpu, 0} : device;
}

// The library makes what it has queued on another stream come before the work of the call's.
py::capsule capsule_of(py::handle array, Device device) {
  constexpr int64_t default_stream = 1;  // as DLPack numbers it
  py::dict options;
  if (device.type == DeviceType::cuda)
    options["stream"] = device.stream ? reinterpret_cast<int64_t>(device.stream) : default_stream;
  try {
    return array.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0), **options);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return array.attr("__dlpack__")(**options);  // a library from before DLPack 1.0
}

}  // namespace

void SharedDevice::add(py::handle array, const char* name) {
  if (array.is_none()) return;
  const Device device = device_of(array, op_, name);
  if (!first_) {
    first_ = name;
    device_ = device;
  }
  check(device == device_, op_, ": ", name, " must be on ", device_name(device_), " like ", first_,
        ", got ", device_name(device));
}

void SharedDevice::set_stream(int64_t stream) {
  check(stream == 0 || device_.type == DeviceType::cuda, op_,
        ": stream must be 0 where arrays are on ", device_name(device_), ", got ", stream);
  device_.stream = reinterpret_cast<void*>(static_cast<intptr_t>(stream));
}

void SharedDevice::set_workspace(Workspace* workspace) {
  check(!workspace || device_.type == DeviceType::cuda, op_,
        ": workspace must be None where arrays are on ", device_name(device_), ", got a function");
  device_.workspace = workspace;
}

View::View(py::handle array, const char* name, const SharedDevice& device)
    : op_(device.op()), name_(name), device_(device.get()) {
  if (array.is_none()) return;
  const py::capsule capsule = capsule_of(array, device_);
  const std::string kind = capsule.name() ? capsule.name() : "";
  if (kind == "dltensor_versioned") {
    auto* managed = capsule.get_pointer<dlpack::ManagedVersioned>();
    check(managed->version.major == 1, op_, ": ", name_, " comes as DLPack ",
          managed->version.major, ", expected 1");
    versioned_ = managed;
    tensor_ = &managed->tensor;
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
  } else {
    check(kind == "dltensor", op_, ": ", name_, " gave a capsule named '", kind,
          "', expected dltensor");
    old_ = capsule.get_pointer<dlpack::Managed>();
    tensor_ = &old_->tensor;
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  }
}

void View::swap(View& other) noexcept {
  std::swap(op_, other.op_);
  std::swap(name_, other.name_);
  std::swap(device_, other.device_);
  std::swap(old_, other.old_);
  std::swap(versioned_, other.versioned_);
  std::swap(tensor_, other.tensor_);
}

View::~View() {
  if (old_ && old_->deleter) old_->deleter(old_);
  if (versioned_ && versioned_->deleter) versioned_->deleter(versioned_);
}

Device View::device() const {
  check_given();
  return device_;
}

void View::check_given() const { check_type(given(), op_, ": ", name_, " must be given"); }

void View::check_shape() const {
  check_given();
  const dlpack::Tensor& t = *tensor_;
  check(t.ndim >= 0 && (t.ndim == 0 || t.shape), op_, ": ", name_, " has no shape");
  for (int i = 0; i < t.ndim; ++i)
    check(t.shape[i] >= 0, op_, ": ", name_, " must not have a negative shape, got ", t.shape[i],
          " in dimension ", i);
}

void View::check_memory(int64_t bytes, Alignment alignment) const {
  check(data() != nullptr, op_, ": ", name_, " has no memory");
  check(alignment == Alignment::any || reinterpret_cast<uintptr_t>(data()) % bytes == 0, op_, ": ",
        name_, " is not aligned; pass a copy");
}

int64_t View::rows() const {
  check_shape();
  check(tensor_->ndim >= 1, op_, ": ", name_, " must have at least 1 dimension, got 0");
  return tensor_->shape[0];
}

int64_t View::size() const {
  check_shape();
  int64_t elements = 1;
  for (int i = 0; i < tensor_->ndim; ++i) elements = saturated_product(elements, tensor_->shape[i]);
  return elements;
}

void* View::data() const {
  return tensor_->data ? static_cast<char*>(tensor_->data) + tensor_->byte_offset : nullptr;
}

void View::check_writable() const {
  check(!versioned_ || !(versioned_->flags & dlpack::flag_read_only), op_, ": ", name_,
        " is read-only");
}

Matrix View::matrix(Float64 float64) const {
  check_shape();
  const dlpack::Tensor& t = *tensor_;
  check(t.ndim == 2, op_, ": ", name_, " must have 2 dimensions [rows, dim], got ", t.ndim);
  Matrix m = {data(), t.shape[0], t.shape[1], t.strides ? t.strides[0] : t.shape[1], Dtype::f32};
  check(m.dim >= 1, op_, ": ", name_, " must have dim >= 1, got ", m.dim);
  const int64_t inner = t.strides && m.rows > 0 ? t.strides[1] : 1;  // NumPy: 0 if there are none
  check(m.row_stride >= 0 && inner >= 0, op_, ": ", name_,
        " has negative strides; pass a contiguous copy");
  check(inner == 1 || m.dim == 1, op_, ": ", name_,
        " must have contiguous rows, got an inner stride of ", inner, " elements");
  check_type(
      read_dtype(t.dtype, m.dtype) && (m.dtype != Dtype::f64 || float64 == Float64::accepted), op_,
      ": ", name_, " must be float32, float16, bfloat16 or int8, got ", dtype_name(t.dtype));
  if (m.rows > 0) check_memory(item_bytes(m.dtype), Alignment::own);
  return m;
}

void* View::flat(dlpack::DataType expected, int64_t size, Alignment alignment) const {
  const dlpack::Tensor& t = *tensor_;
  check_type(t.dtype.code == expected.code && t.dtype.bits == expected.bits && t.dtype.lanes == 1,
             op_, ": ", name_, " must be ", dtype_name(expected), ", got ", dtype_name(t.dtype));
  const int64_t elements = this->size();
  check(elements == size, op_, ": ", name_, " must have ", size, " elements, got ", elements);
  for (int64_t i = t.ndim - 1, stride = 1; elements > 0 && i >= 0; stride *= t.shape[i--])
    check(!t.strides || t.shape[i] <= 1 || t.strides[i] == stride, op_, ": ", name_,
          " must be contiguous");
  if (elements > 0) check_memory(expected.bits / 8, alignment);
  return data();
}

}  // namespace tilefold
