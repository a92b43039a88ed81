#include "support.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/random.h"
#include "data/tokenizer_trainer.h"

namespace xlstm {

TempDir::TempDir() {
  std::string name = (fs::temp_directory_path() / "xlstm_test_XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  OutputFile out(path);
  out.write(text);
}

std::string gzip(const std::string& text) {
  z_stream z{};
  deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

std::vector<std::string> sample_documents(int n) {
  const std::vector<std::string> words = {"the",
                                          "state",
                                          "of",
                                          "memory",
                                          "gate",
                                          "exp",
                                          "for (int i = 0;",
                                          "{\n    ",
                                          "}\n",
                                          "\t",
                                          "naïve",
                                          "Größe",
                                          "über",
                                          "日本",
                                          "return x;\n\n",
                                          "3.14",
                                          "std::vector<float>",
                                          "😀",
                                          "forget",
                                          "input",
                                          "normaliser",
                                          "  "};
  std::vector<std::string> documents;
  for (int d = 0; d < n; ++d) {
    const RandomStream random(7, RandomUse::test, static_cast<std::uint64_t>(d));
    std::string text = "Document " + std::to_string(d) + "\n";
    const std::uint32_t length = 5 + random.bits(0) % 60;
    for (std::uint32_t i = 1; i < length; ++i) text += words[random.bits(i) % words.size()] + " ";
    documents.push_back(text);
  }
  return documents;
}

namespace {

struct SampleTokenizer {
  TempDir dir;
  Tokenizer tokenizer;
  SampleTokenizer() : tokenizer(make(dir)) {}
  static Tokenizer make(const TempDir& dir) {
    std::string all;
    for (const std::string& text : sample_documents(200)) all += text;
    write_text(dir / "train.txt", all);
    write_file_atomically(dir / "tok.model",
                          train_tokenizer({.inputs = {(dir / "train.txt").string()}, .vocab_size = 400}));
    return Tokenizer::load(dir / "tok.model");
  }
};

const SampleTokenizer& sample() {
  static const SampleTokenizer instance;
  return instance;
}

}  // namespace

const Tokenizer& sample_tokenizer() { return sample().tokenizer; }
fs::path sample_tokenizer_path() { return sample().dir / "tok.model"; }

}  // namespace xlstm
