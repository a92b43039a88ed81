#include "train/shared_checkpoint.h"

#include <algorithm>
#include <numeric>

#include "core/log.h"

namespace xlstm {

namespace {

constexpr i64 kChunk = 1 << 20;
constexpr auto kOf = std::array{TensorPiece::Of::params, TensorPiece::Of::optimizer};

const std::vector<NamedTensor>& list_of(const CheckpointContent& content, TensorPiece::Of of) {
  return of == TensorPiece::Of::params ? content.params : content.optimizer;
}

const char* file_of(TensorPiece::Of of) { return of == TensorPiece::Of::params ? kParamsFile : kOptimizerFile; }

// Who reads which tensor: the weights are rank 0's, in one pass for their sha256; of the moments, each the rank's that
// has least.
std::vector<int> readers(const CheckpointContent& content, TensorPiece::Of of, int ranks) {
  const std::vector<NamedTensor>& list = list_of(content, of);
  std::vector<int> who(list.size(), 0);
  if (of == TensorPiece::Of::params) return who;
  std::vector<i64> bytes(static_cast<std::size_t>(ranks), 0);
  for (const NamedTensor& t : content.params) bytes[0] += t.value.bytes();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto least = std::min_element(bytes.begin(), bytes.end());
    *least += list[i].value.bytes();
    who[i] = static_cast<int>(least - bytes.begin());
  }
  return who;
}

// A piece as its writer tells it to the readers.
struct WrittenPiece {
  TensorPiece::Of of;
  std::size_t tensor;
  i64 begin, count;
  std::string xxh3;
};

class SharedWriter {
 public:
  SharedWriter(const fs::path& folder, const CheckpointContent& content, Communicator& ranks)
      : folder_(folder), content_(content), ranks_(ranks) {
    for (const auto of : kOf) layout(of) = layout_safetensors(list_of(content, of), file_metadata(content));
  }

  i64 write() {
    together([&] { return ranks_.first() ? write_headers() : void(); });
    together([&] { write_pieces(); });
    hear_of_pieces();
    together([&] { read_back(); });
    return finish();
  }

 private:
  SafetensorsLayout& layout(TensorPiece::Of of) { return layouts_[static_cast<std::size_t>(of)]; }
  std::vector<std::string>& hashes(TensorPiece::Of of) { return hashes_[static_cast<std::size_t>(of)]; }
  void together(const std::function<void()>& work) { ranks_.together("checkpoint", work, Channel::saving); }

  void write_headers() {
    for (const auto of : kOf) {
      OutputFile file(folder_ / file_of(of));
      file.write(layout(of).header);
      file.close();
    }
  }

  void write_pieces() {
    for (const auto of : kOf) {
      SharedFile file(folder_ / file_of(of));
      for (const TensorPiece& p : content_.pieces) {
        if (p.of != of) continue;
        Xxh3 hash;
        const i64 at = layout(of).offsets[p.tensor] + p.begin * size_of(p.values.dtype), bytes = p.values.bytes();
        for (i64 done = 0; done < bytes; done += kChunk) {
          const i64 count = std::min(kChunk, bytes - done);
          hash.update(p.values.data + done, static_cast<std::size_t>(count));
          file.write(at + done, p.values.data + done, count);
          ranks_.made_progress();
        }
        pieces_.push_back({of, p.tensor, p.begin, p.values.cols, hash.hex()});
      }
      file.close();
    }
  }

  void hear_of_pieces() {
    Json mine = Json::array();
    for (const WrittenPiece& p : pieces_) mine.push_back({static_cast<int>(p.of), p.tensor, p.begin, p.count, p.xxh3});
    pieces_.clear();
    for (const std::string& text : ranks_.gather_texts("checkpoint", mine.dump(), Channel::saving))
      for (const Json& p : Json::parse(text))
        pieces_.push_back({kOf[p[0].get<std::size_t>()], p[1].get<std::size_t>(), p[2].get<i64>(), p[3].get<i64>(),
                           p[4].get<std::string>()});
    std::sort(pieces_.begin(), pieces_.end(), [](const WrittenPiece& a, const WrittenPiece& b) {
      return std::tuple(a.of, a.tensor, a.begin) < std::tuple(b.of, b.tensor, b.begin);
    });
  }

