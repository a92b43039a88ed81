#include "train/anomaly.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "train/hardware.h"
#include "train/safetensors.h"

namespace xlstm {

namespace {

constexpr const char* kFormat = "xlstm anomaly";
constexpr const char *kFactsFile = "anomaly.json", *kBatchFile = "batch.safetensors", *kTextFile = "text.jsonl";
constexpr i64 kMostTokens = i64{1} << 31;

double read_number(const Json& object, const char* key, const fs::path& file) {
  if (object.is_object() && object.contains(key)) {
    const Json& x = object[key];
    if (x == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (x == "inf") return std::numeric_limits<double>::infinity();
    if (x == "-inf") return -std::numeric_limits<double>::infinity();
  }
  return json_field<double>(object, key, file);
}

Json json_of(const std::vector<NamedNorm>& norms) {
  Json out = Json::object();
  for (const NamedNorm& n : norms) out[n.name] = any_number(n.norm);
  return out;
}

Json json_of(const GateExtremes& g) {
  return {{"input_max", any_number(g.input_max)},
          {"input_min", any_number(g.input_min)},
          {"forget_max", any_number(g.forget_max)},
          {"forget_min", any_number(g.forget_min)}};
}

Json facts_of(const Anomaly& a) {
  Json gates = Json::array();
  for (const GateExtremes& g : a.gates) gates.push_back(json_of(g));
  return {{"format", kFormat},
          {"version", 1},
          {"program", program_version()},
          {"step", a.step},
          {"update", a.update},
          {"reason", names_of(a.reason)[static_cast<std::size_t>(a.reason)]},
          {"loss", any_number(a.loss)},
          {"grad_norm", any_number(a.grad_norm)},
          {"grad_norm_limit", any_number(a.norm_limit)},
          {"lr", a.lr},
          {"first_sequence", a.batch.first_sequence},
          {"sequences", a.batch.sequences},
          {"length", a.batch.length},
          {"scored_tokens", a.scored},
          {"rollbacks", a.rollbacks},
          {"weights", a.weights},
          {"layer_grad_norms", json_of(layer_norms(a.norms))},
          {"parameter_grad_norms", json_of(a.norms)},
          {"gates", gates},
          {"computed_on", a.computed_on},
          {"ranks", a.ranks},
          {"fingerprints", {{"data", a.data}, {"tokenizer", a.tokenizer}}},
          {"config", a.config}};
}

std::vector<NamedTensor> tensors_of(TokenBatch& batch) {
  const auto tensor = [&](std::vector<std::int32_t>& v) {
    Tensor t{
        reinterpret_cast<std::byte*>(v.data()), DType::i32, Device::cpu, batch.sequences, batch.length, batch.length};
    return t;
  };
  return {{"ids", tensor(batch.ids), true},
          {"targets", tensor(batch.targets), true},
          {"starts", tensor(batch.starts), true}};
}

// A sequence as people read it: its inputs, and the last target.
std::string text_of(const TokenBatch& batch, i64 row, const Tokenizer& tokenizer) {
  const auto begin = batch.ids.begin() + row * batch.length;
  std::vector<int> ids(begin, begin + batch.length);
  if (const std::int32_t last = batch.targets[static_cast<std::size_t>((row + 1) * batch.length - 1)]; last >= 0)
    ids.push_back(last);
  return tokenizer.decode(ids);
}

void write_text(const fs::path& file, const TokenBatch& batch, const Tokenizer& tokenizer) {
  OutputFile out(file);
  for (i64 row = 0; row < batch.sequences; ++row)
    out.write(to_text({{"sequence", batch.first_sequence + row}, {"text", text_of(batch, row, tokenizer)}}) + "\n");
  out.close();
}

Json read_facts(const fs::path& folder) {
  const fs::path file = folder / kFactsFile;
  std::error_code ignored;
  if (!fs::exists(file, ignored))
    throw user_error("{}: no evidence there (no {}); name a folder of a run's anomalies/", folder.string(), kFactsFile);
  Json facts = unsealed(read_file(file));
  if (facts.is_null() || facts.value("format", Json()) != kFormat)
    throw user_error(
        "{}: expected evidence that fits its checksum, found another text; the file is damaged or not ours",
        file.string());
  if (const int version = json_field<int>(facts, "version", file); version != 1)
    throw user_error("{}: format version {} is not the 1 that this program reads", file.string(), version);
  return facts;
}

std::vector<NamedNorm> read_norms(const Json& facts, const fs::path& file) {
  std::vector<NamedNorm> norms;
  const Json all = json_field<Json>(facts, "parameter_grad_norms", file);
  if (!all.is_object()) throw user_error("{}: 'parameter_grad_norms' is no object", file.string());
  for (const auto& [name, unused] : all.items()) norms.push_back({name, read_number(all, name.c_str(), file)});
  return norms;
}

SkipReason read_reason(const Json& facts, const fs::path& file) {
  const auto reason = json_field<std::string>(facts, "reason", file);
  const auto names = names_of(SkipReason{});
  const auto it = std::find(names.begin(), names.end(), reason);
  if (it == names.end()) throw user_error("{}: no reason '{}' is known", file.string(), reason);
  return static_cast<SkipReason>(it - names.begin());
}

void read_batch(TokenBatch& batch, const Json& facts, const fs::path& folder) {
  const fs::path json = folder / kFactsFile;
  batch.first_sequence = json_field<i64>(facts, "first_sequence", json);
  batch.sequences = json_field<i64>(facts, "sequences", json);
  batch.length = json_field<i64>(facts, "length", json);
  if (batch.sequences < 1 || batch.length < 1 || batch.sequences > kMostTokens / batch.length)
    throw user_error("{}: {} sequences of {} tokens cannot be", json.string(), batch.sequences, batch.length);
  const SafetensorsFile file(folder / kBatchFile);
  const Json expected = json_field<Json>(facts, "batch_xxh3", json);
  for (auto* v : {&batch.ids, &batch.targets, &batch.starts})
    v->resize(static_cast<std::size_t>(batch.sequences * batch.length));
  for (const NamedTensor& t : tensors_of(batch)) {
    const std::string found = file.read_into(t.value, t.name);
    if (const auto hash = json_field<std::string>(expected, t.name.c_str(), json); hash != found)
      throw user_error("{}: tensor '{}': expected xxh3 {}, found {}; the file is damaged", file.path().string(), t.name,
                       hash, found);
  }
}

}  // namespace

Json any_number(double x) {
  if (std::isfinite(x)) return x;
  return std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
}

void write_anomaly(const fs::path& folder, const Anomaly& anomaly, const Tokenizer* tokenizer) {
  Json facts = facts_of(anomaly);
  TokenBatch batch = anomaly.batch;
  const std::vector<NamedTensor> tensors = tensors_of(batch);
  const WrittenTensors written = write_safetensors(folder / kBatchFile, tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) facts["batch_xxh3"][tensors[i].name] = written.xxh3[i];
  if (tokenizer) write_text(folder / kTextFile, batch, *tokenizer);
  OutputFile file(folder / kFactsFile);
  file.write(sealed(facts));
  file.close();
  fsync_directory(folder);
}

Anomaly read_anomaly(const fs::path& folder) {
  const fs::path file = folder / kFactsFile;
  const Json facts = read_facts(folder);
  const Json prints = json_field<Json>(facts, "fingerprints", file);
  Anomaly a{.step = json_field<i64>(facts, "step", file),
            .update = json_field<i64>(facts, "update", file),
            .reason = read_reason(facts, file),
            .loss = read_number(facts, "loss", file),
            .grad_norm = read_number(facts, "grad_norm", file),
            .norm_limit = read_number(facts, "grad_norm_limit", file),
            .lr = json_field<double>(facts, "lr", file),
            .scored = json_field<i64>(facts, "scored_tokens", file),
            .rollbacks = json_field<i64>(facts, "rollbacks", file),
            .weights = json_field<std::string>(facts, "weights", file),
            .norms = read_norms(facts, file),
            .computed_on = json_field<std::string>(facts, "computed_on", file),
            .ranks = json_field<int>(facts, "ranks", file),
            .config = json_field<std::string>(facts, "config", file),
            .data = json_field<std::string>(prints, "data", file),
            .tokenizer = json_field<std::string>(prints, "tokenizer", file)};
  for (const Json& g : json_field<Json>(facts, "gates", file))
    a.gates.push_back({read_number(g, "input_max", file), read_number(g, "input_min", file),
                       read_number(g, "forget_max", file), read_number(g, "forget_min", file)});
  if (fs::path(a.weights).filename() != a.weights || a.weights.empty())
    throw user_error("{}: '{}' is no name of a folder", file.string(), a.weights);
  read_batch(a.batch, facts, folder);
  return a;
}

void rotate_anomalies(const fs::path& anomalies, i64 keep) {
  struct Evidence {
    fs::path folder;
    std::string weights;
    i64 first_sequence;  // never comes again in a run
  };
  std::vector<Evidence> all;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(anomalies, none)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".tmp-write")) remove_tree(entry.path());  // of a process that was killed
    if (!name.starts_with("step_") || !fs::exists(entry.path() / kFactsFile, none)) continue;
    const Json facts = unsealed(read_file(entry.path() / kFactsFile));
    if (facts.is_null()) continue;
    all.push_back({entry.path(), json_field<std::string>(facts, "weights", entry.path()),
                   json_field<i64>(facts, "first_sequence", entry.path())});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first_sequence > b.first_sequence; });
  std::set<std::string> kept;
  for (const Evidence& e : all) {
    if (kept.contains(e.weights)) continue;
    if (static_cast<i64>(kept.size()) < keep)
      kept.insert(e.weights);
    else
      remove_tree(e.folder);
  }
  if (!fs::is_directory(anomalies / "weights", none)) return;
  for (const auto& entry : fs::directory_iterator(anomalies / "weights", none))
    if (!kept.contains(entry.path().filename().string())) remove_tree(entry.path());
}

TokenBatch gather_batch(const TokenBatch& mine, Communicator& ranks) {
  TokenBatch all = mine;
  all.first_sequence = mine.first_sequence - ranks.rank() * mine.sequences;
  all.sequences = mine.sequences * ranks.size();
  const auto gather = [&](std::vector<std::int32_t>& to, const std::vector<std::int32_t>& from) {
    to.resize(from.size() * static_cast<std::size_t>(ranks.size()));
    ranks.gather_bytes("evidence", from.data(), to.data(), static_cast<i64>(from.size() * sizeof from[0]));
  };
  gather(all.ids, mine.ids);
  gather(all.targets, mine.targets);
  gather(all.starts, mine.starts);
  return all;
}

std::vector<GateExtremes> gather_gates(const std::vector<GateExtremes>& mine, Communicator& ranks) {
  std::vector<GateExtremes> all(mine.size() * static_cast<std::size_t>(ranks.size())), out = mine;
  ranks.gather_bytes("gate extremes", mine.data(), all.data(), static_cast<i64>(mine.size() * sizeof mine[0]));
  for (std::size_t i = 0; i < all.size(); ++i) out[i % mine.size()].include(all[i]);
  return out;
}

}  // namespace xlstm
