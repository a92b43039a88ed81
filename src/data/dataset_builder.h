#pragma once
// `xlstm data build`: text in, data sets out.
#include <optional>

#include "data/dataset_format.h"
#include "data/text_reader.h"

namespace xlstm {

struct DatasetBuild {
  std::vector<std::string> inputs = {};  // files, folders, "-"
  fs::path tokenizer = {}, out = {};
  TextOptions text = {};
  double validation_fraction = 0.01;  // of the documents; 0 = no validation set
  std::uint64_t seed = 0;             // of the choice of validation documents
  i64 shard_tokens = i64{1} << 28;    // most tokens of a shard, unless one document has more
  i64 row_tokens = 0;                 // of the rows that documents are packed into; 0: they are not packed
  int threads = 0;                    // 0 = all usable cores; changes nothing about the result
  bool overwrite = false;             // replace a data set that stands at `out`, also the same one
  i64 commit_bytes = i64{128} << 20;  // of text between two points from which an interrupted build can go on
};

struct DatasetBuildResult {
  Manifest train;
  std::optional<Manifest> validation;
  bool already_built = false;  // by the same build, before: nothing was done
  i64 resumed_documents = 0;   // that an interrupted build had done before
  ReadStats read;
};

// Makes out/train and out/validation: whether a document goes to validation depends on the seed and its number alone.
// Everything is written to out.partial, which becomes `out` when it is complete. After an interruption the same build
// goes on from its last commit, and gives the same bytes. UserError for bad input, a full disk, or an `out` that is
// something else.
DatasetBuildResult build_dataset(const DatasetBuild& build);

}  // namespace xlstm
