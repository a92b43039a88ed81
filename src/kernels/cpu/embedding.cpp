// Rows of a table, and their gradients.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

// The table's type is `type`: that of y, or what its gradient has.
void check_embedding(const Tensor& y, const Tensor& ids, const Tensor& table, DType type) {
  check_shape(ids, y.rows, 1, DType::i32);
  XL_CHECK(y.cols == table.cols && table.dtype == type, "rows of {} {} from a table of {} {}", y.cols, name_of(y.dtype),
           table.cols, name_of(table.dtype));
  const RowsOf<std::int32_t> id(ids);
  for (i64 r = 0; r < ids.rows; ++r)
    XL_CHECK(id[r][0] >= 0 && id[r][0] < table.rows, "id {} in row {}, but the table has {} rows", id[r][0], r,
             table.rows);
}

}  // namespace

void embedding_forward(Context&, Tensor y, Tensor ids, Tensor table) {
  check_embedding(y, ids, table, y.dtype);
  with_element_type(y.dtype, [&]<class E, class>() {
    const RowsOf<E> out(y), from(table);
    const RowsOf<std::int32_t> id(ids);
    for_rows(y.rows, y.cols,
             [&](i64 r) { std::memcpy(out[r], from[id[r][0]], static_cast<std::size_t>(y.cols) * sizeof(E)); });
  });
}

void embedding_backward(Context&, Tensor dtable, Tensor dy, Tensor ids) {
  check_embedding(dy, ids, dtable, stat_type(dy.dtype));
  with_element_type(dy.dtype, [&]<class E, class T>() {
    const RowsOf<T> to(dtable);
    const RowsOf<E> from(dy);
    const RowsOf<std::int32_t> id(ids);
    // An id may come many times: stripes of columns, each walking the rows in order.
    constexpr i64 kStripe = 8 * Vec<T>::kWidth;
    parallel_blocks(dy.cols, kStripe, [&](i64 begin, i64 end) {
      for (i64 r = 0; r < dy.rows; ++r) {
        T* const sum = to[id[r][0]] + begin;
        const E* const term = from[r] + begin;
        for_lanes<T>(end - begin, [&](i64 j, i64 w) { store(sum + j, load(sum + j, w) + load(term + j, w), w); });
      }
    });
  });
}

}  // namespace xlstm::XL_CPU
