#include "train/kept_algorithms.h"

#include "core/log.h"

namespace xlstm {

KeptAlgorithms::KeptAlgorithms(Gpu& gpu, fs::path file) : gpu_(gpu), file_(std::move(file)) {
  std::string elsewhere;
  try {
    elsewhere = gpu_.time_products(fs::exists(file_) ? read_file(file_) : "");
  } catch (const UserError& e) {
    throw user_error("{}: {}", file_.string(), e.what());
  }
  if (!elsewhere.empty())
    log_warning(
        "{}: this run's matrix products got their algorithms on {}; here they get others, and last digits will "
        "differ",
        file_.string(), elsewhere);
}

void KeptAlgorithms::keep() {
  if (std::string text = gpu_.new_product_choices(); !text.empty()) unwritten_ = std::move(text);
  if (unwritten_.empty()) return;
  try {
    write_file_atomically(file_, unwritten_);
    unwritten_.clear();
  } catch (const UserError& e) {
    log_error(
        "{}; training goes on, the next step tries again: without this file, a run that is resumed may end in "
        "other last digits",
        e.what());
  }
}

}  // namespace xlstm
