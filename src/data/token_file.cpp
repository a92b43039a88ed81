#include "data/token_file.h"

#include <array>
#include <charconv>
#include <cstring>

namespace xlstm {

namespace {

constexpr std::string_view kMegatronMagic{"MMIDIDX\0\0", 9};
constexpr std::string_view kNumpyMagic{"\x93NUMPY", 6};

// github.com/karpathy/llm.c, dev/data: 256 int32, of which magic, version and number of tokens are used.
constexpr i64 kLlmcHeader = 256 * 4;
struct LlmcKind {
  std::int32_t magic, version;
  bool wide;
  TokenFile::Vocabulary vocabulary;
};
constexpr LlmcKind kLlmcKinds[] = {{20240520, 1, false, {"gpt2", 50257, 50256}},
                                   {20240801, 7, true, {"llama3", 128256, 128000}}};

template <class... Args>
UserError bad_file(const fs::path& path, fmt::format_string<Args...> format, Args&&... args) {
  return user_error("{}: {}; the file is damaged, or of another format (--as)", path.string(),
                    fmt::format(format, std::forward<Args>(args)...));
}

template <class T>
T number_at(const InputFile& file, i64 offset) {
  T value{};
  file.read(offset, &value, sizeof value);
  return value;
}

template <class T>
std::vector<T> numbers_at(const InputFile& file, i64 offset, i64 count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  file.read(offset, values.data(), count * static_cast<i64>(sizeof(T)));
  return values;
}

std::string beginning(const InputFile& file) {
  std::string bytes(static_cast<std::size_t>(std::min<i64>(file.bytes(), 16)), '\0');
  file.read(0, bytes.data(), static_cast<i64>(bytes.size()));
  return bytes;
}

fs::path index_of(const fs::path& bin) { return fs::path(bin).replace_extension(".idx"); }

TokenFormat format_of(const InputFile& file) {
  const std::string begin = beginning(file);
  std::error_code ignored;
  if (begin.starts_with(kNumpyMagic)) return TokenFormat::numpy;
  if (begin.size() >= 4)
    for (const LlmcKind& kind : kLlmcKinds)
      if (std::memcmp(begin.data(), &kind.magic, 4) == 0) return TokenFormat::llmc;
  if (file.path().extension() == ".bin" && fs::exists(index_of(file.path()), ignored)) return TokenFormat::megatron;
  throw user_error(
      "{}: neither llm.c, nor a .npy file, nor a Megatron .bin with its .idx; ids alone are read with --as raw-u16 or "
      "raw-u32",
      file.path().string());
}

// The value of a key in the header of a .npy file, a Python dictionary in one line: {'descr': '<u2', ...}.
std::string npy_field(const std::string& header, const std::string& key) {
  const std::size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) return "";
  std::size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
  if (begin == std::string::npos) return "";
  const std::size_t end = header[begin] == '(' ? header.find(')', begin) : header.find_first_of(",}", begin);
  return end == std::string::npos ? "" : header.substr(begin, end - begin + (header[begin] == '(' ? 1 : 0));
}

}  // namespace

i64 TokenFile::size_of(Element e) {
  switch (e) {
    case Element::uint8: return 1;
    case Element::uint16:
    case Element::int16: return 2;
    case Element::uint32:
    case Element::int32: return 4;
    case Element::int64: return 8;
  }
  return 0;
}

TokenFile::TokenFile(const fs::path& path, TokenFormat format) : file_(path) {
  switch (format == TokenFormat::by_content ? format_of(file_) : format) {
    case TokenFormat::llmc: open_llmc(); break;
    case TokenFormat::megatron: open_megatron(); break;
    case TokenFormat::numpy: open_numpy(); break;
    case TokenFormat::raw_uint16: open_raw(Element::uint16); break;
    case TokenFormat::raw_uint32: open_raw(Element::uint32); break;
    case TokenFormat::by_content: break;  // format_of knows the format, or throws
  }
}

void TokenFile::set_content(Element element, i64 offset, i64 tokens) {
  element_ = element;
  offset_ = offset;
  tokens_ = tokens;
  i64 end = 0;
  if (tokens < 1 || __builtin_mul_overflow(tokens, size_of(element), &end) || end != file_.bytes() - offset)
    throw bad_file(path(), "expected {} tokens of {} bytes from byte {} to the end, found {} bytes there", tokens,
                   size_of(element), offset, file_.bytes() - offset);
}

void TokenFile::open_llmc() {
  kind_ = "llm.c";
  if (file_.bytes() < kLlmcHeader)
    throw bad_file(path(), "expected a header of {} bytes, found {} in all", kLlmcHeader, file_.bytes());
  const auto header = numbers_at<std::int32_t>(file_, 0, 3);
  for (const LlmcKind& kind : kLlmcKinds) {
    if (header[0] != kind.magic) continue;
    if (header[1] != kind.version)
      throw bad_file(path(), "expected version {} at byte 4, found {}", kind.version, header[1]);
    vocabulary_ = kind.vocabulary;
    return set_content(kind.wide ? Element::uint32 : Element::uint16, kLlmcHeader, header[2]);
  }
  throw bad_file(path(), "expected the number {} or {} at byte 0, found {}", kLlmcKinds[0].magic, kLlmcKinds[1].magic,
                 header[0]);
}

