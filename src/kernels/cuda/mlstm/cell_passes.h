#pragma once
// How the passes of the cell are put together: which kernel reads and writes what.
#include "kernels/cuda/mlstm/workspace.h"

namespace xlstm::mlstm {

struct CellTensors {
  Matrix q, k, v, h;
  Column log_i, log_f, denominator, max;
  const float *first_c = nullptr, *first_n = nullptr, *first_m = nullptr;
  float *last_c = nullptr, *last_n = nullptr, *last_m = nullptr;
};

struct CellGradients {
  Matrix dh, dq, dk, dv;
  Column dlog_i, dlog_f;
  const float* dlast_c = nullptr;
  float* dfirst_c = nullptr;
};

inline GateInputs gate_inputs(const Shape& shape, const CellTensors& t, bool forward) {
  return {.log_i = t.log_i,
          .log_f = t.log_f,
          .first_max = t.first_m,
          .last_max = forward ? t.last_m : nullptr,
          .max = forward && shape.normalize ? t.max : Column{},
          .has_first = t.first_c != nullptr,
          .shape = shape};
}

inline Scan forward_scan(const Shape& shape, const CellTensors& t, const CellWorkspace& ws) {
  return {.x = t.q,
          .w = t.k,
          .u = t.v,
          .y = t.h,
          .dx = shape.qk_dim,
          .du = shape.v_dim,
          .read = ws.vectors.read,
          .write = ws.vectors.write,
          .row_exponent = ws.vectors.query,
          .column_exponent = ws.vectors.key,
          .max = ws.vectors.max,
          .decay = ws.vectors.decay,
          .segment = ws.vectors.segment,
          .first = t.first_c,
          .last = t.last_c,
          .state_row = shape.v_dim,
          .state_column = 1,
          .first_n = t.first_n,
          .last_n = t.last_n,
          .denominator = t.denominator,
          .pieces = ws.pieces,
          .piece_c = ws.piece_c,
          .piece_n = ws.piece_n,
          .shape = shape};
}

// The three scans of the backward pass. `scaled` is dh / (N + eps), or dh itself without a normaliser.
inline Scan dq_scan(const Shape& shape, const CellTensors& t, const CellGradients& d, const CellWorkspace& ws,
                    Matrix scaled) {
  Scan s = forward_scan(shape, t, ws);
  s.x = scaled;
  s.w = t.v;
  s.u = t.k;
  s.y = d.dq;
  s.dx = shape.v_dim;
  s.du = shape.qk_dim;
  s.last = nullptr;
  s.state_row = 1;
  s.state_column = shape.v_dim;
  s.dot_with = t.q;
  s.dot = ws.dot_q;
  s.anchors = ws.anchors;
  s.end_anchor = d.dlast_c != nullptr;
  return s;
}

inline Scan dk_scan(const Shape& shape, const CellTensors& t, const CellGradients& d, const CellWorkspace& ws,
                    Matrix scaled) {
  Scan s = dq_scan(shape, t, d, ws, scaled);
  s.x = t.v;
  s.w = scaled;
  s.u = t.q;
  s.y = d.dk;
  s.read = ws.vectors.write;
  s.write = ws.vectors.read;
  s.row_exponent = ws.vectors.key;
  s.column_exponent = ws.vectors.query;
  s.first = d.dlast_c;
  s.piece_c = ws.piece_dc;
  s.last = d.dfirst_c;
  s.dot_with = t.k;
  s.dot = ws.dot_k;
  s.anchor_dot = ws.anchor_dot;
  return s;
}

inline Scan dv_scan(const Shape& shape, const CellTensors& t, const CellGradients& d, const CellWorkspace& ws,
                    Matrix scaled) {
  Scan s = dk_scan(shape, t, d, ws, scaled);
  s.x = t.k;
  s.w = t.q;
  s.u = scaled;
  s.y = d.dv;
  s.dx = shape.qk_dim;
  s.du = shape.v_dim;
  s.last = nullptr;
  s.state_row = shape.v_dim;
  s.state_column = 1;
  s.dot = nullptr;
  s.anchors = s.anchor_dot = nullptr;
  s.end_anchor = false;
  return s;
}

inline GateGradients gate_gradient_inputs(const Shape& shape, const CellTensors& t, const CellGradients& d,
                                          const CellWorkspace& ws) {
  return {.dot_q = ws.dot_q,
          .dot_k = ws.dot_k,
          .anchor_dot = ws.anchor_dot,
          .dot_parts = ws.dot_parts,
          .anchor_parts = ws.anchor_parts,
          .end_anchor = d.dlast_c != nullptr,
          .has_first = t.first_c != nullptr,
          .log_f = t.log_f,
          .dlog_i = d.dlog_i,
          .dlog_f = d.dlog_f,
          .shape = shape};
}

}  // namespace xlstm::mlstm
