#pragma once
// `xlstm data import`: token files of other trainers in, data sets out.
#include <optional>

#include "data/dataset_format.h"
#include "data/token_file.h"

namespace xlstm {

struct DatasetImport {
  std::vector<std::string> inputs = {};  // files, in this order: a document may go on from one into the next
  TokenFormat as = TokenFormat::by_content;
  fs::path out = {};
  fs::path tokenizer = {};                // a SentencePiece model, or any file that names the vocabulary; or none
  std::optional<i64> vocab_size, eod_id;  // where the tokenizer and the format do not tell
  double validation_fraction = 0.01;      // of the documents; 0 = no validation set
  std::uint64_t seed = 0;                 // of the choice of validation documents
  i64 shard_tokens = i64{1} << 28;
};

struct DatasetImportResult {
  Manifest train;
  std::optional<Manifest> validation;
  i64 empty_documents = 0;  // left out
};

// Makes out/train and out/validation of documents cut at every end-of-document id, whether it stands before or after
// them, and at the bounds of a Megatron index. Everything is written to out.partial, which becomes `out` when it is
// complete; `out` must not be there. UserError for bad input or a full disk.
DatasetImportResult import_dataset(const DatasetImport& request);

}  // namespace xlstm