  void read_back() {
    for (const auto of : kOf) {
      const SafetensorsFile file(folder_ / file_of(of));
      file.forget_cached();
      const std::vector<NamedTensor>& list = list_of(content_, of);
      const std::vector<int> who = readers(content_, of, ranks_.size());
      std::vector<std::size_t> order(list.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      if (of == TensorPiece::Of::params)
        std::sort(order.begin(), order.end(), [&](auto a, auto b) { return list[a].name < list[b].name; });
      hashes(of).resize(list.size());
      for (const std::size_t t : order)
        if (who[t] == ranks_.rank()) hashes(of)[t] = read_tensor(file, of, t);
    }
  }

  // Returns the checksum of the whole.
  std::string read_tensor(const SafetensorsFile& file, TensorPiece::Of of, std::size_t t) {
    const NamedTensor& tensor = list_of(content_, of)[t];
    const SafetensorsEntry& entry = *file.find(tensor.name);
    const i64 width = size_of(entry.dtype);
    auto piece = std::find_if(pieces_.begin(), pieces_.end(),
                              [&](const WrittenPiece& p) { return p.of == of && p.tensor == t; });
    std::vector<std::byte> chunk(kChunk);
    Xxh3 whole;
    i64 at = 0;
    for (; piece != pieces_.end() && piece->of == of && piece->tensor == t; ++piece) {
      XL_CHECK(piece->begin == at, "'{}': no rank has element {}", tensor.name, at);
      at += piece->count;
      Xxh3 hash;
      for (i64 from = piece->begin * width; from < at * width; from += kChunk) {
        const i64 bytes = std::min(kChunk, at * width - from);
        file.read(chunk.data(), entry, from, bytes);
        whole.update(chunk.data(), static_cast<std::size_t>(bytes));
        hash.update(chunk.data(), static_cast<std::size_t>(bytes));
        if (of == TensorPiece::Of::params)
          weights_.update({chunk.data(), static_cast<std::size_t>(bytes)}, entry.dtype);
        ranks_.made_progress();
      }
      if (const std::string found = hash.hex(); found != piece->xxh3)
        throw user_error("{}: tensor '{}': wrote xxh3 {}, read back {}; the disk is not to be trusted",
                         file.path().string(), tensor.name, piece->xxh3, found);
    }
    XL_CHECK(at == tensor.value.size(), "'{}': no rank has element {}", tensor.name, at);
    return whole.hex();
  }

  // Every byte is on the disk and has been read: only now the manifest says that this is a checkpoint.
  i64 finish() {
    const Json mine{{"params", hashes_[0]}, {"optimizer", hashes_[1]}};
    std::vector<Json> all;
    for (const std::string& text : ranks_.gather_texts("checkpoint", mine.dump(), Channel::saving))
      all.push_back(Json::parse(text));
    i64 bytes = 0;
    together([&] {
      if (!ranks_.first()) return;
      WrittenTensors written[2];
      for (const auto of : kOf) {
        WrittenTensors& w = written[static_cast<std::size_t>(of)];
        w = {.bytes = layout(of).bytes,
             .header_xxh3 = xxh3_hex(layout(of).header.data(), layout(of).header.size()),
             .xxh3 = std::vector<std::string>(list_of(content_, of).size())};
        const std::vector<int> who = readers(content_, of, ranks_.size());
        for (std::size_t t = 0; t < who.size(); ++t)
          w.xxh3[t] = all[static_cast<std::size_t>(who[t])][of == TensorPiece::Of::params ? "params" : "optimizer"][t];
      }
      bytes = write_manifest(folder_, content_, written[0], written[1], weights_.hex());
      const CheckpointReader whole(folder_);  // headers and manifest, as every reader will find them
    });
    return bytes;
  }

  const fs::path& folder_;
  const CheckpointContent& content_;
  Communicator& ranks_;
  SafetensorsLayout layouts_[2];
  std::vector<WrittenPiece> pieces_;  // this rank's, later everybody's
  std::vector<std::string> hashes_[2];
  WeightsHash weights_;
};

// This rank's part of the work of checking; "" or what is damaged. UserError when it is of another run.
std::string inspect(const fs::path& folder, const LoadTarget& target, const Communicator& ranks,
                    std::optional<CheckpointReader>& reader) {
  try {
    reader.emplace(folder);
    if (target.check_state) target.check_state(reader->state());
    const auto params = reader->match_params(target.params);
    std::vector<const StoredTensor*> all(params.begin(), params.end());
    if (target.with_optimizer) {
      const auto optimizer = reader->match_optimizer(target.optimizer);
      all.insert(all.end(), optimizer.begin(), optimizer.end());
    }
    const auto size = static_cast<std::size_t>(ranks.size()), me = static_cast<std::size_t>(ranks.rank());
    for (std::size_t t = me; t < all.size(); t += size) read_checked(*all[t], [](auto) {});
    return "";
  } catch (const DamagedCheckpoint& e) {
    return e.what();
  }
}

void read_target(const CheckpointReader& reader, const LoadTarget& target) {
  if (!target.shared_out) {
    reader.read_params(target.params);
    if (target.with_optimizer) reader.read_optimizer(target.optimizer);
    return;
  }
  using Stored = std::vector<const StoredTensor*>;
  const Stored params = reader.match_params(target.params);
  const Stored optimizer = target.with_optimizer ? reader.match_optimizer(target.optimizer) : Stored{};
  for (const TensorPiece& p : target.pieces) {
    const StoredTensor& from = *(p.of == TensorPiece::Of::params ? params : optimizer)[p.tensor];
    from.file->read(p.values.data, *from.entry, p.begin * size_of(p.values.dtype), p.values.bytes());
  }
}

std::vector<fs::path> folders_of_rank_0(const fs::path& path, i64 up_to_step, Communicator& ranks) {
  std::string mine;
  ranks.together("list of checkpoints", [&] {
    if (ranks.first())
      for (const fs::path& folder : list_checkpoints(path, up_to_step)) mine += folder.string() + '\n';
  });
  const std::string all = ranks.gather_texts("list of checkpoints", mine)[0];
  std::vector<fs::path> folders;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = all.find('\n', at);
    folders.emplace_back(all.substr(at, end - at));
    at = end + 1;
  }
  return folders;
}

}  // namespace

