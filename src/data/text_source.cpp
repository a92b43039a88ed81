#include "data/text_source.h"

#include <algorithm>

#include "core/log.h"

namespace xlstm {

const char* name_of(TextFormat format) {
  switch (format) {
    case TextFormat::txt: return "txt";
    case TextFormat::jsonl: return "jsonl";
    case TextFormat::by_suffix: break;
  }
  return "by-suffix";
}

namespace {

struct Kind {
  TextFormat format;
  Compression compression;
  std::string extension;  // without .gz or .zst
};

Kind kind_of(const fs::path& path, const TextOptions& options) {
  Kind kind{options.as, Compression::none, path.extension().string()};
  if (kind.extension == ".gz") kind.compression = Compression::gzip;
  if (kind.extension == ".zst") kind.compression = Compression::zstd;
  if (kind.compression != Compression::none) kind.extension = path.stem().extension().string();
  if (kind.format == TextFormat::by_suffix) {
    if (kind.extension == ".txt") kind.format = TextFormat::txt;
    if (kind.extension == ".jsonl") kind.format = TextFormat::jsonl;
  }
  return kind;
}

TextSource source_of(const fs::path& path, const Kind& kind) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  const auto modified = fs::last_write_time(path, error).time_since_epoch();
  const bool regular = fs::is_regular_file(path, error);  // a pipe has no size
  return {path, kind.format, kind.compression, regular ? static_cast<i64>(size) : 0,
          regular ? std::chrono::duration_cast<std::chrono::nanoseconds>(modified).count() : 0};
}

void add_folder(const fs::path& folder, const TextOptions& options, std::vector<TextSource>& sources) {
  std::vector<fs::path> files;
  try {
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) files.push_back(entry.path());
  } catch (const fs::filesystem_error& e) {
    throw user_error("cannot list {}: {}", folder.string(), e.code().message());
  }
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  i64 taken = 0, left_out = 0;
  for (const fs::path& file : files) {
    const Kind kind = kind_of(file, options);
    const bool wanted = options.extensions.empty() || std::find(options.extensions.begin(), options.extensions.end(),
                                                                kind.extension) != options.extensions.end();
    if (!wanted || kind.format == TextFormat::by_suffix) {
      ++left_out;
      continue;
    }
    sources.push_back(source_of(file, kind));
    ++taken;
  }
  if (taken == 0)
    throw user_error(
        "{}: none of its {} files is .txt or .jsonl (also .gz, .zst) and matches --extension; "
        "--as txt takes files of any name",
        folder.string(), left_out);
  if (left_out > 0) log_info("{}: {} files taken, {} left out", folder.string(), taken, left_out);
}

}  // namespace

std::vector<TextSource> find_sources(const std::vector<std::string>& inputs, const TextOptions& options) {
  if (inputs.empty()) throw user_error("no input: name text files, folders, or '-' for stdin");
  std::vector<TextSource> sources;
  for (const std::string& input : inputs) {
    const fs::path path = input;
    if (input == "-") {
      const TextFormat format = options.as == TextFormat::by_suffix ? TextFormat::txt : options.as;
      sources.push_back({path, format, Compression::none, 0, 0});
      continue;
    }
    std::error_code error;
    if (!fs::exists(path, error)) throw user_error("{}: no such file or folder", input);
    if (fs::is_directory(path, error)) {
      add_folder(path, options, sources);
      continue;
    }
    const Kind kind = kind_of(path, options);
    if (kind.format == TextFormat::by_suffix)
      throw user_error(
          "{}: expected a name that ends in .txt or .jsonl (also .gz, .zst); "
          "for other names say --as txt or --as jsonl",
          input);
    sources.push_back(source_of(path, kind));
  }
  return sources;
}

i64 total_bytes(const std::vector<TextSource>& sources) {
  i64 total = 0;
  for (const TextSource& source : sources) {
    if (source.modified_ns == 0) return 0;
    total += source.bytes;
  }
  return total;
}

}  // namespace xlstm