// NVIDIA/Megatron-LM, core/datasets/indexed_dataset.py: magic, u64 version, u8 type, u64 sequences, u64 documents;
// i32 length and i64 byte offset of each sequence; i64 first sequence of each document, and their number.
void TokenFile::open_megatron() {
  kind_ = "Megatron";
  const InputFile index(index_of(path()));
  const fs::path& name = index.path();
  constexpr i64 kHeader = 34, kMost = i64{1} << 40;
  if (index.bytes() < kHeader || !beginning(index).starts_with(kMegatronMagic))
    throw bad_file(name, "expected 'MMIDIDX' at byte 0 and a header of {} bytes", kHeader);
  if (const auto version = number_at<std::uint64_t>(index, 9); version != 1)
    throw bad_file(name, "expected version 1 at byte 9, found {}", version);
  const auto code = number_at<std::uint8_t>(index, 17);
  constexpr std::array<int, 9> kTypes{-1, 0, -1, 2, 4, 5, -1, -1, 1};  // by their code: an Element, or none
  if (code >= kTypes.size() || kTypes[code] < 0)
    throw bad_file(name, "expected integers of 8 to 64 bits at byte 17, found type {}", code);
  const auto sequences = number_at<i64>(index, 18), documents = number_at<i64>(index, 26);
  if (sequences < 1 || documents < 2 || sequences > kMost || documents > kMost ||
      index.bytes() < kHeader + sequences * 12 + documents * 8)
    throw bad_file(name, "expected {} sequences and {} document bounds in {} bytes", sequences, documents,
                   index.bytes());
  const auto lengths = numbers_at<std::int32_t>(index, kHeader, sequences);
  const auto offsets = numbers_at<i64>(index, kHeader + sequences * 4, sequences);
  const auto first = numbers_at<i64>(index, kHeader + sequences * 12, documents);

  const auto element = static_cast<Element>(kTypes[code]);
  std::vector<i64> ends{0};
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    if (lengths[s] < 0 || offsets[s] != ends.back() * size_of(element))
      throw bad_file(name, "expected sequence {} at byte {} of the .bin, found {} tokens at byte {}", s,
                     ends.back() * size_of(element), lengths[s], offsets[s]);
    ends.push_back(ends.back() + lengths[s]);
  }
  for (std::size_t d = 0; d < first.size(); ++d) {
    if (first[d] < (d == 0 ? 0 : first[d - 1]) || first[d] > sequences || (d == 0 && first[d] != 0))
      throw bad_file(name, "document bound {} is {}; expected ascending numbers of sequences up to {}", d, first[d],
                     sequences);
    document_ends_.push_back(ends[static_cast<std::size_t>(first[d])]);
  }
  if (first.back() != sequences)
    throw bad_file(name, "the last document bound is {}; expected {}", first.back(), sequences);
  document_ends_.erase(document_ends_.begin());
  set_content(element, 0, ends.back());
}

void TokenFile::open_numpy() {
  kind_ = "NumPy";
  if (file_.bytes() < 12 || !beginning(file_).starts_with(kNumpyMagic))
    throw bad_file(path(), "expected '\\x93NUMPY' at byte 0");
  const auto major = number_at<std::uint8_t>(file_, 6);
  if (major < 1 || major > 3) throw bad_file(path(), "expected version 1 to 3 at byte 6, found {}", major);
  const i64 begin = major == 1 ? 10 : 12;
  const i64 length = major == 1 ? number_at<std::uint16_t>(file_, 8) : number_at<std::uint32_t>(file_, 8);
  if (length > file_.bytes() - begin)
    throw bad_file(path(), "expected a header of {} bytes at byte {}, found {}", length, begin, file_.bytes() - begin);
  std::string header(static_cast<std::size_t>(length), '\0');
  file_.read(begin, header.data(), length);

  const std::string type = npy_field(header, "descr"), shape = npy_field(header, "shape");
  static constexpr std::pair<const char*, Element> kTypes[] = {
      {"'|u1'", Element::uint8}, {"'<u2'", Element::uint16}, {"'<i2'", Element::int16}, {"'<u4'", Element::uint32},
      {"'<i4'", Element::int32}, {"'<i8'", Element::int64},  {"'<u8'", Element::int64}};
  i64 count = 0;
  const auto [end, error] = shape.size() > 1 ? std::from_chars(shape.data() + 1, shape.data() + shape.size(), count)
                                             : std::from_chars_result{nullptr, std::errc::invalid_argument};
  if (error != std::errc() || std::string_view(end) != ",)")
    throw bad_file(path(), "expected an array of one dimension, found the shape {}", shape.empty() ? "?" : shape);
  for (const auto& [text, element] : kTypes)
    if (type == text) return set_content(element, begin + length, count);
  throw bad_file(path(), "expected little-endian integers of 8 to 64 bits, found {}", type.empty() ? "?" : type);
}

void TokenFile::open_raw(Element element) {
  kind_ = "raw";
  set_content(element, 0, file_.bytes() / size_of(element));
}

void TokenFile::read(i64 first, i64 count, i64 vocab_size, std::int32_t* out) const {
  const auto convert = [&]<class T>(T) {
    const auto ids = numbers_at<T>(file_, offset_ + first * static_cast<i64>(sizeof(T)), count);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto id = static_cast<i64>(ids[i]);
      if (id < 0 || id >= vocab_size)
        throw user_error("{}: token {}: id {} is outside the vocabulary, expected 0 to {}", path().string(),
                         first + static_cast<i64>(i), id, vocab_size - 1);
      out[i] = static_cast<std::int32_t>(id);
    }
  };
  switch (element_) {
    case Element::uint8: return convert(std::uint8_t{});
    case Element::uint16: return convert(std::uint16_t{});
    case Element::int16: return convert(std::int16_t{});
    case Element::uint32: return convert(std::uint32_t{});
    case Element::int32: return convert(std::int32_t{});
    case Element::int64: return convert(i64{});
  }
}

}  // namespace xlstm
