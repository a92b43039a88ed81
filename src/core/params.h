#pragma once
// A parameter's facts are written once, where it is born: name, shape, initialisation, weight decay.
#include <string>
#include <vector>

#include "core/arena.h"

namespace xlstm {

// What a layer sees of a parameter: the value that it computes with, and where its gradient goes.
struct Param {
  Tensor value, grad;
};

// What a layer computes with, where a run's products are in a narrower type than its parameters.
enum class Use : std::uint8_t { rounded, exact };

// How a parameter starts (spec §6.1). `a` and `b`: constant(a); normal(std a); linspace(a..b over the elements).
struct Init {
  enum class Kind : std::uint8_t { constant, normal, linspace } kind = Kind::constant;
  double a = 0, b = 0;
  static Init zeros() { return {Kind::constant, 0, 0}; }
  static Init ones() { return {Kind::constant, 1, 0}; }
  static Init constant(double value) { return {Kind::constant, value, 0}; }
  static Init normal(double std) { return {Kind::normal, std, 0}; }
  static Init linspace(double from, double to) { return {Kind::linspace, from, to}; }
};

struct ParamInfo {
  std::string name;  // as in the xlstm package's state dict (spec §10.2)
  Param param;
  Tensor master;  // what is trained and saved: param.value, or what that is a rounded copy of; with Masters::elsewhere,
                  // of that its shape alone
  Init init;
  bool decay = false;
  Use use = Use::rounded;

  // Norms and biases are vectors, (1, n), and never decay. What decays is a matrix, also one of a single row.
  bool is_matrix() const { return decay || param.value.rows > 1; }
};

// Where the masters of rounded parameters lie: beside their gradients and copies, in a row of all parameters; or
// wherever their owner likes, a part on each rank. What is computed with exactly is here in either case.
enum class Masters : std::uint8_t { here, elsewhere };

// One part of a fused matrix: the parts lie under each other, so that one product computes them all, and each keeps
// its own name, initialisation and place in a checkpoint.
struct ParamPart {
  std::string name;
  i64 rows;
  Init init;
};

// Where parameters are born. All values lie in one allocation and all gradients in another, in the order of add(), each
// parameter padded to kParamAlign elements; rounded copies of the values in a third. So whatever is kept per parameter,
// in whatever type, is one row of flat_size() elements in which a parameter has the same place; optimizer, reduction
// and checks are loops over that row.
class ParamStore {
 public:
  static constexpr i64 kParamAlign = 128;  // elements: 256 bytes of the narrowest type

  // With `rounded`, matrices are computed with as bf16 copies that lie there.
  ParamStore(Arena& values, Arena& grads, DType dtype, Arena* rounded = nullptr, Masters masters = Masters::here)
      : values_(values), grads_(grads), rounded_(rounded), dtype_(dtype), masters_(masters) {
    XL_CHECK(rounded_ || masters_ == Masters::here, "without rounded copies, layers need the masters");
  }

  Param add(std::string name, i64 rows, i64 cols, Init init, bool decay, Use use = Use::rounded) {
    return add_fused({{std::move(name), rows, init}}, cols, decay, use);
  }

  Param add_fused(std::vector<ParamPart> parts, i64 cols, bool decay, Use use = Use::rounded) {
    i64 rows = 0;
    for (const ParamPart& part : parts) rows += part.rows;
    const i64 padded = (rows * cols + kParamAlign - 1) / kParamAlign * kParamAlign;
    const auto born = [&](Arena& arena, DType type) {
      return view(arena.alloc(parts[0].name, type, 1, padded), 0, rows, cols);
    };
    const bool elsewhere = masters_ == Masters::elsewhere && use == Use::rounded;
    const Tensor master =
        elsewhere ? Tensor{nullptr, dtype_, values_.device(), rows, cols, cols} : born(values_, dtype_);
    Param whole{master, born(grads_, dtype_)};
    if (rounded_) {
      const Tensor copy = born(*rounded_, DType::bf16);
      if (infos_.empty()) first_rounded_ = copy;
      if (use == Use::rounded) whole.value = copy;
    }
    i64 at = 0;
    for (ParamPart& part : parts) {
      const i64 end = at + part.rows;
      infos_.push_back({std::move(part.name),
                        {part_of(whole.value, at, end), part_of(whole.grad, at, end)},
                        part_of(master, at, end),
                        part.init,
                        decay,
                        use});
      places_.push_back({flat_size_ + at * cols});
      at = end;
    }
    if (runs_.empty() || runs_.back().decay != decay) runs_.push_back({flat_size_, flat_size_, decay});
    flat_size_ += padded;
    runs_.back().end = flat_size_;
    return whole;
  }

  i64 flat_size() const { return flat_size_; }
  Tensor flat_masters() const {
    XL_CHECK(masters_ == Masters::here, "the masters are no row");
    return flat(infos_.front().master);
  }
  Tensor flat_rounded() const { return rounded_ ? flat(first_rounded_) : Tensor{}; }  // or absent
  Tensor flat_grads() const { return flat(infos_.front().param.grad); }

  // Where parameter i begins in such a row.
  i64 place(std::size_t i) const { return places_[i]; }

  // What belongs to parameter i in a row like flat_masters(), in the parameter's shape.
  Tensor part_of_flat(const Tensor& row, std::size_t i) const {
    const Tensor& value = infos_[i].param.value;
    return view(row, places_[i], value.rows, value.cols);
  }

  // The row, cut where weight decay begins and ends.
  struct Run {
    i64 begin, end;
    bool decay;
  };
  const std::vector<Run>& runs() const { return runs_; }

  const std::vector<ParamInfo>& all() const { return infos_; }
  DType dtype() const { return dtype_; }

  i64 count() const {
    i64 n = 0;
    for (const ParamInfo& info : infos_) n += info.param.value.size();
    return n;
  }

 private:
  static Tensor view(const Tensor& row, i64 begin, i64 rows, i64 cols) {
    Tensor t = row.slice_cols(begin, begin + rows * cols);
    t.rows = rows;
    t.cols = t.row_stride = cols;
    return t;
  }

  // Part of a column is a vector, (1, n), as biases are.
  static Tensor part_of(const Tensor& whole, i64 begin, i64 end) {
    const Tensor part = whole.slice_rows(begin, end);
    return whole.cols == 1 ? part.flat() : part;
  }

  Tensor flat(Tensor first) const {
    first.rows = 1;
    first.cols = first.row_stride = flat_size_;
    return first;
  }

  Arena& values_;
  Arena& grads_;
  Arena* rounded_;
  DType dtype_;
  Masters masters_;
  std::vector<ParamInfo> infos_;
  std::vector<i64> places_;  // of each parameter in the row
  std::vector<Run> runs_;
  i64 flat_size_ = 0;
  Tensor first_rounded_;
};

}  // namespace xlstm
