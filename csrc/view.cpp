#include "view.h"

#include "check.h"

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

py::capsule capsule_of(py::handle array, const std::string& op, const std::string& name) {
  check_type(py::hasattr(array, "__dlpack__"), op, ": ", name,
             " must be a NumPy array, a torch tensor or an array with __dlpack__, got ",
             std::string(py::str(py::type::of(array).attr("__name__"))));
  check_type(py::hasattr(array, "__dlpack_device__"), op, ": ", name,
             " has __dlpack__ but no __dlpack_device__");
  const auto device = array.attr("__dlpack_device__")().cast<std::pair<int, int>>();
  check(device.first == dlpack::device_cpu, op, ": ", name, " is on device type ", device.first,
        ", and this build has no kernels for it; move it to the CPU");
  try {
    return array.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return array.attr("__dlpack__")();  // a library from before DLPack 1.0
}

}  // namespace

View::View(py::handle array, std::string op, std::string name)
    : op_(std::move(op)), name_(std::move(name)) {
  if (array.is_none()) return;
  const py::capsule capsule = capsule_of(array, op_, name_);
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

View::View(View&& other) noexcept
    : op_(std::move(other.op_)),
      name_(std::move(other.name_)),
      old_(other.old_),
      versioned_(other.versioned_),
      tensor_(other.tensor_) {
  other.old_ = nullptr;
  other.versioned_ = nullptr;
  other.tensor_ = nullptr;
}

View::~View() {
  if (old_ && old_->deleter) old_->deleter(old_);
  if (versioned_ && versioned_->deleter) versioned_->deleter(versioned_);
}

void View::check_given() const { check_type(given(), op_, ": ", name_, " must be given"); }

int64_t View::rows() const {
  check_given();
  check(tensor_->ndim >= 1, op_, ": ", name_, " must have at least 1 dimension, got 0");
  return tensor_->shape[0];
}

int64_t View::size() const {
  check_given();
  int64_t elements = 1;
  for (int i = 0; i < tensor_->ndim; ++i) elements *= tensor_->shape[i];
  return elements;
}

void* View::data() const { return static_cast<char*>(tensor_->data) + tensor_->byte_offset; }

void View::check_writable() const {
  check(!versioned_ || !(versioned_->flags & dlpack::flag_read_only), op_, ": ", name_,
        " is read-only");
}

Matrix View::matrix(Doubles doubles) const {
  check_given();
  const dlpack::Tensor& t = *tensor_;
  check(t.ndim == 2, op_, ": ", name_, " must have 2 dimensions [rows, dim], got ", t.ndim);
  Matrix m = {data(), t.shape[0], t.shape[1], t.strides ? t.strides[0] : t.shape[1], Dtype::f32};
  check(m.dim >= 1, op_, ": ", name_, " must have dim >= 1, got ", m.dim);
  const int64_t inner = t.strides && m.rows > 0 ? t.strides[1] : 1;  // NumPy: 0 if there are none
  check(m.row_stride >= 0 && inner >= 0, op_, ": ", name_,
        " has negative strides; pass a contiguous copy");
  check(inner == 1 || m.dim == 1, op_, ": ", name_,
        " must have contiguous rows, got an inner stride of ", inner, " elements");
  const dlpack::DataType d = t.dtype;
  check(reinterpret_cast<uintptr_t>(m.data) % ((d.bits + 7) / 8) == 0, op_, ": ", name_,
        " is not aligned; pass a copy");
  if (d.lanes == 1 && d.code == dlpack::code_float && d.bits == 32)
    m.dtype = Dtype::f32;
  else if (d.lanes == 1 && d.code == dlpack::code_float && d.bits == 16)
    m.dtype = Dtype::f16;
  else if (d.lanes == 1 && d.code == dlpack::code_bfloat && d.bits == 16)
    m.dtype = Dtype::bf16;
  else if (d.lanes == 1 && d.code == dlpack::code_uint && d.bits == 16)
    m.dtype = Dtype::bf16;  // NumPy cannot export bfloat16; arrays.py passes its bits
  else if (d.lanes == 1 && d.code == dlpack::code_int && d.bits == 8)
    m.dtype = Dtype::i8;
  else if (doubles == Doubles::taken && d.lanes == 1 && d.code == dlpack::code_float &&
           d.bits == 64)
    m.dtype = Dtype::f64;
  else
    check_type(false, op_, ": ", name_, " must be float32, float16, bfloat16 or int8, got ",
               dtype_name(d));
  return m;
}

void* View::flat(dlpack::DataType expected, int64_t size) const {
  const dlpack::Tensor& t = *tensor_;
  check_type(t.dtype.code == expected.code && t.dtype.bits == expected.bits && t.dtype.lanes == 1,
             op_, ": ", name_, " must be ", dtype_name(expected), ", got ", dtype_name(t.dtype));
  const int64_t elements = this->size();
  check(elements == size, op_, ": ", name_, " must have ", size, " elements, got ", elements);
  for (int64_t i = t.ndim - 1, stride = 1; elements > 0 && i >= 0; stride *= t.shape[i--])
    check(!t.strides || t.shape[i] <= 1 || t.strides[i] == stride, op_, ": ", name_,
          " must be contiguous");
  return data();
}

}  // namespace tilefold