i64 write_checkpoint_together(const fs::path& folder, const CheckpointContent& content, Communicator& ranks) {
  return SharedWriter(folder, content, ranks).write();
}

std::optional<LoadedCheckpoint> load_newest_together(const fs::path& path, const LoadTarget& target,
                                                     Communicator& ranks) {
  const std::vector<fs::path> folders = folders_of_rank_0(path, target.up_to_step, ranks);
  if (folders.empty()) return std::nullopt;
  LoadedCheckpoint loaded;
  for (const fs::path& folder : folders) {
    std::optional<CheckpointReader> reader;
    std::string damage;
    ranks.together("look at a checkpoint", [&] { damage = inspect(folder, target, ranks, reader); });
    const std::vector<std::string> all = ranks.gather_texts("verdict on a checkpoint", damage);
    const auto why = std::find_if(all.begin(), all.end(), [](const std::string& text) { return !text.empty(); });
    if (why != all.end()) {
      loaded.skipped.push_back(*why);
      continue;
    }
    ranks.together("reading a checkpoint", [&] { read_target(*reader, target); });
    loaded.folder = reader->folder();
    loaded.step = reader->step();
    loaded.state = reader->state();
    loaded.weights_sha256 = reader->weights_sha256();
    if (ranks.first()) {
      check_latest(folder.parent_path(), folders[0]);
      for (const std::string& skipped : loaded.skipped) log_warning("checkpoint skipped: {}", skipped);
    }
    return loaded;
  }
  throw SharedError(none_verifies(path, loaded.skipped).what());
}

}  // namespace xlstm
